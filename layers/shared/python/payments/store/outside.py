"""What the gateway did by itself: the books of one payment to compare it with, and what enters it there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from payments.domain.errors import ServiceUnavailable
from payments.domain.events import Event
from payments.domain.operation import Operation
from payments.domain.payment import Payment
from payments.domain.refund import Refund
from payments.store.claims import IN_FLIGHT
from payments.store.connection import RETRY_AFTER_S, Bound, Database, Statement
from payments.store.lookups import REFUND_AND_ORIGIN, refund_with_origin
from payments.store.rows import PAYMENT, columns, payment_of
from payments.store.settlement import CHANGED, OWED, WHEN_AND_NEXT, Written, written
from payments.store.waiting import OF_PROCESS


@dataclass(frozen=True, slots=True)
class Booked:
    """A refund that we have, under its operation's gateway key. `was_declined` says that the gateway never made it."""

    refund: Refund
    key: str
    gateway_refund_id: str | None
    was_declined: bool


@dataclass(frozen=True, slots=True)
class Books:
    """A payment with all its refunds at the moment `at` of the database's clock.

    While it `is_held`, a worker has the lease of an operation. While it `is_busy`, a capture or void has no outcome.
    """

    payment: Payment
    refunds: Sequence[Booked]
    at: datetime
    is_held: bool
    is_busy: bool


BOOKS = Statement(f"""
    SELECT {columns(PAYMENT)}, clock_timestamp(),
           EXISTS (SELECT FROM operations WHERE payment_id = :payment_id AND {IN_FLIGHT} AND lease_until > now()),
           EXISTS (SELECT FROM operations WHERE payment_id = :payment_id AND {IN_FLIGHT} AND kind <> 'refund')
    FROM payments WHERE payment_id = :payment_id
""")
# Before migration 052 the column `gateway_refund_id` is not there.
BOOKED = Statement(f"""
    SELECT {REFUND_AND_ORIGIN},
           jsonb_build_array(gateway_key, to_jsonb(refunds) ->> 'gateway_refund_id', COALESCE(outcome = 'declined', false))
    FROM refunds JOIN operations ON operations.payment_id = refunds.payment_id AND operations.refund_id = refunds.refund_id
    WHERE refunds.payment_id = :payment_id
""")


def books_of(db: Database, payment_id: UUID) -> Books:
    """Return the books of a payment that there is.

    They read the payment first: what changes before the refunds are read raises the payment's version, so it can be seen.
    """
    [[payment], refunds] = db.run(BOOKS(payment_id=payment_id), BOOKED(payment_id=payment_id))
    *row, at, is_held, is_busy = payment
    booked = [Booked(refund_with_origin(refund), *known) for *refund, known in refunds]
    return Books(payment_of(row), booked, at, is_held, is_busy)


# A claim of a capture or void locks the payment and does not change it. So we wait for it in a statement of its own, and the next
# one sees what it has written.
LOCK = Statement("SELECT payment_id FROM payments WHERE payment_id = :payment_id FOR UPDATE")

ADOPT = Statement(f"""-- adopt
    WITH paid AS (
        UPDATE payments SET {CHANGED}
        WHERE payment_id = :payment_id AND version = :version_before AND (:refund_id::uuid IS NOT NULL OR NOT EXISTS (
            SELECT FROM operations WHERE payment_id = :payment_id AND {IN_FLIGHT} AND kind <> 'refund'))
        RETURNING payment_id, owner, currency
    ), refund AS (
        INSERT INTO refunds (refund_id, payment_id, owner, transaction_id, amount_minor, currency, status, reason,
                             decline_code, created_at, updated_at, gateway_refund_id [[, origin]])
        SELECT :refund_id::uuid, payment_id, owner, :transaction_id, :amount_minor::bigint, currency, :refund_status::text,
               :reason::text, :refund_decline_code::text, :refunded_at::timestamptz, :updated_at,
               :gateway_refund_id::text [[, 'gateway']]
        FROM paid WHERE :refund_id::uuid IS NOT NULL
    ), operation AS (
        INSERT INTO operations (operation_id, owner, kind, payment_id, refund_id, amount_minor, reason, request_hash, gateway_key,
                                attempt, created_at, lease_until, outcome, reply, settled_at [[, origin]])
        SELECT :operation_id::uuid, owner, :kind::text, payment_id, :refund_id::uuid, :amount_minor::bigint, :reason::text,
               :request_hash::text, :gateway_key::text, 1, now(), now(), :outcome::text, :reply::jsonb, now() [[, 'gateway']]
        FROM paid
    ), owed AS (
        {OWED}
    )
    SELECT EXISTS (SELECT FROM paid), {WHEN_AND_NEXT}
""")

REVERSE = Statement(f"""
    WITH paid AS (
        UPDATE payments SET {CHANGED}
        WHERE payment_id = :payment_id AND version = :version_before RETURNING payment_id
    ), refund AS (
        UPDATE refunds SET status = 'FAILED', decline_code = :refund_decline_code, updated_at = :updated_at
        FROM paid WHERE refund_id = :refund_id AND refunds.payment_id = paid.payment_id
    ), owed AS (
        {OWED}
    )
    SELECT EXISTS (SELECT FROM paid), {WHEN_AND_NEXT}
""")

# It is noted beside what the gateway replied for the payment, which stays.
NEWS = Statement(f"""
    UPDATE operations SET reply = COALESCE(reply, '{{}}') || jsonb_build_object(
        'misfits', COALESCE(reply -> 'misfits', '{{}}') || jsonb_build_object(:why::text, now()))
    WHERE {OF_PROCESS} AND (reply -> 'misfits' ->> :why)::timestamptz > now() - interval '1 day' IS NOT TRUE
    RETURNING operation_id
""")


def adopt(
    db: Database, before: Books, operation: Operation, refund: Refund | None, after: Payment, event: Event, publish_lease_s: float
) -> Written:
    """Enter what the gateway did, with its operation, its refund and its event, unless the payment has changed since `before`, or
    a capture or void of it is in flight.

    Raises UniqueViolation when the books have the operation's gateway key or the gateway's id of the refund already.
    """

    def not_ready() -> Sequence[Bound]:
        # It would be the service's. This goes with the [[…]] of ADOPT.
        raise ServiceUnavailable("The database is not ready: invoke migrate.", retry_after_s=RETRY_AFTER_S)

    statement = ADOPT(
        operation,
        after,
        event,
        version_before=before.payment.version,
        refunded_at=refund.created_at if refund else None,
        refund_status=refund.status if refund else None,
        refund_decline_code=refund.decline_code if refund else None,
        gateway_refund_id=(operation.reply or {}).get("refund_id"),
        publish_lease_s=publish_lease_s,
    )
    return _written(db, event, replace(statement, instead=not_ready))


def reverse(db: Database, before: Books, refund: Refund, after: Payment, event: Event, publish_lease_s: float) -> Written:
    """Write that a refund failed after it had succeeded, with its event, unless the payment has changed since `before`."""
    statement = REVERSE(
        after,
        event,
        version_before=before.payment.version,
        refund_id=refund.refund_id,
        refund_decline_code=refund.decline_code,
        publish_lease_s=publish_lease_s,
    )
    return _written(db, event, statement)


def is_news(db: Database, payment_id: UUID, why: str) -> bool:
    """Return whether nobody was told of the payment for a day that this does not fit, and note that somebody is now."""
    return bool(db.run(NEWS(payment_id=payment_id, why=why))[0])


def _written(db: Database, event: Event, statement: Bound) -> Written:
    return written(event, db.run(LOCK(payment_id=event.payment_id), statement)[1][0])
