"""Claims, the first phase of every command: write the operation and its lease, and lock the payment or reserve its amount."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from payments.domain.operation import Draft, Operation
from payments.domain.payment import Payment, PaymentName
from payments.domain.refund import Refund
from payments.store.connection import Bound, Database, Row, Statement, UniqueViolation
from payments.store.rows import AGREED, OPERATION, PAYMENT, REFUND, columns, operation_of, payment_of, refund_of


@dataclass(frozen=True, slots=True)
class Claimed:
    """The operation is ours until its lease ends. The payment (and the refund) are as the claim left them."""

    operation: Operation
    payment: Payment
    refund: Refund | None = None


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """Nothing was written: the owner has no such payment, it does not allow the command, another operation of it is in flight,
    the order has a live payment, or the key is used.

    `resent` says that the claim was sent twice, so its own first sending may be the reason; see Database.send.
    """

    resent: bool


Claim = Claimed | NotClaimed


def _insert_operation(amount_minor: str, source: str) -> str:
    """Return the SQL that writes a draft as the operation of the payment in `source`, for the amount in `amount_minor`."""
    # The retry schedule, the lifetime of the gateway key and the end of an authorization count from `created_at`, and reconcile
    # compares them with the server's clock. So the server's clock writes it, whatever the function's says.
    return f"""
        INSERT INTO operations (operation_id, owner, kind, payment_id, refund_id, amount_minor, reason, idempotency_key,
                                request_hash, gateway_key, attempt, traceparent, created_at, lease_until, next_attempt_at)
        SELECT :operation_id::uuid, :owner::text, :kind::text, payment_id, :refund_id::uuid, {amount_minor}, :reason::text,
               :idempotency_key::text, :request_hash::text, :gateway_key::text, 1, :traceparent::text,
               now(), now() + make_interval(secs => :lease_s),
               now() + make_interval(secs => :lease_s)
        FROM {source} RETURNING {columns(OPERATION)}"""


# A direct invocation that was refused for good is not carried out later, and the event that told the refusal says so.
NOT_REFUSED = "NOT EXISTS (SELECT FROM outbox WHERE event_id = :refusal_id::uuid)"

# A payment is requested and begins at once, and its history shows both (migration 012).
BORN = [name for name in PAYMENT if name in AGREED | {"status", "status_reason", "updated_at", "version"}]
CLAIM_PROCESS = Statement(f"""-- claim_process
    WITH payment AS (
        INSERT INTO payments ({columns(BORN)}) SELECT {", ".join(f":{name}" for name in BORN)}
        WHERE {NOT_REFUSED} RETURNING payment_id
    ), operation AS ({_insert_operation(":amount_minor", "payment")})
    SELECT created_at FROM operation
""")

# Before migration 012 a payment had to be written in two statements.
START_PROCESSING = Statement("""
    UPDATE payments SET status = :status, status_reason = :status_reason, version = :version, updated_at = :updated_at
    WHERE payment_id = :payment_id
    RETURNING (SELECT created_at FROM operations WHERE operation_id = :operation_id)
""")


def claim_process(db: Database, draft: Draft, pending: Payment, processing: Payment) -> Claim:
    """Write a new payment, PENDING and then PROCESSING, and its operation."""

    def in_two() -> Sequence[Bound]:
        return CLAIM_PROCESS(pending, draft), START_PROCESSING(processing, draft)

    claim = replace(CLAIM_PROCESS(processing, draft), instead=in_two)
    asked = {name: getattr(draft, name) for name in OPERATION if hasattr(draft, name)}
    asked |= {"payment_id": processing.payment_id, "amount_minor": processing.amount_minor}
    return _claim(db, claim, lambda row: Claimed(Operation(**asked | {"created_at": row[0]}), processing))


WHICH: Mapping[PaymentName, str] = {
    "transaction_id": "transaction_id = :id",
    "payment_id": "payment_id = :id",
    "order_id": "order_id = :id AND status NOT IN ('FAILED', 'VOIDED')",  # The order's live payment, of which there is one.
}


def by_name(sql: str, conditions: Mapping[PaymentName, str] = WHICH) -> Mapping[PaymentName, Statement]:
    """Return the statement for each way to name the payment: `{name}` stands for the way, and `{which}` for its condition."""
    return {name: Statement(sql.replace("{which}", which).replace("{name}", name)) for name, which in conditions.items()}


# The statement locks the payment first, so it acts on the state that it has checked. The index
# operations_one_in_flight_but_refunds refuses a second capture or void while one is in flight.
_ALLOWED = f"payment WHERE status = 'AUTHORIZED' AND take_minor <= amount_minor AND {NOT_REFUSED}"
CLAIM_ON_AUTHORIZATION = by_name(f"""-- claim_on_authorization_by_{{name}}
    WITH payment AS (
        SELECT {columns(PAYMENT)}, COALESCE(:amount_minor::bigint, amount_minor) AS take_minor
        FROM payments WHERE owner = :owner AND {{which}} FOR UPDATE
    ), operation AS ({_insert_operation("take_minor", _ALLOWED)})
    SELECT {columns(OPERATION, "operation")}, {columns(PAYMENT, "payment")}, {", ".join(["NULL"] * len(REFUND))}
    FROM operation, payment
""")


def claim_on_authorization(db: Database, draft: Draft, name: PaymentName, value: object) -> Claim:
    """Claim a capture or a void of an AUTHORIZED payment, of at most its amount. The payment itself stays as it is."""
    return _claim(db, CLAIM_ON_AUTHORIZATION[name](draft, id=value))


# One UPDATE checks and reserves the amount, so overlapping refunds never reserve more than was captured. `payment` locks the
# newest version of the row. When the row has changed since the statement's snapshot, PostgreSQL computes `payment` anew, and the
# UPDATE checks it again. So the database's clock stamps the refund after each one that was committed before on its payment, and
# a page of refunds never leaves one behind that was added after it.
CLAIM_REFUND = by_name(f"""-- claim_refund_by_{{name}}
    WITH payment AS (
        SELECT payment_id, COALESCE(:amount_minor::bigint, captured_minor - refunded_minor - refund_reserved_minor) AS take_minor,
               clock_timestamp() AS taken_at
        FROM payments WHERE owner = :owner AND {{which}} FOR UPDATE
    ), reserved AS (
        UPDATE payments
        SET refund_reserved_minor = payments.refund_reserved_minor + payment.take_minor, version = payments.version + 1,
            updated_at = GREATEST(payments.updated_at, payment.taken_at)
        FROM payment
        WHERE payments.payment_id = payment.payment_id AND payments.status IN ('CAPTURED', 'PARTIALLY_REFUNDED')
          AND payment.take_minor > 0
          AND payments.refunded_minor + payments.refund_reserved_minor + payment.take_minor <= payments.captured_minor
          AND {NOT_REFUSED}
        RETURNING payment.take_minor, payment.taken_at, {columns(PAYMENT, "payments")}
    ), refund AS (
        INSERT INTO refunds (refund_id, payment_id, owner, transaction_id, amount_minor, currency, status, reason,
                             created_at, updated_at)
        SELECT :refund_id::uuid, payment_id, owner, transaction_id, take_minor, currency, 'PENDING', :reason::text,
               taken_at, taken_at FROM reserved RETURNING {columns(REFUND)}
    ), operation AS ({_insert_operation("take_minor", "reserved")})
    SELECT {columns(OPERATION, "operation")}, {columns(PAYMENT, "reserved")}, {columns(REFUND, "refund")}
    FROM operation, reserved, refund
""")


def claim_refund(db: Database, draft: Draft, name: PaymentName, value: object) -> Claim:
    """Claim a refund: reserve its amount on the payment and write the refund and its operation."""
    return _claim(db, CLAIM_REFUND[name](draft, id=value))


# Of an operation without an outcome. It is written so that no index of such operations fits it: statistics of normal life take
# these for empty (outbox.py says more), and PostgreSQL would read all of one for a single row.
IN_FLIGHT = "COALESCE(outcome, '') = ''"

ALL_COLUMNS = f"{columns(OPERATION, 'operations')}, {columns(PAYMENT, 'payments')}, {columns(REFUND, 'refunds')}"
_OPERATION = slice(len(OPERATION))
_PAYMENT = slice(len(OPERATION), len(OPERATION) + len(PAYMENT))
_REFUND = slice(len(OPERATION) + len(PAYMENT), len(OPERATION) + len(PAYMENT) + len(REFUND))

# One statement reads all three, so they are of one moment. Otherwise an operation without an outcome could stand beside a
# payment that another worker has settled since.
_STATE = f"""
    SELECT {ALL_COLUMNS}, GREATEST(EXTRACT(EPOCH FROM lease_until - now()), 0)::float8
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
    return claimed_in(rows[0]) if rows else None


def state_by_key(db: Database, draft: Draft) -> tuple[Claimed, float] | None:
    """Return the operation that has used the draft's key, with its payment and refund, and how many seconds its lease lasts."""
    rows = db.run(STATE_BY_KEY(draft))[0]
    return (claimed_in(rows[0]), rows[0][-1]) if rows else None


def claimed_in(row: Row) -> Claimed:
    refund = row[_REFUND]
    return Claimed(operation_of(row[_OPERATION]), payment_of(row[_PAYMENT]), refund_of(refund) if refund[0] else None)


def _claim(db: Database, statement: Bound, claimed_in: Callable[[Row], Claimed] = claimed_in) -> Claim:
    """Run the statement, which returns the claim if it was possible."""
    try:
        rows, resent = db.send(statement)
    except UniqueViolation as violation:
        return NotClaimed(violation.resent)
    return claimed_in(rows[-1][0]) if rows[-1] else NotClaimed(resent)
