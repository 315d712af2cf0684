"""What capture, void and refund share: they follow a charge, name it by `transaction_id` and claim something on its payment."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from payments.commands.phases import carry_out, lease_s
from payments.commands.replay import earlier_result
from payments.commands.requests import CaptureRequest, RefundRequest, VoidRequest, request_hash
from payments.commands.service import Call, Result, Service
from payments.domain.errors import PaymentNotFound, PaymentStateConflict
from payments.domain.operation import Kind, Operation, Refund, RefundStatus, gateway_key
from payments.domain.payment import Payment, PaymentStatus
from payments.store import lookups
from payments.store.claims import Claim, NewOperation
from payments.store.connection import UniqueViolation

Refusal = Callable[[Payment], Exception]


def follow_up(
    kind: Kind,
    request: CaptureRequest | VoidRequest | RefundRequest,
    call: Call,
    service: Service,
    *,
    claim: Callable[[NewOperation, float], Claim | None],
    refusal: Refusal,
    amount_minor: int | None,
    reason: str | None,
    refund_id: UUID | None = None,
) -> Result:
    """Claim and carry out. `claim` is the store's claim of this kind; `refusal` says why a payment in its present state
    refuses it.

    Raises what `refusal` gives, PaymentNotFound, PaymentStateConflict, IdempotencyKeyReused, IdempotencyKeyInUse,
    ServiceUnavailable.
    """
    operation_id = service.new_id()
    new = NewOperation(
        operation_id=operation_id,
        owner=call.owner,
        kind=kind.value,
        transaction_id=request.transaction_id,
        amount_minor=amount_minor,
        reason=reason,
        idempotency_key=call.idempotency_key,
        request_hash=request_hash(request),
        gateway_key=gateway_key(kind, refund_id or operation_id),
        traceparent=call.traceparent,
        created_at=service.clock(),
    )
    try:
        claimed = claim(new, lease_s(call))
    except UniqueViolation:
        claimed = None
    resent = service.db.resent
    if claimed is None or claimed.amount_minor is None:
        # A claim that was committed before its answer got lost is refused by its own traces when it is sent again.
        claimed = _claimed_before(service, call, operation_id) or claimed
    if claimed is None or claimed.amount_minor is None:
        # The key comes first: the retry of a capture that succeeded hears of its success, not that the payment is
        # captured already.
        earlier = earlier_result(service, call, kind, new.request_hash, resent=resent)
        if earlier is not None:
            return earlier
        raise _why(service, call, request.transaction_id, claimed, refusal)
    operation = Operation(
        operation_id=operation_id,
        owner=call.owner,
        kind=kind,
        payment_id=claimed.payment.payment_id,
        refund_id=refund_id,
        amount_minor=claimed.amount_minor,
        reason=reason,
        idempotency_key=call.idempotency_key,
        request_hash=new.request_hash,
        gateway_key=new.gateway_key,
        traceparent=call.traceparent,
        created_at=new.created_at,
    )
    refund = _pending_refund(operation, claimed.payment) if refund_id else None
    return carry_out(service, operation, claimed.payment, refund, call.deadline)


def _claimed_before(service: Service, call: Call, operation_id: UUID) -> Claim | None:
    """The claim that was committed although its answer got lost, should it have been."""
    found = lookups.operation_by_id(service.db, operation_id)
    payment = lookups.payment_by_id(service.db, call.owner, found[0].payment_id) if found else None
    return Claim(payment, found[0].amount_minor) if found and payment else None


def _why(service: Service, call: Call, transaction_id: str, claimed: Claim | None, refusal: Refusal) -> Exception:
    if claimed is not None:
        return refusal(claimed.payment)
    payment = lookups.payment_by_transaction(service.db, call.owner, transaction_id)
    if payment is None:
        return PaymentNotFound("No payment of yours has this transaction_id.")
    if payment.status is not PaymentStatus.AUTHORIZED:
        return refusal(payment)  # the one that was in the way has come to its end meanwhile
    return PaymentStateConflict(
        f"Another capture or void of this payment is in flight; its status is {payment.status}. Look it up in a moment.",
        extra=present_state(payment),
    )


def present_state(payment: Payment) -> dict[str, object]:
    """The members that tell a refused caller which payment it was and how it stands."""
    return {"payment_id": str(payment.payment_id), "payment_status": payment.status.value}


def _pending_refund(operation: Operation, payment: Payment) -> Refund:
    assert operation.refund_id is not None and payment.transaction_id is not None
    return Refund(
        refund_id=operation.refund_id,
        payment_id=payment.payment_id,
        owner=payment.owner,
        transaction_id=payment.transaction_id,
        amount_minor=operation.amount_minor,
        currency=payment.currency,
        status=RefundStatus.PENDING,
        reason=operation.reason,
        decline_code=None,
        created_at=operation.created_at,
        updated_at=operation.created_at,
    )
