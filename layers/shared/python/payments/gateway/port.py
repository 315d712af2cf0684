"""The port to a payment gateway: four calls, each repeatable under its key, each with one of three answers."""

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """One call. `key` is the gateway's idempotency key: the same key always moves the money at most once.

    `attempt` counts our calls with this key from 1. `transaction_id` names the authorization or charge of a capture, void or
    refund, and is None for a charge. We wait at most `timeout_s` seconds for the answer.
    """

    key: str
    attempt: int
    amount_minor: int
    currency: str
    payment_method: str
    payment_token: str | None = field(repr=False)
    timeout_s: float
    capture: bool = True
    transaction_id: str | None = None
    payment_intent_id: str | None = None


# The operation records the fields of an answer with `vars`, so it has no slots.


@dataclass(frozen=True)
class Approved:
    transaction_id: str
    payment_intent_id: str
    raw: dict[str, Any]


@dataclass(frozen=True)
class Declined:
    """A definite no: no money moved and none will under this key."""

    decline_code: str
    message: str
    transaction_id: str | None
    payment_intent_id: str | None
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unknown:
    """No reliable answer: a time-out, a reset, a 5xx. The money may have moved, so we call again under the same key."""

    reason: str


Reply = Approved | Declined | Unknown


class Gateway(Protocol):
    """An adapter turns each of its failures into Unknown. We treat an exception that escapes it as Unknown too.

    Reconcile calls it from several threads at a time.
    """

    def charge(self, request: GatewayRequest) -> Reply: ...

    def capture(self, request: GatewayRequest) -> Reply: ...

    def void(self, request: GatewayRequest) -> Reply: ...

    def refund(self, request: GatewayRequest) -> Reply: ...
