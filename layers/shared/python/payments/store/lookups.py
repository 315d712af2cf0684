"""Look-ups. A caller finds the rows of its owner alone; `owner` None, for the admin scope, finds the rows of all owners.

The statements without an owner read rows of a payment that such a look-up has found.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from payments.domain.payment import Payment, PaymentName, PaymentStatus
from payments.domain.refund import Refund
from payments.store.claims import IN_FLIGHT, WHICH, by_name
from payments.store.connection import Bound, Database, Statement
from payments.store.rows import PAYMENT, REFUND, columns, payment_of, refund_of

PAYMENTS_WHERE = f"SELECT {columns(PAYMENT)} FROM payments WHERE"

# For an order its live payment, or its latest one when none is live.
_LATEST = "order_id = :id ORDER BY status NOT IN ('FAILED', 'VOIDED') DESC, created_at DESC, payment_id DESC LIMIT 1"
_by_name = partial(by_name, conditions={**WHICH, "order_id": _LATEST})
ANYBODYS = _by_name(f"{PAYMENTS_WHERE} {{which}}")
THE_OWNERS = _by_name(f"{PAYMENTS_WHERE} owner = :owner AND {{which}}")
# The caller whose claim was refused learns from one moment's state why, and whether waiting may help.
STANDING = _by_name(f"""
        SELECT EXISTS (SELECT FROM operations
                       WHERE payment_id = payments.payment_id AND kind <> 'refund' AND {IN_FLIGHT}), {columns(PAYMENT)}
        FROM payments WHERE owner = :owner AND {{which}}
""")
# A payment may have thousands of refunds, so each statement reads a bounded number of them.
NEWEST_REFUNDS = Statement(f"""
    SELECT {columns(REFUND, "refund")} FROM unnest(:payment_ids::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
        SELECT {columns(REFUND)} FROM refunds WHERE payment_id = wanted.id ORDER BY created_at DESC, refund_id DESC LIMIT :limit
    ) refund ORDER BY created_at, refund_id
""")
REFUNDS = Statement(f"""
    SELECT {columns(REFUND)} FROM refunds WHERE payment_id = :payment_id AND (created_at, refund_id) > (:after_time, :after_id)
    ORDER BY created_at, refund_id LIMIT :limit
""")
ONE_REFUND = Statement(f"""
    SELECT {columns(REFUND)} FROM refunds WHERE refund_id = :refund_id AND owner = COALESCE(:owner, owner)
""")
HISTORY = Statement("""
    SELECT version, from_status, to_status, at, reason FROM payment_status_history
    WHERE payment_id = :payment_id AND version > :after ORDER BY version LIMIT :limit
""")


def find_payment(db: Database, owner: str | None, name: PaymentName, value: object) -> Payment | None:
    """Return the payment whose id, transaction or order (the live payment, else the latest) has this value."""
    rows = db.run(ANYBODYS[name](id=value) if owner is None else THE_OWNERS[name](id=value, owner=owner))[0]
    return payment_of(rows[0]) if rows else None


def standing(db: Database, owner: str, name: PaymentName, value: object) -> tuple[Payment, bool] | None:
    """Return the payment, and whether an operation is in flight that may change its status."""
    rows = db.run(STANDING[name](id=value, owner=owner))[0]
    return (payment_of(rows[0][1:]), rows[0][0]) if rows else None


def newest_refunds(db: Database, payment_ids: list[UUID], limit: int) -> dict[UUID, list[Refund]]:
    """Return the newest `limit` refunds of each payment by payment id, oldest first. A payment without refunds is absent."""
    by_payment: dict[UUID, list[Refund]] = {}
    rows = db.run(NEWEST_REFUNDS(payment_ids=payment_ids, limit=limit))[0] if payment_ids else []
    for refund in map(refund_of, rows):
        by_payment.setdefault(refund.payment_id, []).append(refund)
    return by_payment


def refunds_after(db: Database, payment_id: UUID, after: tuple[datetime, UUID], limit: int) -> list[Refund]:
    """Return the `limit` refunds that follow the position `after` (a time and a refund's id), oldest first."""
    page = REFUNDS(payment_id=payment_id, after_time=after[0], after_id=after[1], limit=limit)
    return [refund_of(row) for row in db.run(page)[0]]


def find_refund(db: Database, owner: str | None, refund_id: UUID) -> Refund | None:
    rows = db.run(ONE_REFUND(refund_id=refund_id, owner=owner))[0]
    return refund_of(rows[0]) if rows else None


@dataclass(frozen=True, slots=True)
class StatusChange:
    version: int
    from_status: str | None
    to_status: str
    at: datetime
    reason: str


def history_after(db: Database, payment_id: UUID, after: int, limit: int) -> list[StatusChange]:
    """Return the `limit` status changes that follow the version `after` of the payment, oldest first."""
    return [StatusChange(*row) for row in db.run(HISTORY(payment_id=payment_id, after=after, limit=limit))[0]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """The payments that a list shows. `created_from` is inclusive, `created_to` exclusive, and both amounts are inclusive.

    `after` is the position of the last row of the page before.
    """

    order_id: str | None = None
    customer_id: str | None = None
    status: PaymentStatus | None = None
    payment_method: str | None = None
    currency: str | None = None
    amount_from: int | None = None
    amount_to: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    after: tuple[datetime, UUID] | None = None


SCANNED = 2000
"""A page reads so many payments at most. No index has the amount, the method or the currency, and behind a payment that fits may
be millions that do not. ADR 30 says why it is this number."""


def list_payments(
    db: Database, owner: str | None, which: ListFilter, limit: int, scanned: int = SCANNED
) -> tuple[list[Payment], Payment | None]:
    """Return at most `limit` payments, newest first, and the one at which the look-up gave up: after it there may be more.

    Rows inserted meanwhile shift nothing, because `after` is a row's key.
    """
    found = []
    for *row, fits, is_last in db.run(list_statement(owner, which, limit, scanned))[0]:
        payment = payment_of(row)
        found += [payment] if fits else []
        if is_last:
            return found, payment
    return found, None


_EQUAL = {name: f"{name} = :{name}" for name in ("owner", "order_id", "customer_id", "status", "payment_method", "currency")}
_GIVEN = _EQUAL | {"amount_from": "amount_minor >= :amount_from", "amount_to": "amount_minor <= :amount_to"}
_GIVEN |= {"created_from": "created_at >= :created_from", "created_to": "created_at < :created_to"}
_BY_TIME = _GIVEN | {"after_id": "(created_at, payment_id) < (:after_time, :after_id)"}
# Over all owners, and of a customer, an index has the newest first by id. None of these has `created_at`, so the time in the id
# bounds it: a function reads its clock for both, one right after the other.
_ID_AT = "rpad(lpad(to_hex(GREATEST(EXTRACT(EPOCH FROM {}) * 1000, 0)::bigint), 12, '0'), 32, '0')::uuid"
_BY_ID = _GIVEN | {"after_id": "payment_id < :after_id"}
_BY_ID["created_from"] += " AND payment_id >= " + _ID_AT.format(":created_from::timestamptz - interval '1 minute'")
_BY_ID["created_to"] += " AND payment_id < " + _ID_AT.format(":created_to::timestamptz + interval '1 minute'")
_RANGE = {"owner", "created_from", "created_to", "after_id"}

# The index of customers has the owner before the id, so that nobody passes another owner's customer of the same name. The admin
# scope reads on from owner to owner, and merges. What a page may read is shared out among the owners.
_OF_EACH_OWNER = """
    WITH RECURSIVE owners (name) AS (
        SELECT min(owner) FROM payments WHERE customer_id = :customer_id
        UNION ALL
        SELECT (SELECT min(owner) FROM payments WHERE customer_id = :customer_id AND owner > owners.name)
        FROM owners WHERE name IS NOT NULL
    ), share (most) AS (SELECT GREATEST(:limit, :scanned / count(*)) FROM owners)
"""


def list_statement(owner: str | None, which: ListFilter, limit: int, scanned: int) -> Bound:
    """Return the list's statement with the conditions of this filter alone, so that each combination finds its index.

    An index finds the payments of the order, of the customer or of the status, the first of these that is given. Most payments
    are CAPTURED, so that status has none. The other conditions are checked row by row, and never choose the index. A row has two
    members more: whether it fits, and whether it is the last that was read.
    """
    indexed = {"order_id": which.order_id, "customer_id": which.customer_id}
    indexed["status"] = which.status if which.status != PaymentStatus.CAPTURED else None
    sought = next((name for name, value in indexed.items() if value), "")
    (after_time, after_id), conditions, newest_first = which.after or (None, None), _BY_TIME, "created_at DESC, payment_id DESC"
    if owner is None or sought == "customer_id":
        after_time, conditions, newest_first = None, _BY_ID, "payment_id DESC"
    values = asdict(which) | {"after": None, "owner": owner, "limit": limit, "after_time": after_time, "after_id": after_id}
    given = {name: value for name, value in values.items() if value is not None}
    where = [sql for name, sql in conditions.items() if name in given and name in _RANGE | {sought}]
    checks = [sql for name, sql in conditions.items() if name in given and name not in _RANGE | {sought}]
    begin, each, most = "", "", ":scanned"
    if owner is None and sought == "customer_id":
        begin, each, most = _OF_EACH_OWNER, "owners CROSS JOIN LATERAL", "(SELECT most FROM share)"
        where.append("owner = owners.name")
    rows = f"FROM payments WHERE {' AND '.join(where) or 'true'} ORDER BY {newest_first} LIMIT"
    if not checks and not each:
        return Statement(f"SELECT {columns(PAYMENT)}, true, false {rows} :limit")(**given)
    sql = f"""{begin}
        SELECT {columns(PAYMENT)}, fits, place = {most} FROM {each} (
            SELECT {columns(PAYMENT)}, {" AND ".join(checks) or "true"} AS fits,
                   row_number() OVER (ORDER BY {newest_first}) AS place {rows} {most}
        ) seen WHERE fits OR place = {most} ORDER BY {newest_first} LIMIT :limit
    """
    return Statement(sql)(**given, scanned=scanned if checks else limit)
