"""Capture an authorization: all of it, or less, in which case the rest is released."""

from __future__ import annotations

from payments.commands.followup import follow_up, present_state
from payments.commands.requests import CaptureRequest
from payments.commands.service import Call, Result, Service
from payments.domain.errors import AmountTooLarge, PaymentStateConflict
from payments.domain.money import format_amount
from payments.domain.operation import Kind
from payments.domain.payment import Payment, PaymentStatus
from payments.store import claims


def capture(request: CaptureRequest, call: Call, service: Service) -> Result:
    """Raises PaymentNotFound, PaymentStateConflict, AmountTooLarge, IdempotencyKeyReused, IdempotencyKeyInUse,
    ServiceUnavailable.
    """
    return follow_up(
        Kind.CAPTURE,
        request,
        call,
        service,
        claim=lambda new, lease_s: claims.claim_on_authorization(service.db, new, lease_s),
        refusal=_refusal,
        amount_minor=request.amount,
        reason=None,
    )


def _refusal(payment: Payment) -> Exception:
    if payment.status is not PaymentStatus.AUTHORIZED:
        return PaymentStateConflict(
            f"Only an AUTHORIZED payment can be captured; this one is {payment.status}.", extra=present_state(payment)
        )
    return AmountTooLarge(
        f"At most {format_amount(payment.amount_minor, payment.currency)} is authorized.",
        extra=present_state(payment) | {"amount_available": payment.amount_minor},
    )
