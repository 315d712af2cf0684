"""A payment as callers and consumers read it, and the event that carries it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from payments.domain.changes import EVENT_TYPES, Published
from payments.domain.declines import public_decline_code, public_decline_message
from payments.domain.payment import Payment
from payments.domain.refund import Refund, refund_body
from payments.domain.times import rfc3339

SOURCE = "urn:payments:service"


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent as the outbox keeps it. `sequence` counts a payment's events from 1 without gaps. A refusal is alone under its
    own id, which stands in `payment_id`. The database's clock sets `created_at` when the event is written. `data` is JSON,
    and stays text: nobody on its way to the topic reads it."""

    event_id: UUID
    payment_id: UUID
    sequence: int
    type: str
    data: str
    created_at: datetime
    traceparent: str | None


def event_for(
    change: Published, after: Payment, refund: Refund | None, event_id: UUID, traceparent: str | None, **members: dict[str, Any]
) -> Event:
    """Return the event of a change, with the payment as it is after the change, and the members that tell more of it."""
    body = payment_body(after) | ({"refund": refund_body(refund)} if refund else {}) | members
    data = json.dumps(body, ensure_ascii=False)
    return Event(event_id, after.payment_id, after.event_sequence, EVENT_TYPES[type(change)], data, after.updated_at, traceparent)


def refusal_event(event_id: UUID, data: dict[str, Any], at: datetime) -> Event:
    """Return the event of a direct invocation that was refused for good. No payment has changed, so its subject is its own id."""
    return Event(event_id, event_id, 1, "payment.refused", json.dumps(data, ensure_ascii=False), at, None)


def attributes(event: Event) -> dict[str, str | None]:
    """Return the event's attributes as CloudEvents 1.0 names them, the same on each way to a consumer."""
    return {
        "specversion": "1.0",
        "id": str(event.event_id),
        "source": SOURCE,
        "type": event.type,
        "time": rfc3339(event.created_at),
        "subject": str(event.payment_id),
        # CloudEvents compares sequences as text, and the outbox's column has at most ten digits.
        "sequence": f"{event.sequence:010}",
        "dataschema": f"urn:payments:schema:{event.type}:1",
    }


def structured(event: Event) -> bytes:
    """Return the event as one JSON document: CloudEvents' structured mode."""
    told = attributes(event) | {"datacontenttype": "application/json", "traceparent": event.traceparent}
    text = json.dumps({name: value for name, value in told.items() if value is not None})
    return f'{text[:-1]}, "data": {event.data}}}'.encode()


TIMES = ("created_at", "updated_at", "authorized_at", "captured_at", "failed_at", "voided_at", "capture_before")


def payment_body(payment: Payment, *, refunds: Sequence[Refund] | None = None, confidential: bool = False) -> dict[str, Any]:
    """Return the payment's JSON. `confidential` shows the gateway's own decline code, for the admin scope alone."""
    code, message = payment.decline_code, payment.error_message
    body: dict[str, Any] = {
        "payment_id": str(payment.payment_id),
        "order_id": payment.order_id,
        "status": payment.status.value,
        "amount": payment.amount_minor,
        "currency": payment.currency,
        "payment_method": payment.payment_method,
        "capture_method": payment.capture_method,
        "amount_captured": payment.captured_minor,
        "amount_refunded": payment.refunded_minor,
        "amount_refund_pending": payment.refund_reserved_minor,
        "transaction_id": payment.transaction_id,
        "payment_intent_id": payment.payment_intent_id,
        "decline_code": code if confidential else public_decline_code(code),
        "error_message": message if confidential else public_decline_message(code, message),
        "customer_id": payment.customer_id,
        "description": payment.description,
        "metadata": dict(payment.metadata),
        **{name: rfc3339(getattr(payment, name)) for name in TIMES},
    }
    if refunds is not None:
        body["refunds"] = [refund_body(refund, confidential=confidential) for refund in refunds]
    return body
