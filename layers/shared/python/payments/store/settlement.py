"""Settling, the third phase of every command: write the outcome, the payment after it and its event, or give the lease back."""

from __future__ import annotations

import json
from enum import Enum

from payments.domain.events import Event
from payments.domain.operation import Operation, Outcome
from payments.domain.payment import Payment
from payments.domain.refund import Refund
from payments.store.connection import Database, Statement

# Every part depends on `held` and `paid`: the operation must still have our attempt and no outcome, and the payment must have
# the version that `apply` started from. The last column says that no older event of the payment is still unpublished.
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


class Written(Enum):
    """What a settle did."""

    NOTHING = "the operation or the payment has changed since we read it"
    NEXT = "the outcome is written, and its event is the payment's oldest unpublished one, so it may be sent at once"
    BEHIND = "the outcome is written, and its event waits behind an older one of the payment"


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
    """Write outcome, payment, refund and event in one transaction, or nothing at all."""
    statement = SETTLE(
        operation_id=operation.operation_id,
        attempt=operation.attempt,
        outcome=outcome.value,
        reply=json.dumps(reply),
        payment_id=after.payment_id,
        version_before=before.version,
        version=after.version,
        status=after.status.value,
        status_reason=after.status_reason,
        captured_minor=after.captured_minor,
        refunded_minor=after.refunded_minor,
        refund_reserved_minor=after.refund_reserved_minor,
        transaction_id=after.transaction_id,
        payment_intent_id=after.payment_intent_id,
        decline_code=after.decline_code,
        error_message=after.error_message,
        authorized_at=after.authorized_at,
        captured_at=after.captured_at,
        failed_at=after.failed_at,
        voided_at=after.voided_at,
        capture_before=after.capture_before,
        updated_at=after.updated_at,
        event_sequence=after.event_sequence,
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
    return (Written.NEXT if is_next else Written.BEHIND) if done else Written.NOTHING


def give_back(db: Database, operation: Operation, next_s: float | None, reply: dict[str, object]) -> None:
    """End the lease. The next attempt is due when the operation is `next_s` seconds old; None means that reconcile makes none."""
    db.run(GIVE_BACK(operation_id=operation.operation_id, attempt=operation.attempt, next_s=next_s, reply=json.dumps(reply)))
