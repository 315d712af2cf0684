"""What the flows need, passed to them as arguments: the books, the gateway, the publisher, a clock and ids."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from payments.domain.events import Event
from payments.domain.ids import uuid7
from payments.domain.operation import Kind, Operation, Outcome, Refund
from payments.domain.payment import Payment
from payments.gateway.port import Gateway
from payments.store.connection import Database


class Publisher(Protocol):
    def warm_up(self) -> None:
        """Begin to connect, without waiting and without raising."""

    def backs_off(self) -> bool:
        """Whether the broker was away a moment ago, so that `publish` would not even try."""

    def publish(self, events: Sequence[Event], timeout_s: float) -> set[UUID]:
        """Send events and wait for the acknowledgements; the ids that were acknowledged in time. Does not raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    db: Database
    gateway: Gateway
    publisher: Publisher
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_id: Callable[[], UUID] = uuid7
    retry_schedule_s: Sequence[float] = (30, 120, 600, 3600, 21600, 72000)
    """When to ask again about an unknown outcome, in seconds since the command was claimed: a gateway's hiccup is over in 30 s,
    an outage in hours. The last one lies within GATEWAY_KEY_LIFETIME_S."""
    capture_window: timedelta = timedelta(days=7)
    """How long an authorization holds: what card networks promise for most cards."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When this invocation will be ended, on the monotonic clock in seconds."""

    at_s: float

    @classmethod
    def in_s(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        return self.at_s - time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One command's circumstances: for whom, under which idempotency key, by when, and the trace it belongs to."""

    owner: str
    deadline: Deadline
    idempotency_key: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command came to. `payment` and `refund` are as they are now, also when a request is replayed."""

    kind: Kind
    outcome: Outcome
    payment: Payment
    refund: Refund | None = None
    decline_code: str | None = None
    decline_message: str | None = None
    replayed: bool = False


def result_of(
    operation: Operation, outcome: Outcome, payment: Payment, refund: Refund | None, *, replayed: bool = False
) -> Result:
    declined = operation.reply or {} if outcome is Outcome.DECLINED else {}
    return Result(
        kind=operation.kind,
        outcome=outcome,
        payment=payment,
        refund=refund,
        decline_code=declined.get("decline_code"),
        decline_message=declined.get("message"),
        replayed=replayed,
    )
