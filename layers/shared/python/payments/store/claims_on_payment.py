"""Claims of a capture, void or refund: write the operation and its lease, and lock the payment or reserve its amount."""

from collections.abc import Mapping

from payments.domain.operation import Draft
from payments.domain.payment import PaymentName
from payments.store.claims import NOT_REFUSED, Claim, claim_by, inserted_operation
from payments.store.connection import Database, Statement
from payments.store.rows import OPERATION, PAYMENT, REFUND, columns

WHICH: Mapping[PaymentName, str] = {
    "transaction_id": "transaction_id = :id",
    "payment_id": "payment_id = :id",
    "order_id": "order_id = :id AND status NOT IN ('FAILED', 'VOIDED')",  # The order's live payment, of which there is one.
}


def by_name(sql: str, conditions: Mapping[PaymentName, str] = WHICH) -> Mapping[PaymentName, Statement]:
    """Return the statement for each way to name the payment: `{name}` stands for the way, and `{which}` for its condition."""
    return {name: Statement(sql.replace("{which}", which).replace("{name}", name)) for name, which in conditions.items()}


# The statement locks the payment first, so it acts on the state that it has checked. The index
# operations_one_in_flight_after_process refuses a second capture or void while one is in flight.
_ALLOWED = f"payment WHERE status = 'AUTHORIZED' AND take_minor <= amount_minor AND {NOT_REFUSED}"
CLAIM_ON_AUTHORIZATION = by_name(f"""-- claim_on_authorization_by_{{name}}
    WITH payment AS (
        SELECT {columns(PAYMENT)}, COALESCE(:amount_minor::bigint, amount_minor) AS take_minor
        FROM payments WHERE owner = :owner AND {{which}} [[AND gateway = :gateway]] FOR UPDATE
    ), operation AS ({inserted_operation("take_minor", _ALLOWED)})
    SELECT {columns(OPERATION, "operation")}, {columns(PAYMENT, "payment")}, {", ".join(["NULL"] * len(REFUND))}
    FROM operation, payment
""")


def claim_on_authorization(db: Database, draft: Draft, name: PaymentName, value: object) -> Claim:
    """Claim a capture or a void of an AUTHORIZED payment, of at most its amount. The payment itself stays as it is."""
    return claim_by(db, CLAIM_ON_AUTHORIZATION[name](draft, id=value))


# After a dispute was lost, the customer has the money back already.
BARS_REFUNDS = "NOT is_refundable AND COALESCE(outcome, 'lost') = 'lost'"

# One UPDATE checks and reserves the amount, so overlapping refunds never reserve more than was captured. `payment` locks the
# newest version of the row. When the row has changed since the statement's snapshot, PostgreSQL computes `payment` anew, and the
# UPDATE checks it again. So the database's clock stamps the refund after each one that was committed before on its payment, and
# a page of refunds never leaves one behind that was added after it.
CLAIM_REFUND = by_name(f"""-- claim_refund_by_{{name}}
    WITH payment AS (
        SELECT payment_id, COALESCE(:amount_minor::bigint, captured_minor - refunded_minor - refund_reserved_minor) AS take_minor,
               clock_timestamp() AS taken_at
        FROM payments WHERE owner = :owner AND {{which}} [[AND gateway = :gateway]] FOR UPDATE
    ), reserved AS (
        UPDATE payments
        SET refund_reserved_minor = payments.refund_reserved_minor + payment.take_minor, version = payments.version + 1,
            updated_at = GREATEST(payments.updated_at, payment.taken_at)
        FROM payment
        WHERE payments.payment_id = payment.payment_id AND payments.status IN ('CAPTURED', 'PARTIALLY_REFUNDED')
          AND payment.take_minor > 0
          AND payments.refunded_minor + payments.refund_reserved_minor + payment.take_minor <= payments.captured_minor
          AND {NOT_REFUSED}
          [[AND NOT EXISTS (SELECT FROM disputes WHERE disputes.payment_id = payment.payment_id AND {BARS_REFUNDS})]]
        RETURNING payment.take_minor, payment.taken_at, {columns(PAYMENT, "payments")}
    ), refund AS (
        INSERT INTO refunds (refund_id, payment_id, owner, transaction_id, amount_minor, currency, status, reason,
                             created_at, updated_at)
        SELECT :refund_id::uuid, payment_id, owner, transaction_id, take_minor, currency, 'PENDING', :reason::text,
               taken_at, taken_at FROM reserved RETURNING {columns(REFUND)}
    ), operation AS ({inserted_operation("take_minor", "reserved")})
    SELECT {columns(OPERATION, "operation")}, {columns(PAYMENT, "reserved")}, {columns(REFUND, "refund")}
    FROM operation, reserved, refund
""")


def claim_refund(db: Database, draft: Draft, name: PaymentName, value: object) -> Claim:
    """Claim a refund: reserve its amount on the payment and write the refund and its operation."""
    return claim_by(db, CLAIM_REFUND[name](draft, id=value))
