"""The base of the commands: all that one command decides. claim.py, phases.py and settle.py are the same for all of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from payments.commands.fields import PaymentRequest, Request
from payments.commands.service import Call, Service
from payments.domain.errors import AmountTooLarge, Fault, InternalError, PaymentNotFound, PaymentStateConflict
from payments.domain.money import format_amount
from payments.domain.operation import Draft, Outcome
from payments.domain.payment import Ended, Payment, PaymentStatus
from payments.domain.refund import Refund
from payments.domain.scopes import Scope
from payments.gateway.port import Approved, Declined, Gateway, GatewayRequest, Reply
from payments.store import lookups
from payments.store.claims import Claim, Claimed, NotClaimed

AnyRequest = TypeVar("AnyRequest", bound=Request)
OnPaymentRequest = TypeVar("OnPaymentRequest", bound=PaymentRequest)


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
        """Write the operation in one transaction, under the draft's gateway key or one of its own."""

    @abstractmethod
    def why_not(self, refused: NotClaimed, request: AnyRequest, call: Call, service: Service) -> Exception:
        """Return the error that tells the caller why the claim was refused."""

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


class OnPayment(Command[OnPaymentRequest]):
    """A command on an existing payment."""

    statuses: ClassVar[frozenset[PaymentStatus]]
    """The payment must have one of these, which `rule` puts into words."""
    rule: ClassVar[str]
    may_repeat: ClassVar[bool] = True
    """Whether the payment's status recognizes a repeated command. Two equal refunds are both legitimate."""

    def in_doubt(self, error: Exception, request: OnPaymentRequest, call: Call) -> Fault | None:
        # Without a key we cannot tell a repeated refund from a second one, nor whether an order has got a new payment meanwhile.
        # Then we do not advise the caller to repeat it.
        if call.idempotency_key is not None or (self.may_repeat and request.order_id is None):
            return None
        detail = f"The {self.kind} may have been started. Look the payment up before you repeat it with an Idempotency-Key."
        return (type(error) if isinstance(error, Fault) else InternalError)(detail, retryable=False)

    def limit_minor(self, payment: Payment) -> int:
        """Return the largest amount that the payment allows, in its minor unit."""
        return payment.amount_minor

    def why_not(self, refused: NotClaimed, request: OnPaymentRequest, call: Call, service: Service) -> Exception:
        name, value = request.payment
        payment, in_flight = lookups.standing(service.db, call.owner, name, value) or (None, False)
        if payment is None:
            return PaymentNotFound(f"You have no payment with this {name}.")
        if payment.status not in self.statuses:
            detail = f"{self.rule}; this one is {payment.status}."
            return PaymentStateConflict(detail, retryable=in_flight, extra=state_of(payment))
        limit_minor, asked_minor = self.limit_minor(payment), getattr(request, "amount", None) or 1
        if asked_minor > limit_minor:
            detail = f"At most {format_amount(limit_minor, payment.currency)} is available."
            retryable = asked_minor <= limit_minor + payment.refund_reserved_minor
            return AmountTooLarge(detail, retryable=retryable, extra=state_of(payment) | {"amount_available": limit_minor})
        detail = "Another command on this payment is in flight or has just ended; try again in a moment."
        return PaymentStateConflict(detail, retryable=True, extra=state_of(payment))


def state_of(payment: Payment) -> dict[str, object]:
    """Return the members of a problem document that name the payment, its order and its status."""
    return {"payment_id": str(payment.payment_id), "order_id": payment.order_id, "payment_status": payment.status.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of a command. `payment` and `refund` are as they are now, also when a request is replayed."""

    command: Command[Any]
    outcome: Outcome
    payment: Payment
    refund: Refund | None = None
    decline_code: str | None = None
    decline_message: str | None = None
    replayed: bool = False


def result_of(command: Command[Any], state: Claimed, *, replayed: bool = False) -> Result:
    outcome = state.operation.outcome or Outcome.UNKNOWN
    declined = state.operation.reply or {} if outcome is Outcome.DECLINED else {}
    told = {"decline_code": declined.get("decline_code"), "decline_message": declined.get("message")}
    return Result(command=command, outcome=outcome, payment=state.payment, refund=state.refund, replayed=replayed, **told)
