"""Void an authorization: the gateway frees the money that it holds."""

from dataclasses import replace

from payments.commands.fields import Text500
from payments.commands.on_payment import OnPayment, PaymentRequest
from payments.commands.service import Service
from payments.domain.changes import Ended, Voided, VoidFailed
from payments.domain.operation import Draft
from payments.domain.payment import PaymentStatus
from payments.domain.scopes import Scope
from payments.gateway.port import Approved, Declined, Gateway, GatewayRequest, Reply
from payments.store import claims_on_payment
from payments.store.claims import Claim, Claimed
from payments.store.waiting import claim_waiting


class VoidRequest(PaymentRequest):
    """Release an authorization, or give up a payment that waits for its customer."""

    reason: Text500 | None = None


class Void(OnPayment[VoidRequest]):
    """The gateway key is `void-{operation_id}`. A decline leaves the payment as it is: its customer may have been faster."""

    kind = "void"
    function = "process"
    scope = Scope.WRITE
    request = VoidRequest
    statuses = frozenset({PaymentStatus.AUTHORIZED, PaymentStatus.REQUIRES_ACTION})
    rule = "Only a payment that is AUTHORIZED or REQUIRES_ACTION can be voided"
    noun = "void"

    def claim(self, request: VoidRequest, draft: Draft, service: Service) -> Claim:
        draft = replace(draft, reason=request.reason)
        claimed = claims_on_payment.claim_on_authorization(service.db, draft, *request.payment)
        return claimed if isinstance(claimed, Claimed) or claimed.resent else claim_waiting(service.db, draft, *request.payment)

    def send(self, gateway: Gateway, request: GatewayRequest) -> Reply:
        return gateway.void(request)

    def approved(self, reply: Approved, claimed: Claimed, service: Service) -> Ended:
        return Voided(claimed.operation.reason or "voided on request")

    def declined(self, reply: Declined, claimed: Claimed) -> Ended:
        return VoidFailed(reply.decline_code, reply.message)
