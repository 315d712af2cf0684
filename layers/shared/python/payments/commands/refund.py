"""Refund what was captured. The claim reserves the amount first; only the gateway's definite decline releases it."""

from dataclasses import replace

from payments.commands.command import state_of
from payments.commands.fields import Amount, Text500
from payments.commands.on_payment import OnPayment, PaymentRequest
from payments.commands.service import Service
from payments.domain.changes import Ended, RefundFailed, RefundSucceeded
from payments.domain.errors import PaymentDisputed
from payments.domain.operation import Draft
from payments.domain.payment import REFUNDABLE, Payment
from payments.domain.scopes import Scope
from payments.gateway.port import Approved, Declined, Gateway, GatewayRequest, Reply
from payments.store import claims_on_payment, disputes
from payments.store.claims import Claim, Claimed


class RefundRequest(PaymentRequest):
    """Give captured money back: all that is left, or `amount` of it."""

    amount: Amount | None = None
    reason: Text500 | None = None


class Refund(OnPayment[RefundRequest]):
    """The gateway key is `ref-{refund_id}`. Refunds of one payment may overlap. A decline releases the reserved amount."""

    kind = "refund"
    function = "refund"
    scope = Scope.REFUND
    request = RefundRequest
    statuses = REFUNDABLE
    rule = "Only a captured payment can be refunded"
    may_repeat = False
    returns_refund = True
    success_status = 201
    noun = "refund"

    def claim(self, request: RefundRequest, draft: Draft, service: Service) -> Claim:
        refund_id = service.new_id()
        draft = replace(
            draft, refund_id=refund_id, gateway_key=f"ref-{refund_id}", amount_minor=request.amount, reason=request.reason
        )
        return claims_on_payment.claim_refund(service.db, draft, *request.payment)

    def limit_minor(self, payment: Payment) -> int:
        return payment.refundable_minor

    def barred(self, payment: Payment, service: Service) -> Exception | None:
        if not disputes.bars_refunds(service.db, payment.payment_id):
            return None
        detail = "The customer disputes this payment at the bank, and the gateway takes no refund of it."
        return PaymentDisputed(detail, extra=state_of(payment))

    def send(self, gateway: Gateway, request: GatewayRequest) -> Reply:
        return gateway.refund(request)

    def approved(self, reply: Approved, claimed: Claimed, service: Service) -> Ended:
        return RefundSucceeded(claimed.operation.amount_minor)

    def declined(self, reply: Declined, claimed: Claimed) -> Ended:
        return RefundFailed(claimed.operation.amount_minor, reply.decline_code)
