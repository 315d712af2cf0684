"""Void an authorization: the money that it holds is free again."""

from __future__ import annotations

from payments.commands.followup import follow_up, present_state
from payments.commands.requests import VoidRequest
from payments.commands.service import Call, Result, Service
from payments.domain.errors import PaymentStateConflict
from payments.domain.operation import Kind
from payments.domain.payment import Payment
from payments.store import claims


def void(request: VoidRequest, call: Call, service: Service) -> Result:
    """Raises PaymentNotFound, PaymentStateConflict, IdempotencyKeyReused, IdempotencyKeyInUse, ServiceUnavailable."""
    return follow_up(
        Kind.VOID,
        request,
        call,
        service,
        claim=lambda new, lease_s: claims.claim_on_authorization(service.db, new, lease_s),
        refusal=_refusal,
        amount_minor=None,
        reason=request.reason,
    )


def _refusal(payment: Payment) -> Exception:
    return PaymentStateConflict(
        f"Only an AUTHORIZED payment can be voided; this one is {payment.status}.", extra=present_state(payment)
    )
