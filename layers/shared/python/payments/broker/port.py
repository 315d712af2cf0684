"""The port to a broker: publish events, and return those that it has acknowledged."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from payments.domain.events import Event


class Publisher(Protocol):
    def warm_up(self) -> None:
        """Begin to connect, without waiting and without raising."""

    def backs_off(self) -> bool:
        """Return whether the broker was away a moment ago, so that no caller should wait for it."""

    def publish(self, events: Sequence[Event], timeout_s: float) -> set[UUID]:
        """Send events, wait for the acknowledgements, and return the ids that came in time. Does not raise."""
