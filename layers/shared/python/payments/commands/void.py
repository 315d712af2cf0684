"""Void an authorization: the gateway frees the money that it holds."""

from dataclasses import replace

from payments.commands.command import OnPayment
from payments.commands.fields import PaymentRequest, Text500
from payments.commands.service import Service
from payments.domain.operation import Draft
from payments.domain.payment import Ended, PaymentStatus, Voided, VoidFailed
from payments.domain.scopes import Scope
from payments.gateway.port import Approved, Declined, Gateway, GatewayRequest, Reply
from payments.store import claims
from payments.store.claims import Claim, Claimed


class VoidRequest(PaymentRequest):
    """Release an authorization."""

    reason: Text500 | None = None


class Void(OnPayment[VoidRequest]):
    """The gateway key is `void-{operation_id}`. A decline leaves the payment AUTHORIZED."""

    kind = "void"
    function = "process"
    scope = Scope.WRITE
    request = VoidRequest
    statuses = frozenset({PaymentStatus.AUTHORIZED})
    rule = "Only an AUTHORIZED payment can be voided"
    noun = "void"

    def claim(self, request: VoidRequest, draft: Draft, service: Service) -> Claim:
        return claims.claim_on_authorization(service.db, replace(draft, reason=request.reason), *request.payment)

    def send(self, gateway: Gateway, request: GatewayRequest) -> Reply:
        return gateway.void(request)

    def approved(self, reply: Approved, claimed: Claimed, service: Service) -> Ended:
        return Voided(claimed.operation.reason or "voided on request")

    def declined(self, reply: Declined, claimed: Claimed) -> Ended:
        return VoidFailed(reply.decline_code, reply.message)
