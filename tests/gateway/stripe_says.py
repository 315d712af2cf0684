"""What Stripe can say, for a scripted server: its objects and errors, and what is no answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from payments.gateway.port import Alarm, GatewayRequest, Reply
from payments.gateway.stripe import StripeGateway
from tests.gateway.scripted import Says, says, scripted

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(hours=2)
KEYS = {"process": "pay-1", "capture": "cap-1", "void": "void-1", "refund": "ref-1"}

At = Callable[..., StripeGateway]


def request(kind: str = "process", **fields: Any) -> GatewayRequest:
    defaults: dict[str, Any] = {
        "kind": kind,
        "key": KEYS[kind],
        "attempt": 1,
        "payment_id": uuid.UUID(int=7),
        "order_id": "order-1",
        "amount_minor": 1999,
        "currency": "USD",
        "payment_method": "credit_card",
        "payment_token": "pm_1" if kind == "process" else None,
        "timeout_s": 5.0,
        "transaction_id": None if kind == "process" else "ch_1",
        "payment_intent_id": None if kind == "process" else "pi_1",
        "asked_at": [NOW],
    }
    return GatewayRequest(**defaults | fields)


def intent(status: str, **changes: Any) -> dict[str, Any]:
    amounts = {"amount": 1999, "amount_received": 1999 * (status == "succeeded")}
    amounts["amount_capturable"] = 1999 * (status == "requires_capture")
    return (
        {"object": "payment_intent", "id": "pi_1", "livemode": False, "status": status, "currency": "usd"}
        | amounts
        | {
            "latest_charge": "ch_1",
            "last_payment_error": None,
            "client_secret": "pi_1_secret_x",
            "metadata": {"gateway_key": "pay-1"},
        }
        | changes
    )


def refund(status: str, **changes: Any) -> dict[str, Any]:
    ids = {"object": "refund", "id": "re_1", "charge": "ch_1", "payment_intent": "pi_1", "metadata": {"gateway_key": "ref-1"}}
    return ids | {"status": status, "amount": 1999, "currency": "usd"} | changes


def error(kind: str = "invalid_request_error", **members: Any) -> dict[str, Any]:
    return {"error": {"type": kind, "message": "Stripe's words about tok_secret"} | members}


def page(*things: dict[str, Any], has_more: bool = False) -> Says:
    return says(200, {"object": "list", "data": list(things), "has_more": has_more})


DECLINE = {"code": "card_declined", "decline_code": "do_not_honor", "advice_code": "try_again_later", "message": "Ask your bank."}
CANCELED = says(200, intent("canceled"))


def ask(stripe_at: At, asked: GatewayRequest, *script: Says, find: bool = False, **how: Any) -> tuple[Reply, list[Any]]:
    """Return the reply and the requests that it took, all of which were scripted."""
    with scripted(*script) as server:
        gateway = stripe_at(server.url, **how)
        verb = "find" if find else {"process": "charge"}.get(asked.kind, asked.kind)
        reply: Reply = getattr(gateway, verb)(asked)
        assert server.script == [], "not all that was scripted was asked for"
        return reply, server.received


STILL_OPEN: dict[str, Says] = {
    "a 500": says(500, error("api_error")),
    "an error": says(400, error(code="lock_timeout")),
    "the open intent": says(400, error(code="x", payment_intent=intent("requires_payment_method"))),
    "no reply": lambda connection, request: True,
}
"""What may answer a cancel."""


def breaks(connection: Any, request: object) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    return True


UNKNOWN: dict[str, tuple[Says, dict[str, Any]]] = {
    "a 500": (says(500, error("api_error")), {}),
    "a 503 of a proxy": (says(503, b"<html>"), {}),
    "a remembered 500": (says(500, error("api_error"), Idempotent_Replayed="true"), {"key_is_spent": True}),
    "a key with other parameters": (says(400, error("idempotency_error")), {"key_is_spent": True}),
    "a key in use": (says(409, error("idempotency_error", code="idempotency_key_in_use")), {}),
    "a conflict": (says(409, error()), {}),
    "too many requests": (says(429, error(code="rate_limit"), Retry_After="7"), {"wait_s": 7.0}),
    "too many requests, until a date": (says(429, error(), Retry_After="Sun, 29 Nov 2026 16:00:00 GMT"), {}),
    "too many requests, without a word": (says(429, b""), {}),
    "no key": (says(401, error()), {"alarm": Alarm.REFUSES_US}),
    "no permission": (says(403, error()), {"alarm": Alarm.REFUSES_US}),
    "a redirect": (says(302, b"", Location="http://127.0.0.1:1/"), {}),
    "half a reply": (breaks, {}),
    "no reply": (lambda connection, request: True, {}),
    "no JSON": (says(200, b"<html>"), {}),
    "JSON that is no object": (says(200, [1]), {}),
    "JSON without a status": (says(200, {"object": "payment_intent", "id": "pi_1"}), {}),
    "an error without words": (says(400, {}), {}),
    "an error of another form": (says(400, {"error": "invalid_client"}), {}),
    "an error that is none": (says(200, error()), {}),
    "a status of tomorrow": (
        says(200, {"status": "requires_reauthorization", "object": "x", "id": "x_1", "livemode": False}),
        {},
    ),
}
"""What is no outcome, and what else we make of it."""
