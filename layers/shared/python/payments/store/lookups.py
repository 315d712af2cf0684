"""Look-ups. A caller finds the rows of its owner alone; `owner` None, for the admin scope, finds the rows of all owners.

The statements without an owner read rows of a payment that such a look-up has found.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID

from payments.domain.dispute import Dispute
from payments.domain.payment import Payment, PaymentName, PaymentStatus
from payments.domain.refund import Origin, Refund
from payments.store import disputes
from payments.store.claims import IN_FLIGHT
from payments.store.claims_on_payment import WHICH, by_name
from payments.store.connection import Bound, Database, Row, Statement
from payments.store.rows import PAYMENT, REFUND, columns, payment_of, refund_of

PAYMENTS_WHERE = f"SELECT {columns(PAYMENT)} FROM payments WHERE"

# For an order its live payment, or its latest one when none is live.
_LATEST = "order_id = :id ORDER BY status NOT IN ('FAILED', 'VOIDED') DESC, created_at DESC, payment_id DESC LIMIT 1"
_by_name = partial(by_name, conditions={**WHICH, "order_id": _LATEST})
ANYBODYS = _by_name(f"{PAYMENTS_WHERE} {{which}}")
THE_OWNERS = _by_name(f"{PAYMENTS_WHERE} owner = :owner AND {{which}}")
# The caller whose claim was refused learns from one moment's state why, and whether waiting may help.
STANDING = _by_name(f"""
    SELECT EXISTS (SELECT FROM operations WHERE payment_id = payments.payment_id AND kind <> 'refund' AND {IN_FLIGHT}),
        {columns(PAYMENT)} FROM payments WHERE owner = :owner AND {{which}}
""")
REFUND_AND_ORIGIN = f"{columns(REFUND, 'refunds')}, COALESCE(to_jsonb(refunds) ->> 'origin', 'service') AS origin"
"""Before migration 061 the column is not there, and the service made all refunds."""
# A payment may have thousands of refunds, so each statement reads a bounded number of them.
NEWEST_REFUNDS = Statement(f"""
    SELECT {columns((*REFUND, "origin"), "refund")} FROM unnest(:payment_ids::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
        SELECT {REFUND_AND_ORIGIN} FROM refunds
        WHERE payment_id = wanted.id ORDER BY created_at DESC, refund_id DESC LIMIT :limit
    ) refund ORDER BY created_at, refund_id
""")
REFUNDS = Statement(f"""
    SELECT {REFUND_AND_ORIGIN} FROM refunds
    WHERE payment_id = :payment_id AND (created_at, refund_id) > (:after_time, :after_id)
    ORDER BY created_at, refund_id LIMIT :limit
""")
ONE_REFUND = Statement(f"""
    SELECT {REFUND_AND_ORIGIN} FROM refunds WHERE refund_id = :refund_id AND owner = COALESCE(:owner, owner)
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


# Before migration 050 the column is not there.
GATEWAY_OF = Statement("SELECT to_jsonb(payments) ->> 'gateway' FROM payments WHERE payment_id = :payment_id")


def gateway_of(db: Database, payment_id: UUID) -> str | None:
    """Return the gateway that took the payment, which exists; None where no migration has added that column yet."""
    gateway: str | None = db.run(GATEWAY_OF(payment_id=payment_id))[0][0][0]
    return gateway


def newest(db: Database, payment_ids: list[UUID], limit: int) -> tuple[dict[UUID, list[Refund]], dict[UUID, list[Dispute]]]:
    """Return the newest `limit` refunds and disputes of each payment by payment id, oldest first. A payment without any is
    absent."""
    refunds, found = dict[UUID, list[Refund]](), dict[UUID, list[Dispute]]()
    if payment_ids:
        rows, others = db.run(NEWEST_REFUNDS(payment_ids=payment_ids, limit=limit), disputes.newest(payment_ids, limit))
        for refund in map(refund_with_origin, rows):
            refunds.setdefault(refund.payment_id, []).append(refund)
        for dispute in map(disputes.dispute_of, others):
            found.setdefault(dispute.payment_id, []).append(dispute)
    return refunds, found


def refunds_after(db: Database, payment_id: UUID, after: tuple[datetime, UUID], limit: int) -> list[Refund]:
    """Return the `limit` refunds that follow the position `after` (a time and a refund's id), oldest first."""
    page = REFUNDS(payment_id=payment_id, after_time=after[0], after_id=after[1], limit=limit)
    return [refund_with_origin(row) for row in db.run(page)[0]]


def find_refund(db: Database, owner: str | None, refund_id: UUID) -> Refund | None:
    """Return the refund if it is the owner's; None for `owner` finds that of any owner."""
    rows = db.run(ONE_REFUND(refund_id=refund_id, owner=owner))[0]
    return refund_with_origin(rows[0]) if rows else None


def refund_with_origin(row: Row) -> Refund:
    return replace(refund_of(row[:-1]), origin=Origin(row[-1]))


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

    `after_time` and `after_id` are the position of the last row of the page before.
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
    after_time: datetime | None = None
    after_id: UUID | None = None


SCANNED = 2000
"""The most payments that a page reads. No index has the amount, the method or the currency, and behind a payment that fits may
be millions that do not. ADR 30 says why it is this number."""


def list_payments(
    db: Database, owner: str | None, which: ListFilter, limit: int, scanned: int = SCANNED
) -> tuple[list[Payment], Payment | None]:
    """Return at most `limit` payments, newest first, and the one at which the look-up gave up: after it there may be more.

    Rows inserted meanwhile shift nothing, because the position is a row's key.
    """
    found, anybodys = [], owner is None and (which.order_id or which.customer_id)
    owners = db.run(owners_statement(which, limit, scanned))[0] if anybodys else []
    for *row, fits, is_last in db.run(list_statement(owner, which, limit, scanned, owners))[0]:
        payment = payment_of(row)
        found += [payment] if fits else []
        if is_last:
            return found, payment
    return found, None


_EQUAL = {name: f"{name} = :{name}" for name in ("owner", "order_id", "customer_id", "status", "payment_method", "currency")}
_GIVEN = _EQUAL | {"amount_from": "amount_minor >= :amount_from", "amount_to": "amount_minor <= :amount_to"}
_GIVEN |= {"created_from": "created_at >= :created_from", "created_to": "created_at < :created_to"}
_BY_TIME = _GIVEN | {"after_id": "(created_at, payment_id) < (:after_time, :after_id)"}
# Over all owners, and of an order or a customer, an index has the newest first by id. None of these has `created_at`, so the time
# in the id bounds it: a function reads its clock for both, one right after the other.
_ID_AT = "rpad(lpad(to_hex(GREATEST(EXTRACT(EPOCH FROM {}) * 1000, 0)::bigint), 12, '0'), 32, '0')::uuid"
_BY_ID = _GIVEN | {"after_id": "payment_id < :after_id"}
_BY_ID["created_from"] += " AND payment_id >= " + _ID_AT.format(":created_from::timestamptz - interval '1 minute'")
_BY_ID["created_to"] += " AND payment_id < " + _ID_AT.format(":created_to::timestamptz + interval '1 minute'")
_RANGE = {"owner", "created_from", "created_to", "after_id"}

# The indexes of orders and of customers have the owner before the id, so that nobody passes another owner's customer of the same
# name. The admin scope reads on from owner to owner, and then the payments of those whose newest are the newest. When more owners
# have such a payment than a page may read, it finds none of them.
_OWNERS = """
    WITH RECURSIVE owners (name, n) AS (SELECT min(owner), 0 FROM payments WHERE {key} UNION ALL
        SELECT (SELECT min(owner) FROM payments WHERE {key} AND owner > name), n + 1
        FROM owners WHERE name IS NOT NULL AND n < :scanned)
    SELECT name, (SELECT payment_id FROM payments WHERE {where} ORDER BY payment_id DESC LIMIT 1) AS newest
    FROM owners WHERE (n = 0 OR name IS NOT NULL) AND (SELECT max(n) FROM owners) < :scanned
    ORDER BY newest DESC NULLS LAST LIMIT :limit
"""
_OWNED = "order_id", "customer_id"


def owners_statement(which: ListFilter, limit: int, scanned: int) -> Bound:
    """Return the statement for the owners of the order or of the customer, those with the newest payments first."""
    where = ["owner = name", key := _EQUAL["order_id" if which.order_id else "customer_id"]]
    where += [sql for name, sql in _BY_ID.items() if name in _RANGE and getattr(which, name, None) is not None]
    return Statement(_OWNERS.format(key=key, where=" AND ".join(where)))(which, limit=limit, scanned=scanned)


def list_statement(owner: str | None, which: ListFilter, limit: int, scanned: int, owners: Sequence[Row] = ()) -> Bound:
    """Return the list's statement with the conditions of this filter alone, so that each combination finds its index.

    An index finds the payments of the order, of the customer or of the status, the first of these that is given. Most payments
    are CAPTURED, so that status has none, and over all owners orders and customers have one for these `owners` alone. The other
    conditions are checked row by row, and never choose the index. A row has two members more: whether it fits, and whether it is
    the last that was read.
    """
    given = {name: value for name, value in (asdict(which) | {"owner": owner}).items() if value is not None}
    indexed = (*(_OWNED if owner is not None or owners else ()), "status")
    sought = next((name for name in indexed if given.get(name, PaymentStatus.CAPTURED) is not PaymentStatus.CAPTURED), "")
    conditions = _BY_ID if owner is None or sought in _OWNED else _BY_TIME
    newest_first = "payment_id DESC" if conditions is _BY_ID else "created_at DESC, payment_id DESC"
    where = [sql for name, sql in conditions.items() if name in given and name in _RANGE | {sought}]
    checks = [sql for name, sql in conditions.items() if name in given and name not in _RANGE | {sought}]
    each, is_last, most = "", "place = :most", scanned if checks else limit
    values: dict[str, object] = {} if owner is None else {"owner": owner}
    if owners:
        each, is_last = "unnest(:owners::text[]) AS one (name) CROSS JOIN LATERAL", "(place = :most OR payment_id = :until)"
        where.append("owner = name")
        # Any further owner has no payment as new as the newest of the last one of these.
        values = {"owners": [name for name, _ in owners], "until": owners[-1][1] if len(owners) == limit else None}
        most = max(1, min(most, scanned // len(owners)))
    sql = f"""
        SELECT {columns(PAYMENT)}, fits, {is_last} FROM {each} (
            SELECT {columns(PAYMENT)}, {" AND ".join(checks) or "true"} AS fits,
                   row_number() OVER (ORDER BY {newest_first}) AS place
            FROM payments WHERE {" AND ".join(where) or "true"} ORDER BY {newest_first} LIMIT :most
        ) seen WHERE fits OR {is_last} ORDER BY {newest_first} LIMIT :limit
    """
    return Statement(sql)(which, **values, most=most, limit=limit)
