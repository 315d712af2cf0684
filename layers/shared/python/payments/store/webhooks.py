"""Webhooks: an owner's endpoints, what is still to be sent there, and how it went. Migration 036 writes the deliveries."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from uuid import UUID

from payments.domain.events import Event
from payments.store.connection import Bound, Database, Statement
from payments.store.outbox import EVENT_COLUMNS
from payments.store.rows import columns

MOST = 10
"""Webhooks of an owner. Two that register at once may pass it by one."""

COUNTED = 1000
"""So many deliveries of a webhook are counted; more tell an owner nothing more."""

KEEP_DAYS = 30
"""So long a delivery is kept that was given up, whose webhook is disabled, or was deleted. The event itself goes sooner."""

FIRST_S, LONGEST_S, GIVE_UP_H, GIVE_UP_ATTEMPTS = 5, 4 * 3600, 24, 12
"""A delivery is tried for a day, as Standard Webhooks advises: 5 s, 20 s, 80 s, 5 min, 21 min, 85 min and then 4 h after the
attempt before. What waited in an outage may be older at its first attempt, so it has to have had the attempts of a day too."""

LONGEST_PAUSE_S, DISABLE_DAYS = 3600, 3
"""A webhook that fails is asked each hour at least. One that takes nothing for three days, a weekend and a day, has nobody who
looks after it."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """`event_types` None stands for all. `waiting` and `failed` count its deliveries, up to COUNTED."""

    webhook_id: UUID
    url: str
    description: str | None
    event_types: list[str] | None
    created_at: datetime
    previous_until: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    last_error: str | None
    waiting: int
    failed: int


# The comparison leads to the index of those that failed, also when statistics of better days say that nothing waits beside them.
_COUNT = """(SELECT count(*) FROM (
                SELECT FROM webhook_deliveries WHERE webhook_id = webhooks.webhook_id AND {} LIMIT :most) counted)"""
WEBHOOKS = f"""
    SELECT {columns([each.name for each in fields(Webhook)[:-2]])},
           {_COUNT.format("failed_at IS NULL")}, {_COUNT.format("failed_at > '-infinity'")}
    FROM webhooks WHERE owner = :owner
"""
ALL = Statement(f"{WEBHOOKS} ORDER BY created_at, webhook_id")
ONE = Statement(f"{WEBHOOKS} AND webhook_id = :webhook_id")
# A second sending of these finds its own row, and changes nothing.
CREATE = Statement("""
    INSERT INTO webhooks (webhook_id, owner, url, description, event_types, secret, created_at, next_attempt_at)
    SELECT :webhook_id::uuid, :owner::text, :url, :description, :event_types::text[], :secret, now(), now()
    WHERE (SELECT count(*) FROM webhooks WHERE owner = :owner) < :most
    ON CONFLICT DO NOTHING
""")
ROTATE = Statement("""
    UPDATE webhooks SET secret = :secret, previous_secret = secret, previous_until = now() + make_interval(secs => :overlap_s)
    WHERE webhook_id = :webhook_id AND owner = :owner AND secret <> :secret
""")
# What is on its way keeps its lease. The rest of more than 5000 that failed wait for their time.
ENABLE = Statement("""
    WITH enabled AS (
        UPDATE webhooks
        SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL, last_error = NULL, next_attempt_at = now()
        WHERE webhook_id = :webhook_id AND owner = :owner RETURNING webhook_id
    )
    UPDATE webhook_deliveries SET next_attempt_at = now() WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM webhook_deliveries AS one WHERE webhook_id = (SELECT webhook_id FROM enabled)
          AND failed_at IS NULL AND next_attempt_at > now() AND COALESCE(lease_until < now(), true)
        ORDER BY next_attempt_at LIMIT 5000 FOR UPDATE SKIP LOCKED))
""")
DELETE = Statement("DELETE FROM webhooks WHERE webhook_id = :webhook_id AND owner = :owner RETURNING webhook_id")

# A delivery that is on its way keeps its lease, so that it is not sent twice at a time.
_AGAIN = """
    INSERT INTO webhook_deliveries (webhook_id, payment_id, sequence, created_at, next_attempt_at)
    SELECT webhook_id, payment_id, sequence, now(), now()
    FROM told JOIN payments USING (payment_id) JOIN webhooks USING (owner)
    WHERE webhook_id = :webhook_id AND owner = :owner AND (event_types IS NULL OR type = ANY (event_types))
    ON CONFLICT (webhook_id, payment_id, sequence)
    DO UPDATE SET created_at = now(), attempt = 0, next_attempt_at = GREATEST(now(), webhook_deliveries.lease_until),
        failed_at = NULL, last_error = NULL
    RETURNING payment_id
"""
AGAIN = Statement(f"WITH told AS (SELECT payment_id, sequence, type FROM outbox WHERE event_id = :event_id) {_AGAIN}")
# The range is that of all owners' events, so a call looks at a bounded number of them and says where the next one goes on.
RANGE_AGAIN = Statement(f"""
    WITH told AS (
        SELECT payment_id, sequence, type, outbox.created_at AS at FROM outbox
        WHERE outbox.created_at >= :from_time AND outbox.created_at < :to_time ORDER BY outbox.created_at LIMIT :most
    ), again AS ({_AGAIN})
    SELECT (SELECT count(*) FROM again), CASE WHEN count(*) = :most THEN max(at) END FROM told
""")


def webhooks(db: Database, owner: str) -> list[Webhook]:
    """Return the owner's webhooks, oldest first."""
    return [Webhook(*row) for row in db.run(ALL(owner=owner, most=COUNTED))[0]]


def webhook(db: Database, owner: str, webhook_id: UUID, *changes: Bound) -> Webhook | None:
    """Return a webhook, after changes in the same transaction."""
    rows = db.run(*changes, ONE(owner=owner, webhook_id=webhook_id, most=COUNTED))[-1]
    return Webhook(*rows[0]) if rows else None


def create(db: Database, owner: str, webhook_id: UUID, secret: str, **told: object) -> Webhook | None:
    """Register a webhook with what the owner `told`. Returns None when the owner has one at this URL, or MOST of them."""
    made = CREATE(owner=owner, webhook_id=webhook_id, secret=secret, most=MOST, **told)
    return webhook(db, owner, webhook_id, made)


def rotate(db: Database, owner: str, webhook_id: UUID, secret: str, overlap_s: float) -> Webhook | None:
    """Give it a new secret. The one before signs beside it for `overlap_s`, and any older one no more."""
    return webhook(db, owner, webhook_id, ROTATE(owner=owner, webhook_id=webhook_id, secret=secret, overlap_s=overlap_s))


def enable(db: Database, owner: str, webhook_id: UUID) -> Webhook | None:
    """Let the courier ask it at once, whatever was before."""
    return webhook(db, owner, webhook_id, ENABLE(owner=owner, webhook_id=webhook_id))


def delete(db: Database, owner: str, webhook_id: UUID) -> bool:
    """Delete a webhook. Returns whether there was one."""
    [rows], resent = db.send(DELETE(owner=owner, webhook_id=webhook_id))
    return bool(rows) or resent


def deliver_again(db: Database, owner: str, webhook_id: UUID, event_id: UUID) -> int:
    """Return 1, or 0 when the webhook is told no such event, or the outbox keeps it no longer."""
    return len(db.run(AGAIN(owner=owner, webhook_id=webhook_id, event_id=event_id))[0])


def deliver_range_again(
    db: Database, owner: str, webhook_id: UUID, from_time: datetime, to_time: datetime, most: int
) -> tuple[int, datetime | None]:
    """Return how many events of [from_time, to_time) are to be sent again, and the moment to go on from after `most` events of
    all owners, if there are more."""
    again = RANGE_AGAIN(owner=owner, webhook_id=webhook_id, from_time=from_time, to_time=to_time, most=most)
    return tuple(db.run(again)[0][0])


# A claim takes of each webhook the earliest delivery of each payment, so that a payment's events stay in order. No more than
# `at_once` are on their way to one, and `of_owner` to those of an owner: slow ones cannot take all places. One that fails is
# asked with a single delivery. If there are more than `limit`, those go first whose owner has the fewest on their way, and then
# chance decides, so that no webhook always comes last. Of these alone the rows are locked.
CLAIM = Statement(f"""
    WITH asked AS (
        SELECT webhooks.*, leased, sum(leased) OVER (PARTITION BY owner) AS leased_of_owner
        FROM webhooks CROSS JOIN LATERAL (
            SELECT count(*) AS leased FROM webhook_deliveries WHERE webhook_id = webhooks.webhook_id AND lease_until > now()
        ) counted
    ), due_now AS (
        SELECT delivery.*, leased_of_owner + row_number() OVER (PARTITION BY owner ORDER BY random()) AS place
        FROM asked CROSS JOIN LATERAL (
            SELECT webhook_id, payment_id, sequence FROM webhook_deliveries AS one
            WHERE webhook_id = asked.webhook_id AND failed_at IS NULL AND next_attempt_at <= now() AND NOT EXISTS (
                SELECT FROM webhook_deliveries AS before
                WHERE before.webhook_id = one.webhook_id AND before.payment_id = one.payment_id
                  AND before.sequence < one.sequence AND before.failed_at IS NULL)
            ORDER BY next_attempt_at
            LIMIT GREATEST(0, CASE WHEN asked.failing_since IS NULL THEN :at_once::integer ELSE 1 END - asked.leased)
        ) delivery
        WHERE disabled_at IS NULL AND next_attempt_at <= now()
    ), picked AS (
        SELECT * FROM due_now WHERE place <= :of_owner ORDER BY place, random() LIMIT :limit
    ), due AS (
        SELECT one.webhook_id, one.payment_id, one.sequence
        FROM picked JOIN webhook_deliveries AS one USING (webhook_id, payment_id, sequence)
        WHERE failed_at IS NULL AND next_attempt_at <= now() FOR UPDATE OF one SKIP LOCKED
    ), claimed AS (
        UPDATE webhook_deliveries AS one SET attempt = attempt + 1,
            lease_until = now() + make_interval(secs => :lease_s), next_attempt_at = now() + make_interval(secs => :lease_s)
        FROM due WHERE (one.webhook_id, one.payment_id, one.sequence) = (due.webhook_id, due.payment_id, due.sequence)
        RETURNING one.webhook_id, one.payment_id, one.sequence, attempt
    )
    SELECT webhook_id, claimed.payment_id, claimed.sequence, attempt, url, secret,
           CASE WHEN previous_until > now() THEN previous_secret END, {EVENT_COLUMNS}
    FROM claimed JOIN webhooks USING (webhook_id)
    LEFT JOIN outbox ON outbox.payment_id = claimed.payment_id AND outbox.sequence = claimed.sequence
""")
DELIVERED = Statement("""
    WITH delivered AS (
        DELETE FROM webhook_deliveries AS one
        USING unnest(:webhook_ids::uuid[], :payment_ids::uuid[], :sequences::integer[]) AS sent (webhook_id, payment_id, sequence)
        WHERE (one.webhook_id, one.payment_id, one.sequence) = (sent.webhook_id, sent.payment_id, sent.sequence)
    )
    UPDATE webhooks SET failing_since = NULL, last_error = NULL, next_attempt_at = now()
    WHERE webhook_id = ANY (:webhook_ids) AND failing_since IS NOT NULL
""")
# The waits of a delivery grow fourfold with each attempt. Those of its webhook are half of the time that it has been failing for.
# Chance stretches both by up to a fifth, so that what failed together does not come back together. A delivery is given up when it
# is old and was tried often although its webhook took others in the last hours. What waits for one that takes none is kept until
# that is enabled. A webhook that was asked nothing for hours, because nothing was due, has not failed meanwhile.
_SINCE = f"""CASE WHEN webhooks.next_attempt_at > now() - interval '{GIVE_UP_H / 2} hours'
                THEN COALESCE(failing_since, now()) ELSE now() END"""
FAILED = Statement(f"""
    WITH failed AS (
        UPDATE webhook_deliveries AS one SET lease_until = NULL, last_error = :error,
            next_attempt_at = now() + make_interval(secs => LEAST({FIRST_S} * 4 ^ LEAST(attempt - 1, 20), {LONGEST_S})
                                                            * (1 + random() / 5)),
            failed_at = CASE WHEN :is_lost OR attempt >= {GIVE_UP_ATTEMPTS}
                AND one.created_at < now() - interval '{GIVE_UP_H} hours'
                AND COALESCE(failing_since > now() - interval '{GIVE_UP_H / 2} hours', true) THEN now() END
        FROM webhooks WHERE webhooks.webhook_id = one.webhook_id
          AND (one.webhook_id, payment_id, sequence, attempt) = (:webhook_id, :payment_id, :sequence, :attempt)
        RETURNING failed_at
    ), webhook AS (
        UPDATE webhooks SET last_error = :error, failing_since = {_SINCE},
            next_attempt_at = now() + make_interval(secs => (1 + random() / 5) * GREATEST({FIRST_S}, LEAST({LONGEST_PAUSE_S},
                EXTRACT(EPOCH FROM now() - {_SINCE}) / 2))),
            disabled_at = CASE WHEN :is_gone OR {_SINCE} < now() - interval '{DISABLE_DAYS} days' THEN now() END,
            disabled_reason = CASE WHEN :is_gone THEN 'gone' WHEN {_SINCE} < now() - interval '{DISABLE_DAYS} days'
                THEN 'failing' END
        WHERE webhook_id = :webhook_id AND disabled_at IS NULL AND NOT :is_lost
        RETURNING disabled_at
    )
    SELECT EXISTS (SELECT FROM failed WHERE failed_at IS NOT NULL), EXISTS (SELECT FROM webhook WHERE disabled_at IS NOT NULL)
""")
ANY_ENABLED = Statement("SELECT EXISTS (SELECT FROM webhooks WHERE disabled_at IS NULL)")
PRUNE = Statement("""
    DELETE FROM webhook_deliveries WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM webhook_deliveries
        WHERE created_at < now() - make_interval(days => :keep_days) AND COALESCE(lease_until < now(), true)
        ORDER BY created_at LIMIT 5000))
""")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to send an event. `event` is None when the outbox keeps it no longer. `previous_secret` signs too, if given."""

    webhook_id: UUID
    payment_id: UUID
    sequence: int
    attempt: int
    url: str
    secret: str = field(repr=False)
    previous_secret: str | None = field(repr=False)
    event: Event | None = field(repr=False)


def claim(db: Database, limit: int, at_once: int, of_owner: int, lease_s: float) -> list[Delivery]:
    """Lease up to `limit` deliveries that are due. Of each webhook `at_once` are on their way at most, of an owner `of_owner`."""
    rows = db.run(CLAIM(limit=limit, at_once=at_once, of_owner=of_owner, lease_s=lease_s))[0]
    return [Delivery(*[*row[:7], Event(*row[7:]) if row[7] else None]) for row in rows]


def delivered(db: Database, sent: Sequence[Delivery]) -> None:
    ids, payments, sequences = zip(*((one.webhook_id, one.payment_id, one.sequence) for one in sent), strict=True)
    db.run(DELIVERED(webhook_ids=list(ids), payment_ids=list(payments), sequences=list(sequences)))


def failed(db: Database, one: Delivery, error: str, *, is_gone: bool) -> tuple[bool, bool]:
    """Note the failure. Returns whether the delivery is given up, and whether its webhook is disabled now."""
    return tuple(db.run(FAILED(one, error=error, is_gone=is_gone, is_lost=one.event is None))[0][0])


def any_enabled(db: Database) -> bool:
    return bool(db.run(ANY_ENABLED())[0][0][0])


def prune(db: Database) -> None:
    """Delete what is older than KEEP_DAYS."""
    db.run(PRUNE(keep_days=KEEP_DAYS))
