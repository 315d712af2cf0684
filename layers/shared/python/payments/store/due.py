"""Operations that are due for another attempt or given up, and authorizations that have run out. Reconcile reads them."""

from collections.abc import Sequence
from uuid import UUID

from payments.settings import GATEWAY_KEY_LIFETIME_S
from payments.store.claims import ALL_COLUMNS, IN_FLIGHT, Claimed, claimed_in
from payments.store.connection import Database, Statement

# The claim counts the attempt, and a settle names its attempt: a worker whose lease has ended can no longer write. An operation
# whose key the gateway may have forgotten leaves the queue here, unclaimed, so that no later claim has to look at it.
CLAIM_DUE = Statement(f"""
    WITH due AS (
        SELECT operation_id, payment_id, refund_id, created_at > now() - make_interval(secs => :key_lifetime_s) AS is_fresh
        FROM operations WHERE outcome IS NULL AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE operations
    SET attempt = operations.attempt + is_fresh::integer,
        lease_until = CASE WHEN is_fresh THEN now() + make_interval(secs => :lease_s) ELSE operations.lease_until END,
        next_attempt_at = CASE WHEN is_fresh THEN now() + make_interval(secs => :lease_s) END
    FROM due JOIN payments ON payments.payment_id = due.payment_id LEFT JOIN refunds ON refunds.refund_id = due.refund_id
    WHERE operations.operation_id = due.operation_id
    RETURNING {ALL_COLUMNS}, is_fresh
""")


def claim_due(db: Database, limit: int, lease_s: float) -> list[Claimed]:
    """Claim operations whose outcome is unknown and whose next attempt is due, one attempt on."""
    while rows := db.run(CLAIM_DUE(limit=limit, lease_s=lease_s, key_lifetime_s=GATEWAY_KEY_LIFETIME_S))[0]:
        if claimed := [claimed_in(row) for row in rows if row[-1]]:
            return claimed
    return []


# Reconcile gives up an operation without an outcome when its schedule has no further moment or when the gateway may have
# forgotten its key. It never repeats such an operation: CLAIM_DUE does not find the first,
# and takes the second out of the queue without an attempt.
_GIVEN_UP = "(next_attempt_at IS NULL OR created_at <= now() - make_interval(secs => :key_lifetime_s))"

# The given-up operations come first, and then those whose next attempt is furthest, which are old. After a bad day there may be
# millions; so many tell enough.
COUNT_LIMIT = 100_000
UNKNOWN_OUTCOMES = Statement(f"""
    SELECT count(*) FILTER (WHERE {_GIVEN_UP}), COALESCE(EXTRACT(EPOCH FROM now() - min(created_at)), 0)::float8
    FROM (SELECT created_at, next_attempt_at FROM operations WHERE outcome IS NULL
          ORDER BY next_attempt_at DESC NULLS FIRST LIMIT {COUNT_LIMIT}) AS unknown
""")


def unknown_outcomes(db: Database) -> tuple[int, float]:
    """Return how many operations reconcile has given up, and the age in seconds of the oldest operation without an outcome.

    A person has to settle the given-up ones by hand.
    """
    return tuple(db.run(UNKNOWN_OUTCOMES(key_lifetime_s=GATEWAY_KEY_LIFETIME_S))[0][0])


GIVEN_UP = Statement(f"SELECT {_GIVEN_UP} AND lease_until <= now() FROM operations WHERE operation_id = :operation_id")


def is_given_up(db: Database, operation_id: UUID) -> bool:
    """Return whether reconcile has given the operation up and no worker holds its lease, so that a person may settle it."""
    return bool(db.run(GIVEN_UP(operation_id=operation_id, key_lifetime_s=GATEWAY_KEY_LIFETIME_S))[0][0][0])


# Only an authorization has a `capture_before`. Its status is written so that no index of statuses fits it.
# After a declined void we leave the authorization alone for an hour, so that not each tick calls a gateway that declines it.
RUN_OUT = Statement(f"""
    SELECT owner, transaction_id FROM payments
    WHERE capture_before <= now() AND status || '' = 'AUTHORIZED' AND transaction_id <> ALL(:but::text[])
      AND (SELECT bool_or({IN_FLIGHT} OR kind = 'void' AND settled_at > now() - interval '1 hour')
           FROM operations WHERE operations.payment_id = payments.payment_id) IS NOT TRUE
    ORDER BY capture_before LIMIT :limit
""")


def authorizations_run_out(db: Database, limit: int, but: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return (owner, transaction_id) of authorizations past their `capture_before` that have no operation in flight, `but` these
    transactions."""
    return [(owner, transaction_id) for owner, transaction_id in db.run(RUN_OUT(limit=limit, but=list(but)))[0]]
