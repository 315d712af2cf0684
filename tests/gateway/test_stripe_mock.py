"""stripe-mock, which Stripe makes of its own description of its API, accepts each request that the adapter can send."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from payments.gateway.port import GatewayRequest
from payments.gateway.stripe import StripeGateway
from payments.gateway.stripe_http import Answer, StripeHttp
from tests.gateway.servers import StripeMock

pytestmark = pytest.mark.server

HEADERS = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}


class Recorded(StripeHttp):
    """Keeps what was sent and the status that it got."""

    def __init__(self, *arguments: Any, **how: Any) -> None:
        super().__init__(*arguments, **how)
        self.sent: list[tuple[str, str, frozenset[str], int, bytes]] = []

    def exchange(self, method: str, path: str, headers: Any, body: bytes | None, ends_s: float) -> Answer:
        answer = super().exchange(method, path, headers, body, ends_s)
        parts = urlsplit(path)
        names = frozenset(name for name, _ in parse_qsl(parts.query) + parse_qsl((body or b"").decode(), keep_blank_values=True))
        self.sent.append((method, parts.path, names, answer.status, answer.body))
        return answer


def requests() -> list[tuple[str, GatewayRequest]]:
    """Return each form of each call."""

    def request(kind: str, **fields: Any) -> GatewayRequest:
        defaults: dict[str, Any] = {
            "kind": kind,
            "key": f"key-{uuid.uuid4()}",
            "attempt": 1,
            "payment_id": uuid.uuid4(),
            "order_id": "order-1",
            "amount_minor": 1999,
            "currency": "USD",
            "payment_method": "stripe",
            "payment_token": "pm_card_visa",
            "timeout_s": 10.0,
            "payment_intent_id": None if kind == "process" else "pi_1",
            "asked_at": [datetime.now(UTC)],
        }
        return GatewayRequest(**defaults | fields)

    asked = [("charge", request("process", capture=capture)) for capture in (True, False)]
    asked += [("charge", request("process", payment_token="tok_visa"))]
    asked += [("charge", request("process", payment_token=None, capture=capture)) for capture in (True, False)]
    asked += [
        ("charge", request("process", off_session=True)),
        ("charge", request("process", return_url="https://shop.example/b")),
    ]
    asked += [(kind, request(kind)) for kind in ("capture", "void", "refund")]
    asked += [("find", request(kind)) for kind in ("process", "capture", "void", "refund")]
    return [*asked, ("find", request("process", gateway_id="pi_1")), ("find", request("refund", gateway_id="re_1"))]


def test_each_request_is_accepted_and_one_with_a_made_up_field_is_not(
    stripe_mock: StripeMock, stripe_at: Callable[..., StripeGateway]
) -> None:
    gateway = stripe_at(stripe_mock.url, http=Recorded)
    for verb, request in requests():
        getattr(gateway, verb)(request)
    with contextlib.suppress(OSError):  # its samples of events are about things of every kind
        list(gateway.undelivered(datetime.now(UTC), 10.0, datetime.now(UTC)))
    http: Recorded = gateway._http  # type: ignore[assignment]
    assert [sent for sent in http.sent if sent[3] != 200] == []
    paths = {(method, path.split("/")[2], path.split("/")[-1]) for method, path, *_ in http.sent}
    assert {(method, kind) for method, kind, _ in paths} == {
        ("POST", "payment_intents"), ("GET", "payment_intents"), ("POST", "payment_methods"),
        ("POST", "refunds"), ("GET", "refunds"), ("GET", "events"),
    }  # fmt: skip
    assert {last for *_, last in paths} >= {"capture", "cancel"}
    for path, body in {
        "/v1/payment_intents": b"amount=1999&currency=usd&capture_methods=manual",
        "/v1/payment_intents/pi_1/capture": b"amount_to_captur=1",
        "/v1/refunds": b"payment_intent=pi_1&amont=1",
    }.items():
        assert http.exchange("POST", path, HEADERS, body, time.time() + 10).status == 400
    assert http.exchange("GET", "/v1/refunds?payment_intent=pi_1&limits=1", HEADERS, None, time.time() + 10).status == 400
    pages = (
        "/v1/payment_intents?limit=100&starting_after=pi_1&created[gte]=1&created[lte]=2&expand[]=data.latest_charge",
        "/v1/disputes?payment_intent=pi_1&limit=100&starting_after=du_1",  # its sample of an intent is not captured
    )
    for page in pages:
        assert http.exchange("GET", page, HEADERS, None, time.time() + 10).status == 200
