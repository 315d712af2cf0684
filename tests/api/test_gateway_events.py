"""The doors of gateway events: what is signed, small and readable is kept, and all else gets a status that Stripe knows."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest

from payments.api.gateway_events import MAX_BODY_BYTES, from_eventbridge, from_webhook
from payments.domain.errors import InternalError, ServiceUnavailable
from payments.gateway.port import Hint
from payments.settings_error import SettingsError
from payments.stripe_settings import REREAD_S, KeptSecret
from tests.api_client import http_event
from tests.cases import case
from tests.gateway.test_stripe_signature import AT_S, NEW, OLD, signed

PATH = "/api/v1/gateways/stripe/events"
OUR_ID = UUID("01936f4e-0000-7000-8000-000000000000")
THING = {"object": "payment_intent", "id": "pi_1", "metadata": {"payment_id": str(OUR_ID)}, "description": "ü\u2028"}
EVENT = {"object": "event", "id": "evt_1", "type": "payment_intent.succeeded", "created": AT_S, "data": {"object": THING}}
BODY = json.dumps(EVENT, ensure_ascii=False, indent=2).encode()


def request(body: bytes | str = BODY, signature: str | None = None, **headers: str) -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else body.encode()
    headers = {"Stripe-Signature": signed(AT_S, raw, NEW) if signature is None else signature} | headers
    return http_event("POST", PATH, body, headers=headers, claims=None)


def answered(
    event: Mapping[str, Any], secrets: Callable[[], tuple[str, ...]] = lambda: (NEW, OLD), now_s: float = AT_S
) -> tuple[int, list[Hint]]:
    """Return the status and what was kept. The body is a sentence for whoever looks into Stripe's dashboard."""
    kept = list[Hint]()
    answer = from_webhook(event, KeptSecret(secrets), kept.append, lambda: now_s)
    assert answer["headers"]["content-type"] == "text/plain"
    assert "whsec" not in str(answer)
    return answer["statusCode"], kept


def test_a_signed_event_is_kept_with_its_ids_and_nothing_else() -> None:
    status, [hint] = answered(request())
    assert status == 200
    assert (hint.event_id, hint.type, hint.payment_intent_id, hint.payment_id) == ("evt_1", EVENT["type"], "pi_1", OUR_ID)


@pytest.mark.parametrize("body", [BODY, BODY.decode()], ids=["base64", "text"])
@pytest.mark.parametrize("secret", [NEW, OLD])
def test_the_bytes_are_checked_as_they_came_with_either_secret(body: bytes | str, secret: str) -> None:
    event = request(body, signed(AT_S, BODY, secret))
    assert event["isBase64Encoded"] is isinstance(body, bytes)
    assert answered(event)[0] == 200
    event["body"] = base64.b64encode(BODY + b" ").decode() if isinstance(body, bytes) else f"{body} "
    assert answered(event) == (400, [])


def test_what_is_not_genuine_or_no_event_is_a_400_and_not_kept() -> None:
    not_json, no_event = b"{not JSON", b'{"object": "event"}'
    cases = {
        "no signature": request(signature=""),
        "no header": http_event("POST", PATH, BODY, claims=None),
        "another secret": request(signature=signed(AT_S, BODY, "whsec_of_somebody")),
        "stale": request(signature=signed(AT_S - 301, BODY, NEW)),
        "of the future": request(signature=signed(AT_S + 301, BODY, NEW)),
        "two headers, which API Gateway joins": request(signature=f"{signed(AT_S, BODY, NEW)},{signed(AT_S, BODY, NEW)}"),
        "no JSON": request(not_json, signed(AT_S, not_json, NEW)),
        "no event": request(no_event, signed(AT_S, no_event, NEW)),
        "deep": request(deep := b"[" * 100_000, signed(AT_S, deep, NEW)),
        "no body": request(b"", signed(AT_S, b"", NEW)),
        "no base64": request() | {"body": "%", "isBase64Encoded": True},
        "half a character": request() | {"body": "\ud800", "isBase64Encoded": False},
    }
    for name, event in cases.items():
        with case(name):
            assert answered(event) == (400, [])


def test_a_body_of_256_kb_is_taken_and_a_larger_one_is_a_413() -> None:
    padded = json.dumps(EVENT | {"padding": ""}).encode()
    largest = padded[:-2] + b"a" * (MAX_BODY_BYTES - len(padded)) + padded[-2:]
    assert len(largest) == 256 * 1024
    assert answered(request(largest))[0] == 200
    assert answered(request(largest[:-2] + b'a"}'))[0] == 413


@pytest.mark.parametrize("error", [ServiceUnavailable("The database is away.", retry_after_s=2), InternalError("no such table")])
def test_while_the_books_are_away_or_older_stripe_is_asked_to_come_again(error: Exception) -> None:
    def keep(hint: Hint) -> None:
        raise error

    answer = from_webhook(request(), KeptSecret(lambda: (NEW,)), keep, lambda: AT_S)
    assert (answer["statusCode"], answer["headers"]["retry-after"], answer["body"]) == (503, "60", "try again")


@pytest.mark.parametrize("error", [ConnectionError("Secrets Manager is away"), SettingsError("whsec_ is missing")])
def test_while_the_secrets_cannot_be_read_stripe_is_asked_to_come_again(error: Exception) -> None:
    def read() -> tuple[str, ...]:
        raise error

    assert answered(request(), read) == (503, [])


def test_a_secret_that_was_changed_is_read_when_the_first_event_signed_with_it_comes() -> None:
    now_s, versions = 1000.0, [(OLD,), (OLD, NEW)]
    secrets = KeptSecret(lambda: versions.pop(0), lambda: now_s)
    kept = list[Hint]()

    def status(signature: str) -> int:
        return int(from_webhook(request(signature=signature), secrets, kept.append, lambda: AT_S)["statusCode"])

    assert status(signed(AT_S, BODY, OLD)) == 200
    assert status(signed(AT_S, BODY, NEW)) == 400, "it was read a moment ago"
    now_s += REREAD_S
    assert status(signed(AT_S, BODY, NEW)) == 200
    assert [status("t=1,v1=0") for _ in range(3)] == [400] * 3, "forgeries make no reads"
    assert (len(kept), versions) == (2, [])


def test_no_secret_or_signature_and_nothing_of_the_body_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    unreadable = b'{"email": "canary@example.com"'
    with caplog.at_level(logging.DEBUG):
        for event in (request(), request(signature="t=1,v1=canary"), request(unreadable, signed(AT_S, unreadable, NEW))):
            answered(event)
    assert "a gateway event was refused" in caplog.text and "cannot be read" in caplog.text
    assert not [word for word in ("canary", "whsec", "v1=", NEW, "pi_1") if word in caplog.text]


ENVELOPE = {"version": "0", "source": "aws.partner/stripe.com/ed_test_1", "detail-type": EVENT["type"], "detail": EVENT}


def test_an_event_through_eventbridge_is_kept_without_a_signature() -> None:
    kept = list[Hint]()
    assert from_eventbridge(ENVELOPE, kept.append) == {"outcome": "kept"}
    assert [(hint.event_id, hint.payment_id) for hint in kept] == [("evt_1", OUR_ID)]


def test_what_is_no_event_of_stripes_is_refused_and_no_retry_is_asked_for() -> None:
    wrong: list[Any] = [{"source": "shop.orders"}, {"source": None}, {"detail": {}}, {"detail": None}]
    envelopes: list[Any] = [*(ENVELOPE | each for each in wrong), {"detail": EVENT}, {}, [], None, "text"]
    for envelope in envelopes:
        with case(str(envelope)):
            kept = list[Hint]()
            assert from_eventbridge(envelope, kept.append) == {"outcome": "refused"}
            assert kept == []


def test_lambda_is_to_try_again_while_the_books_are_away() -> None:
    def keep(hint: Hint) -> None:
        raise ServiceUnavailable("The database is away.", retry_after_s=2)

    with pytest.raises(ServiceUnavailable):
        from_eventbridge(ENVELOPE, keep)
