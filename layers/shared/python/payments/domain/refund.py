"""A refund. The claim reserves its amount on the payment; an approval refunds the amount, and a decline releases it. One that the
gateway made by itself has no claim."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from payments.domain.declines import public_decline_code
from payments.domain.times import rfc3339


class RefundStatus(StrEnum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class Origin(StrEnum):
    """Who made a refund: the service, which somebody asked for it, or the gateway by itself, as for a person at its dashboard."""

    SERVICE = "service"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """The columns of `refunds`. `amount_minor` is in the minor unit of `currency`."""

    refund_id: UUID
    payment_id: UUID
    owner: str
    transaction_id: str
    amount_minor: int
    currency: str
    status: RefundStatus
    reason: str | None
    decline_code: str | None
    created_at: datetime
    updated_at: datetime
    origin: Origin = Origin.SERVICE


def refund_body(refund: Refund, *, confidential: bool = False) -> dict[str, Any]:
    return {
        "refund_id": str(refund.refund_id),
        "payment_id": str(refund.payment_id),
        "transaction_id": refund.transaction_id,
        "amount": refund.amount_minor,
        "currency": refund.currency,
        "status": refund.status.value,
        "reason": refund.reason,
        "decline_code": refund.decline_code if confidential else public_decline_code(refund.decline_code),
        "created_at": rfc3339(refund.created_at),
        "updated_at": rfc3339(refund.updated_at),
        "origin": refund.origin.value,
    }
