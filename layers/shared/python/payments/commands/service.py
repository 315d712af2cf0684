"""The parts that a command uses (database, gateway, publisher, clock, ids), and the circumstances of one call."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from payments.broker.port import Publisher
from payments.domain.ids import uuid7
from payments.domain.times import DAY_S
from payments.gateway.port import Gateway
from payments.store.connection import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    db: Database
    gateway: Gateway
    publisher: Publisher
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_id: Callable[[], UUID] = uuid7
    later: Callable[[Callable[[], None]], None] = lambda work: work()
    """Publishes and marks an event: at once, or after the answer."""
    retry_schedule_s: Sequence[float] = (30, 120, 600, 3600, 21600, 72000, *range(2 * DAY_S, 31 * DAY_S, DAY_S))
    """When reconcile goes on with an unknown outcome, in seconds since the claim. A gateway's hiccup is over in 30 s, an outage
    in hours; a bank may take days for a refund. Once the gateway's key has ended, reconcile only asks what became of it."""
    capture_window: timedelta = timedelta(days=7)
    """How long an authorization holds. Card networks promise this for most cards."""
    action_window: timedelta = timedelta(hours=1)
    """How long a payment waits for its customer. A bank's own page gives up after minutes. After this time the service cancels
    the payment, and its order can be paid anew."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment at which Lambda ends this invocation, in seconds of the monotonic clock."""

    at_s: float

    @classmethod
    def in_s(cls, seconds: float) -> Self:
        return cls(time.monotonic() + seconds)

    @classmethod
    def of(cls, context: Any) -> Self:
        """Return the deadline of the invocation with this context of Lambda's."""
        return cls.in_s(context.get_remaining_time_in_millis() / 1000)

    def remaining_s(self) -> float:
        return self.at_s - time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a command: its owner, its deadline, the caller's idempotency key and trace.

    A direct invocation that is refused for good is told as the event `refusal_id`, and is not carried out later.
    """

    owner: str
    deadline: Deadline
    idempotency_key: str | None = None
    traceparent: str | None = None
    refusal_id: UUID | None = None
