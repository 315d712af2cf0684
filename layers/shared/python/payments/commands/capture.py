"""Capture an authorization: all of it, or a part; the gateway releases the rest."""

from dataclasses import replace

from payments.commands.fields import Amount
from payments.commands.on_payment import OnPayment, PaymentRequest
from payments.commands.service import Service
from payments.domain.changes import Captured, CaptureFailed, Ended
from payments.domain.operation import Draft
from payments.domain.payment import PaymentStatus
from payments.domain.scopes import Scope
from payments.gateway.port import Approved, Declined, Gateway, GatewayRequest, Reply
from payments.store import claims_on_payment
from payments.store.claims import Claim, Claimed


class CaptureRequest(PaymentRequest):
    """Capture an authorization, all of it or less. The rest is released."""

    amount: Amount | None = None


class Capture(OnPayment[CaptureRequest]):
    """The gateway key is `capture-{operation_id}`: after a decline, a new capture is a new command.

    A decline leaves the payment AUTHORIZED.
    """

    kind = "capture"
    function = "process"
    scope = Scope.WRITE
    request = CaptureRequest
    statuses = frozenset({PaymentStatus.AUTHORIZED})
    rule = "Only an AUTHORIZED payment can be captured"
    noun = "capture"

    def claim(self, request: CaptureRequest, draft: Draft, service: Service) -> Claim:
        return claims_on_payment.claim_on_authorization(service.db, replace(draft, amount_minor=request.amount), *request.payment)

    def send(self, gateway: Gateway, request: GatewayRequest) -> Reply:
        return gateway.capture(request)

    def approved(self, reply: Approved, claimed: Claimed, service: Service) -> Ended:
        # The payment keeps the ids that the gateway gave its authorization.
        transaction_id = claimed.payment.transaction_id or reply.transaction_id
        payment_intent_id = claimed.payment.payment_intent_id or reply.payment_intent_id
        return Captured(claimed.operation.amount_minor, transaction_id, payment_intent_id)

    def declined(self, reply: Declined, claimed: Claimed) -> Ended:
        return CaptureFailed(reply.decline_code, reply.message)
