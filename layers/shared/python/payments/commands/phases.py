"""How every command moves money: claim, charge, settle, publish, mark."""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from payments.commands.claim import claim
from payments.commands.command import AnyRequest, Command, Result
from payments.commands.service import Call, Deadline, Service
from payments.commands.settle import ids, settle
from payments.domain.errors import Refused
from payments.domain.events import Event
from payments.gateway.port import GatewayRequest, Reply, Unknown
from payments.store import outbox
from payments.store.claims import Claimed

logger = logging.getLogger(__name__)

GATEWAY_TIMEOUT_S = 10.0
"""Card issuers answer within 2 to 3 s, some only after 8. After that reconcile calls again under the same key."""

SETTLE_RESERVE_S = 4.0
"""We keep this much of the invocation's time for settle (at most 2 s of waiting for a lock) and publish."""

PUBLISH_TIMEOUT_S = 2.0
"""The caller waits for this. A healthy broker acknowledges in milliseconds; the relay serves a slower one."""


def perform(command: Command[AnyRequest], request: AnyRequest, call: Call, service: Service) -> Result:
    """Carry a caller's command out. Raises the command's refusals and the faults of its claim."""
    try:
        return move_money(command, request, call, service)
    except Exception as error:
        if not isinstance(error, Refused) and (doubt := command.in_doubt(error, request, call)):
            raise doubt from error
        raise


def move_money(command: Command[AnyRequest], request: AnyRequest, call: Call, service: Service) -> Result:
    """Carry one command through its phases. No transaction is open during a network call."""
    # Claim: one transaction writes the operation, its lease, and what it takes of the payment.
    # Killed after it: the lease runs out, and reconcile claims the operation again.
    claimed = claim(command, request, call, service)
    if isinstance(claimed, Result):
        return claimed  # An earlier request under the same key has done this.

    # Charge: we call the gateway under the operation's key, which never changes.
    # Killed after it: reconcile calls under the same key, and the gateway gives the same answer without a second charge.
    service.publisher.warm_up()
    reply = charge(command, claimed, service, call.deadline)

    # Settle: one transaction writes the outcome, the payment's new state and the event; without a reply it gives the lease back.
    # Killed after it: the relay publishes the event.
    settled = settle(command, claimed, reply, service)

    def publish_and_mark() -> None:
        # Publish: Kafka acknowledges the event within a bounded time.
        # Killed after it: the relay sends the event again, with the same event_id.
        acknowledged = publish([settled.event] if settled.event else [], service)

        # Mark: we note in the outbox that Kafka has acknowledged the event.
        # Killed after it: nothing is left to do.
        mark(acknowledged, service)

    service.later(publish_and_mark)
    return settled.result


def charge(command: Command[Any], claimed: Claimed, service: Service, deadline: Deadline) -> Reply:
    """Call the gateway once. Too little time and an adapter that raises are Unknown, like a time-out."""
    operation, payment = claimed.operation, claimed.payment
    timeout_s = min(GATEWAY_TIMEOUT_S, deadline.remaining_s() - SETTLE_RESERVE_S)
    if timeout_s <= 0:
        return Unknown("too little time was left to call the gateway")
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
        return command.send(service.gateway, request)
    except Exception:
        logger.exception("the gateway adapter raised", extra=ids(operation))
        return Unknown("the gateway adapter raised")


def publish(events: Sequence[Event], service: Service) -> set[UUID]:
    """Send the events, unless the broker was away just now. Returns the ids that it has acknowledged in time; never raises."""
    try:
        return service.publisher.publish(events, PUBLISH_TIMEOUT_S) if events and not service.publisher.backs_off() else set()
    except Exception:
        logger.exception("the relay will send the events", extra={"event_ids": [str(event.event_id) for event in events]})
        return set()


def mark(event_ids: set[UUID], service: Service) -> None:
    """Mark the acknowledged events in the outbox, without waiting for the database's answer. Does not raise: the relay sends an
    event without a mark again."""

    def failed() -> None:
        logger.exception("the relay will send the event again", extra={"event_ids": [str(id_) for id_ in event_ids]})

    outbox.mark_published(service.db, event_ids, failed)
