"""Disputes as a gateway shows them, and a payment that has one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from payments.commands.dispute import record
from payments.commands.service import Service
from payments.domain.ids import uuid7
from payments.domain.payment import Payment
from payments.gateway.port import SeenDispute
from payments.store import lookups
from tests.domain.examples import NOON


def seen(**changes: Any) -> SeenDispute:
    """An open dispute of 19.99 USD that bars refunds, new to the books unless the test names it."""
    values: dict[str, Any] = {
        "gateway_dispute_id": f"dp_{uuid7()}",
        "amount_minor": 1999,
        "currency": "USD",
        "reason": "fraudulent",
        "status": "needs_response",
        "outcome": None,
        "due_by": NOON + timedelta(days=9),
        "is_refundable": False,
        "created_at": NOON,
    }
    return SeenDispute(**values | changes)


def present(service: Service, payment_id: UUID | str) -> Payment:
    """Return the payment as it is now, as whoever looks at the gateway reads it before."""
    payment = lookups.find_payment(service.db, None, "payment_id", UUID(str(payment_id)))
    assert payment
    return payment


def disputed(service: Service, payment_id: UUID | str, **changes: Any) -> SeenDispute:
    """Record a new dispute of the payment."""
    one = seen(**changes)
    assert record(service, present(service, payment_id), [one])
    return one
