"""An operation: one command that moves money, as the `operations` table keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

GATEWAY_KEY_LIFETIME_S = 23 * 3600
"""A gateway remembers an idempotency key for 24 h, as Stripe does at least, and then the same request could be a second charge.
So we stop calling with a key an hour before. An operation that was written before migration 051 has no other end."""


class Outcome(StrEnum):
    """The outcome of an operation. UNKNOWN is never stored: the column is null."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What an operation holds before and after its claim. `kind` is the command's.

    Every attempt carries the same `gateway_key`, so that the gateway moves the money once.
    """

    operation_id: UUID
    owner: str
    kind: str
    refund_id: UUID | None = None
    reason: str | None = None
    idempotency_key: str | None = None
    request_hash: str
    gateway_key: str
    traceparent: str | None = None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft(_Asked):
    """An operation before its claim, which finds the payment. `amount_minor` None stands for all that the payment allows.

    `lease_s` says for how many seconds the worker that claims the operation may act on it alone, and `key_lifetime_s` for how
    many the gateway remembers its key. `parameters` is what the gateway is asked besides the payment's columns. If there is an
    event `refusal_id`, the same request was refused before, and that stands.
    """

    amount_minor: int | None = None
    lease_s: float
    gateway: str
    key_lifetime_s: float
    parameters: Mapping[str, Any] | None = None
    refusal_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(_Asked):
    """The columns of `operations`, but for its lease. `outcome` is None while it is unknown, and `reply` is the gateway's answer
    as we recorded it.
    """

    payment_id: UUID
    amount_minor: int
    attempt: int = 1
    outcome: Outcome | None = None
    reply: dict[str, Any] | None = None
