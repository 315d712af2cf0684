"""A dispute: the customer's bank asks for a payment's money back. The gateway leads it, and what it says now is what counts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from payments.domain.changes import DisputeClosed, Disputed
from payments.domain.money import MAX_AMOUNT_MINOR
from payments.domain.text import is_plain
from payments.domain.times import rfc3339

MAX_WORD_CHARACTERS = 100


class DisputeOutcome(StrEnum):
    """How a dispute ended. CLOSED is the end of an inquiry, which has moved no money."""

    WON = "won"
    LOST = "lost"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """The columns of `disputes`. `amount_minor` is in the minor unit of `currency`; both may differ from the payment's.

    `reason` and `status` are the gateway's words. `outcome` is None while the dispute is open, and `due_by` while the gateway
    takes no evidence. `created_at` is the gateway's moment. The last change made the payment's `version`. Raises ValueError for
    what the table does not take.
    """

    dispute_id: UUID
    gateway_dispute_id: str
    payment_id: UUID
    owner: str
    amount_minor: int
    currency: str
    reason: str
    status: str
    outcome: DisputeOutcome | None
    due_by: datetime | None
    is_refundable: bool
    created_at: datetime
    updated_at: datetime
    version: int

    def __post_init__(self) -> None:
        if not 0 <= self.amount_minor <= MAX_AMOUNT_MINOR or not re.fullmatch("[A-Z]{3}", self.currency):
            raise ValueError("a dispute has an amount that is no amount, or a currency that is none")
        words = (self.gateway_dispute_id, self.reason, self.status)
        if not all(len(word) <= MAX_WORD_CHARACTERS and is_plain(word) for word in words):
            raise ValueError("a dispute has a word that is no word")


def next_of(before: Dispute | None, seen: Dispute) -> Dispute | None:
    """Return the dispute after the next change that leads to what was seen, or None when nothing is new.

    A dispute opens before it ends, also one that had ended when we first heard of it. After its end only another outcome is new,
    or that it is open again.
    """
    if before is None:
        return replace(seen, outcome=None)
    if before.outcome is not None and before.outcome == seen.outcome:
        return None
    kept = {name: getattr(before, name) for name in ("dispute_id", "owner", "created_at", "updated_at", "version")}
    after = replace(seen, **kept)
    return None if after == before else after


def change_to(after: Dispute) -> Disputed | DisputeClosed:
    return Disputed(f"disputed: {after.reason}") if after.outcome is None else DisputeClosed(f"dispute {after.outcome}")


def dispute_body(dispute: Dispute) -> dict[str, Any]:
    return {
        "dispute_id": str(dispute.dispute_id),
        "payment_id": str(dispute.payment_id),
        "gateway_dispute_id": dispute.gateway_dispute_id,
        "amount": dispute.amount_minor,
        "currency": dispute.currency,
        "reason": dispute.reason,
        "status": dispute.status,
        "outcome": dispute.outcome.value if dispute.outcome else None,
        "due_by": rfc3339(dispute.due_by),
        "is_refundable": dispute.is_refundable,
        "created_at": rfc3339(dispute.created_at),
        "updated_at": rfc3339(dispute.updated_at),
    }
