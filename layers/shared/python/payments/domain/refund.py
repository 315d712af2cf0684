"""A refund. The claim reserves its amount on the payment; an approval refunds the amount, and a decline releases it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class RefundStatus(StrEnum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


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
