"""The backlog of the outbox, for the relay: claim the events that wait, count them, replay, and let old tables go."""

from datetime import UTC, datetime
from uuid import UUID

from payments.domain.events import Event
from payments.store.connection import Database, Statement
from payments.store.outbox import EVENT_COLUMNS, UNPUBLISHED

EPOCH = datetime.fromtimestamp(0, UTC)
FOLLOWERS = 50
"""The most further events of one payment in a claim, so that a payment with thousands leaves room for others."""

# A head is the oldest waiting event of its payment. A claim takes heads, each with the events that follow it until one that
# another function is sending. It orders by the lease's end, so events that the broker refused come after events that are still
# untried. The join looks at the events of all tables in that order; a plain condition would read a whole table of followers for
# its first head. A run goes on from where its last claim ended: a transaction that is held open somewhere keeps the index
# entries of all that was published since, and each claim would read them again.
CLAIM_UNPUBLISHED = Statement(f"""
    WITH heads AS (
        SELECT head.payment_id, head.sequence, head.lease_until FROM outbox head LEFT JOIN LATERAL (
            SELECT {UNPUBLISHED} AS waits FROM outbox WHERE payment_id = head.payment_id AND sequence = head.sequence - 1 LIMIT 1
        ) before ON true
        WHERE published_at IS NULL AND lease_until BETWEEN :from_time AND now() AND before.waits IS NOT TRUE
        ORDER BY lease_until LIMIT :limit FOR UPDATE OF head SKIP LOCKED
    ), claimed AS (
        SELECT event.event_id, heads.lease_until FROM heads CROSS JOIN LATERAL (
            SELECT event_id, bool_and(lease_until <= now()) OVER (ORDER BY sequence) AS is_free FROM outbox
            WHERE payment_id = heads.payment_id AND sequence BETWEEN heads.sequence AND heads.sequence + :followers
              AND {UNPUBLISHED}
        ) event
        WHERE event.is_free
        LIMIT :limit
    )
    UPDATE outbox SET lease_until = now() + make_interval(secs => :lease_s)
    FROM claimed WHERE outbox.event_id = claimed.event_id
    RETURNING {EVENT_COLUMNS}, claimed.lease_until
""")

# Counting a long backlog takes as long as sending some of it, so we stop at LAG_LIMIT.
LAG_LIMIT = 100_000
LAG = Statement(f"""
    SELECT count(*), COALESCE(EXTRACT(EPOCH FROM now() - min(created_at)), 0)::float8
    FROM (SELECT created_at FROM outbox WHERE published_at IS NULL ORDER BY lease_until LIMIT {LAG_LIMIT}) AS waiting
""")

PUBLISHED_BETWEEN = Statement(f"""
    SELECT {EVENT_COLUMNS} FROM outbox
    WHERE published_at IS NOT NULL AND created_at < :to_time
      AND (created_at, payment_id, sequence) > (:after_time, :after_id, :after_sequence)
    ORDER BY created_at, payment_id, sequence LIMIT :limit
""")

TURN = Statement("SELECT turn_outbox(:keep_days, :week_days)")


def claim_unpublished(db: Database, limit: int, lease_s: float, from_time: datetime = EPOCH) -> tuple[list[Event], datetime]:
    """Lease up to `limit` events that wait and that no function is sending, from those on whose lease ended at `from_time`.

    Returns them ordered by payment and number, and the time to go on from.
    """
    rows = db.run(CLAIM_UNPUBLISHED(limit=limit, lease_s=lease_s, from_time=from_time, followers=FOLLOWERS))[0]
    events = [Event(*row[:-1]) for row in rows]
    return sorted(events, key=lambda event: (event.payment_id, event.sequence)), max((row[-1] for row in rows), default=from_time)


def lag(db: Database) -> tuple[int, float]:
    """Return how many events are unpublished, and the age of the oldest in seconds."""
    return tuple(db.run(LAG())[0][0])


def published_between(db: Database, from_time: datetime, to_time: datetime, after: Event | None, limit: int) -> list[Event]:
    """Return the page of published events that follows the event `after`: oldest first, each payment's in order."""
    time, id_, sequence = (after.created_at, after.payment_id, after.sequence) if after else (from_time, UUID(int=0), -1)
    page = PUBLISHED_BETWEEN(to_time=to_time, after_time=time, after_id=id_, after_sequence=sequence, limit=limit)
    return [Event(*row) for row in db.run(page)[0]]


def turn(db: Database, keep_days: int, week_days: int) -> int:
    """Begin a new table when this one is `week_days` old, and drop those whose events were all published `keep_days` ago.

    It does one of the two in a call. Returns 1 when it did, else 0: also when somebody holds a lock. Raises InternalError before
    migration 009.
    """
    return int(db.run(TURN(keep_days=keep_days, week_days=week_days))[0][0][0])
