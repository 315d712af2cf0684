"""Claims, the first phase of every command: write the operation and its lease. Here for a new payment; claims_on_payment.py has
the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from payments.domain.errors import ServiceUnavailable
from payments.domain.operation import Draft, Operation
from payments.domain.payment import Payment
from payments.domain.refund import Refund
from payments.store.connection import RETRY_AFTER_S, Bound, Database, Row, Statement, UniqueViolation
from payments.store.rows import AGREED, OPERATION, PAYMENT, REFUND, columns, operation_of, payment_of, refund_of


@dataclass(frozen=True, slots=True)
class Claimed:
    """The operation is ours until its lease ends. The payment (and the refund) are as the claim left them.

    `parameters` is what the gateway is asked besides. Reconcile reads the rest: whether the gateway's key may still be used, the
    moments at which it was (the first one too), and the gateway that took the payment.
    """

    operation: Operation
    payment: Payment
    refund: Refund | None = None
    key_lives: bool = True
    asked_at: Sequence[datetime] = ()
    gateway: str | None = None
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """Nothing was written: the owner has no such payment, it does not allow the command, another operation of it is in flight,
    another gateway took it, the order has a live payment, or the key is used.

    `resent` says that the claim was sent twice, so its own first sending may be the reason; see Database.send.
    """

    resent: bool


Claim = Claimed | NotClaimed


def inserted_operation(amount_minor: str, source: str) -> str:
    """Return the SQL that writes a draft as the operation of the payment in `source`, for the amount in `amount_minor`."""
    # The retry schedule and the end of an authorization count from `created_at`, and reconcile compares them and the end of the
    # gateway's key with the server's clock. So the server's clock writes these, whatever the function's says.
    return f"""
        INSERT INTO operations (operation_id, owner, kind, payment_id, refund_id, amount_minor, reason, idempotency_key,
                                request_hash, gateway_key, attempt, traceparent, created_at, lease_until, next_attempt_at
                                [[, key_ends_at, parameters]])
        SELECT :operation_id::uuid, :owner::text, :kind::text, payment_id, :refund_id::uuid, {amount_minor}, :reason::text,
               :idempotency_key::text, :request_hash::text, :gateway_key::text, 1, :traceparent::text,
               now(), now() + make_interval(secs => :lease_s),
               now() + make_interval(secs => :lease_s) [[, now() + make_interval(secs => :key_lifetime_s), :parameters::jsonb]]
        FROM {source} RETURNING {columns(OPERATION)}"""


SIMULATED = "simulated"
"""The gateway of a payment whose row names none: of the times before migration 050, which says so too."""

# A direct invocation that was refused for good is not carried out later, and the event that told the refusal says so.
NOT_REFUSED = "NOT EXISTS (SELECT FROM outbox WHERE event_id = :refusal_id::uuid)"

# A payment is requested and begins at once, and its history shows both (migration 012).
BORN = [name for name in PAYMENT if name in AGREED | {"status", "status_reason", "updated_at", "version"}]
CLAIM_PROCESS = Statement(f"""-- claim_process
    WITH payment AS (
        INSERT INTO payments ({columns(BORN)} [[, gateway]]) SELECT {", ".join(f":{name}" for name in BORN)} [[, :gateway::text]]
        WHERE {NOT_REFUSED} RETURNING payment_id
    ), operation AS ({inserted_operation(":amount_minor", "payment")})
    SELECT created_at FROM operation
""")

# Before migration 012 a payment had to be written in two statements.
START_PROCESSING = Statement("""
    UPDATE payments SET status = :status, status_reason = :status_reason, version = :version, updated_at = :updated_at
    WHERE payment_id = :payment_id
    RETURNING (SELECT created_at FROM operations WHERE operation_id = :operation_id)
""")


def claim_process(db: Database, draft: Draft, pending: Payment, processing: Payment) -> Claim:
    """Write a new payment, PENDING and then PROCESSING, and its operation. Before migration 050 only the simulated gateway's."""

    def in_two() -> Sequence[Bound]:
        # The row would be the simulated gateway's. This goes with the [[…]] of CLAIM_PROCESS.
        if draft.gateway != SIMULATED or draft.parameters:
            raise ServiceUnavailable("The database is not ready for this: invoke migrate.", retry_after_s=RETRY_AFTER_S)
        return CLAIM_PROCESS(pending, draft), START_PROCESSING(processing, draft)

    claim = replace(CLAIM_PROCESS(processing, draft), instead=in_two)
    asked = {name: getattr(draft, name) for name in OPERATION if hasattr(draft, name)}
    asked |= {"payment_id": processing.payment_id, "amount_minor": processing.amount_minor}
    return claim_by(
        db, claim, lambda row: Claimed(Operation(**asked | {"created_at": row[0]}), processing, parameters=draft.parameters)
    )


# Of an operation without an outcome. It is written so that no index of such operations fits it: statistics of normal life take
# these for empty (outbox.py says more), and PostgreSQL would read all of one for a single row.
IN_FLIGHT = "COALESCE(outcome, '') = ''"

ALL_COLUMNS = f"{columns(OPERATION, 'operations')}, {columns(PAYMENT, 'payments')}, {columns(REFUND, 'refunds')}"
COLUMN_COUNT = len(OPERATION) + len(PAYMENT) + len(REFUND)
_OPERATION = slice(len(OPERATION))
_PAYMENT = slice(len(OPERATION), len(OPERATION) + len(PAYMENT))
_REFUND = slice(len(OPERATION) + len(PAYMENT), COLUMN_COUNT)

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


def claim_by(db: Database, statement: Bound, claimed_in: Callable[[Row], Claimed] = claimed_in) -> Claim:
    """Run the statement, which returns the claim if it was possible."""
    try:
        rows, resent = db.send(statement)
    except UniqueViolation as violation:
        return NotClaimed(violation.resent)
    return claimed_in(rows[-1][0]) if rows[-1] else NotClaimed(resent)
