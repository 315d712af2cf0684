"""Process a payment: charge the customer now, or authorize the charge (`capture_method: manual`)."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from payments.commands.command import Command, state_of
from payments.commands.fields import Amount, Currency, Metadata, NewId, PaymentMethod, Request, Text255, Text500
from payments.commands.service import Call, Service
from payments.domain.errors import OrderAlreadyPaid, OrderInProgress
from payments.domain.operation import Draft
from payments.domain.payment import Authorized, Captured, Ended, Failed, Payment, PaymentStatus, ProcessingStarted, apply
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
            **request.model_dump(exclude={"amount", "metadata"}),  # These fields have the names of the payment's.
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
        draft = replace(draft, gateway_key=f"pay-{payment_id}")
        return claims.claim_process(service.db, draft, pending, apply(pending, ProcessingStarted(), draft.created_at))

    def why_not(self, refused: NotClaimed, request: ProcessRequest, call: Call, service: Service) -> Exception:
        other, in_flight = lookups.standing(service.db, call.owner, "order_id", request.order_id) or (None, False)
        extra = state_of(other) if other else {}
        # FAILED or VOIDED: the other payment has ended since the claim, so the same request may succeed now. An authorization
        # may be about to be voided.
        if other is None or in_flight or other.status in (PaymentStatus.FAILED, PaymentStatus.VOIDED):
            return OrderInProgress("Another payment for this order is in progress; try again.", retry_after_s=1, extra=extra)
        return OrderAlreadyPaid("The order is already paid; look its payment up instead of paying again.", extra=extra)

    def send(self, gateway: Gateway, request: GatewayRequest) -> Reply:
        return gateway.charge(request)

    def approved(self, reply: Approved, claimed: Claimed, service: Service) -> Ended:
        if claimed.payment.capture_method == "manual":
            capture_before = claimed.operation.created_at + service.capture_window
            return Authorized(reply.transaction_id, reply.payment_intent_id, capture_before)
        return Captured(claimed.operation.amount_minor, reply.transaction_id, reply.payment_intent_id)

    def declined(self, reply: Declined, claimed: Claimed) -> Ended:
        return Failed(reply.decline_code, reply.message, reply.transaction_id, reply.payment_intent_id)
