"""Every look-up and every list page finds an index, read from PostgreSQL's own plans on a table that is worth one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from bench.books import fill
from payments.domain.payment import PaymentStatus
from payments.store import claims, lookups, outbox
from payments.store.connection import Bound, Database
from payments.store.lookups import ListFilter, list_statement
from tests.servers import Postgres

ID = UUID("01936f4e-0000-7000-8000-000000000000")
NOW = datetime.now(UTC)
MONTH_AGO = NOW - timedelta(days=30)

LOOKUPS: dict[str, Bound] = {
    "by id": lookups.BY_ID[True](owner="owner-1", id=ID),
    "by id, admin": lookups.BY_ID[False](id=ID),
    "by transaction": lookups.BY_TRANSACTION[True](owner="owner-1", id="txn_1"),
    "by transaction, admin": lookups.BY_TRANSACTION[False](id="txn_1"),
    "by order": lookups.BY_ORDER[True](owner="owner-1", id="order-1"),
    "by order, admin": lookups.BY_ORDER[False](id="order-1"),
    "history": lookups.HISTORY(payment_id=ID),
    "refunds": lookups.REFUNDS_OF(payment_id=ID),
    "refunds of a page": lookups.REFUNDS_OF_ALL(payment_ids=[ID]),
    "refund": lookups.REFUND_BY_ID(refund_id=ID),
    "operation by key": lookups.OPERATION_BY_KEY(owner="owner-1", kind="process", idempotency_key="key"),
    "operation by id": lookups.OPERATION_BY_ID(operation_id=ID),
    "authorizations that ran out": claims.RUN_OUT(limit=10),
    "events to replay": outbox.PUBLISHED_BETWEEN(
        from_time=MONTH_AGO, to_time=NOW, after_time=MONTH_AGO, after_id=ID, after_sequence=0, limit=10
    ),
}

PAGES = {
    f"{owner or 'admin'}, {which}": list_statement(owner, which, 21)
    for owner, order_id, status, since, after in product(
        ("owner-1", None),
        ("order-1", None),
        (PaymentStatus.CAPTURED, PaymentStatus.VOIDED, None),
        (MONTH_AGO, None),
        ((NOW, ID), None),
    )
    for which in [ListFilter(order_id=order_id, status=status, created_from=since, created_to=since and NOW, after=after)]
}


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[Database]:
    database = postgres.new_database()
    fill(database.owner_url, 20_000)
    db = Database.at(database.service_url)
    yield db
    db.close()


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _plan(db: Database, statement: Bound) -> list[dict[str, Any]]:
    told = db.run(Bound(f"EXPLAIN (FORMAT JSON) {statement.sql}", statement.values))[0][0][0]
    return list(_nodes((json.loads(told) if isinstance(told, str) else told)[0]["Plan"]))


@pytest.mark.parametrize("name", [*LOOKUPS, *PAGES])
def test_no_look_up_reads_a_whole_table(filled: Database, name: str) -> None:
    nodes = _plan(filled, (LOOKUPS | PAGES)[name])
    scanned = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
    # Tables that are empty here are cheapest to read whole; the filled ones never are.
    assert not {"payments", "payment_status_history", "refunds"} & set(scanned)


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if "order-1" not in page.values])
def test_a_page_is_read_in_order_and_not_sorted(filled: Database, name: str) -> None:
    """A sort would read all that matches before the first row; only an order's handful of payments may be sorted."""
    assert "Sort" not in {node["Node Type"] for node in _plan(filled, PAGES[name])}


def test_a_scan_of_the_whole_table_would_be_seen(filled: Database) -> None:
    nodes = _plan(filled, Bound("SELECT * FROM payments WHERE description = $1", ("x",)))
    assert "Seq Scan" in {node["Node Type"] for node in nodes}
