"""A gateway and a publisher that do as the test says and record their requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from payments.domain.events import Event
from payments.gateway.port import Approved, Declined, GatewayRequest, Reply, Unknown

Answer = Callable[[str, GatewayRequest], Reply]


class Killed(BaseException):
    """Ends a flow where it is raised, past every `except Exception`, as SIGKILL would."""


def approve(action: str, request: GatewayRequest) -> Reply:
    """Approve, with ids that follow from the key, as a gateway's idempotency promises."""
    return Approved(
        request.transaction_id or f"txn_{request.key}",
        request.payment_intent_id or f"pi_{request.key}",
        {"action": action},
    )


def decline(action: str, request: GatewayRequest) -> Reply:
    return Declined("card_declined", "The card was declined.", f"txn_{request.key}", f"pi_{request.key}", {"action": action})


def lose_reply(action: str, request: GatewayRequest) -> Reply:
    return Unknown("the reply was lost")


def kill(action: str, request: GatewayRequest) -> Reply:
    raise Killed


@dataclass
class FakeGateway:
    answer: Answer = approve
    asked: list[tuple[str, GatewayRequest]] = field(default_factory=list)

    def charge(self, request: GatewayRequest) -> Reply:
        return self._call("charge", request)

    def capture(self, request: GatewayRequest) -> Reply:
        return self._call("capture", request)

    def void(self, request: GatewayRequest) -> Reply:
        return self._call("void", request)

    def refund(self, request: GatewayRequest) -> Reply:
        return self._call("refund", request)

    def _call(self, action: str, request: GatewayRequest) -> Reply:
        self.asked.append((action, request))
        return self.answer(action, request)

    @property
    def keys(self) -> list[str]:
        return [request.key for _, request in self.asked]

    @property
    def attempts(self) -> list[int]:
        return [request.attempt for _, request in self.asked]


def acknowledge(event: Event) -> bool:
    return True


def refuse(event: Event) -> bool:
    return False


@dataclass
class FakePublisher:
    """Publishes the events for which `acknowledges` returns True."""

    acknowledges: Callable[[Event], bool] = acknowledge
    published: list[Event] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    warmed_up: int = 0
    away: bool = False

    def warm_up(self) -> None:
        self.warmed_up += 1

    def backs_off(self) -> bool:
        return self.away

    def publish(self, events: Sequence[Event], timeout_s: float) -> set[UUID]:
        self.batches.append(len(events))
        sent = [event for event in events if self.acknowledges(event)]
        self.published += sent
        return {event.event_id for event in sent}
