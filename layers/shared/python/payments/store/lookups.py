"""Reading the books. What a caller names is looked for among the owner's rows, unless the admin scope asks (`owner` None), which
sees all; the statements without an owner follow from a row that was found so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from payments.domain.operation import Kind, Operation, Refund
from payments.domain.payment import Payment, PaymentStatus
from payments.store.connection import Bound, Database, Statement
from payments.store.rows import (
    OPERATION_COLUMNS,
    PAYMENT_COLUMNS,
    REFUND_COLUMNS,
    operation_of,
    payment_of,
    refund_of,
)

_OWNED = {True: "owner = :owner AND ", False: ""}

BY_ID = {owned: Statement(f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE {sql}payment_id = :id") for owned, sql in _OWNED.items()}
BY_TRANSACTION = {
    owned: Statement(f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE {sql}transaction_id = :id") for owned, sql in _OWNED.items()
}
# The live payment, else the latest.
BY_ORDER = {
    owned: Statement(f"""
        SELECT {PAYMENT_COLUMNS} FROM payments WHERE {sql}order_id = :id
        ORDER BY status NOT IN ('FAILED', 'VOIDED') DESC, created_at DESC, payment_id DESC LIMIT 1
    """)
    for owned, sql in _OWNED.items()
}
REFUNDS_OF = Statement(f"SELECT {REFUND_COLUMNS} FROM refunds WHERE payment_id = :payment_id ORDER BY created_at, refund_id")
REFUNDS_OF_ALL = Statement(
    f"SELECT {REFUND_COLUMNS} FROM refunds WHERE payment_id = ANY(:payment_ids::uuid[]) ORDER BY created_at, refund_id"
)
REFUND_BY_ID = Statement(f"SELECT {REFUND_COLUMNS} FROM refunds WHERE refund_id = :refund_id")
HISTORY = Statement("""
    SELECT from_status, to_status, at, reason FROM payment_status_history WHERE payment_id = :payment_id ORDER BY version
""")
_OPERATION = f"SELECT {OPERATION_COLUMNS}, GREATEST(EXTRACT(EPOCH FROM lease_until - now()), 0)::float8 FROM operations"
OPERATION_BY_KEY = Statement(f"{_OPERATION} WHERE owner = :owner AND kind = :kind AND idempotency_key = :idempotency_key")
OPERATION_BY_ID = Statement(f"{_OPERATION} WHERE operation_id = :operation_id")


def payment_by_id(db: Database, owner: str | None, payment_id: UUID) -> Payment | None:
    return _one(db, BY_ID, owner, payment_id)


def payment_by_transaction(db: Database, owner: str | None, transaction_id: str) -> Payment | None:
    return _one(db, BY_TRANSACTION, owner, transaction_id)


def payment_by_order(db: Database, owner: str | None, order_id: str) -> Payment | None:
    return _one(db, BY_ORDER, owner, order_id)


def _one(db: Database, statements: dict[bool, Statement], owner: str | None, id_: object) -> Payment | None:
    rows = db.run(_bound(statements, owner, id=id_))[0]
    return payment_of(rows[0]) if rows else None


def _bound(statements: dict[bool, Statement], owner: str | None, **values: object) -> Bound:
    return statements[False](**values) if owner is None else statements[True](**values, owner=owner)


def refunds_of(db: Database, payment_id: UUID) -> list[Refund]:
    return [refund_of(row) for row in db.run(REFUNDS_OF(payment_id=payment_id))[0]]


def refunds_of_all(db: Database, payment_ids: list[UUID]) -> dict[UUID, list[Refund]]:
    """The refunds of several payments, keyed by payment id; payments without refunds are absent."""
    by_payment: dict[UUID, list[Refund]] = {}
    if payment_ids:
        for row in db.run(REFUNDS_OF_ALL(payment_ids=payment_ids))[0]:
            refund = refund_of(row)
            by_payment.setdefault(refund.payment_id, []).append(refund)
    return by_payment


def refund_by_id(db: Database, refund_id: UUID) -> Refund:
    return refund_of(db.run(REFUND_BY_ID(refund_id=refund_id))[0][0])


@dataclass(frozen=True, slots=True)
class StatusChange:
    from_status: str | None
    to_status: str
    at: datetime
    reason: str


def history_of(db: Database, payment_id: UUID) -> list[StatusChange]:
    """The payment's status changes, oldest first."""
    return [StatusChange(*row) for row in db.run(HISTORY(payment_id=payment_id))[0]]


def operation_by_key(db: Database, owner: str, kind: Kind, idempotency_key: str) -> tuple[Operation, float] | None:
    """The operation that used the key first, and the seconds its lease has left (0 when nobody holds it)."""
    return _operation(db.run(OPERATION_BY_KEY(owner=owner, kind=kind.value, idempotency_key=idempotency_key))[0])


def operation_by_id(db: Database, operation_id: UUID) -> tuple[Operation, float] | None:
    return _operation(db.run(OPERATION_BY_ID(operation_id=operation_id))[0])


def _operation(rows: list[list[Any]]) -> tuple[Operation, float] | None:
    return (operation_of(rows[0][:-1]), rows[0][-1]) if rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """What a list shows: `created_from` inclusive, `created_to` exclusive, `after` the position of the last row seen."""

    order_id: str | None = None
    status: PaymentStatus | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    after: tuple[datetime, UUID] | None = None


def list_payments(db: Database, owner: str | None, which: ListFilter, limit: int) -> list[Payment]:
    """Payments newest first, at most `limit`. The position is a row's key, so rows inserted meanwhile shift nothing."""
    return [payment_of(row) for row in db.run(list_statement(owner, which, limit))[0]]


def list_statement(owner: str | None, which: ListFilter, limit: int) -> Bound:
    """The list's statement with only the conditions that are asked for, so that each combination finds its index."""
    after_time, after_id = which.after or (None, None)
    conditions: list[tuple[str, dict[str, object]]] = [
        ("owner = :owner", {"owner": owner}),
        ("order_id = :order_id", {"order_id": which.order_id}),
        ("status = :status", {"status": which.status.value if which.status else None}),
        ("created_at >= :created_from", {"created_from": which.created_from}),
        ("created_at < :created_to", {"created_to": which.created_to}),
        ("(created_at, payment_id) < (:after_time, :after_id)", {"after_time": after_time, "after_id": after_id}),
    ]
    asked = [(sql, values) for sql, values in conditions if None not in values.values()]
    where = f"WHERE {' AND '.join(sql for sql, _ in asked)}" if asked else ""
    values = {name: value for _, values in asked for name, value in values.items()}
    statement = Statement(
        f"SELECT {PAYMENT_COLUMNS} FROM payments {where} ORDER BY created_at DESC, payment_id DESC LIMIT :limit"
    )
    return statement(**values, limit=limit)
