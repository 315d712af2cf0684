"""Claims, the first phase of every command: write the operation and its lease, and take from the payment what it needs.

And reconcile's claims: the operations that are due again, and the authorizations that have run out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

from payments.domain.operation import Draft, Operation
from payments.domain.payment import Payment
from payments.domain.refund import Refund
from payments.settings import GATEWAY_KEY_LIFETIME_S
from payments.store.connection import Answer, Bound, Database, Row, Statement, UniqueViolation
from payments.store.rows import OPERATION, PAYMENT, REFUND, columns, operation_of, payment_of, refund_of


@dataclass(frozen=True, slots=True)
class Claimed:
    """The operation is ours until its lease ends. The payment (and the refund) are as the claim left them."""

    operation: Operation
    payment: Payment
    refund: Refund | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The payment, in its present state, does not allow the command. Nothing was written."""

    payment: Payment
    resent: bool


@dataclass(frozen=True, slots=True)
class NotFound:
    """The owner has no such payment. Nothing was written."""

    resent: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """A unique constraint refused the claim: the key is used, the order has a live payment, or another operation of the payment
    is in flight. Nothing was written."""

    resent: bool


NotClaimed = Refused | NotFound | Taken
"""`resent` says that the claim was sent twice, so its own first sending may be the reason; see Database.send."""

Claim = Claimed | NotClaimed

INSERT_PAYMENT = Statement("""
    INSERT INTO payments (payment_id, owner, order_id, status, status_reason, amount_minor, currency, payment_method,
                          payment_token, capture_method, customer_id, description, metadata, created_at, updated_at, version)
    VALUES (:payment_id, :owner, :order_id, :status, :status_reason, :amount_minor, :currency, :payment_method,
            :payment_token, :capture_method, :customer_id, :description, :metadata, :created_at, :updated_at, :version)
""")

# The history shows PENDING -> PROCESSING as two facts, so the payment is written in two statements.
START_PROCESSING = Statement("""
    UPDATE payments SET status = :status, status_reason = :status_reason, version = :version, updated_at = :updated_at
    WHERE payment_id = :payment_id
""")

# The retry schedule and the lifetime of the gateway key count from `created_at`. The server's clock bounds it, because a
# function whose clock is fast must not stretch them.
INSERT_OPERATION = Statement("""
    INSERT INTO operations (operation_id, owner, kind, payment_id, amount_minor, idempotency_key, request_hash, gateway_key,
                            attempt, traceparent, created_at, lease_until, next_attempt_at)
    VALUES (:operation_id, :owner, :kind, :payment_id, :amount_minor, :idempotency_key, :request_hash, :gateway_key,
            1, :traceparent, LEAST(:created_at::timestamptz, now()), now() + make_interval(secs => :lease_s),
            now() + make_interval(secs => :lease_s))
""")


def claim_process(db: Database, draft: Draft, pending: Payment, processing: Payment) -> Claimed | Taken:
    """Write a new payment, PENDING and then PROCESSING, and its operation."""
    operation = draft.on(pending.payment_id, pending.amount_minor)
    try:
        db.run(
            INSERT_PAYMENT(
                payment_id=pending.payment_id,
                owner=pending.owner,
                order_id=pending.order_id,
                status=pending.status.value,
                status_reason=pending.status_reason,
                amount_minor=pending.amount_minor,
                currency=pending.currency,
                payment_method=pending.payment_method,
                payment_token=pending.payment_token,
                capture_method=pending.capture_method,
                customer_id=pending.customer_id,
                description=pending.description,
                metadata=json.dumps(pending.metadata),
                created_at=pending.created_at,
                updated_at=pending.updated_at,
                version=pending.version,
            ),
            START_PROCESSING(
                payment_id=processing.payment_id,
                status=processing.status.value,
                status_reason=processing.status_reason,
                version=processing.version,
                updated_at=processing.updated_at,
            ),
            INSERT_OPERATION(
                operation_id=operation.operation_id,
                owner=operation.owner,
                kind=operation.kind,
                payment_id=operation.payment_id,
                amount_minor=operation.amount_minor,
                idempotency_key=operation.idempotency_key,
                request_hash=operation.request_hash,
                gateway_key=operation.gateway_key,
                traceparent=operation.traceparent,
                created_at=operation.created_at,
                lease_s=draft.lease_s,
            ),
        )
    except UniqueViolation as violation:
        return Taken(violation.resent)
    return Claimed(operation, processing)


# The statement locks the payment first, so it acts on the state that it has checked. The index
# operations_one_in_flight_but_refunds refuses a second capture or void while one is in flight.
CLAIM_ON_AUTHORIZATION = Statement(f"""
    WITH payment AS (
        SELECT {columns(PAYMENT)} FROM payments WHERE owner = :owner AND transaction_id = :transaction_id FOR UPDATE
    ), operation AS (
        INSERT INTO operations (operation_id, owner, kind, payment_id, amount_minor, reason, idempotency_key, request_hash,
                                gateway_key, attempt, traceparent, created_at, lease_until, next_attempt_at)
        SELECT :operation_id::uuid, :owner::text, :kind::text, payment_id, COALESCE(:amount_minor::bigint, amount_minor),
               :reason::text, :idempotency_key::text, :request_hash::text, :gateway_key::text, 1, :traceparent::text,
               LEAST(:created_at::timestamptz, now()), now() + make_interval(secs => :lease_s),
               now() + make_interval(secs => :lease_s)
        FROM payment
        WHERE status = 'AUTHORIZED' AND COALESCE(:amount_minor::bigint, amount_minor) <= amount_minor
        RETURNING amount_minor
    )
    SELECT (SELECT amount_minor FROM operation), {columns(PAYMENT)} FROM payment
""")


def claim_on_authorization(db: Database, draft: Draft, transaction_id: str) -> Claim:
    """Claim a capture or a void of an AUTHORIZED payment, of at most its amount. The payment itself stays as it is."""
    return _claim_on_payment(db, draft, CLAIM_ON_AUTHORIZATION(transaction_id=transaction_id, **_values(draft)))


# One UPDATE checks and reserves the amount, so overlapping refunds never reserve more than was captured. `payment` locks the
# newest version of the row. When the row has changed since the statement's snapshot, the UPDATE checks it again.
CLAIM_REFUND = Statement(f"""
    WITH payment AS (
        SELECT {columns(PAYMENT)},
               COALESCE(:amount_minor::bigint, captured_minor - refunded_minor - refund_reserved_minor) AS take_minor
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
        RETURNING payment.take_minor, {columns(PAYMENT, "payments")}
    ), refund AS (
        INSERT INTO refunds (refund_id, payment_id, owner, transaction_id, amount_minor, currency, status, reason, created_at,
                             updated_at)
        SELECT :refund_id::uuid, payment_id, owner, transaction_id, take_minor, currency, 'PENDING', :reason::text,
               :created_at::timestamptz, :created_at::timestamptz
        FROM reserved
        RETURNING {columns(REFUND)}
    ), operation AS (
        INSERT INTO operations (operation_id, owner, kind, payment_id, refund_id, amount_minor, reason, idempotency_key,
                                request_hash, gateway_key, attempt, traceparent, created_at, lease_until, next_attempt_at)
        SELECT :operation_id::uuid, reserved.owner, :kind::text, reserved.payment_id, refund.refund_id, take_minor,
               :reason::text, :idempotency_key::text, :request_hash::text, :gateway_key::text, 1, :traceparent::text,
               LEAST(:created_at::timestamptz, now()), now() + make_interval(secs => :lease_s),
               now() + make_interval(secs => :lease_s)
        FROM reserved, refund
        RETURNING operation_id
    )
    SELECT take_minor, {columns(PAYMENT, "reserved")}, {columns(REFUND, "refund")} FROM reserved, refund
    UNION ALL
    SELECT NULL, {columns(PAYMENT, "payment")}, {", ".join(["NULL"] * len(REFUND))} FROM payment
    WHERE NOT EXISTS (SELECT FROM reserved)
""")


def claim_refund(db: Database, draft: Draft, transaction_id: str) -> Claim:
    """Claim a refund: reserve its amount on the payment and write the refund and its operation."""
    values = _values(draft) | {"refund_id": draft.refund_id}
    return _claim_on_payment(db, draft, CLAIM_REFUND(transaction_id=transaction_id, **values))


def _values(draft: Draft) -> dict[str, object]:
    return {
        "operation_id": draft.operation_id,
        "owner": draft.owner,
        "kind": draft.kind,
        "amount_minor": draft.amount_minor,
        "reason": draft.reason,
        "idempotency_key": draft.idempotency_key,
        "request_hash": draft.request_hash,
        "gateway_key": draft.gateway_key,
        "traceparent": draft.traceparent,
        "created_at": draft.created_at,
        "lease_s": draft.lease_s,
    }


def _claim_on_payment(db: Database, draft: Draft, statement: Bound) -> Claim:
    try:
        answer = db.send(statement)
    except UniqueViolation as violation:
        return Taken(violation.resent)
    return _claim_in(answer, draft)


def _claim_in(answer: Answer, draft: Draft) -> Claim:
    if not answer.rows[0]:
        return NotFound(answer.resent)
    amount_minor, *row = answer.rows[0][0]
    payment, refund_row = payment_of(row[: len(PAYMENT)]), row[len(PAYMENT) :]
    if amount_minor is None:
        return Refused(payment, answer.resent)
    refund = refund_of(refund_row) if refund_row else None
    return Claimed(draft.on(payment.payment_id, amount_minor), payment, refund)


_ALL = f"{columns(OPERATION, 'operations')}, {columns(PAYMENT, 'payments')}, {columns(REFUND, 'refunds')}"

# One statement reads all three, so they are of one moment. Otherwise an operation without an outcome could stand beside a
# payment that another worker has settled since.
_STATE = f"""
    SELECT {_ALL}, GREATEST(EXTRACT(EPOCH FROM lease_until - now()), 0)::float8
    FROM operations JOIN payments ON payments.payment_id = operations.payment_id
    LEFT JOIN refunds ON refunds.refund_id = operations.refund_id
"""
STATE = Statement(f"{_STATE} WHERE operations.operation_id = :operation_id")
STATE_BY_KEY = Statement(f"""
    {_STATE} WHERE operations.owner = :owner AND operations.kind = :kind AND operations.idempotency_key = :idempotency_key
""")


def state_of(db: Database, operation_id: UUID) -> Claimed | None:
    """Return the operation with its payment and refund as they are at one moment, or None when no such claim was committed."""
    rows = db.run(STATE(operation_id=operation_id))[0]
    return _claimed(rows[0]) if rows else None


def state_by_key(db: Database, owner: str, kind: str, idempotency_key: str) -> tuple[Claimed, float] | None:
    """Return the operation that has used the key, with its payment and refund, and how many seconds its lease still lasts."""
    rows = db.run(STATE_BY_KEY(owner=owner, kind=kind, idempotency_key=idempotency_key))[0]
    return (_claimed(rows[0]), rows[0][-1]) if rows else None


# The claim counts the attempt, and a settle names its attempt: a worker whose lease has ended can no longer write.
CLAIM_DUE = Statement(f"""
    WITH due AS (
        SELECT operation_id, payment_id, refund_id FROM operations
        WHERE outcome IS NULL AND next_attempt_at <= now() AND created_at > now() - make_interval(secs => :key_lifetime_s)
        ORDER BY next_attempt_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE operations
    SET attempt = operations.attempt + 1,
        lease_until = now() + make_interval(secs => :lease_s),
        next_attempt_at = now() + make_interval(secs => :lease_s)
    FROM due JOIN payments ON payments.payment_id = due.payment_id LEFT JOIN refunds ON refunds.refund_id = due.refund_id
    WHERE operations.operation_id = due.operation_id
    RETURNING {_ALL}
""")


def claim_due(db: Database, limit: int, lease_s: float) -> list[Claimed]:
    """Claim operations whose outcome is unknown and whose next attempt is due, one attempt on."""
    rows = db.run(CLAIM_DUE(limit=limit, lease_s=lease_s, key_lifetime_s=GATEWAY_KEY_LIFETIME_S))[0]
    return [_claimed(row) for row in rows]


def _claimed(row: Row) -> Claimed:
    operation, row = row[: len(OPERATION)], row[len(OPERATION) :]
    payment, row = row[: len(PAYMENT)], row[len(PAYMENT) :]
    refund = row[: len(REFUND)]
    return Claimed(operation_of(operation), payment_of(payment), refund_of(refund) if refund[0] is not None else None)


# Reconcile gives an operation without an outcome up when its schedule has no further moment or when the gateway may have
# forgotten its key. It never takes such an operation up again, because CLAIM_DUE excludes both.
_GIVEN_UP = "(next_attempt_at IS NULL OR created_at <= now() - make_interval(secs => :key_lifetime_s))"

UNKNOWN_OUTCOMES = Statement(f"""
    SELECT count(*) FILTER (WHERE {_GIVEN_UP}),
           COALESCE(EXTRACT(EPOCH FROM now() - min(created_at)), 0)::float8
    FROM operations WHERE outcome IS NULL
""")


def unknown_outcomes(db: Database) -> tuple[int, float]:
    """Return how many operations reconcile has given up, and the age in seconds of the oldest operation without an outcome.

    A person has to settle the first kind by hand.
    """
    exhausted, oldest_s = db.run(UNKNOWN_OUTCOMES(key_lifetime_s=GATEWAY_KEY_LIFETIME_S))[0][0]
    return exhausted, oldest_s


GIVEN_UP = Statement(f"SELECT {_GIVEN_UP} AND lease_until <= now() FROM operations WHERE operation_id = :operation_id")


def is_given_up(db: Database, operation_id: UUID) -> bool:
    """Return whether reconcile has given the operation up and no worker holds its lease, so that a person may settle it."""
    given_up: bool = db.run(GIVEN_UP(operation_id=operation_id, key_lifetime_s=GATEWAY_KEY_LIFETIME_S))[0][0][0]
    return given_up


# After a declined void the authorization rests for an hour. Otherwise each tick would call a gateway that does not release it.
RUN_OUT = Statement("""
    SELECT owner, transaction_id FROM payments
    WHERE status = 'AUTHORIZED' AND capture_before <= now()
      AND NOT EXISTS (SELECT FROM operations o WHERE o.payment_id = payments.payment_id
                      AND (o.outcome IS NULL OR o.kind = 'void' AND o.settled_at > now() - interval '1 hour'))
    ORDER BY capture_before LIMIT :limit
""")


def authorizations_run_out(db: Database, limit: int) -> list[tuple[str, str]]:
    """Return (owner, transaction_id) of authorizations past their `capture_before` that have no operation in flight."""
    return [(owner, transaction_id) for owner, transaction_id in db.run(RUN_OUT(limit=limit))[0]]
