"""Process a payment: charge the customer now, or authorize the charge (`capture_method: manual`)."""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from payments.commands.command import Command, state_of
from payments.commands.fields import Amount, Currency, Metadata, NewId, PaymentMethod, Request, ReturnUrl, Text255, Text500
from payments.commands.service import Call, Service
from payments.domain.changes import Authorized, Captured, Ended, Failed, ProcessingStarted, Voided
from payments.domain.declines import ABANDONED
from payments.domain.errors import NotSupportedByGateway, OrderAlreadyPaid, OrderInProgress
from payments.domain.operation import Draft
from payments.domain.payment import Payment, PaymentStatus, apply
from payments.domain.scopes import Scope
from payments.gateway.port import Approved, Declined, Gateway, GatewayRequest, Reply
from payments.store import claims, lookups
from payments.store.claims import Claim, Claimed, NotClaimed


class ProcessRequest(Request):
    """Take a payment for an order: at once, or authorize it now and capture it later (`capture_method: manual`)."""

    order_id: NewId
    amount: Amount
    currency: Currency
    payment_method: PaymentMethod
    payment_token: Annotated[Text255 | None, Field(repr=False)] = None
    capture_method: Literal["automatic", "manual"] = "automatic"
    customer_id: NewId | None = None
    description: Text500 | None = None
    metadata: Metadata | None = None
    off_session: bool = False
    return_url: Annotated[ReturnUrl | None, Field(repr=False)] = None

    @model_validator(mode="after")
    def _can_be_paid(self) -> Self:
        if self.off_session and self.payment_token is None:
            raise PydanticCustomError(
                "off_session", "off_session needs a payment_token, because no customer is there to enter one"
            )
        return self


class Process(Command[ProcessRequest]):
    """The gateway key is `pay-{payment_id}`. A repeated request is recognized by its key, or by its order."""

    kind = "process"
    function = "process"
    scope = Scope.WRITE
    request = ProcessRequest
    needs_key = False
    success_status = 201
    noun = "payment"

    def claim(self, request: ProcessRequest, draft: Draft, service: Service) -> Claim:
        payment_id = service.new_id()
        pending = Payment(
            **request.model_dump(
                exclude={"amount", "metadata", "off_session", "return_url"}
            ),  # These fields have the names of the payment's.
            payment_id=payment_id,
            owner=draft.owner,
            status=PaymentStatus.PENDING,
            status_reason="payment requested",
            amount_minor=request.amount,
            metadata=request.metadata or {},
            created_at=draft.created_at,
            updated_at=draft.created_at,
            version=1,
        )
        parameters = {"off_session": request.off_session or None, "return_url": request.return_url}
        given = {name: value for name, value in parameters.items() if value}
        draft = replace(draft, gateway_key=f"pay-{payment_id}", parameters=given or None)
        return claims.claim_process(service.db, draft, pending, apply(pending, ProcessingStarted(), draft.created_at))

    def why_not(self, refused: NotClaimed, request: ProcessRequest, call: Call, service: Service) -> Exception:
        other, in_flight = lookups.standing(service.db, call.owner, "order_id", request.order_id) or (None, False)
        extra = state_of(other) if other else {}
        # FAILED or VOIDED: the other payment has ended since the claim, so the same request may succeed now. An authorization
        # may be about to be voided.
        if other is not None and other.status is PaymentStatus.REQUIRES_ACTION:
            detail = "The order has a payment that waits for its customer; repeat its request with its key, sync it, or void it."
            return OrderInProgress(detail, retry_after_s=1, extra=extra)
        if other is None or in_flight or other.status in (PaymentStatus.FAILED, PaymentStatus.VOIDED):
            return OrderInProgress("Another payment for this order is in progress; try again.", retry_after_s=1, extra=extra)
        return OrderAlreadyPaid("The order is already paid; look its payment up instead of paying again.", extra=extra)

    def unsupported(self, request: ProcessRequest, call: Call, service: Service) -> NotSupportedByGateway | None:
        method, has_token = request.payment_method, request.payment_token is not None
        wrong = service.gateway.refuses(method, request.amount, request.currency, has_token=has_token)
        return NotSupportedByGateway(*wrong) if wrong else None

    def send(self, gateway: Gateway, request: GatewayRequest) -> Reply:
        return gateway.charge(request)

    def approved(self, reply: Approved, claimed: Claimed, service: Service) -> Ended:
        if claimed.payment.capture_method == "manual":
            ends_at = claimed.operation.created_at + service.capture_window
            return Authorized(reply.transaction_id, reply.payment_intent_id, min(ends_at, reply.capture_before or ends_at))
        return Captured(claimed.operation.amount_minor, reply.transaction_id, reply.payment_intent_id)

    def declined(self, reply: Declined, claimed: Claimed) -> Ended:
        if claimed.payment.status is PaymentStatus.REQUIRES_ACTION and reply.decline_code in ABANDONED:
            return Voided(reply.message, reply.decline_code)
        return Failed(reply.decline_code, reply.message, reply.transaction_id, reply.payment_intent_id)
