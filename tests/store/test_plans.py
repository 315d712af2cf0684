"""Every look-up and every list page uses an index: we read PostgreSQL's plans on a table that is large enough for one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from pg8000.native import Connection

from bench.fill import fill
from contract import plans
from local.servers import connect
from payments.domain.operation import Draft
from payments.domain.payment import PaymentName, PaymentStatus
from payments.store import claims, due, lookups, outbox
from payments.store.connection import Bound
from payments.store.lookups import ListFilter, list_statement
from tests.servers import Postgres

ID = UUID("01936f4e-0000-7000-8000-000000000000")
NOW = datetime.now(UTC)
MONTHS_AGO = NOW - timedelta(days=200)

LOOKUPS: dict[str, Bound] = {
    "by id": lookups.THE_OWNERS["payment_id"](owner="owner-1", id=ID),
    "by id, admin": lookups.ANYBODYS["payment_id"](id=ID),
    "by transaction": lookups.THE_OWNERS["transaction_id"](owner="owner-1", id="txn_1"),
    "by transaction, admin": lookups.ANYBODYS["transaction_id"](id="txn_1"),
    "by order": lookups.THE_OWNERS["order_id"](owner="owner-1", id="order-1"),
    "by order, admin": lookups.ANYBODYS["order_id"](id="order-1"),
    "history": lookups.HISTORY(payment_id=ID, after=0, limit=21),
    "newest refunds": lookups.NEWEST_REFUNDS(payment_ids=[ID], limit=21),
    "refunds": lookups.REFUNDS(payment_id=ID, after_time=NOW, after_id=ID, limit=21),
    "state by key": claims.STATE_BY_KEY(owner="owner-1", kind="process", idempotency_key="key"),
    "state of an operation": claims.STATE(operation_id=ID),
    "authorizations that ran out": due.RUN_OUT(limit=10, but=[]),
    "events to replay": outbox.PUBLISHED_BETWEEN(to_time=NOW, after_time=MONTHS_AGO, after_id=ID, after_sequence=0, limit=10),
}

NAMED: dict[PaymentName, object] = {"transaction_id": "txn_1", "payment_id": ID, "order_id": "order-1"}
DRAFT = Draft(
    operation_id=ID, owner="owner-1", kind="refund", refund_id=ID, request_hash="h", gateway_key="k", created_at=NOW, lease_s=30.0
)
COMMANDS = {
    f"{what} by {name}": statement
    for name, value in NAMED.items()
    for what, statement in {
        "why not": lookups.STANDING[name](owner="owner-1", id=value),
        "capture or void": claims.CLAIM_ON_AUTHORIZATION[name](DRAFT, id=value),
        "refund": claims.CLAIM_REFUND[name](DRAFT, id=value),
    }.items()
}

PAGES = {
    f"{owner or 'admin'}, {which}": list_statement(owner, which, 21)
    for owner, order_id, status, since, after in product(
        ("owner-1", None),
        ("order-1", None),
        (PaymentStatus.FAILED, None),
        (MONTHS_AGO, None),
        ((NOW, ID), None),
    )
    for which in [ListFilter(order_id=order_id, status=status, created_from=since, created_to=since and NOW, after=after)]
}


Nodes = list[dict[str, Any]]


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[Connection]:
    database = postgres.new_database()
    fill(database.owner_url, 50_000)
    with contextlib.closing(connect(database.owner_url)) as connection:
        yield connection


@pytest.fixture
def in_order(filled: Connection) -> Iterator[Connection]:
    """A transaction in which PostgreSQL sorts and filters only when it lacks an index. A thousand rows of an owner are few
    enough that it would otherwise prefer to sort."""
    filled.run("BEGIN")
    filled.run("SET LOCAL enable_sort = off")
    filled.run("SET LOCAL enable_bitmapscan = off")
    yield filled
    filled.run("ROLLBACK")


def _plan(connection: Connection, statement: Bound) -> Nodes:
    answer = connection.execute_unnamed(f"EXPLAIN (FORMAT JSON) {statement.sql}", statement.values).rows[0][0]
    return list(_nodes((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _faults(nodes: Nodes) -> set[str]:
    """Return the nodes that read more rows than the page shows: a sort reads all matches, a filter drops rows of the index."""
    return {node["Node Type"] for node in nodes if node["Node Type"].endswith("Sort")} | {
        node["Filter"] for node in nodes if "Filter" in node
    }


@pytest.mark.parametrize("statements", [LOOKUPS, COMMANDS, PAGES], ids=["look-ups", "commands", "pages"])
def test_no_look_up_reads_a_whole_table(filled: Connection, statements: dict[str, Bound]) -> None:
    for name, statement in statements.items():
        nodes = _plan(filled, statement)
        scanned = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
        # PostgreSQL may scan the other tables, which are empty here.
        assert not {"payments", "payment_status_history", "refunds"} & set(scanned), name


WITHOUT_ORDER = [name for name, page in PAGES.items() if "order-1" not in page.values]


def test_a_page_reads_the_rows_it_shows_and_no_more(in_order: Connection) -> None:
    """We leave an order's pages out: an order has few payments, and PostgreSQL may filter and sort them."""
    faults = {name: _faults(_plan(in_order, PAGES[name])) for name in WITHOUT_ORDER}
    assert {name: found for name, found in faults.items() if found} == {}


@pytest.mark.parametrize(
    "index", ["payments_by_owner", "payments_by_owner_status", "payments_by_creation", "payments_by_status", "payments_by_order"]
)
def test_a_missing_index_is_seen(in_order: Connection, index: str) -> None:
    in_order.run(f"DROP INDEX {index}")
    faults = [_faults(_plan(in_order, PAGES[name])) for name in WITHOUT_ORDER]
    by_order = {node["Node Type"] for node in _plan(in_order, LOOKUPS["by order, admin"])}
    assert any(faults) or "Seq Scan" in by_order


def test_a_scan_of_the_whole_table_would_be_seen(filled: Connection) -> None:
    nodes = _plan(filled, Bound("SELECT * FROM payments WHERE description = $1", ("x",)))
    assert "Seq Scan" in {node["Node Type"] for node in nodes}


def test_a_plan_that_is_kept_reads_no_whole_table(filled: Connection) -> None:
    """Such a plan holds for any values. It is made on a table that is large enough for an index."""
    for name, statement in plans.named().items():
        [[answer]] = filled.execute_simple(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement.sql}").rows
        nodes = list(_nodes((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]))
        scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
        assert not scanned - {"refunds"}, name  # It has no rows here.
