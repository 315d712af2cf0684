"""The inbox: what happened at the gateway, what is still to be looked at, and what came of it. It holds ids and no payload."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any
from uuid import UUID

from payments.domain.payment import Payment
from payments.store import rows
from payments.store.connection import Database, Statement
from payments.store.rows import PAYMENT, columns

WAITS_S, GIVE_UP_H = (5, 30, 120, 600, 3600), 24
"""An event about which nothing can be said yet is looked at again: 5 s, 30 s, 2 min, 10 min and 1 h after the attempt before, and
then each hour. After a day we give it up: a lease, a gateway's outage or a slow bank may last as long. Its age decides, and
not the number of attempts, because the payment's other events cause attempts too. An event that was old at its first attempt,
after an outage of ours, gets six."""

KEEP_DAYS, PRUNED = 30, 5000
"""A handled event is kept for 30 days, as long as Stripe shows its own. At most 5,000 are deleted at once."""

INSERTED = 50
"""The most events that one statement writes. It stays below the 16 KB that would pin RDS Proxy."""


class Door(StrEnum):
    """The way that an event came. A fourth one, `decline`, is no event of the gateway's: a settle writes it beside a decline that
    says that the books may be behind (LOOK_AFTER in settlement.py)."""

    WEBHOOK = "webhook"
    EVENTBRIDGE = "eventbridge"
    PULL = "pull"


class EventOutcome(StrEnum):
    """What came of an event."""

    SETTLED = "settled"
    """The books, and their events, have something of the gateway's that was new."""
    NOTHING_NEW = "nothing_new"
    FOREIGN = "foreign"
    """Nothing says that it is about a payment of ours."""
    ORPHAN = "orphan"
    """The gateway has a payment of ours that is not in the books. A person has to look."""
    LATER = "later"
    """Nothing could be said for a day. A person has to look."""


@dataclass(frozen=True, slots=True)
class GatewayEvent:
    """An event that is ours to look at until its lease ends, for the `attempt`th time. The database's clock stamped it."""

    event_id: str
    type: str
    payment_intent_id: str | None
    payment_id: UUID | None
    attempt: int
    received_at: datetime


TOLD = {"event_ids": "event_id", "types": "type", "payment_intent_ids": "payment_intent_id"}
TOLD |= {"payment_ids": "payment_id", "created": "created_at"}
"""The parameters of INSERT, and the members of a hint that each is made of."""

INSERT = Statement("""
    INSERT INTO gateway_events (gateway, event_id, type, payment_intent_id, payment_id, created_at, door,
                                received_at, next_attempt_at)
    SELECT :gateway, event_id, type, payment_intent_id, payment_id, created_at, :door, now(), now()
    FROM unnest(:event_ids::text[], :types::text[], :payment_intent_ids::text[], :payment_ids::uuid[], :created::timestamptz[])
        AS told (event_id, type, payment_intent_id, payment_id, created_at)
    ON CONFLICT DO NOTHING RETURNING event_id
""")
# One that is due, and the payment's others, because one look serves them all. Another worker's are left to it. Nobody waits for a
# lock here, so two workers cannot wait for each other.
_CLAIM = """
    WITH first AS (
        SELECT event_id, payment_intent_id FROM gateway_events
        WHERE gateway = :gateway AND handled_at IS NULL AND next_attempt_at <= now() {which}
        ORDER BY next_attempt_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ), others AS (
        SELECT one.event_id FROM first JOIN gateway_events AS one ON one.payment_intent_id = first.payment_intent_id
        WHERE one.gateway = :gateway AND one.handled_at IS NULL AND COALESCE(one.lease_until <= now(), true)
        FOR NO KEY UPDATE OF one SKIP LOCKED
    )
    UPDATE gateway_events SET attempt = attempt + 1, lease_until = now() + make_interval(secs => :lease_s),
        next_attempt_at = now() + make_interval(secs => :lease_s)
    WHERE gateway = :gateway AND event_id = ANY (ARRAY(SELECT event_id FROM first UNION SELECT event_id FROM others))
    RETURNING event_id, type, payment_intent_id, payment_id, attempt, received_at
"""
CLAIM_DUE = Statement(_CLAIM.format(which=""))
CLAIM_ONE = Statement(_CLAIM.format(which="AND event_id = :event_id"))
# By what the gateway calls it, or by our id. A payment that knows its intent is not found by another one, of which somebody has
# said that it is ours, and one that failed without an intent by none.
FIND = Statement(f"""
    SELECT {columns(PAYMENT)} FROM payments WHERE gateway = :gateway AND payment_intent_id = :payment_intent_id::text
    UNION ALL
    SELECT {columns(PAYMENT)} FROM payments WHERE payment_id = :payment_id::uuid AND gateway = :gateway
       AND COALESCE(payment_intent_id = :payment_intent_id, status <> 'FAILED' OR :payment_intent_id::text IS NULL)
    LIMIT 1
""")
_AGAIN = f"wait_s IS NOT NULL AND (received_at > now() - interval '{GIVE_UP_H} hours' OR attempt <= {len(WAITS_S)})"
NOTE = Statement(f"""
    UPDATE gateway_events SET lease_until = NULL,
        next_attempt_at = CASE WHEN {_AGAIN} THEN now() + make_interval(secs => wait_s) END,
        outcome = CASE WHEN {_AGAIN} THEN NULL ELSE :outcome::text END, handled_at = CASE WHEN {_AGAIN} THEN NULL ELSE now() END
    FROM unnest(:event_ids::text[], :attempts::integer[], :waits_s::float8[]) AS looked_at (id, last_attempt, wait_s)
    WHERE gateway = :gateway AND event_id = id AND attempt = last_attempt AND handled_at IS NULL
    RETURNING outcome
""")
PRUNE = Statement(f"""
    DELETE FROM gateway_events WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM gateway_events WHERE handled_at < now() - make_interval(days => {KEEP_DAYS})
        ORDER BY handled_at LIMIT {PRUNED} FOR UPDATE SKIP LOCKED))
""")
# The database's clock says when a pull began. Two functions whose clocks differ leave no gap between them. They may share a pull,
# and whoever is late changes none that began after it.
BEGIN_PULL = Statement("""
    INSERT INTO gateway_pulls AS pull (gateway, pulled_at, begun_at) VALUES (:gateway, now(), now())
    ON CONFLICT (gateway) DO UPDATE SET begun_at = COALESCE(pull.begun_at, now())
    RETURNING begun_at,
        GREATEST(pulled_at - make_interval(secs => :overlap_s), now() - make_interval(secs => :longest_s)), read_to
""")
READ_TO = Statement("""
    UPDATE gateway_pulls SET read_to = LEAST(read_to, :moment) WHERE gateway = :gateway AND begun_at = :begun_at
""")
PULLED = Statement("""
    UPDATE gateway_pulls SET pulled_at = GREATEST(pulled_at, begun_at), begun_at = NULL, read_to = NULL
    WHERE gateway = :gateway AND begun_at = :begun_at
""")


def insert(db: Database, gateway: str, door: Door, hints: Sequence[Any]) -> set[str]:
    """Write hints (gateway/port.py) down. Returns the ids of those that were not known."""
    new = set[str]()
    for start in range(0, len(hints), INSERTED):
        told = zip(*map(attrgetter(*TOLD.values()), hints[start : start + INSERTED]), strict=True)
        arrays = dict(zip(TOLD, map(list, told), strict=True))
        new |= {event_id for (event_id,) in db.run(INSERT(gateway=gateway, door=door.value, **arrays))[0]}
    return new


def claim(db: Database, gateway: str, lease_s: float, event_id: str | None = None) -> list[GatewayEvent]:
    """Lease an event that is due (this one, if it is due, with `event_id`), and the other events of its payment that wait."""
    claimed = CLAIM_DUE if event_id is None else CLAIM_ONE
    named = {} if event_id is None else {"event_id": event_id}
    return [GatewayEvent(*row) for row in db.run(claimed(gateway=gateway, lease_s=lease_s, **named))[0]]


def payment_of(db: Database, gateway: str, payment_intent_id: str | None, payment_id: UUID | None) -> Payment | None:
    """Return the payment that an event with these ids is about, whoever's it is."""
    found = db.run(FIND(gateway=gateway, payment_intent_id=payment_intent_id, payment_id=payment_id))[0]
    return rows.payment_of(found[0]) if found else None


# Statistics of normal life are right here: few operations have no outcome.
NAMELESS = Statement("""
    SELECT EXISTS (SELECT FROM operations JOIN payments USING (payment_id)
        WHERE outcome IS NULL AND kind = 'process' AND gateway = :gateway AND payment_intent_id IS NULL
          AND operations.created_at <= :moment)
""")


def has_nameless(db: Database, gateway: str, moment: datetime) -> bool:
    """Return whether the gateway may have had, at that moment, a payment of ours under an intent that we do not know yet."""
    return bool(db.run(NAMELESS(gateway=gateway, moment=moment))[0][0][0])


def note(db: Database, gateway: str, events: Sequence[GatewayEvent], outcome: EventOutcome) -> int:
    """Write the outcome down. LATER is written of what has waited for a day; the others are tried again.

    Returns how many have their outcome now. An event that somebody else has claimed since then is left alone.
    """
    told = {"event_ids": [event.event_id for event in events], "attempts": [event.attempt for event in events]}
    is_later = outcome is EventOutcome.LATER
    waits_s = [WAITS_S[min(event.attempt, len(WAITS_S)) - 1] if is_later else None for event in events]
    noted = db.run(NOTE(gateway=gateway, outcome=outcome.value, waits_s=waits_s, **told))[0]
    return sum(written is not None for (written,) in noted)


def begin_pull(db: Database, gateway: str, overlap_s: float, longest_s: float) -> tuple[datetime, datetime, datetime | None]:
    """Begin a pull, or go on with one that was not finished. Returns when it began, and the moments between which the gateway is
    asked: from the last pull on, or from now, if there was none, less the overlap, and up to what is in the inbox already."""
    return tuple(db.run(BEGIN_PULL(gateway=gateway, overlap_s=overlap_s, longest_s=longest_s))[0][0])


def read_to(db: Database, gateway: str, begun_at: datetime, moment: datetime) -> None:
    """Note that the pull's events down to this moment of the gateway's clock are in the inbox."""
    db.run(READ_TO(gateway=gateway, begun_at=begun_at, moment=moment))


def pulled(db: Database, gateway: str, begun_at: datetime) -> None:
    """Note that all the pull's events are in the inbox."""
    db.run(PULLED(gateway=gateway, begun_at=begun_at))


def prune(db: Database) -> None:
    """Delete what was handled more than KEEP_DAYS ago."""
    db.run(PRUNE())
