"""Examples for the documents in docs/. The service's own code makes them from fixed ids and times."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from payments import __version__
from payments.api.answers import reply_to, reply_to_error
from payments.api.webhook_routes import webhook_body
from payments.commands.catalog import COMMANDS
from payments.commands.command import Result
from payments.domain import errors
from payments.domain.changes import (
    ActionNeeded,
    Authorized,
    Captured,
    CaptureFailed,
    Failed,
    ProcessingStarted,
    Published,
    RefundFailed,
    RefundReserved,
    RefundSucceeded,
    Voided,
    VoidFailed,
)
from payments.domain.declines import DECLINE_MESSAGES
from payments.domain.dispute import Dispute, DisputeOutcome, change_to, dispute_body
from payments.domain.events import Event, event_for, payment_body, refusal_event
from payments.domain.operation import Outcome
from payments.domain.payment import Payment, PaymentStatus, apply
from payments.domain.refund import Refund, RefundStatus, refund_body
from payments.domain.times import rfc3339
from payments.store.webhooks import Webhook

_BEGAN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
_PAYMENT_ID = UUID("019c139e-4c00-7a41-9b0f-2d6c31e0a7f1")
_REFUND_ID = UUID("019c139f-b5d8-7c0e-8f4a-6b1d92c4e035")
_EVENT_ID = UUID("019c139e-4c8a-7d13-b6e2-51f0c8a9d7e4")
_TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRANSACTION_ID, _INTENT_ID = "txn_5c0d1e9b7a3f42e86d2b94f1", "pi_a41f7e03c9d2586bb7e1d04c"
REQUEST_ID = "ZkJ3vTa0oAMEPvw="
WEBHOOK_ID = "019c139e-4c00-7b52-a4d1-90e2cf7a6b38"


def _at(seconds: float) -> datetime:
    return _BEGAN + timedelta(seconds=seconds)


def _requested(capture_method: str) -> Payment:
    return Payment(
        payment_id=_PAYMENT_ID,
        owner="shop",
        order_id="order-1001",
        status=PaymentStatus.PENDING,
        status_reason="payment requested",
        amount_minor=1999,
        currency="USD",
        payment_method="credit_card",
        capture_method=capture_method,
        customer_id="customer-7",
        description="Two notebooks",
        metadata={"channel": "web"},
        created_at=_BEGAN,
        updated_at=_BEGAN,
        version=1,
    )


def _refund(amount_minor: int, status: RefundStatus) -> Refund:
    return Refund(
        refund_id=_REFUND_ID,
        payment_id=_PAYMENT_ID,
        owner="shop",
        transaction_id=TRANSACTION_ID,
        amount_minor=amount_minor,
        currency="USD",
        status=status,
        reason="one notebook came back",
        decline_code=None,
        created_at=_at(90),
        updated_at=_at(90) if status is RefundStatus.PENDING else _at(90.2),
    )


# Two payments, one with automatic and one with manual capture. Each change is the one that the service applies.
_CAPTURE = Captured(1999, TRANSACTION_ID, _INTENT_ID)
_FAILURE = Failed("insufficient_funds", DECLINE_MESSAGES["insufficient_funds"], TRANSACTION_ID, _INTENT_ID)
_AUTHORIZATION = Authorized(TRANSACTION_ID, _INTENT_ID, _at(7 * 86400))
_CAPTURE_FAILURE = CaptureFailed("card_declined", DECLINE_MESSAGES["card_declined"])
_VOID_FAILURE = VoidFailed("card_declined", DECLINE_MESSAGES["card_declined"])
_REFUND_FAILURE = RefundFailed(500, "card_declined")

_ACTION = ActionNeeded(_INTENT_ID, None)
_NEXT_ACTION = {"type": "stripe_js", "client_secret": f"{_INTENT_ID}_secret_7c1e", "expires_at": rfc3339(_at(3600.3))}

_processing = apply(_requested("automatic"), ProcessingStarted(), _BEGAN)
_requires_action = apply(_processing, _ACTION, _at(0.3))
_captured = apply(_processing, _CAPTURE, _at(0.12))
_failed = apply(_processing, _FAILURE, _at(0.12))
_authorized = apply(apply(_requested("manual"), ProcessingStarted(), _BEGAN), _AUTHORIZATION, _at(0.12))
_captured_later = apply(_authorized, replace(_CAPTURE, captured_minor=1500), _at(3600))
_voided = apply(_authorized, Voided("the customer cancelled"), _at(3600))
_reserved = apply(_captured, RefundReserved(500), _at(90))
_partly_refunded = apply(_reserved, RefundSucceeded(500), _at(90.2))
_refund_failed = apply(_reserved, _REFUND_FAILURE, _at(90.2))
_capture_failed = apply(_authorized, _CAPTURE_FAILURE, _at(3600))
_void_failed = apply(_authorized, _VOID_FAILURE, _at(3600))
_refunded = apply(apply(_captured, RefundReserved(1999), _at(90)), RefundSucceeded(1999), _at(90.2))

_DISPUTE = Dispute(
    dispute_id=UUID("019c2357-08c0-7e15-a0d4-38c5b7f1e9a2"),
    gateway_dispute_id="dp_1Sv0qJ2eZvKYlo2C3b7Xk9Qd",
    payment_id=_PAYMENT_ID,
    owner="shop",
    amount_minor=1999,
    currency="USD",
    reason="product_not_received",
    status="needs_response",
    outcome=None,
    due_by=_at(12 * 86400),
    is_refundable=False,
    created_at=_at(3 * 86400),
    updated_at=_at(3 * 86400 + 4),
    version=4,
)
_WON = replace(_DISPUTE, status="won", outcome=DisputeOutcome.WON, due_by=None, updated_at=_at(40 * 86400), version=5)
_disputed = apply(_captured, change_to(_DISPUTE), _DISPUTE.updated_at)
_dispute_won = apply(_disputed, change_to(_WON), _WON.updated_at)

_refund_done, _refund_pending = _refund(500, RefundStatus.SUCCEEDED), _refund(500, RefundStatus.PENDING)
_refund_of_all = _refund(1999, RefundStatus.SUCCEEDED)
_refund_declined = replace(_refund(500, RefundStatus.FAILED), decline_code=_REFUND_FAILURE.decline_code)


def _answer(kind: str, payment: Payment, outcome: Outcome = Outcome.SUCCEEDED, refund: Refund | None = None) -> dict[str, Any]:
    return reply_to(Result(command=COMMANDS[kind], outcome=outcome, payment=payment, refund=refund), REQUEST_ID).body


def _with_refunds(payment: Payment, *refunds: Refund, disputes: Sequence[Dispute] = ()) -> dict[str, Any]:
    shown = payment_body(payment, refunds=refunds) | {"has_more_refunds": False}
    return shown | {"disputes": [dispute_body(dispute) for dispute in disputes], "has_more_disputes": False}


_WEBHOOK = Webhook(
    webhook_id=UUID(WEBHOOK_ID),
    url="https://shop.example.com/payments",
    description="The shop's orders",
    event_types=["payment.failed", "payment.successful"],
    created_at=_BEGAN,
    previous_until=None,
    disabled_at=None,
    disabled_reason=None,
    failing_since=None,
    last_error=None,
    waiting=0,
    failed=0,
)
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw4rQ6yqYf0m0="
_ROTATED = replace(_WEBHOOK, previous_until=_at(86400))
_DISABLED = replace(
    _WEBHOOK,
    failing_since=_at(3600),
    last_error="timed out",
    disabled_at=_at(3 * 86400 + 4000),
    disabled_reason="failing",
    waiting=214,
)


def _page(*data: Mapping[str, Any], next_cursor: str | None = None) -> dict[str, Any]:
    return {"data": list(data), "has_more": next_cursor is not None, "next_cursor": next_cursor}


def _change(before: str | None, after: str, seconds: float, reason: str) -> dict[str, Any]:
    return {"from": before, "to": after, "at": rfc3339(_at(seconds)), "reason": reason}


REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "process": {
        "automatic": {
            "order_id": "order-1001",
            "amount": 1999,
            "currency": "USD",
            "payment_method": "credit_card",
            "payment_token": "tok_ok",
            "customer_id": "customer-7",
            "description": "Two notebooks",
            "metadata": {"channel": "web"},
        },
        "manual": {
            "order_id": "order-1001",
            "amount": 1999,
            "currency": "USD",
            "payment_method": "paypal",
            "capture_method": "manual",
        },
    },
    "capture": {
        "all": {"transaction_id": TRANSACTION_ID},
        "part": {"order_id": "order-1001", "amount": 1500},
    },
    "void": {"void": {"transaction_id": TRANSACTION_ID, "reason": "the customer cancelled"}},
    "refund": {
        "all": {"transaction_id": TRANSACTION_ID},
        "part": {"payment_id": str(_PAYMENT_ID), "amount": 500, "reason": "one notebook came back"},
    },
    "sync": {"by_id": {"payment_id": str(_PAYMENT_ID)}},
    "create_webhook": {
        "all": {"url": _WEBHOOK.url},
        "some": {"url": _WEBHOOK.url, "description": _WEBHOOK.description, "event_types": _WEBHOOK.event_types},
    },
    "redeliver_webhook": {
        "one": {"event_id": str(_EVENT_ID)},
        "range": {"from": "2026-01-31T00:00:00Z", "to": "2026-02-01T00:00:00Z"},
    },
}
"""By operation id and a name."""

ANSWERS: Mapping[tuple[str, int], Mapping[str, Any]] = {
    ("process", 201): {
        "captured": _answer("process", _captured),
        "authorized": _answer("process", _authorized),
    },
    ("process", 202): {
        "unknown": _answer("process", _processing, Outcome.UNKNOWN),
        "requires_action": _answer("process", _requires_action, Outcome.UNKNOWN) | {"next_action": _NEXT_ACTION},
    },
    ("sync", 200): {"captured": payment_body(_captured)},
    ("sync", 202): {"requires_action": payment_body(_requires_action) | {"next_action": _NEXT_ACTION}},
    ("capture", 200): {"captured": _answer("capture", _captured_later)},
    ("capture", 202): {"unknown": _answer("capture", _authorized, Outcome.UNKNOWN)},
    ("void", 200): {"voided": _answer("void", _voided)},
    ("void", 202): {"unknown": _answer("void", _authorized, Outcome.UNKNOWN)},
    ("refund", 201): {
        "part": _answer("refund", _partly_refunded, refund=_refund_done),
        "all": _answer("refund", _refunded, refund=_refund_of_all),
    },
    ("refund", 202): {"unknown": _answer("refund", _reserved, Outcome.UNKNOWN, _refund_pending)},
    ("get_payment", 200): {
        "partly_refunded": _with_refunds(_partly_refunded, _refund_done),
        "disputed": _with_refunds(_disputed, disputes=[_DISPUTE]),
        "failed": _with_refunds(_failed),
        "voided": _with_refunds(_voided),
    },
    ("get_order", 200): {"captured": _with_refunds(_captured)},
    ("get_transaction", 200): {"refunded": _with_refunds(_refunded, _refund_of_all)},
    ("get_history", 200): {
        "partly_refunded": _page(
            _change(None, "PENDING", 0, "payment requested"),
            _change("PENDING", "PROCESSING", 0, _processing.status_reason),
            _change("PROCESSING", "CAPTURED", 0.12, _captured.status_reason),
            _change("CAPTURED", "PARTIALLY_REFUNDED", 90.2, _partly_refunded.status_reason),
        )
    },
    ("get_refund", 200): {"succeeded": refund_body(_refund_done)},
    ("get_refunds", 200): {"one": _page(refund_body(_refund_done))},
    ("list_payments", 200): {
        "page": _page(
            _with_refunds(_partly_refunded, _refund_done),
            next_cursor="WyIyMDI2LTAxLTMxVDEyOjAwOjAwKzAwOjAwIiwgIjAxOWMxMzllNGMwMDdhNDE5YjBmMmQ2YzMxZTBhN2YxIl0",
        ),
        "last_page": _page(_with_refunds(_captured)),
    },
    ("create_webhook", 201): {"created": webhook_body(_WEBHOOK, _SECRET)},
    ("list_webhooks", 200): {"one": {"data": [webhook_body(_WEBHOOK)]}},
    ("get_webhook", 200): {"enabled": webhook_body(_WEBHOOK), "disabled": webhook_body(_DISABLED)},
    ("rotate_webhook", 200): {"rotated": webhook_body(_ROTATED, _SECRET)},
    ("enable_webhook", 200): {"enabled": webhook_body(_WEBHOOK)},
    ("redeliver_webhook", 202): {
        "all": {"events": 12, "resume_at": None},
        "part": {"events": 812, "resume_at": "2026-01-31T07:12:09.481516Z"},
    },
    ("health", 200): {
        "shallow": {"status": "ok", "version": __version__},
        "deep": {
            "status": "ok",
            "version": __version__,
            "checks": {"database": {"ok": True, "latency_ms": 0.71}, "broker": {"ok": True, "latency_ms": 2.4}},
        },
    },
    ("health", 503): {
        "broker_down": {
            "status": "degraded",
            "version": __version__,
            "checks": {
                "database": {"ok": True, "latency_ms": 0.71},
                "broker": {"ok": False, "latency_ms": 1500.3, "error": "unavailable"},
            },
        }
    },
}
"""By operation id and status, then by a name."""

_STATE = {"payment_id": str(_PAYMENT_ID), "order_id": "order-1001", "payment_status": "CAPTURED"}
_BAD_FIELD = ("body.amount", "must be a JSON integer from 1 to 999999999999 in the currency's minor unit")


def _declined(kind: str, payment: Payment, decline_code: str, refund: Refund | None = None) -> dict[str, Any]:
    result = Result(
        command=COMMANDS[kind],
        outcome=Outcome.DECLINED,
        payment=payment,
        refund=refund,
        decline_code=decline_code,
        decline_message=DECLINE_MESSAGES[decline_code],
    )
    return reply_to(result, REQUEST_ID).body


_ERRORS: tuple[errors.PaymentsError, ...] = (
    errors.MalformedJson("Expecting ',' delimiter at line 3, column 5."),
    errors.IdempotencyKeyInvalid("Send one Idempotency-Key of 1 to 255 visible ASCII characters, such as a UUID."),
    errors.Unauthenticated("Send a bearer token that names a subject."),
    errors.Forbidden("The token needs the scope payments/write."),
    errors.PaymentNotFound("You have no payment with this transaction_id."),
    errors.RefundNotFound("You have no refund with this refund_id."),
    errors.WebhookNotFound("You have no webhook with this webhook_id."),
    errors.WebhookConflict("You have a webhook at this url, or 10 webhooks. Delete one of them first."),
    errors.OrderAlreadyPaid("The order is already paid; look its payment up instead of paying again.", extra=_STATE),
    errors.OrderInProgress(
        "Another payment for this order is in progress; try again.",
        retry_after_s=1,
        extra=_STATE | {"payment_status": "PROCESSING"},
    ),
    errors.PaymentStateConflict("Only an AUTHORIZED payment can be captured; this one is CAPTURED.", extra=_STATE),
    errors.PaymentDisputed(
        "The customer disputes this payment at the bank, and the gateway takes no refund of it.", extra=_STATE
    ),
    errors.IdempotencyKeyInUse(
        "The first request with this Idempotency-Key is still running; try again in a moment.", retry_after_s=5
    ),
    errors.BodyTooLarge("Send at most 16384 bytes; this body has 40000."),
    errors.UnsupportedMediaType("Send the body as Content-Type: application/json."),
    errors.InvalidRequest("Correct the fields listed in `errors`.", _BAD_FIELD),
    errors.CardDataNotAccepted(
        "body.metadata.note looks like a card number. Send a payment_token instead of card data.",
        ("body.metadata.note", "looks like a card number"),
    ),
    errors.NotSupportedByGateway("payment_method", "must be a card"),
    errors.AmountTooLarge("At most 14.99 USD is available.", extra=_STATE | {"amount_available": 1499}),
    errors.IdempotencyKeyReused("This Idempotency-Key belongs to another request; use a new one."),
    errors.InternalError(
        "Our log has the error under this request_id. It is safe to repeat the request with the same Idempotency-Key."
    ),
    errors.ServiceUnavailable("The database is unavailable; try again.", retry_after_s=2),
)

MESSAGES: Mapping[int, str] = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""What API Gateway says by itself, by status."""

_DECLINES: Mapping[str, tuple[Payment, str, Refund | None]] = {
    "process": (_failed, "processing_error", None),
    "capture": (_capture_failed, _CAPTURE_FAILURE.decline_code, None),
    "void": (_void_failed, _VOID_FAILURE.decline_code, None),
    "refund": (_refund_failed, _REFUND_FAILURE.decline_code, _refund_declined),
}

PROBLEMS: Mapping[str, dict[str, Any]] = {error.code: reply_to_error(error, REQUEST_ID).body for error in _ERRORS} | {
    f"{command.noun}_declined": _declined(kind, *_DECLINES.get(kind, (_authorized, "card_declined", None)))
    for kind, command in COMMANDS.items()
}
"""A problem document for every code that the service knows."""


def _event(change: Published, after: Payment, refund: Refund | None = None) -> Event:
    return event_for(change, after, refund, _EVENT_ID, _TRACEPARENT)


def _event_of(dispute: Dispute, after: Payment) -> Event:
    # No request asked for it, so it has no trace.
    return event_for(change_to(dispute), after, None, _EVENT_ID, None, dispute=dispute_body(dispute))


_REFUSED = {
    "operation": "capture",
    "order_id": "order-1001",
    "transaction_id": None,
    "idempotency_key": "capture-of-order-1001",
}

EVENTS: Mapping[str, Event] = {
    event.type: event
    for event in (
        _event(_ACTION, _requires_action),
        _event(_CAPTURE, _captured),
        _event(_FAILURE, _failed),
        _event(RefundSucceeded(500), _partly_refunded, _refund_done),
        _event(_AUTHORIZATION, _authorized),
        _event(Voided(_voided.status_reason), _voided),
        _event(_REFUND_FAILURE, _refund_failed, _refund_declined),
        _event(_CAPTURE_FAILURE, _capture_failed),
        _event(_VOID_FAILURE, _void_failed),
        _event_of(_DISPUTE, _disputed),
        _event_of(_WON, _dispute_won),
        refusal_event(_EVENT_ID, _REFUSED | PROBLEMS["payment_state_conflict"], _at(3600)),
    )
}
"""An event of each type."""
