"""A payment that waits for its customer: its process operation keeps no outcome, and a void may take that operation over."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from payments.domain.events import Event
from payments.domain.operation import Draft
from payments.domain.payment import Payment, PaymentName
from payments.store.claims import ALL_COLUMNS, IN_FLIGHT, NOT_REFUSED, Claim, Claimed, claim_by, claimed_in, inserted_operation
from payments.store.claims_on_payment import by_name
from payments.store.connection import Database, Statement
from payments.store.due import MOMENTS
from payments.store.rows import OPERATION, PAYMENT, REFUND, columns, operation_of
from payments.store.settlement import OWED, WHEN_AND_NEXT, written

# As a settle, but the operation gets no outcome: its lease ends, and it is due at the schedule's next moment, or when the time
# for the customer is over.
WAIT = Statement(f"""
    WITH held AS (
        SELECT operation_id FROM operations
        WHERE operation_id = :operation_id AND attempt = :attempt AND {IN_FLIGHT} FOR UPDATE
    ), paid AS (
        UPDATE payments SET status = :status, status_reason = :status_reason, payment_intent_id = :payment_intent_id,
               transaction_id = :transaction_id, updated_at = :updated_at, version = :version, event_sequence = :event_sequence
        FROM held WHERE payment_id = :payment_id AND version = :version_before RETURNING payment_id
    ), waiting AS (
        UPDATE operations SET lease_until = now(),
            reply = COALESCE(reply, '{{}}') || :recorded::jsonb
                    || jsonb_build_object('action_expires_at', now() + :window::interval),
            next_attempt_at = LEAST(now() + :window::interval, (
                SELECT min(moment) FROM ({MOMENTS}) AS moments WHERE moment > now()))
        FROM paid WHERE operation_id = :operation_id RETURNING {columns(OPERATION, "operations")}
    ), owed AS (
        {OWED}
    )
    SELECT {columns(OPERATION, "waiting")}, {WHEN_AND_NEXT} FROM waiting
""")


def wait_for_customer(
    db: Database,
    claimed: Claimed,
    after: Payment,
    event: Event,
    recorded: dict[str, Any],
    window: timedelta,
    schedule_s: list[float],
    publish_lease_s: float,
) -> tuple[Claimed, Event | None] | None:
    """Write that the payment waits, and its event, in one transaction. The customer has `window` from now.

    Returns what is written, and the event as stored, unless it has to wait behind an older one of the payment; None when the
    operation or the payment has changed, and nothing is written.
    """
    wait = WAIT(
        after,
        claimed.operation,
        event,
        version_before=claimed.payment.version,
        recorded=recorded,
        window=window,
        schedule_s=schedule_s,
        publish_lease_s=publish_lease_s,
    )
    if not (rows := db.run(wait)[0]):
        return None
    *operation, at, is_next = rows[0]
    return replace(claimed, operation=operation_of(operation), payment=after), written(event, [True, at, is_next])[1]


# The void's operation and the payment's own would each decide what becomes of the payment. So the void takes the other one over,
# one attempt on: whoever holds an earlier attempt can no longer settle it, and nobody claims it any more. A live lease is left
# alone, and so is a row that somebody has locked to settle. Nothing is taken over for a void that was refused before: an UPDATE
# within a statement is carried out whatever the rest of it does.
_TAKEN = "payment JOIN taken USING (payment_id)"
CLAIM_WAITING = by_name(f"""-- claim_waiting_by_{{name}}
    WITH payment AS (
        SELECT {columns(PAYMENT)} FROM payments
        WHERE owner = :owner AND {{which}} AND status = 'REQUIRES_ACTION' [[AND gateway = :gateway]] FOR UPDATE
    ), begun AS (
        SELECT operations.operation_id FROM operations JOIN payment USING (payment_id)
        WHERE kind = 'process' AND {IN_FLIGHT} AND lease_until <= now() AND reply ? 'taken_by' IS NOT TRUE
          AND {NOT_REFUSED}
        FOR UPDATE OF operations SKIP LOCKED
    ), taken AS (
        UPDATE operations SET attempt = operations.attempt + 1, next_attempt_at = NULL,
               reply = operations.reply || jsonb_build_object('taken_by', :operation_id::uuid)
        FROM begun WHERE operations.operation_id = begun.operation_id RETURNING operations.payment_id
    ), operation AS ({inserted_operation("amount_minor", _TAKEN)})
    SELECT {columns(OPERATION, "operation")}, {columns(PAYMENT, "payment")}, {", ".join(["NULL"] * len(REFUND))}
    FROM operation, payment
""")


def claim_waiting(db: Database, draft: Draft, name: PaymentName, value: object) -> Claim:
    """Claim a void of a payment that waits for its customer, and take its process operation over."""
    return claim_by(db, CLAIM_WAITING[name](draft, id=value))


# Sent with the settle of such a void, in its transaction.
END_TAKEN = Statement("""
    UPDATE operations SET
        outcome = CASE void.outcome WHEN 'succeeded' THEN 'declined' END,
        settled_at = CASE void.outcome WHEN 'succeeded' THEN now() END,
        next_attempt_at = CASE void.outcome WHEN 'declined' THEN now() END,
        lease_until = now(),
        reply = operations.reply - 'taken_by' || CASE void.outcome WHEN 'succeeded' THEN :recorded::jsonb ELSE '{}' END
    FROM operations AS void
    WHERE void.operation_id = :void_id AND void.outcome IS NOT NULL
      AND operations.payment_id = void.payment_id AND operations.kind = 'process'
      AND operations.reply ->> 'taken_by' = void.operation_id::text
""")


# Each payment has one process operation. Its gateway key is made of the payment's id, and has the index.
OF_PROCESS = "gateway_key = 'pay-' || :payment_id::text"
WAITING_OPERATION = Statement(f"""
    SELECT {ALL_COLUMNS} FROM operations JOIN payments ON payments.payment_id = operations.payment_id
    LEFT JOIN refunds ON refunds.refund_id = operations.refund_id
    WHERE {OF_PROCESS} AND payments.status = 'REQUIRES_ACTION' AND gateway = :gateway AND (reply ? 'taken_by') IS NOT TRUE
""")


def waiting_operation(db: Database, payment_id: UUID, gateway: str) -> Claimed | None:
    """Return the process operation of a payment that waits for its customer at this gateway, and that nobody is voiding."""
    rows = db.run(WAITING_OPERATION(payment_id=payment_id, gateway=gateway))[0]
    return claimed_in(rows[0]) if rows else None


# The lease of the process operation ends with each call of the gateway, at a settle too, or in the future while a worker has it.
MAY_ASK = Statement(f"""
    UPDATE operations SET lease_until = now()
    WHERE {OF_PROCESS} AND lease_until <= now() - make_interval(secs => :pause_s) RETURNING operation_id
""")


def may_ask(db: Database, payment_id: UUID, pause_s: float) -> bool:
    """Return whether nobody has asked the gateway about the payment for `pause_s` seconds, and note that somebody does now."""
    return bool(db.run(MAY_ASK(payment_id=payment_id, pause_s=pause_s))[0])
