"""What the commands on an existing payment share: capture, void and refund."""

import re
from typing import Annotated, ClassVar, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, model_validator
from pydantic_core import PydanticCustomError

from payments.commands.command import Command, state_of
from payments.commands.fields import Request, Text255
from payments.commands.service import Call, Service
from payments.domain import errors
from payments.domain.errors import Fault
from payments.domain.money import format_amount
from payments.domain.payment import PAYMENT_NAMES, Payment, PaymentName, PaymentStatus
from payments.store import lookups
from payments.store.claims import NotClaimed


class PaymentRequest(Request):
    """A request that names an existing payment by exactly one of three ids. An order stands for its live payment."""

    transaction_id: Text255 | None = None
    payment_id: Annotated[Text255, AfterValidator(str.lower)] | None = None
    order_id: Text255 | None = None

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if sum(getattr(self, name) is not None for name in PAYMENT_NAMES) != 1:
            raise PydanticCustomError("one_name", "must name the payment by exactly one of transaction_id, payment_id, order_id")
        return self

    @property
    def payment(self) -> tuple[PaymentName, UUID | str]:
        """The name by which the request calls the payment, and its value. Raises PaymentNotFound when no payment can have it."""
        if self.payment_id is None:
            return ("order_id", self.order_id) if self.order_id is not None else ("transaction_id", str(self.transaction_id))
        if not re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", self.payment_id):
            raise errors.PaymentNotFound("You have no payment with this payment_id.")
        return "payment_id", UUID(self.payment_id)


OnPaymentRequest = TypeVar("OnPaymentRequest", bound=PaymentRequest)


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
        return (type(error) if isinstance(error, Fault) else errors.InternalError)(detail, retryable=False)

    def unsupported(self, request: OnPaymentRequest, call: Call, service: Service) -> errors.NotSupportedByGateway | None:
        amount_minor = getattr(request, "amount", None)
        found = lookups.standing(service.db, call.owner, *request.payment) if amount_minor is not None else None
        if amount_minor is None or found is None:
            return None
        payment = found[0]
        wrong = service.gateway.refuses(payment.payment_method, amount_minor, payment.currency, is_part=True)
        return errors.NotSupportedByGateway(*wrong, extra=state_of(payment)) if wrong else None

    def limit_minor(self, payment: Payment) -> int:
        """Return the largest amount that the payment allows, in its minor unit."""
        return payment.amount_minor

    def barred(self, payment: Payment, service: Service) -> Exception | None:
        """Return the error that says why this payment does not allow the command, although its status and its amounts do."""
        return None

    def why_not(self, refused: NotClaimed, request: OnPaymentRequest, call: Call, service: Service) -> Exception:
        name, value = request.payment
        payment, in_flight = lookups.standing(service.db, call.owner, name, value) or (None, False)
        if payment is None:
            return errors.PaymentNotFound(f"You have no payment with this {name}.")
        if payment.status not in self.statuses:
            detail = f"{self.rule}; this one is {payment.status}."
            return errors.PaymentStateConflict(detail, retryable=in_flight, extra=state_of(payment))
        limit_minor, asked_minor = self.limit_minor(payment), getattr(request, "amount", None) or 1
        if asked_minor > limit_minor:
            detail = f"At most {format_amount(limit_minor, payment.currency)} is available."
            retryable = asked_minor <= limit_minor + payment.refund_reserved_minor
            return errors.AmountTooLarge(detail, retryable=retryable, extra=state_of(payment) | {"amount_available": limit_minor})
        if barred := self.barred(payment, service):
            return barred
        if (gateway := lookups.gateway_of(service.db, payment.payment_id)) not in (None, service.gateway.name):
            took = f"is a payment that the gateway {gateway} took"
            return errors.NotSupportedByGateway(name, took, extra=state_of(payment))
        detail = "Another command on this payment is in flight or has just ended; try again in a moment."
        return errors.PaymentStateConflict(detail, retryable=True, extra=state_of(payment))
