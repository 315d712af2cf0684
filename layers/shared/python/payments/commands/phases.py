"""How every command moves money: claim, charge, settle, publish, mark."""

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from payments.commands import customer
from payments.commands.claim import claim
from payments.commands.command import AnyRequest, Command, Result
from payments.commands.service import Call, Deadline, Service
from payments.commands.settle import settle
from payments.commands.unknown import ids
from payments.domain.errors import Refused
from payments.domain.events import Event
from payments.gateway.port import ActionRequired, Alarm, Approved, GatewayRequest, Reply, Unknown
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

    # Publish: Kafka acknowledges the event within a bounded time.
    # Killed after it: the relay sends the event again, with the same event_id.
    # Mark: we note in the outbox that Kafka has acknowledged the event.
    # Killed after it: nothing is left to do.
    service.later(partial(publish_and_mark, settled.event, service))
    return settled.result


def charge(command: Command[Any], claimed: Claimed, service: Service, deadline: Deadline) -> Reply:
    """Call the gateway once, or ask it about the call before. Too little time and an adapter that raises are Unknown, like a
    time-out, and so is an approval of another amount than ours.

    We ask once the gateway has named what it began (Pending), and where its key may no longer be used.
    """
    operation, gateway = claimed.operation, service.gateway
    if claimed.gateway not in (None, gateway.name):
        return Unknown(f"the gateway {claimed.gateway} has the payment, and is not the one that we use now")
    timeout_s = gateway_timeout_s(deadline)
    if timeout_s <= 0:
        return Unknown("too little time was left to call the gateway")
    request = request_of(claimed, timeout_s)
    asked_s = time.monotonic()
    try:
        only_ask = request.gateway_id is not None or not claimed.key_lives
        reply = gateway.find(request) if only_ask else command.send(gateway, request)
        if isinstance(reply, ActionRequired):
            reply = customer.current_reply(
                reply, claimed, request, service, asked_s, is_told_again=not only_ask and operation.attempt > 1
            )
    except Exception:
        logger.exception("the gateway adapter raised", extra=ids(operation))
        return Unknown("the gateway adapter raised")
    if isinstance(reply, Approved) and (reply.amount_minor, reply.currency) != (request.amount_minor, request.currency):
        return Unknown(f"amount_mismatch: {reply.amount_minor} {reply.currency} moved", alarm=Alarm.AMOUNT_MISMATCH)
    return reply


def gateway_timeout_s(deadline: Deadline) -> float:
    """Return how long a gateway call that begins now may take. It is not positive when there is no time for one."""
    return min(GATEWAY_TIMEOUT_S, deadline.remaining_s() - SETTLE_RESERVE_S)


def request_of(claimed: Claimed, timeout_s: float) -> GatewayRequest:
    """Return the gateway call of the operation, which may take `timeout_s` seconds. Each attempt asks the same."""
    operation, payment = claimed.operation, claimed.payment
    return GatewayRequest(
        kind=operation.kind,
        key=operation.gateway_key,
        attempt=operation.attempt,
        payment_id=payment.payment_id,
        order_id=payment.order_id,
        amount_minor=operation.amount_minor,
        currency=payment.currency,
        payment_method=payment.payment_method,
        payment_token=payment.payment_token,
        timeout_s=timeout_s,
        capture=payment.capture_method == "automatic",
        transaction_id=payment.transaction_id,
        payment_intent_id=payment.payment_intent_id,
        gateway_id=(operation.reply or {}).get("gateway_id"),
        asked_at=claimed.asked_at,
        **claimed.parameters or {},
    )


def publish(events: Sequence[Event], service: Service) -> set[UUID]:
    """Send the events, unless the broker was away just now. Returns the ids that it has acknowledged in time; never raises."""
    try:
        return service.publisher.publish(events, PUBLISH_TIMEOUT_S) if events and not service.publisher.backs_off() else set()
    except Exception:
        logger.exception("the relay will send the events", extra={"event_ids": [str(event.event_id) for event in events]})
        return set()


def publish_and_mark(event: Event | None, service: Service) -> None:
    """Publish and mark an event, if there is one to publish now. Does not raise: the relay sends what is left."""
    mark(publish([event] if event else [], service), service)


def mark(event_ids: set[UUID], service: Service) -> None:
    """Mark the acknowledged events in the outbox, without waiting for the database's answer. Does not raise: the relay sends an
    event without a mark again."""

    def failed() -> None:
        logger.exception("the relay will send the event again", extra={"event_ids": [str(id_) for id_ in event_ids]})

    outbox.mark_published(service.db, event_ids, failed)
