"""A payment, the changes that can happen to it, and the one table that says which status may follow which."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, get_args
from uuid import UUID

from payments.domain.changes import (
    ActionNeeded,
    Authorized,
    Captured,
    CaptureFailed,
    Change,
    DisputeClosed,
    Disputed,
    Failed,
    ProcessingStarted,
    Published,
    RefundFailed,
    RefundReserved,
    RefundReversed,
    RefundSucceeded,
    Voided,
    VoidFailed,
)
from payments.domain.declines import public_decline_code


class PaymentStatus(StrEnum):
    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    REQUIRES_ACTION = "REQUIRES_ACTION"
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"
    REFUNDED = "REFUNDED"
    FAILED = "FAILED"
    VOIDED = "VOIDED"


S = PaymentStatus
TRANSITIONS: Mapping[PaymentStatus, frozenset[PaymentStatus]] = {
    S.PENDING: frozenset({S.PROCESSING}),
    S.PROCESSING: frozenset({S.REQUIRES_ACTION, S.AUTHORIZED, S.CAPTURED, S.FAILED}),
    S.REQUIRES_ACTION: frozenset({S.AUTHORIZED, S.CAPTURED, S.FAILED, S.VOIDED}),
    S.AUTHORIZED: frozenset({S.CAPTURED, S.VOIDED}),
    S.CAPTURED: frozenset({S.PARTIALLY_REFUNDED, S.REFUNDED}),
    S.PARTIALLY_REFUNDED: frozenset({S.PARTIALLY_REFUNDED, S.REFUNDED, S.CAPTURED}),
    S.REFUNDED: frozenset({S.PARTIALLY_REFUNDED, S.CAPTURED}),
    S.FAILED: frozenset(),
    S.VOIDED: frozenset(),
}
"""Which status may follow which. The database's trigger holds the same table, and the README's diagram is drawn from it.

The one way back is of a refund that the gateway took for done, and that failed days later."""

REFUNDABLE = frozenset({S.CAPTURED, S.PARTIALLY_REFUNDED})
"""A payment can be refunded in these statuses, by at most `Payment.refundable_minor`."""


PaymentName = Literal["transaction_id", "payment_id", "order_id"]
"""What names a payment for its owner. An order names its live payment, and for a look-up else its latest."""

PAYMENT_NAMES: tuple[PaymentName, ...] = get_args(PaymentName)


class IllegalTransition(Exception):
    """The payment does not allow the change. The calling code has a defect; a user's request never leads here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """The columns of `payments`: one attempt to pay an order. Amounts are in the minor unit of `currency`."""

    payment_id: UUID
    owner: str
    order_id: str
    status: PaymentStatus
    status_reason: str
    amount_minor: int
    currency: str
    payment_method: str
    payment_token: str | None = field(default=None, repr=False)
    capture_method: str
    captured_minor: int = 0
    refunded_minor: int = 0
    refund_reserved_minor: int = 0
    transaction_id: str | None = None
    payment_intent_id: str | None = None
    decline_code: str | None = None
    error_message: str | None = None
    customer_id: str | None = None
    description: str | None = None
    metadata: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    authorized_at: datetime | None = None
    captured_at: datetime | None = None
    failed_at: datetime | None = None
    voided_at: datetime | None = None
    capture_before: datetime | None = None
    version: int
    event_sequence: int = 0

    @property
    def refundable_minor(self) -> int:
        """The amount that a new refund may take: captured, not refunded yet and not reserved by another refund."""
        if self.status not in REFUNDABLE:
            return 0
        return self.captured_minor - self.refunded_minor - self.refund_reserved_minor


NOT_DECLINED = {"decline_code": None, "error_message": None}


def apply(payment: Payment, change: Change, at: datetime) -> Payment:
    """Return the payment after the change, one version on. Raises IllegalTransition when the payment does not allow it."""
    at = max(at, payment.updated_at)  # The clocks of two machines differ a little, and a payment's history never goes backwards.
    changes: dict[str, Any] = {}
    match change:
        case ProcessingStarted():
            changes = _move(payment, S.PROCESSING, "processing started")
        case ActionNeeded(payment_intent_id, transaction_id):
            changes = _move(payment, S.REQUIRES_ACTION, "waiting for the customer")
            changes |= {"payment_intent_id": payment_intent_id, "transaction_id": transaction_id}
        case Authorized():
            changes = _move(payment, S.AUTHORIZED, "authorized by the gateway", authorized_at=at, **vars(change), **NOT_DECLINED)
        case Captured():
            taken = vars(change) | NOT_DECLINED
            changes = _move(payment, S.CAPTURED, "captured by the gateway", captured_at=at, capture_before=None, **taken)
        case Failed():
            changes = _move(payment, S.FAILED, _declined("", change.decline_code), failed_at=at, **vars(change))
        case Voided(reason, code):
            changes = _move(payment, S.VOIDED, reason, voided_at=at, capture_before=None, decline_code=code)
            changes |= {"error_message": code and reason}
        case RefundReserved(amount_minor):
            if not 1 <= amount_minor <= payment.refundable_minor:
                raise IllegalTransition(f"{amount_minor} is not between 1 and the refundable {payment.refundable_minor}")
            changes = {"refund_reserved_minor": payment.refund_reserved_minor + amount_minor}
        case RefundSucceeded(amount_minor):
            refunded_minor = payment.refunded_minor + amount_minor
            to = S.REFUNDED if refunded_minor == payment.captured_minor else S.PARTIALLY_REFUNDED
            changes = _move(payment, to, "refunded by the gateway", refunded_minor=refunded_minor)
            changes |= {"refund_reserved_minor": payment.refund_reserved_minor - amount_minor}
        case RefundFailed(amount_minor, decline_code):
            changes = {"status_reason": _declined("refund ", decline_code)}
            changes |= {"refund_reserved_minor": payment.refund_reserved_minor - amount_minor}
        case RefundReversed(amount_minor, decline_code):
            refunded_minor = payment.refunded_minor - amount_minor
            to = S.PARTIALLY_REFUNDED if refunded_minor else S.CAPTURED
            changes = _move(payment, to, f"refund failed: {public_decline_code(decline_code)}", refunded_minor=refunded_minor)
        case CaptureFailed() | VoidFailed():
            if payment.status not in (S.AUTHORIZED, S.REQUIRES_ACTION):
                raise IllegalTransition(f"a payment that is {payment.status} has no authorization to capture or void")
            what = "capture " if isinstance(change, CaptureFailed) else "void "
            changes = {"status_reason": _declined(what, change.decline_code), **vars(change)}
        case Disputed(reason) | DisputeClosed(reason):
            if not payment.captured_minor:
                raise IllegalTransition(f"a payment that is {payment.status} has no captured money to dispute")
            changes = {"status_reason": reason}
    sequence = payment.event_sequence + isinstance(change, Published)
    return replace(payment, **changes, updated_at=at, version=payment.version + 1, event_sequence=sequence)


def _declined(what: str, decline_code: str) -> str:
    """Return the reason for the history, which the payment's owner reads."""
    return f"{what}declined: {public_decline_code(decline_code)}"


def _move(payment: Payment, to: PaymentStatus, reason: str, **changes: Any) -> dict[str, Any]:
    """Return the changes of a payment that goes to another status."""
    if to not in TRANSITIONS[payment.status]:
        raise IllegalTransition(f"a payment does not go from {payment.status} to {to}")
    return {"status": to, "status_reason": reason, **changes}
