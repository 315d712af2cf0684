"""Refund what was captured: reserve first, then ask the gateway. What is reserved is released only on a definite decline."""

from __future__ import annotations

from payments.commands.followup import follow_up, present_state
from payments.commands.requests import RefundRequest
from payments.commands.service import Call, Result, Service
from payments.domain.errors import AmountTooLarge, Fault, InternalError, PaymentStateConflict, Refused
from payments.domain.money import format_amount
from payments.domain.operation import Kind
from payments.domain.payment import REFUNDABLE, Payment
from payments.store import claims


def refund(request: RefundRequest, call: Call, service: Service) -> Result:
    """Give back `amount`, or all that is left and not reserved by another refund.

    Raises PaymentNotFound, PaymentStateConflict, AmountTooLarge, IdempotencyKeyReused, IdempotencyKeyInUse, ServiceUnavailable.
    """
    refund_id = service.new_id()
    try:
        return follow_up(
            Kind.REFUND,
            request,
            call,
            service,
            claim=lambda new, lease_s: claims.claim_refund(service.db, new, refund_id, lease_s),
            refusal=_refusal,
            amount_minor=request.amount,
            reason=request.reason,
            refund_id=refund_id,
        )
    except Refused:
        raise
    except Exception as error:
        if call.idempotency_key is not None:
            raise
        raise _in_doubt(error) from error


def _in_doubt(error: Exception) -> Fault:
    """The fault, with other advice: a claim whose answer got lost may have been committed.

    A repeated payment is known by its order, a repeated capture or void by the status; of two refunds only a key can say that
    they are one, so without it nobody is told to try again.
    """
    fault = error if isinstance(error, Fault) else InternalError("")
    fault.retryable, fault.retry_after_s = False, None
    fault.detail = (
        "Whether the refund was begun is not known: look the payment up before asking again, then with an Idempotency-Key."
    )
    return fault


def _refusal(payment: Payment) -> Exception:
    if payment.status not in REFUNDABLE:
        return PaymentStateConflict(
            f"Only a captured payment can be refunded; this one is {payment.status}.", extra=present_state(payment)
        )
    available_minor = payment.captured_minor - payment.refunded_minor - payment.refund_reserved_minor
    return AmountTooLarge(
        f"At most {format_amount(available_minor, payment.currency)} is left to refund.",
        extra=present_state(payment) | {"amount_available": available_minor},
    )
