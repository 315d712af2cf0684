"""Settling, the third phase of every command: write the outcome, the payment after it and its event."""

from dataclasses import replace

from payments.domain.events import Event
from payments.store.claims import IN_FLIGHT, Claimed
from payments.store.connection import Bound, Database, Row, Statement
from payments.store.outbox import UNPUBLISHED
from payments.store.rows import AGREED, PAYMENT

CHANGED = ", ".join(f"{name} = :{name}" for name in PAYMENT if name not in AGREED)
"""The payment's columns as `apply` left them."""

# Of the event of a change, whose payment the statement calls `paid`.
OWED = """INSERT INTO outbox (event_id, payment_id, sequence, type, data, traceparent, created_at, lease_until)
        SELECT :event_id::uuid, payment_id, :event_sequence, :type::text, :data::text, :traceparent::text,
               now(), now() + make_interval(secs => :publish_lease_s)
        FROM paid RETURNING event_id"""
WHEN_AND_NEXT = f"""now(),
           NOT EXISTS (SELECT FROM outbox WHERE payment_id = :payment_id AND sequence = :event_sequence - 1 AND {UNPUBLISHED})"""

# Every part depends on `held` and `paid`: the operation must still have our attempt and no outcome, and the payment must have
# the version that `apply` started from. The last column says that the event before this one does not wait; then none does.
SETTLE = Statement(f"""-- settle
    WITH held AS (
        SELECT operation_id FROM operations
        WHERE operation_id = :operation_id AND attempt = :attempt AND {IN_FLIGHT} FOR UPDATE
    ), paid AS (
        UPDATE payments SET
            {CHANGED}
        FROM held WHERE payment_id = :payment_id AND version = :version_before RETURNING payment_id
    ), settled AS (
        UPDATE operations SET outcome = :outcome, reply = :reply::jsonb, settled_at = now(), lease_until = now(),
               next_attempt_at = NULL
        FROM paid WHERE operation_id = :operation_id RETURNING operation_id
    ), refunded AS (
        UPDATE refunds SET status = :refund_status, decline_code = :refund_decline_code, updated_at = :updated_at
            [[, gateway_refund_id = :gateway_refund_id]]
        FROM paid WHERE refund_id = :refund_id::uuid RETURNING refund_id
    ), owed AS (
        {OWED}
    )
    SELECT EXISTS (SELECT FROM settled), {WHEN_AND_NEXT}
""")

# Sent with a settle, in its transaction: an entry in the inbox of the gateway's events, if the outcome is a decline.
LOOK_AFTER = Statement("""
    INSERT INTO gateway_events (gateway, event_id, type, payment_intent_id, payment_id, created_at, door,
                                received_at, next_attempt_at)
    SELECT :gateway, 'declined-' || operation_id, kind || '.declined', payment_intent_id, payment_id, now(), 'decline',
           now(), now()
    FROM operations JOIN payments USING (payment_id) WHERE operation_id = :operation_id AND outcome = 'declined'
    ON CONFLICT DO NOTHING
""")


Written = tuple[bool, Event | None]
"""Whether it was written, and the event as stored, unless it has to wait behind an older one of the payment."""


def written(event: Event, row: Row) -> Written:
    """Return what came of a statement whose row says whether it has written, and then WHEN_AND_NEXT."""
    done, at, is_next = row
    return done, replace(event, created_at=at) if done and is_next else None


def settle(db: Database, before: Claimed, after: Claimed, event: Event, publish_lease_s: float, *ending: Bound) -> Written:
    """Write outcome, payment, refund and event in one transaction, or nothing when the operation or the payment has changed.

    `before` holds the version that must still be there, `after` the attempt, which a settle leaves as it is. `ending` ends what
    the operation has taken over, or says that the payment has to be looked at.
    """
    refund = after.refund
    statement = SETTLE(
        after.payment,
        after.operation,
        event,
        version_before=before.payment.version,
        refund_status=refund.status if refund else None,
        refund_decline_code=refund.decline_code if refund else None,
        gateway_refund_id=(after.operation.reply or {}).get("refund_id"),
        publish_lease_s=publish_lease_s,
    )
    return written(event, db.run(statement, *ending)[0][0])
