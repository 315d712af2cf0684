"""Settle: write the outcome, the payment's new state and the event in one transaction."""

import logging
import random
import time
from dataclasses import dataclass, replace
from typing import Any

from payments.commands import customer
from payments.commands.command import Command, Result, result_of
from payments.commands.service import Service
from payments.commands.unknown import give_back, ids
from payments.domain.declines import OVERTAKEN
from payments.domain.errors import Fault
from payments.domain.events import Event, event_for
from payments.domain.operation import Outcome
from payments.domain.payment import PaymentStatus, apply
from payments.domain.refund import RefundStatus
from payments.gateway.port import ActionRequired, Alarm, Approved, Declined, Pending, Reply, Unknown
from payments.store import claims, settlement
from payments.store.claims import Claimed
from payments.store.connection import UniqueViolation

logger = logging.getLogger(__name__)

PUBLISH_LEASE_S = 6.0
"""How long the relay leaves a new event to the invocation that wrote it: longer than PUBLISH_TIMEOUT_S and a mark."""

SETTLE_TRIES = 10
"""A settle that loses to another change of the same payment, such as an overlapping refund, reads it again and tries again."""

SETTLE_PAUSE_S = 0.01
"""Before try n we wait a random time of up to n times this, so that overlapping refunds do not collide again."""


@dataclass(frozen=True, slots=True)
class Settled:
    """`event` is the event to publish now; None when there is none, or when an older event of the payment must go first."""

    result: Result
    event: Event | None = None


def settle(command: Command[Any], claimed: Claimed, reply: Reply, service: Service) -> Settled:
    """Write what the gateway replied, or give the lease back. Does not raise when the database fails.

    The operation is written already, and reconcile will finish it. So the caller gets the outcome `unknown`.
    """
    try:
        if isinstance(reply, Approved | Declined):
            try:
                return write_outcome(command, claimed, reply, service)
            except UniqueViolation:
                reply = Unknown("the gateway gave this payment the id of another", alarm=Alarm.AMOUNT_MISMATCH)
        if isinstance(reply, ActionRequired):
            claimed, event = customer.wait_for_customer(claimed, reply, service, PUBLISH_LEASE_S)
            return Settled(customer.with_next_action(result_of(command, claimed), claimed.operation, reply), event)
        give_back(claimed.operation, reply, service)
    except Fault:
        logger.exception("the outcome could not be written; reconcile will settle", extra=ids(claimed.operation))
    return Settled(replace(result_of(command, claimed), is_pending=isinstance(reply, Pending)))


def pause(tries: int) -> None:
    """Wait before another try of a change that lost to another one, so that the two do not collide again."""
    if tries:
        time.sleep(random.uniform(0, SETTLE_PAUSE_S * tries))  # noqa: S311  # nosec B311 - no secret


def write_outcome(command: Command[Any], claimed: Claimed, reply: Approved | Declined, service: Service) -> Settled:
    """Write the reply's consequences once, while others may change the payment. Another worker's outcome stands.

    Raises Fault.
    """
    outcome = Outcome.SUCCEEDED if isinstance(reply, Approved) else Outcome.DECLINED
    # An approval's amount is the operation's, and its `capture_before` is in the payment.
    told = {name: value for name, value in vars(reply).items() if name not in ("amount_minor", "currency", "capture_before")}
    recorded = {"result": "approved" if isinstance(reply, Approved) else "declined", **told}
    for tries in range(SETTLE_TRIES):
        pause(tries)
        operation, before, refund = claimed.operation, claimed.payment, claimed.refund
        change = command.approved(reply, claimed, service) if isinstance(reply, Approved) else command.declined(reply, claimed)
        after = apply(before, change, service.clock())
        if refund is not None:
            status = RefundStatus.SUCCEEDED if isinstance(reply, Approved) else RefundStatus.FAILED
            refund = replace(refund, status=status, decline_code=recorded.get("decline_code"), updated_at=after.updated_at)
        event = event_for(change, after, refund, service.new_id(), operation.traceparent)
        state = Claimed(replace(operation, outcome=outcome, reply=recorded), after, refund)
        ending = [*customer.statements_ending_taken(operation)] if before.status is PaymentStatus.REQUIRES_ACTION else []
        if operation.kind != "process" and recorded.get("decline_code") in OVERTAKEN:
            # Nobody else may tell us what happened there. Reconcile's next run looks at the payment.
            ending.append(settlement.LOOK_AFTER(gateway=service.gateway.name, operation_id=operation.operation_id))
        done, next_event = settlement.settle(service.db, claimed, state, event, PUBLISH_LEASE_S, *ending)
        if done:
            return Settled(result_of(command, state), next_event)
        seen = claims.state_of(service.db, operation.operation_id)
        assert seen is not None  # an operation is never deleted
        if seen.operation.outcome is not None or seen.operation.attempt != operation.attempt:
            return Settled(result_of(command, seen))
        claimed = seen
    logger.warning("the payment kept changing; reconcile will settle", extra=ids(claimed.operation))
    return Settled(result_of(command, claimed))
