"""Webhooks: an owner's endpoints, what is still to be sent there, and how it went. Migration 036 writes the deliveries."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from uuid import UUID

from payments.domain.errors import ServiceUnavailable
from payments.domain.events import Event
from payments.domain.times import DAY_S
from payments.store.connection import Bound, Database, Statement
from payments.store.outbox import EVENT_COLUMNS
from payments.store.rows import columns

MOST = 10
"""Webhooks of an owner. Two that register at once may pass it by one."""

COUNTED = 1000
"""The most deliveries of a webhook that are counted. A higher number would tell its owner nothing more."""

KEEP_DAYS = 30
"""A delivery that was given up, or whose webhook is disabled, is kept until this long after it was made or asked for again. The
event itself goes sooner."""

PRUNED = 5000
"""The most deliveries that are deleted at once."""

DELETED, DELETIONS = 500, 100
"""Deleting a webhook deletes 500 of its deliveries at a time, and holds the webhook meanwhile (4 ms). One request does that at
most 100 times (2 s on a busy machine)."""

FIRST_S, LONGEST_S, GIVE_UP_H, GIVE_UP_ATTEMPTS = 5, 4 * 3600, 24, 12
"""A delivery is tried for a day, as Standard Webhooks advises: 5 s, 20 s, 80 s, 5 min, 21 min, 85 min and then 4 h after the
attempt before. What waited in an outage may be older at its first attempt, so it has to have had the attempts of a day too."""

BEHIND_S, LOOKED_AT = DAY_S, 64
"""A delivery behind an earlier one of its payment is not due until that one has arrived or is given up. If nobody sets it free
then, it is due after a day. A claim looks at 64 due deliveries of a webhook at most."""

SLOW_S, SLOW_FOR_S = 2, 600
"""A webhook is slow for 10 minutes after an attempt that took over 2 s, until 10 minutes after its first success, and while an
attempt to it hangs for over 2 s. It stays slow until its next attempt has ended."""

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
# What is on its way keeps its lease, and what is behind another one its place. What failed and is not among the first 5000 waits
# for its time. It comes before ENABLE, in a transaction of its own: the courier waits for whoever holds a webhook, and for nobody
# who holds deliveries.
MAKE_DUE = Statement("""
    UPDATE webhook_deliveries SET next_attempt_at = now() WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM webhook_deliveries WHERE attempt > 0 AND COALESCE(lease_until < now(), true) AND ctid = ANY (ARRAY(
            SELECT ctid FROM webhook_deliveries AS one
            WHERE webhook_id = (SELECT webhook_id FROM webhooks WHERE webhook_id = :webhook_id AND owner = :owner FOR KEY SHARE)
              AND failed_at IS NULL AND next_attempt_at > now() ORDER BY next_attempt_at LIMIT 5000))
        FOR UPDATE SKIP LOCKED))
""")
ENABLE = Statement("""
    UPDATE webhooks
    SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL, last_error = NULL, next_attempt_at = now()
    WHERE webhook_id = :webhook_id AND owner = :owner
""")
# A webhook goes with what waits for it, or whoever registers, asks for a range and deletes, again and again, would make more than
# the courier prunes. HOLD waits for the requests that make or hold deliveries (FOR KEY SHARE), and DELETE then sees these. What
# the courier holds, or a settle is writing, is pruned later.
HOLD = Statement("SELECT webhook_id FROM webhooks WHERE webhook_id = :webhook_id AND owner = :owner FOR UPDATE")
DELETE = Statement(f"""
    WITH waiting AS (
        SELECT ctid FROM webhook_deliveries
        WHERE webhook_id = (SELECT webhook_id FROM webhooks WHERE webhook_id = :webhook_id AND owner = :owner)
        LIMIT {DELETED} FOR UPDATE SKIP LOCKED
    ), deleted AS (
        DELETE FROM webhook_deliveries WHERE ctid = ANY (ARRAY(SELECT ctid FROM waiting))
    )
    DELETE FROM webhooks WHERE webhook_id = :webhook_id AND owner = :owner AND (SELECT count(*) FROM waiting) < {DELETED}
    RETURNING webhook_id
""")

_WEBHOOK = "webhook AS (SELECT * FROM webhooks WHERE webhook_id = :webhook_id AND owner = :owner FOR KEY SHARE)"
# A delivery that is on its way keeps its lease, so that it is not sent twice at a time.
_AGAIN = """
    INSERT INTO webhook_deliveries (webhook_id, payment_id, sequence, created_at, next_attempt_at)
    SELECT webhook_id, payment_id, sequence, now(), now()
    FROM told JOIN payments USING (payment_id) JOIN webhook USING (owner)
    WHERE event_types IS NULL OR type = ANY (event_types)
    ON CONFLICT (webhook_id, payment_id, sequence)
    DO UPDATE SET created_at = now(), attempt = 0, next_attempt_at = GREATEST(now(), webhook_deliveries.lease_until),
        failed_at = NULL, last_error = NULL
    RETURNING payment_id
"""
_TOLD = "told AS (SELECT payment_id, sequence, type FROM outbox WHERE event_id = :event_id)"
AGAIN = Statement(f"WITH {_WEBHOOK}, {_TOLD} {_AGAIN}")
# A settle writes its event at the moment that it notes on the operation, and whatever else writes one, at the moment that the
# history notes. So we find the owner's events by these two, and the moment to go on from tells nothing of others' events. OFFSET
# keeps the index of all owners' events by time out of the plan.
RANGE_AGAIN = Statement(f"""-- range_again
    WITH {_WEBHOOK}, moments AS (
        SELECT * FROM (
            (SELECT payment_id, settled_at AS moment FROM operations
             WHERE owner = :owner AND settled_at >= :from_time AND settled_at < :to_time ORDER BY settled_at LIMIT :most)
            [[UNION
            (SELECT payment_id, told_at FROM payment_status_history
             WHERE owner = :owner AND told_at >= :from_time AND told_at < :to_time ORDER BY told_at LIMIT :most)]]
        ) either ORDER BY moment LIMIT :most
    ), told AS (
        SELECT payment_id, sequence, type FROM (SELECT DISTINCT payment_id FROM moments) paid CROSS JOIN LATERAL (
            SELECT sequence, type, created_at FROM outbox WHERE payment_id = paid.payment_id OFFSET 0
        ) event
        WHERE created_at >= :from_time AND created_at < :to_time AND created_at <= (SELECT max(moment) FROM moments)
    ), again AS ({_AGAIN})
    SELECT (SELECT count(*) FROM again), CASE WHEN count(*) = :most THEN max(moment) END FROM moments
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
    db.run(MAKE_DUE(owner=owner, webhook_id=webhook_id))
    return webhook(db, owner, webhook_id, ENABLE(owner=owner, webhook_id=webhook_id))


def delete(db: Database, owner: str, webhook_id: UUID, most: int = DELETIONS) -> bool:
    """Delete a webhook and what waits for it. Returns whether there was one. Raises ServiceUnavailable if more waits than `most`
    batches, which take seconds: the next request goes on."""
    named = {"owner": owner, "webhook_id": webhook_id}
    for _ in range(most):
        (found, deleted), resent = db.send(HOLD(**named), DELETE(**named))
        if deleted or not found:
            return bool(found) or resent
    raise ServiceUnavailable("Much waits for this webhook and is being deleted; try again.", retry_after_s=1)


def deliver_again(db: Database, owner: str, webhook_id: UUID, event_id: UUID) -> int:
    """Return 1, or 0 when the webhook is told no such event, or the outbox keeps it no longer."""
    return len(db.run(AGAIN(owner=owner, webhook_id=webhook_id, event_id=event_id))[0])


def deliver_range_again(
    db: Database, owner: str, webhook_id: UUID, from_time: datetime, to_time: datetime, most: int
) -> tuple[int, datetime | None]:
    """Return how many events of [from_time, to_time) are to be sent again, and the moment to go on from after `most` of the
    owner's, if there are more."""
    again = RANGE_AGAIN(owner=owner, webhook_id=webhook_id, from_time=from_time, to_time=to_time, most=most)
    return tuple(db.run(again)[0][0])


# Conditions on rows that are found by their key are such that the index of what is due does not fit, see outbox.UNPUBLISHED.
_NOT_GIVEN_UP = "COALESCE({}.failed_at, 'infinity') = 'infinity'"
_EARLIER = f"""SELECT sequence FROM webhook_deliveries AS before
            WHERE before.webhook_id = one.webhook_id AND before.payment_id = one.payment_id
              AND before.sequence < one.sequence AND {_NOT_GIVEN_UP.format("before")}"""
_DUE = f"""SELECT webhook_id, payment_id, sequence FROM webhook_deliveries
            WHERE webhook_id = webhook.webhook_id AND failed_at IS NULL AND next_attempt_at <= now()
            ORDER BY next_attempt_at LIMIT {LOOKED_AT}"""
# Each claim would read what is due behind an earlier delivery of its payment. So its time is put off, once: whatever ends the
# one before it sets it free (NEXT). We hold that one first, so that it cannot end unseen: who ends it waits for us, and then
# sees what we did (DELIVERED), or does not end it yet (FAILED). What is behind one that is just ending we leave alone and
# unlocked, and look again at the next claim. KEY SHARE is in the way of an end alone, and not of a claim or of NEXT, which skip
# what is locked.
PUT_OFF = Statement(f"""
    WITH seen AS (
        SELECT one.*, earlier.sequence AS earlier
        FROM webhooks AS webhook CROSS JOIN LATERAL ({_DUE}) one
        CROSS JOIN LATERAL ({_EARLIER} ORDER BY sequence DESC LIMIT 1) earlier
        WHERE disabled_at IS NULL AND next_attempt_at <= now()
    ), held AS (
        SELECT seen.* FROM seen JOIN webhook_deliveries AS before
          ON (before.webhook_id, before.payment_id, before.sequence) = (seen.webhook_id, seen.payment_id, seen.earlier)
        WHERE {_NOT_GIVEN_UP.format("before")} FOR KEY SHARE OF before SKIP LOCKED
    ), behind AS (
        SELECT one.webhook_id, one.payment_id, one.sequence
        FROM held JOIN webhook_deliveries AS one USING (webhook_id, payment_id, sequence)
        WHERE next_attempt_at <= now() AND {_NOT_GIVEN_UP.format("one")} FOR NO KEY UPDATE OF one SKIP LOCKED
    )
    UPDATE webhook_deliveries AS one SET next_attempt_at = now() + make_interval(secs => {BEHIND_S} * (1 + random() / 5))
    FROM behind WHERE (one.webhook_id, one.payment_id, one.sequence) = (behind.webhook_id, behind.payment_id, behind.sequence)
    RETURNING 1
""")
# A claim takes of each webhook the earliest delivery of each payment, so that a payment's events stay in order. No more than
# `at_once` are on their way to one. One that fails is asked with a single delivery. Slow ones get `slow` places together, and
# of their places and of the quick ones' an owner gets `of_owner` each. Those that began to hang just now count with the quick
# ones, or an owner's would take `of_owner` places anew every SLOW_S. If there are more than `limit`, those go first whose owner
# has the fewest on their way, and then chance decides, so that no webhook always comes last. Of these alone the rows are locked.
# OFFSET makes PostgreSQL look each earlier one up. With the statistics of a quiet hour it would compare each with all others.
CLAIM = Statement(f"""
    WITH asked AS (
        SELECT webhook.*, leased, is_slow, sum(leased) OVER (PARTITION BY owner, slow_until > now()) AS leased_of_owner
        FROM webhooks AS webhook CROSS JOIN LATERAL (
            SELECT count(*) AS leased, slow_until > now()
                OR COALESCE(min(lease_until) < now() + make_interval(secs => :lease_s::float8 - {SLOW_S}), false) AS is_slow
            FROM webhook_deliveries WHERE webhook_id = webhook.webhook_id AND lease_until > now()
        ) counted
    ), due_now AS (
        SELECT delivery.*, is_slow, leased_of_owner + row_number() OVER (PARTITION BY owner, is_slow ORDER BY random()) AS place
        FROM asked AS webhook CROSS JOIN LATERAL (
            SELECT one.* FROM ({_DUE}) one WHERE NOT EXISTS ({_EARLIER} OFFSET 0)
            LIMIT GREATEST(0, CASE WHEN webhook.failing_since IS NULL THEN :at_once::integer ELSE 1 END - webhook.leased)
        ) delivery
        WHERE disabled_at IS NULL AND next_attempt_at <= now()
    ), in_turn AS (
        SELECT *, row_number() OVER (PARTITION BY is_slow ORDER BY place, random()) AS turn FROM due_now WHERE place <= :of_owner
    ), picked AS (
        SELECT * FROM in_turn WHERE NOT is_slow OR turn <= :slow ORDER BY place, random() LIMIT :limit
    ), due AS (
        SELECT one.webhook_id, one.payment_id, one.sequence, is_slow
        FROM picked JOIN webhook_deliveries AS one USING (webhook_id, payment_id, sequence)
        WHERE next_attempt_at <= now() AND {_NOT_GIVEN_UP.format("one")} FOR NO KEY UPDATE OF one SKIP LOCKED
    ), claimed AS (
        UPDATE webhook_deliveries AS one SET attempt = attempt + 1,
            lease_until = now() + make_interval(secs => :lease_s), next_attempt_at = now() + make_interval(secs => :lease_s)
        FROM due WHERE (one.webhook_id, one.payment_id, one.sequence) = (due.webhook_id, due.payment_id, due.sequence)
        RETURNING one.webhook_id, one.payment_id, one.sequence, attempt, is_slow
    )
    SELECT webhook_id, claimed.payment_id, claimed.sequence, attempt, url, secret,
           CASE WHEN previous_until > now() THEN previous_secret END, is_slow, {EVENT_COLUMNS}
    FROM claimed JOIN webhooks USING (webhook_id)
    LEFT JOIN outbox ON outbox.payment_id = claimed.payment_id AND outbox.sequence = claimed.sequence
""")
# What its owner asks for again stays, and is sent again when its lease ends: whoever notes attempts waits for no owner. Another
# claim may hold a delivery for a moment as well. It locks what it saw, and finds then what has become of it.
DELIVERED = Statement(f"""
    WITH sent AS (
        SELECT one.ctid, webhook_id, payment_id, sequence, attempt
        FROM unnest(:webhook_ids::uuid[], :payment_ids::uuid[], :sequences::integer[], :attempts::integer[])
            AS sent (webhook_id, payment_id, sequence, attempt)
        JOIN webhook_deliveries AS one USING (webhook_id, payment_id, sequence, attempt)
    ), free AS (
        SELECT one.ctid FROM sent JOIN webhook_deliveries AS one USING (webhook_id, payment_id, sequence, attempt)
        FOR NO KEY UPDATE OF one SKIP LOCKED
    ), delivered AS (
        DELETE FROM webhook_deliveries WHERE ctid = ANY (ARRAY(SELECT ctid FROM free))
    ), webhook AS (
        UPDATE webhooks SET failing_since = NULL, last_error = NULL, next_attempt_at = now(),
            slow_until = CASE WHEN slow_until = 'infinity' OR webhook_id = ANY (:slow_ids)
                THEN now() + interval '{SLOW_FOR_S} s' ELSE slow_until END
        WHERE webhook_id = ANY (:webhook_ids)
          AND (failing_since IS NOT NULL OR slow_until = 'infinity' OR webhook_id = ANY (:slow_ids::uuid[]))
    )
    SELECT webhook_id, payment_id, sequence FROM sent WHERE ctid <> ALL (ARRAY(SELECT ctid FROM free))
""")
# The deliveries after these, unless these still wait. It is a statement of its own, so that it sees what those who held them did.
NEXT = Statement(f"""
    WITH next AS (
        SELECT one.webhook_id, one.payment_id, one.sequence
        FROM unnest(:webhook_ids::uuid[], :payment_ids::uuid[], :sequences::integer[]) AS ended (webhook_id, payment_id, sequence)
        JOIN webhook_deliveries AS one ON (one.webhook_id, one.payment_id) = (ended.webhook_id, ended.payment_id)
          AND one.sequence > ended.sequence AND one.sequence = (
              SELECT min(sequence) FROM webhook_deliveries AS first WHERE first.webhook_id = ended.webhook_id
                AND first.payment_id = ended.payment_id AND first.sequence >= ended.sequence AND {_NOT_GIVEN_UP.format("first")})
        WHERE next_attempt_at > now() AND COALESCE(lease_until < now(), true) AND {_NOT_GIVEN_UP.format("one")}
        FOR NO KEY UPDATE OF one SKIP LOCKED
    )
    UPDATE webhook_deliveries AS one SET next_attempt_at = now()
    FROM next WHERE (one.webhook_id, one.payment_id, one.sequence) = (next.webhook_id, next.payment_id, next.sequence)
""")
# The waits of a delivery grow fourfold with each attempt. Those of its webhook are half of the time that it has been failing for.
# Chance stretches both by up to a fifth, so that what failed together does not come back together. A delivery is given up when it
# is old and was tried often although its webhook took others in the last hours. What waits for one that takes none is kept until
# that is enabled. A webhook that was asked nothing for hours, because nothing was due, has not failed meanwhile.
_SINCE = f"""CASE WHEN webhooks.next_attempt_at > now() - interval '{GIVE_UP_H / 2} hours'
                THEN COALESCE(failing_since, now()) ELSE now() END"""
_PAUSE_S = f"GREATEST({FIRST_S}, LEAST({LONGEST_PAUSE_S}, EXTRACT(EPOCH FROM now() - {_SINCE}) / 2))"
FAILED = Statement(f"""
    WITH sent AS (
        SELECT ctid FROM webhook_deliveries
        WHERE (webhook_id, payment_id, sequence, attempt) = (:webhook_id, :payment_id, :sequence, :attempt)
    ), failed AS (
        UPDATE webhook_deliveries AS one SET lease_until = NULL, last_error = :error,
            next_attempt_at = now() + make_interval(secs => LEAST({FIRST_S} * 4 ^ LEAST(attempt - 1, 20), {LONGEST_S})
                                                            * (1 + random() / 5)),
            failed_at = CASE WHEN :is_lost OR attempt >= {GIVE_UP_ATTEMPTS}
                AND one.created_at < now() - interval '{GIVE_UP_H} hours'
                AND COALESCE(failing_since > now() - interval '{GIVE_UP_H / 2} hours', true) THEN now() END
        FROM webhooks WHERE webhooks.webhook_id = one.webhook_id AND one.ctid = ANY (ARRAY(
            SELECT ctid FROM webhook_deliveries
            WHERE (webhook_id, payment_id, sequence, attempt) = (:webhook_id, :payment_id, :sequence, :attempt)
            FOR UPDATE SKIP LOCKED))
        RETURNING failed_at
    ), webhook AS (
        UPDATE webhooks SET last_error = :error, failing_since = {_SINCE},
            slow_until = CASE WHEN :is_slow THEN now() + make_interval(secs => 2 * {_PAUSE_S} + {SLOW_FOR_S}) ELSE slow_until END,
            next_attempt_at = now() + make_interval(secs => (1 + random() / 5) * {_PAUSE_S}),
            disabled_at = CASE WHEN :is_gone OR {_SINCE} < now() - interval '{DISABLE_DAYS} days' THEN now() END,
            disabled_reason = CASE WHEN :is_gone THEN 'gone' WHEN {_SINCE} < now() - interval '{DISABLE_DAYS} days'
                THEN 'failing' END
        WHERE webhook_id = :webhook_id AND disabled_at IS NULL AND NOT :is_lost AND NOT :is_again
        RETURNING disabled_at
    )
    SELECT EXISTS (SELECT FROM failed WHERE failed_at IS NOT NULL), EXISTS (SELECT FROM webhook WHERE disabled_at IS NOT NULL),
           EXISTS (SELECT FROM sent) AND NOT EXISTS (SELECT FROM failed)
""")
ANY_ENABLED = Statement("SELECT EXISTS (SELECT FROM webhooks WHERE disabled_at IS NULL)")
# What is too old, and what waits for webhooks that were deleted. We look at each webhook that something waits for once.
PRUNE = Statement(f"""
    WITH RECURSIVE owed AS (
        (SELECT webhook_id FROM webhook_deliveries ORDER BY webhook_id LIMIT 1)
        UNION ALL
        SELECT (SELECT webhook_id FROM webhook_deliveries WHERE webhook_id > owed.webhook_id ORDER BY webhook_id LIMIT 1)
        FROM owed WHERE webhook_id IS NOT NULL
    ), old AS (
        (SELECT ctid FROM webhook_deliveries
         WHERE created_at < now() - make_interval(days => :keep_days) AND COALESCE(lease_until < now(), true)
         ORDER BY created_at LIMIT {PRUNED})
        UNION ALL
        (SELECT one.ctid FROM owed CROSS JOIN LATERAL (
             SELECT ctid FROM webhook_deliveries WHERE webhook_id = owed.webhook_id LIMIT {PRUNED}
         ) one WHERE NOT EXISTS (SELECT FROM webhooks WHERE webhook_id = owed.webhook_id) LIMIT {PRUNED})
    ), pruned AS (
        DELETE FROM webhook_deliveries WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) RETURNING 1
    )
    SELECT count(*) >= {PRUNED} FROM pruned
""")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to send an event. `event` is None when the outbox keeps it no longer. `previous_secret` signs too, if given.
    `is_slow` says that it takes a place of the slow ones."""

    webhook_id: UUID
    payment_id: UUID
    sequence: int
    attempt: int
    url: str
    secret: str = field(repr=False)
    previous_secret: str | None = field(repr=False)
    is_slow: bool
    event: Event | None = field(repr=False)


def claim(db: Database, limit: int, slow: int, at_once: int, of_owner: int, lease_s: float) -> tuple[list[Delivery], bool]:
    """Lease up to `limit` deliveries that are due for `lease_s` seconds, at most `slow` of them to slow webhooks. At most
    `at_once` are then on their way to one webhook, `of_owner` to the quick webhooks of one owner, and as many to his slow ones.

    Returns the deliveries, and whether there may be more behind deliveries that were put off just now.
    """
    put_off, rows = db.run(PUT_OFF(), CLAIM(limit=limit, slow=slow, at_once=at_once, of_owner=of_owner, lease_s=lease_s))
    return [Delivery(*[*row[:8], Event(*row[8:]) if row[8] else None]) for row in rows], bool(put_off)


def delivered(db: Database, sent: Sequence[Delivery], slow: Collection[UUID]) -> list[Delivery]:
    """Delete what arrived, and return what somebody holds. Attempts of the webhooks `slow` took longer than SLOW_S."""
    attempts = [one.attempt for one in sent]
    held = db.run(DELIVERED(**_keys(sent), attempts=attempts, slow_ids=list(slow)), NEXT(**_keys(sent)))[0]
    return [one for one in sent if [one.webhook_id, one.payment_id, one.sequence] in held]


def failed(
    db: Database, one: Delivery, error: str, *, is_gone: bool, is_slow: bool, is_again: bool = False
) -> tuple[bool, bool, bool]:
    """Note the failure, and if it `is_again` noted, that of the delivery alone. Returns whether the delivery is given up, whether
    its webhook is disabled now, and whether somebody holds the delivery, so that it keeps its lease."""
    noted = FAILED(one, error=error, is_gone=is_gone, is_slow=is_slow, is_lost=one.event is None, is_again=is_again)
    return tuple(db.run(noted, NEXT(**_keys([one])))[0][0])


def _keys(sent: Sequence[Delivery]) -> dict[str, object]:
    ids, payments, sequences = zip(*((one.webhook_id, one.payment_id, one.sequence) for one in sent), strict=True)
    return {"webhook_ids": list(ids), "payment_ids": list(payments), "sequences": list(sequences)}


def any_enabled(db: Database) -> bool:
    return bool(db.run(ANY_ENABLED())[0][0][0])


def prune(db: Database) -> bool:
    """Delete what is older than KEEP_DAYS or was to go to webhooks that were deleted. Returns whether there may be more."""
    return bool(db.run(PRUNE(keep_days=KEEP_DAYS))[0][0][0])
