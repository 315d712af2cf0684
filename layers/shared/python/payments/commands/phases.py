"""The way of every command that moves money, after its claim: ask the gateway, settle, publish, mark.

claim     process.py, capture.py, void.py, refund.py: one transaction          killed after it: the lease runs out, reconcile
charge    ask the gateway, no transaction open                                 the same key is sent again
settle    outcome, payment, refund and event: one transaction                  the relay publishes
publish   Kafka, bounded time                                                  the relay sends it again, same event_id
mark      the outbox row is done                                               the relay sends it again, same event_id
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass, replace
from typing import Any, assert_never

from payments.commands.service import Call, Deadline, Result, Service, result_of
from payments.domain.errors import Fault
from payments.domain.events import Event, event_for
from payments.domain.operation import Kind, Operation, Outcome, Refund, RefundStatus
from payments.domain.payment import (
    Authorized,
    Captured,
    Change,
    Failed,
    Payment,
    RefundReleased,
    RefundSucceeded,
    Voided,
    apply,
)
from payments.gateway.port import Approved, Declined, GatewayRequest, Reply, Unknown
from payments.store import lookups, outbox, settlement

logger = logging.getLogger(__name__)

GATEWAY_TIMEOUT_S = 10.0
"""Card issuers answer within 2 to 3 s, some only after 8; who is not heard by then is asked again later with the same key."""

SETTLE_RESERVE_S = 4.0
"""Kept of the invocation's time for what follows the gateway: settle (2 s of lock wait at worst) and publish."""

PUBLISH_TIMEOUT_S = 2.0
"""A caller waits for this. A healthy broker acknowledges in milliseconds; what is slower is the relay's."""

PUBLISH_LEASE_S = 6.0
"""How long the relay leaves a new event to the invocation that wrote it: more than PUBLISH_TIMEOUT_S and a mark."""

LEASE_MARGIN_S = 2.0
"""A lease outlives the invocation that holds it, so that two workers are never at one operation; 2 s is room for the freeze."""

SETTLE_TRIES = 10
"""A settle loses to another change of the same payment (an overlapping refund), looks again and tries again."""

SETTLE_PAUSE_S = 0.01
"""Times the number of tries, and a random part of that: refunds that overlap by the dozen get out of step."""


@dataclass(frozen=True, slots=True)
class Settled:
    operation: Operation
    outcome: Outcome
    payment: Payment
    refund: Refund | None
    event: Event | None = None


def lease_s(call: Call) -> float:
    return max(call.deadline.remaining_s(), 0) + LEASE_MARGIN_S


def carry_out(service: Service, operation: Operation, payment: Payment, refund: Refund | None, deadline: Deadline) -> Result:
    """Everything after the claim. Never raises for a gateway, a broker or a database that fails now: the operation
    is in the books, and reconcile or the relay will finish it, so the caller hears that the outcome is not known yet."""
    service.publisher.warm_up()
    reply = ask_gateway(service, operation, payment, deadline)
    try:
        if isinstance(reply, Unknown):
            give_back(service, operation, reply)
            return result_of(operation, Outcome.UNKNOWN, payment, refund)
        settled = settle(service, operation, payment, refund, reply)
    except Fault:
        logger.exception("the outcome could not be written; reconcile will", extra=_ids(operation))
        return result_of(operation, Outcome.UNKNOWN, payment, refund)
    if settled.event is not None:
        publish(service, settled.event)
    return result_of(settled.operation, settled.outcome, settled.payment, settled.refund)


def ask_gateway(service: Service, operation: Operation, payment: Payment, deadline: Deadline) -> Reply:
    """One call under the operation's key. Too little time left, or an adapter that raises, is Unknown like a time-out."""
    timeout_s = min(GATEWAY_TIMEOUT_S, deadline.remaining_s() - SETTLE_RESERVE_S)
    if timeout_s <= 0:
        return Unknown("too little time was left to ask the gateway")
    request = GatewayRequest(
        key=operation.gateway_key,
        attempt=operation.attempt,
        amount_minor=operation.amount_minor,
        currency=payment.currency,
        payment_method=payment.payment_method,
        payment_token=payment.payment_token,
        timeout_s=timeout_s,
        capture=payment.capture_method == "automatic",
        transaction_id=payment.transaction_id,
        payment_intent_id=payment.payment_intent_id,
    )
    try:
        match operation.kind:
            case Kind.PROCESS:
                return service.gateway.charge(request)
            case Kind.CAPTURE:
                return service.gateway.capture(request)
            case Kind.VOID:
                return service.gateway.void(request)
            case Kind.REFUND:
                return service.gateway.refund(request)
    except Exception:
        logger.exception("the gateway adapter raised", extra=_ids(operation))
        return Unknown("the gateway adapter raised")
    assert_never(operation.kind)


def give_back(service: Service, operation: Operation, reply: Unknown) -> None:
    """End the lease; the next attempt is the schedule's next moment, and after its last one a person has to look."""
    age_s = (service.clock() - operation.created_at).total_seconds()
    next_s = next((moment_s for moment_s in service.retry_schedule_s if moment_s > age_s), None)
    log = logger.error if next_s is None else logger.warning
    log("the outcome is not known: %s", reply.reason, extra=_ids(operation) | {"next_attempt_at_age_s": next_s})
    settlement.give_back(service.db, operation, next_s, {"result": "unknown", "reason": reply.reason})


def settle(
    service: Service, operation: Operation, payment: Payment, refund: Refund | None, reply: Approved | Declined
) -> Settled:
    """Write the reply's consequences once, whoever else is at the payment. Another worker's outcome, if there is one, stands."""
    outcome = Outcome.SUCCEEDED if isinstance(reply, Approved) else Outcome.DECLINED
    operation = replace(operation, reply=_record(reply))
    for tries in range(SETTLE_TRIES):
        time.sleep(random.uniform(0, SETTLE_PAUSE_S * tries))  # noqa: S311  # nosec B311 - no secret
        now = service.clock()
        change = change_for(service, operation, payment, reply)
        after = apply(payment, change, now) if change else payment
        refund_after = _settled_refund(refund, reply, after)
        event = event_for(change, after, refund_after, service.new_id(), operation.traceparent) if change else None
        written = settlement.settle(
            service.db,
            operation,
            outcome,
            operation.reply or {},
            payment,
            after,
            refund_after,
            event,
            PUBLISH_LEASE_S,
        )
        if written.done:
            return Settled(operation, outcome, after, refund_after, event if written.is_next else None)
        state = settlement.state_of(service.db, operation.operation_id)
        assert state is not None  # an operation cannot be deleted
        seen, payment = state
        if seen.outcome is not None or seen.attempt != operation.attempt:
            refund = lookups.refund_by_id(service.db, refund.refund_id) if refund else None
            return Settled(seen, seen.outcome or Outcome.UNKNOWN, payment, refund)
    logger.warning("the payment kept changing; reconcile will settle", extra=_ids(operation))
    return Settled(operation, Outcome.UNKNOWN, payment, refund)


def change_for(service: Service, operation: Operation, payment: Payment, reply: Approved | Declined) -> Change | None:
    """What the gateway's reply does to the payment; None where it changes nothing (a declined capture or void)."""
    match operation.kind, reply:
        case Kind.PROCESS, Approved() if payment.capture_method == "manual":
            return Authorized(reply.transaction_id, reply.payment_intent_id, operation.created_at + service.capture_window)
        case Kind.PROCESS | Kind.CAPTURE, Approved():
            return Captured(
                operation.amount_minor,
                payment.transaction_id or reply.transaction_id,
                payment.payment_intent_id or reply.payment_intent_id,
            )
        case Kind.PROCESS, Declined():
            return Failed(reply.decline_code, reply.message, reply.transaction_id, reply.payment_intent_id)
        case Kind.VOID, Approved():
            return Voided(operation.reason or "voided on request")
        case Kind.REFUND, Approved():
            return RefundSucceeded(operation.amount_minor)
        case Kind.REFUND, Declined():
            return RefundReleased(operation.amount_minor)
    return None


def publish(service: Service, event: Event) -> None:
    """Send one event and mark it. Whatever fails here fails nobody's payment: the relay sends what is not marked."""
    try:
        outbox.mark_published(service.db, service.publisher.publish([event], PUBLISH_TIMEOUT_S))
    except Exception:
        logger.exception("the event stays with the relay", extra={"event_id": str(event.event_id)})


def _settled_refund(refund: Refund | None, reply: Approved | Declined, after: Payment) -> Refund | None:
    if refund is None:
        return None
    if isinstance(reply, Approved):
        return replace(refund, status=RefundStatus.SUCCEEDED, updated_at=after.updated_at)
    return replace(refund, status=RefundStatus.FAILED, decline_code=reply.decline_code, updated_at=after.updated_at)


def _record(reply: Approved | Declined) -> dict[str, Any]:
    """What the books keep of the gateway's answer, its own words (`raw`) included."""
    match reply:
        case Approved():
            ids = {"transaction_id": reply.transaction_id, "payment_intent_id": reply.payment_intent_id}
            return {"result": "approved", **ids, "raw": reply.raw}
        case Declined():
            return {
                "result": "declined",
                "decline_code": reply.decline_code,
                "message": reply.message,
                "raw": reply.raw,
            }


def _ids(operation: Operation) -> dict[str, Any]:
    return {
        "payment_id": str(operation.payment_id),
        "operation_id": str(operation.operation_id),
        "kind": operation.kind.value,
        "attempt": operation.attempt,
    }
