"""Look-ups. A caller finds the rows of its owner alone; `owner` None, for the admin scope, finds the rows of all owners.

The statements without an owner read rows that belong to a row which such a look-up has found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from payments.domain.payment import Payment, PaymentStatus
from payments.domain.refund import Refund
from payments.store.connection import Bound, Database, Statement
from payments.store.rows import PAYMENT, REFUND, columns, payment_of, refund_of

PAYMENT_COLUMNS, REFUND_COLUMNS = columns(PAYMENT), columns(REFUND)

_OWNED = {True: "owner = :owner AND ", False: ""}

BY_ID = {owned: Statement(f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE {sql}payment_id = :id") for owned, sql in _OWNED.items()}
BY_TRANSACTION = {
    owned: Statement(f"SELECT {PAYMENT_COLUMNS} FROM payments WHERE {sql}transaction_id = :id") for owned, sql in _OWNED.items()
}
# The order's live payment, or its latest one when none is live.
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
HISTORY = Statement("""
    SELECT from_status, to_status, at, reason FROM payment_status_history WHERE payment_id = :payment_id ORDER BY version
""")


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
    """Return the refunds of several payments by payment id. A payment without refunds is absent."""
    by_payment: dict[UUID, list[Refund]] = {}
    if payment_ids:
        for row in db.run(REFUNDS_OF_ALL(payment_ids=payment_ids))[0]:
            refund = refund_of(row)
            by_payment.setdefault(refund.payment_id, []).append(refund)
    return by_payment


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    from_status: str | None
    to_status: str
    at: datetime
    reason: str


def history_of(db: Database, payment_id: UUID) -> list[StatusChange]:
    """Return the payment's status changes, oldest first."""
    rows = db.run(HISTORY(payment_id=payment_id))[0]
    return [StatusChange(from_status=before, to_status=to, at=at, reason=reason) for before, to, at, reason in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """The payments that a list shows. `created_from` is inclusive, `created_to` exclusive.

    `after` is the position of the last row of the page before.
    """

    order_id: str | None = None
    status: PaymentStatus | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    after: tuple[datetime, UUID] | None = None


def list_payments(db: Database, owner: str | None, which: ListFilter, limit: int) -> list[Payment]:
    """Return at most `limit` payments, newest first. Rows inserted meanwhile shift nothing, because `after` is a row's key."""
    return [payment_of(row) for row in db.run(list_statement(owner, which, limit))[0]]


def list_statement(owner: str | None, which: ListFilter, limit: int) -> Bound:
    """Return the list's statement with the conditions of this filter alone, so that each combination finds its index."""
    after_time, after_id = which.after or (None, None)
    conditions: list[tuple[str, dict[str, object]]] = [
        ("owner = :owner", {"owner": owner}),
        ("order_id = :order_id", {"order_id": which.order_id}),
        ("status = :status", {"status": which.status.value if which.status else None}),
        ("created_at >= :created_from", {"created_from": which.created_from}),
        ("created_at < :created_to", {"created_to": which.created_to}),
        ("(created_at, payment_id) < (:after_time, :after_id)", {"after_time": after_time, "after_id": after_id}),
    ]
    chosen = [(sql, values) for sql, values in conditions if None not in values.values()]
    where = f"WHERE {' AND '.join(sql for sql, _ in chosen)}" if chosen else ""
    values = {name: value for _, values in chosen for name, value in values.items()}
    statement = Statement(
        f"SELECT {PAYMENT_COLUMNS} FROM payments {where} ORDER BY created_at DESC, payment_id DESC LIMIT :limit"
    )
    return statement(**values, limit=limit)
