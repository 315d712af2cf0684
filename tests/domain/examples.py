"""A payment and a refund as the database may hold them, in the status that a test needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from payments.domain.dispute import Dispute
from payments.domain.payment import Payment, PaymentStatus
from payments.domain.refund import Refund, RefundStatus

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
PAYMENT_ID = UUID("019c1234-5678-7abc-8def-0123456789ab")
REFUND_ID = UUID("019c1234-5678-7abc-8def-0123456789ac")
DISPUTE_ID = UUID("019c1234-5678-7abc-8def-0123456789ae")

MONEY = {
    PaymentStatus.CAPTURED: {"captured_minor": 1999},
    PaymentStatus.PARTIALLY_REFUNDED: {"captured_minor": 1999, "refunded_minor": 500},
    PaymentStatus.REFUNDED: {"captured_minor": 1999, "refunded_minor": 1999},
}
WITHOUT_GATEWAY_IDS = (PaymentStatus.PENDING, PaymentStatus.PROCESSING)


def row_values(record: Any) -> dict[str, Any]:
    """The fields of a payment, refund or operation as a database takes them."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: json.dumps(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def payment(status: PaymentStatus = PaymentStatus.PENDING, **changes: Any) -> Payment:
    """Return a payment of 19.99 USD in the given status, with the amounts that the status implies."""
    ids: dict[str, str | None] = {} if status in WITHOUT_GATEWAY_IDS else {"transaction_id": "txn_1", "payment_intent_id": "pi_1"}
    ids |= {"transaction_id": None} if status is PaymentStatus.REQUIRES_ACTION else {}
    values: dict[str, Any] = {
        "payment_id": PAYMENT_ID,
        "owner": "shop",
        "order_id": "order-1",
        "status": status,
        "status_reason": "as the test needs it",
        "amount_minor": 1999,
        "currency": "USD",
        "payment_method": "credit_card",
        "payment_token": "tok_ok",
        "capture_method": "automatic",
        "metadata": {},
        "created_at": NOON,
        "updated_at": NOON,
        "version": 1,
    }
    return Payment(**values | ids | MONEY.get(status, {}) | changes)


def refund(**changes: Any) -> Refund:
    values: dict[str, Any] = {
        "refund_id": REFUND_ID,
        "payment_id": PAYMENT_ID,
        "owner": "shop",
        "transaction_id": "txn_1",
        "amount_minor": 500,
        "currency": "USD",
        "status": RefundStatus.SUCCEEDED,
        "reason": "too small",
        "decline_code": None,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Refund(**values | changes)


def dispute(**changes: Any) -> Dispute:
    values: dict[str, Any] = {
        "dispute_id": DISPUTE_ID,
        "gateway_dispute_id": "dp_1",
        "payment_id": PAYMENT_ID,
        "owner": "shop",
        "amount_minor": 1999,
        "currency": "USD",
        "reason": "fraudulent",
        "status": "needs_response",
        "outcome": None,
        "due_by": NOON + timedelta(days=9),
        "is_refundable": False,
        "created_at": NOON,
        "updated_at": NOON,
        "version": 4,
    }
    return Dispute(**values | changes)
