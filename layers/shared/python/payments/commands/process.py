"""Process a payment: claim the order, charge, settle, publish."""

from __future__ import annotations

from typing import NoReturn

from payments.commands.phases import carry_out, lease_s
from payments.commands.replay import earlier_result, is_ours
from payments.commands.requests import ProcessRequest, request_hash
from payments.commands.service import Call, Result, Service
from payments.domain.errors import OrderAlreadyPaid, OrderInProgress
from payments.domain.operation import Kind, Operation, gateway_key
from payments.domain.payment import Payment, PaymentStatus, ProcessingStarted, apply
from payments.store import claims, lookups
from payments.store.connection import UniqueViolation


def process(request: ProcessRequest, call: Call, service: Service) -> Result:
    """Take the payment at once, or authorize it (`capture_method: manual`).

    Raises OrderAlreadyPaid, OrderInProgress, IdempotencyKeyReused, IdempotencyKeyInUse, ServiceUnavailable.
    """
    now, payment_id = service.clock(), service.new_id()
    pending = Payment(
        payment_id=payment_id,
        owner=call.owner,
        order_id=request.order_id,
        status=PaymentStatus.PENDING,
        status_reason="payment requested",
        amount_minor=request.amount,
        currency=request.currency,
        payment_method=request.payment_method,
        payment_token=request.payment_token,
        capture_method=request.capture_method,
        customer_id=request.customer_id,
        description=request.description,
        metadata=request.metadata or {},
        created_at=now,
        updated_at=now,
        version=1,
    )
    operation = Operation(
        operation_id=service.new_id(),
        owner=call.owner,
        kind=Kind.PROCESS,
        payment_id=payment_id,
        amount_minor=request.amount,
        idempotency_key=call.idempotency_key,
        request_hash=request_hash(request),
        gateway_key=gateway_key(Kind.PROCESS, payment_id),
        traceparent=call.traceparent,
        created_at=now,
    )
    payment = apply(pending, ProcessingStarted(), now)
    try:
        claims.claim_process(service.db, pending, payment, operation, lease_s(call))
    except UniqueViolation:
        resent = service.db.resent
        if not is_ours(service, operation.operation_id):
            earlier = earlier_result(service, call, Kind.PROCESS, operation.request_hash, resent=resent)
            return earlier if earlier is not None else _refuse(service, request, call)
    return carry_out(service, operation, payment, None, call.deadline)


def _refuse(service: Service, request: ProcessRequest, call: Call) -> NoReturn:
    """Say which payment of the order is in the way."""
    live = lookups.payment_by_order(service.db, call.owner, request.order_id)
    extra = {"payment_id": str(live.payment_id), "payment_status": live.status.value} if live else {}
    if live is None or live.status in (
        PaymentStatus.PENDING,
        PaymentStatus.PROCESSING,
        PaymentStatus.FAILED,
        PaymentStatus.VOIDED,
    ):
        # FAILED and VOIDED: what was in the way at the claim has come to its end meanwhile, so trying again may succeed.
        raise OrderInProgress("Wait for the order's other payment to come to its end.", retry_after_s=1, extra=extra)
    raise OrderAlreadyPaid("The order has a payment already; look it up instead of paying again.", extra=extra)
