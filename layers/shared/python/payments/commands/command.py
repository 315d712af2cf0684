"""The base of the commands: all that one command decides. claim.py, phases.py and settle.py are the same for all of them.

What the commands on an existing payment share is in on_payment.py.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from payments.commands.fields import Request
from payments.commands.service import Call, Service
from payments.domain.changes import Ended
from payments.domain.errors import Fault, NotSupportedByGateway
from payments.domain.operation import Draft, Outcome
from payments.domain.payment import Payment
from payments.domain.refund import Refund
from payments.domain.scopes import Scope
from payments.gateway.port import Approved, Declined, Gateway, GatewayRequest, NextAction, Reply
from payments.store.claims import Claim, Claimed, NotClaimed

AnyRequest = TypeVar("AnyRequest", bound=Request)


class Command(ABC, Generic[AnyRequest]):
    """One command that moves money. catalog.py lists them all."""

    kind: ClassVar[str]
    """Its name in routes, in direct invocations and in the `operations` table."""
    function: ClassVar[str]
    """The Lambda function that serves it. template.yaml gives that function its route."""
    scope: ClassVar[Scope]
    request: type[AnyRequest]
    needs_key: ClassVar[bool] = True
    """Whether a direct invocation must carry an idempotency key. Otherwise a key is derived from its request."""
    returns_refund: ClassVar[bool] = False
    """Whether it answers with the refund that it made. Otherwise it answers with the payment."""
    success_status: ClassVar[int] = 200
    noun: ClassVar[str]
    """What it is called when it is declined: `capture` makes the problem `capture_declined`, "The capture was declined"."""

    @abstractmethod
    def claim(self, request: AnyRequest, draft: Draft, service: Service) -> Claim:
        """Write the operation in one transaction, under the draft's gateway key or one of its own.

        Raises ServiceUnavailable and InternalError, as the database does.
        """

    @abstractmethod
    def why_not(self, refused: NotClaimed, request: AnyRequest, call: Call, service: Service) -> Exception:
        """Return the error that tells the caller why the claim was refused. Raises what a look into the database raises."""

    @abstractmethod
    def unsupported(self, request: AnyRequest, call: Call, service: Service) -> NotSupportedByGateway | None:
        """Return the error that says what the gateway cannot take; None if it can. Nothing is written yet."""

    @abstractmethod
    def send(self, gateway: Gateway, request: GatewayRequest) -> Reply:
        """Make the gateway call of this command."""

    @abstractmethod
    def approved(self, reply: Approved, claimed: Claimed, service: Service) -> Ended:
        """Return what the gateway's approval does to the payment."""

    @abstractmethod
    def declined(self, reply: Declined, claimed: Claimed) -> Ended:
        """Return what the gateway's decline does to the payment."""

    def in_doubt(self, error: Exception, request: AnyRequest, call: Call) -> Fault | None:
        """Return the error for a caller whose claim may have been written although it failed, if `error` would mislead it.

        It does not where the same request is safe to repeat: a payment is recognized by its order.
        """
        return None


def state_of(payment: Payment) -> dict[str, object]:
    """Return the members of a problem document that name the payment, its order and its status."""
    return {"payment_id": str(payment.payment_id), "order_id": payment.order_id, "payment_status": payment.status.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of a command. `payment` and `refund` are as they are now, also when a request is replayed.

    `is_pending` says of an unknown outcome that the gateway has answered: it has accepted the call and not finished, or waits for
    the customer, who needs `next_action` until `action_expires_at`.
    """

    command: Command[Any]
    outcome: Outcome
    payment: Payment
    refund: Refund | None = None
    decline_code: str | None = None
    decline_message: str | None = None
    advice_code: str | None = None
    replayed: bool = False
    is_pending: bool = False
    next_action: NextAction | None = None
    action_expires_at: datetime | None = None


def result_of(command: Command[Any], state: Claimed, *, replayed: bool = False) -> Result:
    outcome = state.operation.outcome or Outcome.UNKNOWN
    declined = state.operation.reply or {} if outcome is Outcome.DECLINED else {}
    told: dict[str, Any] = {"decline_code": declined.get("decline_code"), "decline_message": declined.get("message")}
    told["advice_code"] = declined.get("advice_code")
    return Result(command=command, outcome=outcome, payment=state.payment, refund=state.refund, replayed=replayed, **told)
