"""The receiver of `make demo` believes what is signed, and nothing else. The official library signs."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from local.demo import WEBHOOK, webhook
from local.receiver import Receiver

SECRET, OTHER = "whsec_" + "c2VjcmV0" * 5 + "c2Vj", "whsec_" + "b3RoZXIh" * 5 + "b3Ro"


def body(sequence: int) -> bytes:
    return json.dumps({"subject": "p-1", "type": "payment.successful", "sequence": f"{sequence:010}", "data": {}}).encode()


def headers(content: bytes, id_: str = "e-1", secret: str = SECRET, at: datetime | None = None) -> dict[str, str]:
    at = at or datetime.now(UTC)
    signature = Webhook(secret).sign(id_, at, content.decode())
    return {"webhook-id": id_, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with contextlib.closing(Receiver()) as receiver:
        receiver.believe(SECRET)
        yield receiver


@pytest.mark.server
def test_what_is_signed_is_kept_once_in_the_order_of_its_arrival(receiver: Receiver) -> None:
    for id_, sequence in (("e-2", 2), ("e-1", 1), ("e-2", 2)):
        request = urllib.request.Request(receiver.url, body(sequence), headers(body(sequence), id_), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 204
    assert (receiver.arrivals("p-1"), receiver.sequence("p-1"), receiver.refused) == ([2, 1], [1, 2], 0)


@pytest.mark.server
def test_what_is_not_signed_is_refused_and_not_kept(receiver: Receiver) -> None:
    signed, old = headers(body(1)), datetime.now(UTC) - timedelta(minutes=6)
    wrong: list[dict[str, str]] = [
        {},
        headers(body(2)),
        headers(body(1), secret=OTHER),
        headers(body(1), at=old),
        headers(body(1), at=datetime.now(UTC) + timedelta(minutes=6)),
        signed | {"webhook-id": "e-2"},
        signed | {"webhook-timestamp": "soon"},
        signed | {"webhook-signature": "v1,"},
        signed | {"webhook-signature": "\u00fc"},
    ]
    assert not any(receiver.take(given, body(1)) for given in wrong)
    assert (receiver.seen, receiver.refused) == ({}, len(wrong))
    both = signed["webhook-signature"] + " " + headers(body(1), secret=OTHER)["webhook-signature"]
    assert receiver.take(signed | {"webhook-signature": both}, body(1)), "while a secret is changed, one of two is ours"


class Registry:
    """A service that registers webhooks, or refuses to."""

    def __init__(self, status: int, answer: dict[str, Any], left: list[dict[str, Any]]) -> None:
        self.status, self.answer, self.left, self.calls = status, answer, left, list[tuple[str, str]]()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        self.calls.append((method, path.removeprefix("/api/v1/webhooks")))
        return (200, {"data": self.left}) if method == "GET" else (self.status, self.answer)


@pytest.mark.server
def test_the_demo_removes_its_webhook_and_what_a_killed_demo_left() -> None:
    left: list[dict[str, Any]] = [{"webhook_id": "w-1", "description": WEBHOOK, "failing_since": "2026-01-31T12:00:00.000000Z"}]
    left += [left[0] | {"webhook_id": "w-2", "failing_since": None}, left[0] | {"webhook_id": "w-3", "description": None}]
    service = Registry(201, {"webhook_id": "w-4", "secret": SECRET}, left)
    with contextlib.suppress(KeyboardInterrupt), webhook(service, print) as receiver:
        assert receiver and receiver.take(headers(body(1)), body(1))
        raise KeyboardInterrupt
    assert service.calls == [("GET", ""), ("DELETE", "/w-1"), ("POST", ""), ("DELETE", "/w-4")]


@pytest.mark.server
def test_a_service_that_does_not_send_here_is_tried_without_a_webhook() -> None:
    said: list[str] = []
    with webhook(Registry(404, {"message": "Not Found"}, []), said.append) as receiver:
        assert receiver is None
    assert said == ["No webhook was registered: 404 Not Found."]
