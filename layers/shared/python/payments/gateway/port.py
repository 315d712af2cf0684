"""The port to a payment gateway: four calls, each repeatable under its key, and questions that move no money.

docs/gateways.md says what an adapter must do. tests/gateway/port_suite.py is what it must pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """One call. `key` is the gateway's idempotency key: the same key always moves the money at most once.

    `kind` is the command's: process, capture, void or refund. `attempt` counts our calls for the operation from 1.
    `transaction_id` names the authorization or charge of a capture, void or refund, and is None for a charge. We wait at most
    `timeout_s` seconds for the answer. `gateway_id` and `asked_at` are for `find`: what the gateway called the thing that it
    began (Pending, ActionRequired), and the moments at which we called with the key. With `off_session` the customer is not
    there to act. A customer who acted elsewhere comes back to `return_url`.
    """

    kind: str
    key: str
    attempt: int
    payment_id: UUID
    order_id: str
    amount_minor: int
    currency: str
    payment_method: str
    payment_token: str | None = field(repr=False)
    timeout_s: float
    capture: bool = True
    transaction_id: str | None = None
    payment_intent_id: str | None = None
    gateway_id: str | None = None
    asked_at: Sequence[datetime] = ()
    off_session: bool = False
    return_url: str | None = field(default=None, repr=False)


class Alarm(StrEnum):
    """What a person must see at once. Each is a metric, which template.yaml has an alarm on."""

    AMOUNT_MISMATCH = "GatewayAmountMismatch"
    """The gateway moved another amount or currency than we asked for."""
    REFUSES_US = "GatewayRefusesUs"
    """The gateway does not take our credentials, or they are of the wrong mode (live or test)."""


# The operation records the fields of an answer with `vars`, so those that it records have no slots.


@dataclass(frozen=True)
class Approved:
    """The money moved: `amount_minor` of `currency`, which we compare with what we asked for. For a void it is what was released,
    and `transaction_id` is empty if nothing was charged before it.

    `capture_before` ends an authorization at the gateway, if it says so. `refund_id` is the gateway's name of a refund.
    """

    transaction_id: str
    payment_intent_id: str
    amount_minor: int
    currency: str
    raw: dict[str, Any]
    capture_before: datetime | None = None
    refund_id: str | None = None


@dataclass(frozen=True)
class Declined:
    """A definite no: no money moved and none will under this key. `advice_code` is the gateway's, if it gives one."""

    decline_code: str
    message: str
    transaction_id: str | None
    payment_intent_id: str | None
    raw: dict[str, Any]
    advice_code: str | None = None


@dataclass(frozen=True)
class Pending:
    """The gateway accepted the call and has not finished. `gateway_id` is its name of what it began; from now on we ask by it."""

    gateway_id: str
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NextAction:
    """What the customer's browser needs: the secret for Stripe's own script, or the address of a page.

    Whoever has it can act for the customer. So it is never written, and only the payment's owner gets it.
    """

    type: Literal["stripe_js", "redirect"]
    client_secret: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ActionRequired:
    """No money has moved: the gateway waits for the customer. From now on we ask by `gateway_id`, its name of the payment.

    `raw` holds no secret. A void with this `payment_intent_id` makes sure that the customer can no longer pay.
    """

    gateway_id: str
    payment_intent_id: str
    transaction_id: str | None
    next_action: NextAction
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unknown:
    """No reliable answer: a time-out, a reset, a 5xx. The money may have moved, so we call again under the same key.

    After `key_is_spent` that is of no use, because the gateway gives this answer for ever; then we only `find`. `wait_s` is the
    gateway's wish for the next attempt, in seconds.
    """

    reason: str
    key_is_spent: bool = False
    wait_s: float | None = None
    alarm: Alarm | None = None


Reply = Approved | Declined | Pending | ActionRequired | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRefund:
    """A refund at the gateway. `key` is our gateway key, and None for one that we did not ask for.

    `failure_code` says why it failed. `reason` is in the words of who made it.
    """

    gateway_refund_id: str
    key: str | None
    amount_minor: int
    status: Literal["pending", "succeeded", "failed"]
    failure_code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDispute:
    """A dispute at the gateway: the customer's bank takes `amount_minor` back, until it is won.

    Evidence is taken until `due_by`. `status` is the gateway's own word, of which docs/gateways.md lists Stripe's; `outcome` is
    None while it is open. While not `is_refundable`, the gateway refuses refunds of the payment.
    """

    gateway_dispute_id: str
    amount_minor: int
    currency: str
    reason: str
    status: str
    outcome: Literal["won", "lost", "closed"] | None
    due_by: datetime | None
    is_refundable: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the gateway has of a payment at one moment, whoever did it.

    `state` is open (nothing is decided), authorized, captured (`captured_minor` of it) or canceled, which also stands for an
    authorization that has lapsed.
    """

    state: Literal["open", "authorized", "captured", "canceled"]
    transaction_id: str | None
    captured_minor: int
    currency: str
    refunds: Sequence[SeenRefund] = ()
    disputes: Sequence[SeenDispute] = ()
    cancel_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Something happened at the gateway, which only its present state says. It holds ids and no payload.

    `payment_id` is ours, if the gateway keeps it with the payment. `type` and `created_at` are for the log.
    """

    event_id: str
    type: str
    created_at: datetime
    payment_intent_id: str | None
    payment_id: UUID | None


class Gateway(Protocol):
    """An adapter turns each of its failures into Unknown. We treat an exception that escapes it as Unknown too.

    Reconcile calls it from several threads at a time.
    """

    @property
    def name(self) -> str:
        """What our tables call the gateway. A payment stays with the gateway that took it."""

    def key_lifetime_s(self, kind: str) -> float:
        """Return for how many seconds the gateway remembers the key of such an operation, which may depend on its kind. We never
        use a key after that."""

    def refuses(
        self, payment_method: str, amount_minor: int, currency: str, *, is_part: bool = False, has_token: bool = True
    ) -> tuple[str, str] | None:
        """Return the member of a request that the gateway cannot take, and why; None if it can.

        We ask before anything is written, for a payment, which may have no token, and for the amount of a capture or refund that
        names one (`is_part`).
        """

    def charge(self, request: GatewayRequest) -> Reply:
        """Take `amount_minor` from the customer, or hold it for a later capture if `capture` is False."""

    def capture(self, request: GatewayRequest) -> Reply:
        """Take `amount_minor` of the authorization, and release the rest."""

    def void(self, request: GatewayRequest) -> Reply:
        """Release the whole authorization, or end a payment that still waits for its customer."""

    def refund(self, request: GatewayRequest) -> Reply:
        """Give `amount_minor` of what was captured back to the customer. A payment may have many refunds."""

    def find(self, request: GatewayRequest) -> Reply:
        """Look up what became of an earlier call, and move no money. Unknown when the gateway shows no trace of it.

        What it began and can no longer finish may be canceled, which makes it a decline.
        """

    def look(self, payment_intent_id: str, timeout_s: float) -> Seen | None:
        """Return all that the gateway has of a payment, with everything that others did; None when it cannot say all of it within
        `timeout_s` seconds."""

    def undelivered(self, since: datetime, timeout_s: float, until: datetime | None = None) -> Iterable[Hint]:
        """Tell what happened since then, or between the two moments, and could not be delivered to us, newest first.

        Raises OSError when it cannot go on. What it has told by then counts, and the next call goes on there.
        """
