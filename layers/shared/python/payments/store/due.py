"""Operations without an outcome: given back until their next attempt, due, or given up; and authorizations that have run out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from payments.domain.operation import GATEWAY_KEY_LIFETIME_S, Operation
from payments.store.claims import ALL_COLUMNS, COLUMN_COUNT, IN_FLIGHT, SIMULATED, Claimed, claimed_in
from payments.store.connection import Database, Row, Statement

# The claim counts the attempt, and a settle names its attempt: a worker whose lease has ended can no longer write. The key has to
# outlive the lease.
_KEY_ENDS_AT = f"COALESCE({{}}operations.created_at + interval '{GATEWAY_KEY_LIFETIME_S} seconds')"


def _claiming(name: str, which: str) -> Statement:
    return Statement(f"""-- {name}
    WITH due AS (
        SELECT operation_id, payment_id, refund_id,
               {_KEY_ENDS_AT.format("[[key_ends_at, ]]")} > now() + make_interval(secs => :lease_s) AS key_lives
        FROM operations WHERE {which} LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE operations
    SET attempt = operations.attempt + 1, lease_until = now() + make_interval(secs => :lease_s),
        next_attempt_at = now() + make_interval(secs => :lease_s)
        [[, attempted_at = operations.attempted_at
                || CASE WHEN key_lives AND (reply ? 'gateway_id') IS NOT TRUE THEN ARRAY[now()] END]]
    FROM due JOIN payments ON payments.payment_id = due.payment_id LEFT JOIN refunds ON refunds.refund_id = due.refund_id
    WHERE operations.operation_id = due.operation_id
    RETURNING {ALL_COLUMNS}, key_lives [[, array_prepend(operations.created_at, operations.attempted_at), payments.gateway,
                                          operations.parameters]]
""")


CLAIM_DUE = _claiming(
    "claim_due",
    """outcome IS NULL AND next_attempt_at <= now()
        ORDER BY next_attempt_at""",
)
# Nothing waits for its schedule here, nor for a person. A void that has taken over a payment's charge settles the charge, too.
CLAIM_OF_PAYMENT = _claiming(
    "claim_of_payment",
    f"""payment_id = :payment_id AND {IN_FLIGHT} AND lease_until <= now()
        AND (reply ? 'taken_by') IS NOT TRUE ORDER BY created_at, operation_id""",
)


def claim_due(db: Database, limit: int, lease_s: float) -> list[Claimed]:
    """Claim operations whose outcome is unknown and whose next attempt is due, one attempt on."""
    return [_due(row) for row in db.run(CLAIM_DUE(limit=limit, lease_s=lease_s))[0]]


def claim_of_payment(db: Database, payment_id: UUID, limit: int, lease_s: float) -> list[Claimed]:
    """Claim the payment's operations whose outcome is unknown and whom nobody works on, one attempt on, oldest first."""
    claimed = [_due(row) for row in db.run(CLAIM_OF_PAYMENT(payment_id=payment_id, limit=limit, lease_s=lease_s))[0]]
    return sorted(claimed, key=lambda one: (one.operation.created_at, one.operation.operation_id))


def _due(row: Row) -> Claimed:
    claimed, (key_lives, *newer) = claimed_in(row), row[COLUMN_COUNT:]
    asked_at, gateway, parameters = newer or ((), SIMULATED, None)
    return replace(claimed, key_lives=key_lives, asked_at=asked_at, gateway=gateway, parameters=parameters)


MOMENTS = "SELECT created_at + make_interval(secs => moment_s) AS moment FROM unnest(:schedule_s::float8[]) AS moment_s"
"""Of an operation's further attempts, by the schedule."""

# The server's clock alone decides which moment of the schedule is next, so a function whose clock is fast skips none. The end of
# the time for the customer is such a moment, and for a day after it each minute is, because the payment has to be canceled. The
# reply keeps what earlier ones said, such as the gateway's name of what it began.
GIVE_BACK = Statement(f"""-- give_back
    UPDATE operations
    SET lease_until = now(), reply = COALESCE(reply, '{{}}') || :recorded::jsonb,
        next_attempt_at = (
            SELECT COALESCE(now() + make_interval(secs => :wait_s::float8), min(moment))
            FROM ({MOMENTS}
                  UNION ALL SELECT CASE WHEN ends_at > now() THEN ends_at ELSE now() + interval '1 minute' END FROM (
                      SELECT (reply ->> 'action_expires_at')::timestamptz AS ends_at) AS action
                  WHERE ends_at > now() - interval '1 day') AS moments
            WHERE moment > now() HAVING count(*) > 0)
        [[, key_ends_at = CASE WHEN :key_is_spent THEN LEAST(key_ends_at, now()) ELSE key_ends_at END]]
    WHERE operation_id = :operation_id AND attempt = :attempt AND {IN_FLIGHT}
    RETURNING next_attempt_at
""")


def give_back(
    db: Database,
    operation: Operation,
    schedule_s: Sequence[float],
    reply: Mapping[str, object],
    wait_s: float | None = None,
    key_is_spent: bool = False,
) -> bool:
    """End the lease. `schedule_s` holds the moments of further attempts, in seconds since the operation was claimed. While there
    is one, `wait_s` may take its place, in seconds from now. After `key_is_spent` no attempt uses the gateway's key any more.

    Returns whether the schedule has no further moment, so that a person has to look.
    """
    recorded = GIVE_BACK(operation, schedule_s=list(schedule_s), recorded=reply, wait_s=wait_s, key_is_spent=key_is_spent)
    return db.run(recorded)[0] == [[None]]


# The given-up operations come first, and then those whose next attempt is furthest, which are old. After a bad day there may be
# millions, and a hundred thousand tell enough.
COUNT_LIMIT = 100_000
UNKNOWN_OUTCOMES = Statement(f"""
    SELECT count(*) FILTER (WHERE next_attempt_at IS NULL AND reply ? 'taken_by' IS NOT TRUE),
           COALESCE(EXTRACT(EPOCH FROM now() - min(COALESCE(ends_at, created_at)) FILTER (WHERE
               reply ? 'gateway_id' IS NOT TRUE
               OR ends_at <= now() AND reply ->> 'result' <> 'pending' AND NOT reply ? 'taken_by')), 0)::float8
    FROM (SELECT created_at, next_attempt_at, reply, (reply ->> 'action_expires_at')::timestamptz AS ends_at
          FROM operations WHERE outcome IS NULL ORDER BY next_attempt_at DESC NULLS FIRST LIMIT {COUNT_LIMIT}) AS unknown
""")


def unknown_outcomes(db: Database) -> tuple[int, float]:
    """Return how many operations reconcile has given up, because their schedule has no further moment, and the age in seconds of
    the oldest operation without an outcome. One that the gateway has accepted and not finished does not count as old. A payment
    that waits for its customer counts from the end of the customer's time on, because it has to be canceled then.

    A person has to settle the given-up ones by hand.
    """
    return tuple(db.run(UNKNOWN_OUTCOMES())[0][0])


# Before migration 051 the column is not there.
_NOTED_END = "(to_jsonb(operations) ->> 'key_ends_at')::timestamptz, "
MAY_BE_SETTLED = Statement(f"""
    SELECT (next_attempt_at IS NULL OR {_KEY_ENDS_AT.format(_NOTED_END)} <= now()) AND lease_until <= now()
           AND reply ? 'taken_by' IS NOT TRUE
    FROM operations WHERE operation_id = :operation_id
""")


def may_be_settled(db: Database, operation_id: UUID) -> bool:
    """Return whether a person may settle the operation, which exists: reconcile moves no money for it any more, and nobody holds
    its lease."""
    return bool(db.run(MAY_BE_SETTLED(operation_id=operation_id))[0][0][0])


# Only an authorization has a `capture_before`. Its status is written so that no index of statuses fits it.
# After a declined void we leave the authorization alone for an hour, so that not each tick calls a gateway that declines it.
# Another gateway's are left alone: they would fill each page, and no run would come to ours. Before migration 050 there was the
# simulated one alone.
RUN_OUT = Statement(f"""
    SELECT owner, transaction_id FROM payments
    WHERE capture_before <= now() AND status || '' = 'AUTHORIZED' AND transaction_id <> ALL(:but::text[])
      AND COALESCE(to_jsonb(payments) ->> 'gateway', '{SIMULATED}') = :gateway
      AND (SELECT bool_or({IN_FLIGHT} OR kind = 'void' AND settled_at > now() - interval '1 hour')
           FROM operations WHERE operations.payment_id = payments.payment_id) IS NOT TRUE
    ORDER BY capture_before LIMIT :limit
""")


def authorizations_run_out(db: Database, gateway: str, limit: int, but: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return (owner, transaction_id) of the gateway's authorizations past their `capture_before` that have no operation in
    flight, `but` these transactions."""
    return [(owner, transaction_id) for owner, transaction_id in db.run(RUN_OUT(gateway=gateway, limit=limit, but=list(but)))[0]]
