"""Phase 1 of every flow: take the payment, write the operation, start its lease. And reconcile's claim of what fell due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from payments.domain.operation import Operation
from payments.domain.payment import Payment
from payments.settings import GATEWAY_KEY_LIFETIME_S
from payments.store.connection import Database, Statement
from payments.store.rows import (
    OPERATION_COLUMNS,
    OPERATION_WIDTH,
    PAYMENT_COLUMNS,
    columns_of,
    operation_of,
    payment_of,
    placeholders_of,
    values_of,
)

INSERT_PAYMENT = Statement(f"INSERT INTO payments ({PAYMENT_COLUMNS}) VALUES ({placeholders_of(Payment)})")

# From here on the retry schedule and the gateway's memory of the key are counted, by the server's clock: a function's clock that
# is fast must not stretch them.
_CLAIMED_AT = "LEAST(:created_at::timestamptz, now())"

# A second statement and not a part of the insert, because the history shall show PENDING -> PROCESSING as two facts.
START_PROCESSING = Statement(
    "UPDATE payments SET status = :status, status_reason = :status_reason, version = :version, updated_at = :updated_at"
    " WHERE payment_id = :payment_id"
)

INSERT_OPERATION = Statement(f"""
    INSERT INTO operations ({OPERATION_COLUMNS}, lease_until, next_attempt_at)
    VALUES ({placeholders_of(Operation).replace(":created_at", _CLAIMED_AT)},
            now() + make_interval(secs => :lease_s), now() + make_interval(secs => :lease_s))
""")


def claim_process(db: Database, pending: Payment, processing: Payment, operation: Operation, lease_s: float) -> None:
    """Write the new payment, PENDING and then PROCESSING, and its operation. Raises UniqueViolation when the order has a live
    payment (`payments_one_live_per_order`) or the key is taken (`operations_idempotency_key_unique`)."""
    db.run(
        INSERT_PAYMENT(**values_of(pending)),
        START_PROCESSING(
            payment_id=processing.payment_id,
            status=processing.status.value,
            status_reason=processing.status_reason,
            version=processing.version,
            updated_at=processing.updated_at,
        ),
        INSERT_OPERATION(**values_of(operation), lease_s=lease_s),
    )


# The payment is locked first, so that what is checked is what is acted upon; a concurrent capture or void that is already in
# flight is refused by operations_one_capture_or_void_in_flight.
_CLAIM_ON_AUTHORIZATION = f"""
    WITH payment AS (
        SELECT * FROM payments WHERE owner = :owner AND transaction_id = :transaction_id FOR UPDATE
    ), operation AS (
        INSERT INTO operations ({OPERATION_COLUMNS}, lease_until, next_attempt_at)
        SELECT :operation_id::uuid, :owner::text, :kind::text, payment_id, NULL, COALESCE(:amount_minor::bigint, amount_minor),
               :reason::text, :idempotency_key::text, :request_hash::text, :gateway_key::text, 1, NULL, NULL, :traceparent::text,
               {_CLAIMED_AT}, now() + make_interval(secs => :lease_s), now() + make_interval(secs => :lease_s)
        FROM payment
        WHERE status = 'AUTHORIZED' AND COALESCE(:amount_minor::bigint, amount_minor) <= amount_minor
        RETURNING amount_minor
    )
    SELECT (SELECT amount_minor FROM operation), {PAYMENT_COLUMNS} FROM payment
"""
CLAIM_ON_AUTHORIZATION = Statement(_CLAIM_ON_AUTHORIZATION)

# The reservation and its guard are one UPDATE: however many refunds overlap, they reserve no more than was captured. The row
# that `payment` locked is the newest one; should it have changed since the statement's snapshot, the UPDATE looks again.
CLAIM_REFUND = Statement(f"""
    WITH payment AS (
        SELECT *, COALESCE(:amount_minor::bigint, captured_minor - refunded_minor - refund_reserved_minor) AS take_minor
        FROM payments WHERE owner = :owner AND transaction_id = :transaction_id FOR UPDATE
    ), reserved AS (
        UPDATE payments
        SET refund_reserved_minor = payments.refund_reserved_minor + payment.take_minor,
            version = payments.version + 1,
            updated_at = GREATEST(payments.updated_at, :created_at::timestamptz)
        FROM payment
        WHERE payments.payment_id = payment.payment_id
          AND payments.status IN ('CAPTURED', 'PARTIALLY_REFUNDED')
          AND payment.take_minor > 0
          AND payments.refunded_minor + payments.refund_reserved_minor + payment.take_minor <= payments.captured_minor
        RETURNING payment.take_minor, {columns_of(Payment, "payments")}
    ), refund AS (
        INSERT INTO refunds (refund_id, payment_id, owner, transaction_id, amount_minor, currency, status, reason, created_at,
                             updated_at)
        SELECT :refund_id::uuid, payment_id, owner, transaction_id, take_minor, currency, 'PENDING', :reason::text,
               :created_at::timestamptz, :created_at::timestamptz
        FROM reserved
        RETURNING refund_id
    ), operation AS (
        INSERT INTO operations ({OPERATION_COLUMNS}, lease_until, next_attempt_at)
        SELECT :operation_id::uuid, owner, :kind::text, payment_id, refund.refund_id, take_minor,
               :reason::text, :idempotency_key::text, :request_hash::text, :gateway_key::text, 1, NULL, NULL, :traceparent::text,
               {_CLAIMED_AT}, now() + make_interval(secs => :lease_s), now() + make_interval(secs => :lease_s)
        FROM reserved, refund
        RETURNING operation_id
    )
    SELECT take_minor, {PAYMENT_COLUMNS} FROM reserved
    UNION ALL
    SELECT NULL, {PAYMENT_COLUMNS} FROM payment WHERE NOT EXISTS (SELECT FROM reserved)
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOperation:
    """What a capture, void or refund brings along; `amount_minor` None means all that is there."""

    operation_id: UUID
    owner: str
    kind: str
    transaction_id: str
    amount_minor: int | None
    reason: str | None
    idempotency_key: str | None
    request_hash: str
    gateway_key: str
    traceparent: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """The payment as it is now, and the amount that was claimed on it: None when the payment refused the claim."""

    payment: Payment
    amount_minor: int | None


def claim_on_authorization(db: Database, new: NewOperation, lease_s: float) -> Claim | None:
    """Begin a capture or a void; None when the owner has no such payment. Raises UniqueViolation
    (`operations_one_capture_or_void_in_flight`, `operations_idempotency_key_unique`)."""
    return _claim(db.run(CLAIM_ON_AUTHORIZATION(**values_of(new), lease_s=lease_s))[0])


def claim_refund(db: Database, new: NewOperation, refund_id: UUID, lease_s: float) -> Claim | None:
    """Reserve the amount and begin a refund; None when the owner has no such payment. Raises UniqueViolation
    (`operations_idempotency_key_unique`)."""
    return _claim(db.run(CLAIM_REFUND(**values_of(new), refund_id=refund_id, lease_s=lease_s))[0])


def _claim(rows: list[list[object]]) -> Claim | None:
    if not rows:
        return None
    amount_minor, *row = rows[0]
    assert amount_minor is None or isinstance(amount_minor, int)
    return Claim(payment_of(row), amount_minor)


# Of an operation without an outcome: once true it stays true, because CLAIM_DUE takes only what it is false for.
_GIVEN_UP = "(next_attempt_at IS NULL OR created_at <= now() - make_interval(secs => :key_lifetime_s))"

UNKNOWN_OUTCOMES = Statement(f"""
    SELECT count(*) FILTER (WHERE {_GIVEN_UP}),
           COALESCE(EXTRACT(EPOCH FROM now() - min(created_at)), 0)::float8
    FROM operations WHERE outcome IS NULL
""")


def unknown_outcomes(db: Database) -> tuple[int, float]:
    """How many operations will not be asked about again by themselves, so that a person has to look, and the age in seconds of
    the oldest operation that has no outcome."""
    exhausted, oldest_s = db.run(UNKNOWN_OUTCOMES(key_lifetime_s=GATEWAY_KEY_LIFETIME_S))[0][0]
    return exhausted, oldest_s


GIVEN_UP = Statement(f"SELECT {_GIVEN_UP} AND lease_until <= now() FROM operations WHERE operation_id = :operation_id")


def is_given_up(db: Database, operation_id: UUID) -> bool:
    """Whether nobody asks about the operation now nor will ask again by itself, so that a person may settle it."""
    given_up: bool = db.run(GIVEN_UP(operation_id=operation_id, key_lifetime_s=GATEWAY_KEY_LIFETIME_S))[0][0][0]
    return given_up


# The attempt that is counted here is what a settle compares: a worker whose lease ran out can no longer write.
CLAIM_DUE = Statement(f"""
    WITH due AS (
        SELECT operation_id FROM operations
        WHERE outcome IS NULL AND next_attempt_at <= now() AND created_at > now() - make_interval(secs => :key_lifetime_s)
        ORDER BY next_attempt_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE operations
    SET attempt = operations.attempt + 1,
        lease_until = now() + make_interval(secs => :lease_s),
        next_attempt_at = now() + make_interval(secs => :lease_s)
    FROM due, payments
    WHERE operations.operation_id = due.operation_id AND payments.payment_id = operations.payment_id
    RETURNING {columns_of(Operation, "operations")}, {columns_of(Payment, "payments")}
""")


def claim_due(db: Database, limit: int, lease_s: float) -> list[tuple[Operation, Payment]]:
    """Take operations whose outcome is unknown and whose next attempt is due, one attempt on, with their payments."""
    rows = db.run(CLAIM_DUE(limit=limit, lease_s=lease_s, key_lifetime_s=GATEWAY_KEY_LIFETIME_S))[0]
    return [(operation_of(row[:OPERATION_WIDTH]), payment_of(row[OPERATION_WIDTH:])) for row in rows]


# An authorization whose void was declined is left alone for an hour, so that one that the gateway will not release is
# not asked for at every tick.
RUN_OUT = Statement("""
    SELECT owner, transaction_id FROM payments
    WHERE status = 'AUTHORIZED' AND capture_before <= now()
      AND NOT EXISTS (SELECT FROM operations o WHERE o.payment_id = payments.payment_id AND o.kind IN ('capture', 'void')
                      AND (o.outcome IS NULL OR o.kind = 'void' AND o.settled_at > now() - interval '1 hour'))
    ORDER BY capture_before LIMIT :limit
""")


def authorizations_run_out(db: Database, limit: int) -> list[tuple[str, str]]:
    """(owner, transaction_id) of authorizations past their `capture_before` that nothing is at work on."""
    return [(owner, transaction_id) for owner, transaction_id in db.run(RUN_OUT(limit=limit))[0]]
