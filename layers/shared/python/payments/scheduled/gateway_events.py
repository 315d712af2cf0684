"""What happened at the gateway: ask it for the events that it could not deliver, and look at what those in the inbox are about.

An event is a hint. What it says is not believed: the payment is compared with what the gateway has of it now.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

from payments import telemetry
from payments.commands.look import Look, look_at
from payments.commands.phases import GATEWAY_TIMEOUT_S, SETTLE_RESERVE_S
from payments.commands.service import Deadline, Service
from payments.domain.payment import Payment
from payments.domain.times import DAY_S
from payments.store import gateway_events
from payments.store.gateway_events import INSERTED, Door, EventOutcome, GatewayEvent

logger = logging.getLogger(__name__)

LookAt = Callable[[Service, Payment, Deadline], Look]

LEAST_S = GATEWAY_TIMEOUT_S + SETTLE_RESERVE_S
"""With less time left no further payment is looked at."""

LOOK_S = 2 * GATEWAY_TIMEOUT_S + SETTLE_RESERVE_S
"""A look may first settle an operation of the payment, and then ask what the gateway has of it."""

LEASE_S = LOOK_S + 6.0
"""Longer than a look and the note of its outcome, each of which waits for the database, so that no two look for one event."""

RUN_S = 60.0
"""A run of reconcile spends a minute at most on the inbox. The rest of its time is for operations without an outcome."""

PULL_S, PULL_TIMEOUT_S = 8.0, 10.0
"""A pull stops 8 s after it began, when it has put what it just read into the inbox, and the next run goes on there. The gateway
may take 10 s for all of its pages together."""

OVERLAP_S, LONGEST_S = 300.0, 3 * DAY_S
"""A pull asks for what happened since 5 minutes before the last pull, because the gateway's clock is not ours and its list may be
late. After an outage of ours it goes back three days at most, as long as Stripe itself tries to deliver an event."""

ORPHANS, LEFT = "GatewayEventOrphan", "GatewayEventsLeft"
"""Metrics: events about a payment of ours that is not in the books, and events that a day was not enough for."""


def inbox(service: Service, deadline: Deadline, look: LookAt = look_at) -> dict[str, int]:
    """Do a run's share of the work on events. Returns how many were pulled, and how many had which outcome. Does not raise:
    reconcile settles operations also when the inbox cannot be read, as before migration 058."""
    counts, ends = dict[str, int](), Deadline.in_s(min(deadline.remaining_s(), RUN_S))
    try:
        counts["pulled"] = pull(service)
    except Exception:
        logger.exception("the gateway did not tell all that it could not deliver")  # The next run goes on.
    try:
        counts |= handle(service, ends, look)
        gateway_events.prune(service.db)
    except Exception:
        logger.exception("events of the gateway wait for the next run")
    return counts


def pull(service: Service, time_s: float = PULL_S) -> int:
    """Put into the inbox what the gateway could not deliver, as far as the time goes. What is there stays there, also when the
    gateway fails, and the next pull goes on. Returns how many events were new. Raises OSError and Fault."""
    db, gateway, ends, new = service.db, service.gateway, Deadline.in_s(time_s), 0
    begun_at, since, until = gateway_events.begin_pull(db, gateway.name, OVERLAP_S, LONGEST_S)
    hints = iter(gateway.undelivered(since, PULL_TIMEOUT_S, until))
    while some := list(islice(hints, INSERTED)):
        new += len(gateway_events.insert(db, gateway.name, Door.PULL, some))
        gateway_events.read_to(db, gateway.name, begun_at, some[-1].created_at)
        if ends.remaining_s() <= 0:
            return new
    gateway_events.pulled(db, gateway.name, begun_at)
    return new


def handle(service: Service, deadline: Deadline, look: LookAt = look_at, event_id: str | None = None) -> Counter[str]:
    """Handle the events that are due until none is left or time is short. With `event_id` handle this one, if it is due, and the
    others of its payment.

    Returns how many have which outcome now. Those that wait for another attempt count as `waiting`. Raises Fault.
    """
    done = Counter[str]()
    while deadline.remaining_s() > LEAST_S and (
        events := gateway_events.claim(service.db, service.gateway.name, LEASE_S, event_id)
    ):
        outcome = _outcome(events, service, deadline, look)
        ended = gateway_events.note(service.db, service.gateway.name, events, outcome)
        done += Counter({outcome.value: ended, "waiting": len(events) - ended})
    for_a_person = {ORPHANS: done[EventOutcome.ORPHAN], LEFT: done[EventOutcome.LATER]}
    telemetry.count_all({name: number for name, number in for_a_person.items() if number})
    return done


def _outcome(events: Sequence[GatewayEvent], service: Service, deadline: Deadline, look: LookAt) -> EventOutcome:
    """Return what came of events that are about one payment. An error is one of this payment alone, and may pass."""
    db, gateway = service.db, service.gateway.name
    intent_id, our_id = events[0].payment_intent_id, next((event.payment_id for event in events if event.payment_id), None)
    ids: dict[str, object] = {
        "gateway_event_ids": [event.event_id for event in events],
        "types": sorted({event.type for event in events}),
    }
    ids |= {"payment_intent_id": intent_id, "payment_id": our_id and str(our_id)}
    try:
        payment = gateway_events.payment_of(db, gateway, intent_id, our_id)
        if payment is not None:
            outcome = EventOutcome(look(service, payment, Deadline.in_s(min(deadline.remaining_s(), LOOK_S))))
        elif our_id:
            outcome = EventOutcome.ORPHAN
        else:
            # A refund or a dispute does not name our payment. Its intent may be that of a charge whose answer was lost.
            told_at = max(event.received_at for event in events)
            may_be_ours = intent_id and gateway_events.has_nameless(db, gateway, told_at)
            outcome = EventOutcome.LATER if may_be_ours else EventOutcome.FOREIGN
    except Exception:
        logger.exception("a gateway event could not be handled", extra=ids)
        return EventOutcome.LATER
    level = logging.ERROR if outcome is EventOutcome.ORPHAN else logging.INFO
    logger.log(level, "gateway event", extra=ids | {"outcome": outcome.value})
    return outcome
