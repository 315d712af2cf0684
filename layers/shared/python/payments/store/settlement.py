"""Settling, the third phase of every command: write the outcome, the payment after it and its event, or give the lease back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from payments.domain.events import Event
from payments.domain.operation import Operation
from payments.store.claims import IN_FLIGHT, Claimed
from payments.store.connection import Database, Statement
from payments.store.outbox import WAITS
from payments.store.rows import AGREED, PAYMENT

# Every part depends on `held` and `paid`: the operation must still have our attempt and no outcome, and the payment must have
# the version that `apply` started from. The last column says that the event before this one does not wait; then none does.
SETTLE = Statement(f"""-- settle
    WITH held AS (
        SELECT operation_id FROM operations
        WHERE operation_id = :operation_id AND attempt = :attempt AND {IN_FLIGHT} FOR UPDATE
    ), paid AS (
        UPDATE payments SET
            {", ".join(f"{name} = :{name}" for name in PAYMENT if name not in AGREED)}
        FROM held WHERE payment_id = :payment_id AND version = :version_before RETURNING payment_id
    ), settled AS (
        UPDATE operations SET outcome = :outcome, reply = :reply::jsonb, settled_at = now(), next_attempt_at = NULL
        FROM paid WHERE operation_id = :operation_id RETURNING operation_id
    ), refunded AS (
        UPDATE refunds SET status = :refund_status, decline_code = :refund_decline_code, updated_at = :updated_at
        FROM paid WHERE refund_id = :refund_id::uuid RETURNING refund_id
    ), owed AS (
        INSERT INTO outbox (event_id, payment_id, sequence, type, data, traceparent, created_at, lease_until)
        SELECT :event_id::uuid, payment_id, :event_sequence, :type::text, :data::text, :traceparent::text,
               now(), now() + make_interval(secs => :publish_lease_s)
        FROM paid RETURNING event_id
    )
    SELECT EXISTS (SELECT FROM settled), now(),
           NOT EXISTS (SELECT FROM outbox WHERE payment_id = :payment_id AND sequence = :event_sequence - 1 AND {WAITS})
""")

# The server's clock alone decides which moment of the schedule is next, so a function whose clock is fast skips none.
GIVE_BACK = Statement(f"""
    UPDATE operations
    SET lease_until = now(), reply = :recorded::jsonb,
        next_attempt_at = created_at + make_interval(secs => (
            SELECT min(moment_s) FROM unnest(:schedule_s::float8[]) AS moment_s
            WHERE created_at + make_interval(secs => moment_s) > now()))
    WHERE operation_id = :operation_id AND attempt = :attempt AND {IN_FLIGHT}
    RETURNING next_attempt_at
""")


def settle(db: Database, before: Claimed, after: Claimed, event: Event, publish_lease_s: float) -> tuple[bool, Event | None]:
    """Write outcome, payment, refund and event in one transaction, or nothing when the operation or the payment has changed.

    Returns whether they are written; and the event as stored, unless it has to wait behind an older one of the payment.
    `before` holds the version that must still be there, `after` the attempt, which a settle leaves as it is.
    """
    refund = after.refund
    statement = SETTLE(
        after.payment,
        after.operation,
        event,
        version_before=before.payment.version,
        refund_status=refund.status if refund else None,
        refund_decline_code=refund.decline_code if refund else None,
        publish_lease_s=publish_lease_s,
    )
    done, at, is_next = db.run(statement)[0][0]
    return done, replace(event, created_at=at) if done and is_next else None


def give_back(db: Database, operation: Operation, schedule_s: Sequence[float], reply: Mapping[str, str]) -> bool:
    """End the lease. `schedule_s` holds the moments of further attempts, in seconds since the operation was claimed.

    Returns whether the schedule has no further moment, so that a person has to look.
    """
    return db.run(GIVE_BACK(operation, schedule_s=list(schedule_s), recorded=reply))[0] == [[None]]
