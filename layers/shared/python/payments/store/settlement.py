"""Phase 3 of every flow: write the outcome, the payment after it and the event it owes, or give the lease back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

from payments.domain.events import Event
from payments.domain.operation import Operation, Outcome, Refund
from payments.domain.payment import Payment
from payments.store.connection import Database, Statement
from payments.store.rows import OPERATION_WIDTH, columns_of, operation_of, payment_of, values_of

# Every part hangs on `held` and `paid`: the operation must still be ours (attempt) and without an outcome, and the
# payment must be the one that `apply` started from (version). The last column says whether the event is the oldest
# unpublished one of its payment.
SETTLE = Statement("""
    WITH held AS (
        SELECT operation_id FROM operations
        WHERE operation_id = :operation_id AND attempt = :attempt AND outcome IS NULL
        FOR UPDATE
    ), paid AS (
        UPDATE payments
        SET status = :status, status_reason = :status_reason, captured_minor = :captured_minor, refunded_minor = :refunded_minor,
            refund_reserved_minor = :refund_reserved_minor, transaction_id = :transaction_id,
            payment_intent_id = :payment_intent_id, decline_code = :decline_code, error_message = :error_message,
            authorized_at = :authorized_at, captured_at = :captured_at, failed_at = :failed_at, voided_at = :voided_at,
            capture_before = :capture_before, updated_at = :updated_at, version = :version, event_sequence = :event_sequence
        FROM held
        WHERE payment_id = :payment_id AND version = :version_before
        RETURNING payment_id
    ), settled AS (
        UPDATE operations
        SET outcome = :outcome, reply = :reply::jsonb, settled_at = now(), next_attempt_at = NULL
        FROM paid WHERE operation_id = :operation_id
        RETURNING operation_id
    ), refunded AS (
        UPDATE refunds
        SET status = :refund_status, decline_code = :refund_decline_code, updated_at = :updated_at
        FROM paid WHERE refund_id = :refund_id::uuid
        RETURNING refund_id
    ), owed AS (
        INSERT INTO outbox (event_id, payment_id, sequence, type, data, traceparent, created_at, lease_until)
        SELECT :event_id::uuid, payment_id, :event_sequence, :event_type::text, :event_data::text, :traceparent::text,
        :updated_at,
               now() + make_interval(secs => :publish_lease_s)
        FROM paid WHERE :event_id::uuid IS NOT NULL
        RETURNING event_id
    )
    SELECT EXISTS (SELECT FROM settled),
           NOT EXISTS (SELECT FROM outbox
                       WHERE payment_id = :payment_id AND published_at IS NULL AND sequence < :event_sequence)
""")

GIVE_BACK = Statement("""
    UPDATE operations
    SET lease_until = now(), next_attempt_at = created_at + make_interval(secs => :next_s), reply = :reply::jsonb
    WHERE operation_id = :operation_id AND attempt = :attempt AND outcome IS NULL
""")

# One statement, so that both are of one moment: a payment that another worker settled meanwhile next to an operation that has no
# outcome yet would refuse the change that it has been through.
STATE = Statement(f"""
    SELECT {columns_of(Operation, "operations")}, {columns_of(Payment, "payments")}
    FROM operations JOIN payments ON payments.payment_id = operations.payment_id
    WHERE operations.operation_id = :operation_id
""")


@dataclass(frozen=True, slots=True)
class Written:
    """`done` is False when the operation or the payment moved on meanwhile, and then nothing was written at all.

    `is_next` says that no older event of the payment waits to be published, so this one may be sent at once.
    """

    done: bool
    is_next: bool


def settle(
    db: Database,
    operation: Operation,
    outcome: Outcome,
    reply: dict[str, object],
    before: Payment,
    after: Payment,
    refund: Refund | None,
    event: Event | None,
    publish_lease_s: float,
) -> Written:
    """Write what became of the operation: outcome, payment, refund and event, in one transaction."""
    payment = values_of(after)
    written = {
        name: payment[name]
        for name in [
            "status",
            "status_reason",
            "captured_minor",
            "refunded_minor",
            "refund_reserved_minor",
            "transaction_id",
            "payment_intent_id",
            "decline_code",
            "error_message",
            "authorized_at",
            "captured_at",
            "failed_at",
            "voided_at",
            "capture_before",
            "updated_at",
            "version",
            "event_sequence",
            "payment_id",
        ]
    }
    statement = SETTLE(
        **written,
        version_before=before.version,
        operation_id=operation.operation_id,
        attempt=operation.attempt,
        outcome=outcome.value,
        reply=json.dumps(reply),
        refund_id=refund.refund_id if refund else None,
        refund_status=refund.status.value if refund else None,
        refund_decline_code=refund.decline_code if refund else None,
        event_id=event.event_id if event else None,
        event_type=event.type if event else None,
        event_data=json.dumps(event.data) if event else None,
        traceparent=operation.traceparent,
        publish_lease_s=publish_lease_s,
    )
    done, is_next = db.run(statement)[0][0]
    return Written(done, is_next)


def state_of(db: Database, operation_id: UUID) -> tuple[Operation, Payment] | None:
    """The operation and its payment as they are at one moment."""
    rows = db.run(STATE(operation_id=operation_id))[0]
    return (operation_of(rows[0][:OPERATION_WIDTH]), payment_of(rows[0][OPERATION_WIDTH:])) if rows else None


def give_back(db: Database, operation: Operation, next_s: float | None, reply: dict[str, object]) -> None:
    """End the lease of an operation whose outcome is unknown: next attempt when it is `next_s` seconds old, or none by itself."""
    db.run(GIVE_BACK(operation_id=operation.operation_id, attempt=operation.attempt, next_s=next_s, reply=json.dumps(reply)))
