"""A command that moves money, as the books keep it: its key, its lease, its attempts and its outcome; and a refund's record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class Kind(StrEnum):
    PROCESS = "process"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class Outcome(StrEnum):
    """What became of an operation. UNKNOWN is never stored: it is the absence of an outcome."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    UNKNOWN = "unknown"


GATEWAY_KEY_PREFIXES = {Kind.PROCESS: "pay", Kind.CAPTURE: "cap", Kind.VOID: "void", Kind.REFUND: "ref"}


def gateway_key(kind: Kind, subject_id: UUID) -> str:
    """The key that every attempt of an operation carries, so that the gateway moves the money once.

    The subject is the payment for process, the refund for refund, and the operation itself for capture and void, because a
    capture may be tried again after a decline and is then another command.
    """
    return f"{GATEWAY_KEY_PREFIXES[kind]}-{subject_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Field for column as in the `operations` table; `outcome` is None while nobody knows, `reply` is the gateway's own."""

    operation_id: UUID
    owner: str
    kind: Kind
    payment_id: UUID
    refund_id: UUID | None = None
    amount_minor: int
    reason: str | None = None
    idempotency_key: str | None = None
    request_hash: str
    gateway_key: str
    attempt: int = 1
    outcome: Outcome | None = None
    reply: dict[str, Any] | None = None
    traceparent: str | None = None
    created_at: datetime


class RefundStatus(StrEnum):
    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Field for column as in the `refunds` table."""

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
