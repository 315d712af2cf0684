"""Scheduled: send the events that invocations left unpublished, in each payment's order. On demand: replay a range of events."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from payments.commands.service import Deadline, Service
from payments.domain.events import Event
from payments.store import backlog, outbox

logger = logging.getLogger(__name__)

BATCH = 1000
"""Large enough that one acknowledgement covers many events, small enough for the memory and to send it within its lease."""

SEND_TIMEOUT_S = 5.0
"""More patient than an invocation with a caller waiting; a broker that needs longer is down."""

LEASE_S = 20.0
"""More than twice SEND_TIMEOUT_S and a mark, so that two relays never send one event at the same time: a batch is claimed while
the one before it is sent."""

RUN_RESERVE_S = SEND_TIMEOUT_S + 3.0
"""A run with less time left begins no further batch."""

KEEP_DAYS, WEEK_DAYS = 7, 7
"""Published events can be replayed for KEEP_DAYS at least: a consumer has a weekend and a working week to notice that it lost
some. They leave with all events of their WEEK_DAYS. The database takes no fewer than 7 of each (migration 013)."""


@dataclass(slots=True)
class Relayed:
    """One run published `published` events. It leaves `unpublished` ones; the oldest of them is `lag_s` seconds old."""

    published: int = 0
    unpublished: int = 0
    lag_s: float = 0.0


def relay(service: Service, deadline: Deadline) -> Relayed:
    """Publish until no event is left, the broker acknowledges nothing, or time is short."""
    done, events, from_time, published_s = Relayed(), list[Event](), backlog.EPOCH, time.monotonic()
    with ThreadPoolExecutor(1) as sender:  # It sends a batch while PostgreSQL marks the one before and claims the next.
        sending = sender.submit(_send, events, service)
        try:
            while deadline.remaining_s() > RUN_RESERVE_S:
                acknowledged, begun_at = sending.result(), from_time
                sending = sender.submit(_send, events, service)
                outbox.mark_published(service.db, acknowledged)
                claimed, from_time = backlog.claim_unpublished(service.db, BATCH, LEASE_S, begun_at)
                done.published += len(sending.result())
                if events and not sending.result() and service.publisher.backs_off():
                    break  # The broker acknowledges nothing now. (Events that one partition refuses come last in the next batch.)
                if not claimed and not events and begun_at == backlog.EPOCH:
                    break
                published_s = time.monotonic() if sending.result() else published_s
                if time.monotonic() - published_s > LEASE_S:
                    break  # A dead partition has many events, and the leases of the first ones end: it would claim them again.
                # A payment whose events were on their way, or one whose lease has ended meanwhile, may wait further up.
                events, from_time = claimed, from_time if claimed else backlog.EPOCH
        finally:
            outbox.mark_published(service.db, sending.result())  # also when a claim has failed
    try:
        backlog.turn(service.db, KEEP_DAYS, WEEK_DAYS)
    except Exception:
        logger.exception("the outbox keeps its tables and grows")  # No event is late because of it.
    done.unpublished, done.lag_s = backlog.lag(service.db)
    return done


def _send(events: Sequence[Event], service: Service) -> set[UUID]:
    """Send each payment's events one after the other: an event leaves when the one before it is acknowledged.

    Returns the ids that were acknowledged within SEND_TIMEOUT_S. Does not raise.
    """
    ends_s, acknowledged, waiting = time.monotonic() + SEND_TIMEOUT_S, set[UUID](), events
    while waiting:
        first = {event.payment_id: event for event in reversed(waiting)}
        sent = service.publisher.publish(list(first.values()), ends_s - time.monotonic())
        acknowledged |= sent
        waiting = [event for event in waiting if event.event_id not in sent and first[event.payment_id].event_id in sent]
    return acknowledged


def replay(service: Service, deadline: Deadline, from_time: datetime, to_time: datetime) -> tuple[int, datetime | None]:
    """Send published events of [from_time, to_time) again, with the same ids.

    Returns how many events the broker acknowledged. The second value is None at the end of the range. It is the moment to go on
    from when time ran out or the broker stopped acknowledging; the next run then sends a few events once more.
    """
    sent, last = 0, None
    while events := backlog.published_between(service.db, from_time, to_time, last, BATCH):
        resume_at = last.created_at if last else from_time
        if deadline.remaining_s() <= RUN_RESERVE_S:
            return sent, resume_at
        acknowledged = service.publisher.publish(events, SEND_TIMEOUT_S)
        sent += len(acknowledged)
        if len(acknowledged) < len(events):
            return sent, resume_at
        last = events[-1]
    return sent, None
