"""When the gateway waits for the customer: the payment says so. What the customer's browser needs is told and never written."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from payments.commands.command import Result
from payments.commands.service import Service
from payments.commands.unknown import give_back, ids
from payments.domain.changes import ActionNeeded
from payments.domain.declines import OTHER_DECLINES
from payments.domain.events import Event, event_for
from payments.domain.operation import Operation
from payments.domain.payment import PaymentStatus, apply
from payments.gateway.port import ActionRequired, Approved, Declined, GatewayRequest, Reply, Unknown
from payments.store import claims, waiting
from payments.store.claims import Claimed
from payments.store.connection import Bound

logger = logging.getLogger(__name__)

LEAST_S = 0.5
"""A second call gets this much time at least, although the first one took all that there was: the lease allows for it."""


def expires_at(operation: Operation) -> datetime | None:
    """Return the end of the time for the customer, by the database's clock; None if the gateway has asked for no customer."""
    noted = (operation.reply or {}).get("action_expires_at")
    return datetime.fromisoformat(noted) if noted else None


def wait_for_customer(
    claimed: Claimed, reply: ActionRequired, service: Service, publish_lease_s: float
) -> tuple[Claimed, Event | None]:
    """Write that the payment waits for its customer, or end the lease when it says so already.

    Returns the operation and the payment as they are now, and the event to publish. Raises Fault.
    """
    operation = claimed.operation
    if claimed.payment.status is PaymentStatus.PROCESSING:
        change = ActionNeeded(reply.payment_intent_id, reply.transaction_id)
        after = apply(claimed.payment, change, service.clock())
        event = event_for(change, after, None, service.new_id(), operation.traceparent)
        recorded = {"result": "requires_action", "gateway_id": reply.gateway_id, "raw": reply.raw}
        window, schedule_s = service.action_window, list(service.retry_schedule_s)
        if done := waiting.wait_for_customer(service.db, claimed, after, event, recorded, window, schedule_s, publish_lease_s):
            return done
        logger.info("another worker was faster", extra=ids(operation))
        return claims.state_of(service.db, operation.operation_id) or claimed, None
    give_back(operation, reply, service)
    return claimed, None


def with_next_action(result: Result, operation: Operation, reply: ActionRequired) -> Result:
    """Return the result with what the customer's browser needs, if the payment still waits for the customer."""
    if result.payment.status is not PaymentStatus.REQUIRES_ACTION:
        return result
    return replace(result, is_pending=True, next_action=reply.next_action, action_expires_at=expires_at(operation))


def statements_ending_taken(operation: Operation) -> Sequence[Bound]:
    """Return what goes with the settle of a payment that waited: the end of a process operation that a void has taken over."""
    if operation.kind != "void":
        return ()
    declined = {"result": "declined", "decline_code": "payment_canceled", "message": OTHER_DECLINES["payment_canceled"]}
    return [waiting.END_TAKEN(void_id=operation.operation_id, recorded=declined)]


def current_reply(
    reply: ActionRequired,
    claimed: Claimed,
    request: GatewayRequest,
    service: Service,
    asked_s: float,
    *,
    is_told_again: bool,
) -> Reply:
    """Return what holds now. Under a known key a gateway tells again what it first said (`is_told_again`), whatever the customer
    has done since. And when the time for the customer is over, the payment is canceled there: only the gateway's answer decides.

    `asked_s` is the monotonic moment at which the time of the call, `request.timeout_s`, began.
    """
    gateway, ends_at = service.gateway, expires_at(claimed.operation)
    if is_told_again:
        found = gateway.find(replace(request, gateway_id=reply.gateway_id, timeout_s=_left_s(request, asked_s)))
        if not isinstance(found, ActionRequired):
            return found
        reply = found
    if ends_at is None or ends_at > service.clock():
        return reply
    # A key of its own for each attempt: the gateway repeats its answer to a key, also when it no longer holds.
    key = f"expire-{claimed.payment.payment_id}-{request.attempt}"
    cancel = replace(request, kind="void", key=key, timeout_s=_left_s(request, asked_s))
    canceled = gateway.void(cancel)
    match canceled:
        case Approved():
            text = OTHER_DECLINES["action_expired"]
            return Declined("action_expired", text, claimed.payment.transaction_id, reply.payment_intent_id, canceled.raw)
        case Declined():
            return Unknown("the gateway did not cancel the payment, so the customer may have been faster", wait_s=1)
    return canceled


def _left_s(request: GatewayRequest, asked_s: float) -> float:
    return max(request.timeout_s - (time.monotonic() - asked_s), LEAST_S)
