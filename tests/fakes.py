"""A gateway and a publisher that do as the test says and record their requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from payments.domain.events import Event
from payments.domain.operation import GATEWAY_KEY_LIFETIME_S
from payments.gateway.port import ActionRequired, Approved, Declined, GatewayRequest, Hint, NextAction, Reply, Seen, Unknown

Answer = Callable[[str, GatewayRequest], Reply]


class Killed(BaseException):
    """Ends a flow where it is raised, past every `except Exception`, as SIGKILL would."""


def approve(action: str, request: GatewayRequest) -> Reply:
    """Approve, with ids that follow from the key, as a gateway's idempotency promises."""
    return Approved(
        request.transaction_id or f"txn_{request.key}",
        request.payment_intent_id or f"pi_{request.key}",
        request.amount_minor,
        request.currency,
        {"action": action},
    )


def decline(action: str, request: GatewayRequest) -> Reply:
    return Declined("card_declined", "The card was declined.", f"txn_{request.key}", f"pi_{request.key}", {"action": action})


def lose_reply(action: str, request: GatewayRequest) -> Reply:
    return Unknown("the reply was lost")


SECRET = "pi_secret_that_no_row_holds"


def ask_customer(action: str, request: GatewayRequest) -> Reply:
    """Wait for the customer, whatever is asked."""
    intent, action_for = f"pi_{request.key}", NextAction("stripe_js", client_secret=SECRET)
    return ActionRequired(intent, intent, None, action_for, {"action": action})


def kill(action: str, request: GatewayRequest) -> Reply:
    raise Killed


class AnyGateway:
    """Takes everything, keeps keys for a day, and finds nothing."""

    name = "simulated"

    def key_lifetime_s(self, kind: str) -> float:
        return GATEWAY_KEY_LIFETIME_S

    def refuses(
        self, payment_method: str, amount_minor: int, currency: str, *, is_part: bool = False, has_token: bool = True
    ) -> tuple[str, str] | None:
        return None

    def find(self, request: GatewayRequest) -> Reply:
        return Unknown("no trace of it")

    def look(self, payment_intent_id: str, timeout_s: float) -> Seen | None:
        return None

    def undelivered(self, since: datetime, timeout_s: float, until: datetime | None = None) -> Iterable[Hint]:
        return ()


@dataclass
class FakeGateway(AnyGateway):
    answer: Answer = approve
    found: Answer = lose_reply
    asked: list[tuple[str, GatewayRequest]] = field(default_factory=list)

    def charge(self, request: GatewayRequest) -> Reply:
        return self._call("charge", request)

    def capture(self, request: GatewayRequest) -> Reply:
        return self._call("capture", request)

    def void(self, request: GatewayRequest) -> Reply:
        return self._call("void", request)

    def refund(self, request: GatewayRequest) -> Reply:
        return self._call("refund", request)

    def find(self, request: GatewayRequest) -> Reply:
        self.asked.append(("find", request))
        return self.found("find", request)

    def _call(self, action: str, request: GatewayRequest) -> Reply:
        self.asked.append((action, request))
        return self.answer(action, request)

    @property
    def keys(self) -> list[str]:
        return [request.key for _, request in self.asked]

    @property
    def attempts(self) -> list[int]:
        return [request.attempt for _, request in self.asked]


@dataclass
class Dashboard(FakeGateway):
    """A gateway whose present state is `seen`, or what `sees` returns. `looks` has the payment intents that it was asked for."""

    seen: Seen | None = None
    sees: Callable[[], Seen | None] | None = None
    looks: list[str] = field(default_factory=list)

    def look(self, payment_intent_id: str, timeout_s: float) -> Seen | None:
        assert 0 < timeout_s <= 10
        self.looks.append(payment_intent_id)
        return self.sees() if self.sees else self.seen


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
