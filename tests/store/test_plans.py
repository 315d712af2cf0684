"""Every look-up and every list page uses an index and reads a bounded number of rows, and every index serves a statement or is a
guard: we read PostgreSQL's plans on tables that are large enough for one."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from pg8000.native import Connection

from bench.fill import OWNERS, fill
from contract import plans
from local.servers import connect
from payments.domain.operation import Draft
from payments.domain.payment import PaymentName, PaymentStatus
from payments.store import backlog, claims, due, lookups, outbox, settlement, webhooks
from payments.store.connection import Bound, Statement
from payments.store.lookups import ListFilter, list_statement
from tests.domain.examples import payment, row_values
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
    "a refund": lookups.ONE_REFUND(owner="owner-1", refund_id=ID),
    "a refund, admin": lookups.ONE_REFUND(owner=None, refund_id=ID),
    "refunds": lookups.REFUNDS(payment_id=ID, after_time=NOW, after_id=ID, limit=21),
    "state by key": claims.STATE_BY_KEY(owner="owner-1", kind="process", idempotency_key="key"),
    "state of an operation": claims.STATE(operation_id=ID),
    "authorizations that ran out": due.RUN_OUT(limit=10, but=[]),
    "events to replay": backlog.PUBLISHED_BETWEEN(to_time=NOW, after_time=MONTHS_AGO, after_id=ID, after_sequence=0, limit=10),
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

MIDDLE = UUID(int=int((NOW - timedelta(days=100)).timestamp() * 1000) << 80)
SCANNED = 100
"""A page of these tests reads so many payments at most. Of each owner the table has ten times as many."""

CHECKED: tuple[dict[str, Any], ...] = (
    {},
    {"payment_method": "stripe"},
    {"amount_from": 2000, "amount_to": 3000, "currency": "USD"},
)
"""What no index has, and no payment."""

FILTERS = [
    (owner, ListFilter(order_id=order_id, customer_id=customer_id, status=status, after=after, **period, **checked))
    for owner, order_id, customer_id, status, period, after, checked in product(
        ("owner-1", None),
        ("order-1", None),
        ("guest", None),
        (PaymentStatus.REFUNDED, PaymentStatus.CAPTURED, None),
        ({"created_from": MONTHS_AGO, "created_to": NOW}, {}),
        ((NOW - timedelta(days=100), MIDDLE), None),
        CHECKED,
    )
]
PAGES = {f"{owner or 'admin'}, {which}": list_statement(owner, which, 21, SCANNED) for owner, which in FILTERS}
OF_AN_ORDER = {f"{owner or 'admin'}, {which}" for owner, which in FILTERS if which.order_id}
OF_EACH_OWNER = {f"admin, {which}" for owner, which in FILTERS if owner is None and which.customer_id} - OF_AN_ORDER

MORE_VALUES: dict[str, object] = {
    "idempotency_key": "key", "payment_ids": [ID], "event_id": ID, "after": 0, "after_id": ID, "after_time": NOW,
    "after_sequence": 0, "ids": [ID], "from_time": MONTHS_AGO, "to_time": NOW, "limit": 10, "but": [], "followers": 50,
    "lease_s": 30.0, "publish_lease_s": 30.0, "key_lifetime_s": 1e5, "schedule_s": [2.0], "keep_days": 7, "week_days": 7,
    "version_before": 2, "amount_minor": 1, "sequence": 1, "type": "payment.successful", "data": "{}", "traceparent": None,
    "refund_status": None, "recorded": {}, "refund_decline_code": None, "reply": {}, "outcome": "succeeded", "attempt": 1,
    "event_sequence": 1, "webhook_id": ID, "webhook_ids": [ID], "sequences": [1], "url": "https://shop.example.com/",
    "event_types": ["payment.failed"], "secret": "whsec_", "overlap_s": 60.0, "most": 10, "at_once": 8, "of_owner": 32,
    "error": "timed out",
    "is_gone": False, "is_lost": False,
}  # fmt: skip
"""For the parameters that are no field of DRAFT or of a payment."""


def _statements() -> Iterator[tuple[str, Bound]]:
    """Everything that the store sends, by its name. A look-up or a job that is written tomorrow is in it, too."""
    for module in (backlog, claims, due, lookups, outbox, settlement, webhooks):
        for name, value in vars(module).items():
            ways = value if isinstance(value, Mapping) else {"": value}
            for way, statement in ways.items():
                if isinstance(statement, Statement):
                    known = row_values(payment()) | {f.name: getattr(DRAFT, f.name) for f in fields(DRAFT)} | MORE_VALUES
                    known["id"] = next((value for known_as, value in NAMED.items() if known_as == way), ID)
                    yield f"{name} {way}".strip(), statement(**{name: known[name] for name in statement._names})
    yield from PAGES.items()


GUARDS = {
    "operations_gateway_key_unique": "one gateway key is one operation: else money moves once and is counted twice",
    "payments_one_live_per_order": "an order is paid once",
    "operations_one_in_flight_but_refunds": "a payment is not captured and voided at once",
    "outbox_closed_pkey": "turn_outbox notes each table once",
    "schema_migrations_pkey": "a migration is applied once",
}
FOR_THE_LAST_RELEASE = {"outbox_published": "its relay prunes by it"}


OPERATIONS = """
INSERT INTO operations (operation_id, owner, kind, payment_id, amount_minor, idempotency_key, request_hash, gateway_key, attempt,
                        lease_until, outcome, reply, created_at, settled_at)
SELECT payment_id, owner, 'process', payment_id, amount_minor, order_id, 'h', 'pay-' || payment_id, 1,
       created_at, 'succeeded', '{}', created_at, created_at FROM payments
"""
EVENTS = """
INSERT INTO outbox (event_id, payment_id, sequence, type, data, created_at, lease_until, published_at)
SELECT payment_id, payment_id, 1, 'payment.successful', '{}', created_at, created_at, created_at FROM payments
"""

WEBHOOKS = """
INSERT INTO webhooks (webhook_id, owner, url, secret, created_at, next_attempt_at)
SELECT gen_random_uuid(), 'owner-' || n, 'https://shop.example.com/', 'whsec_', now(), now() FROM generate_series(1, 1000) n
"""
DELIVERIES = """
INSERT INTO webhook_deliveries (webhook_id, payment_id, sequence, created_at, next_attempt_at, lease_until, failed_at)
SELECT webhook_id, gen_random_uuid(), n, now() - n * interval '1 hour', now(), CASE WHEN n = 1 THEN now() END,
       CASE WHEN n = 2 THEN now() END
FROM webhooks, generate_series(1, 50) n
"""

Nodes = list[dict[str, Any]]


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[Connection]:
    database = postgres.new_database()
    fill(database.owner_url, 50_000)
    with contextlib.closing(connect(database.owner_url)) as connection:
        connection._usock.settimeout(None)
        connection.run(OPERATIONS)
        connection.run(EVENTS)
        connection.run(WEBHOOKS)
        connection.run(DELIVERIES)
        connection.run("ANALYZE operations, outbox, webhooks, webhook_deliveries")
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


ID_INDEXES = ("payments_pkey", "payments_not_captured", "payments_of_customer")


def _faults(nodes: Nodes) -> set[str]:
    """Return the nodes that read more rows than the page shows: a sort reads all matches, a filter drops rows of the index."""
    found = {node["Node Type"] for node in nodes if node["Node Type"].endswith("Sort")}
    for node in nodes:
        parts = set(re.sub(r"^\((\(.*\))\)$", r"\1", node.get("Filter", "")).split(" AND ")) - {""}
        if node["Node Type"] == "Subquery Scan":
            continue  # It checks what the scan below it has read, and that reads SCANNED payments at most.
        # A range is bounded by ids, whose times are at most a minute away from `created_at`.
        if node.get("Index Name") in ID_INDEXES and "payment_id" in node.get("Index Cond", ""):
            parts = {part for part in parts if "created_at" not in part}
        found |= parts
    return found


@pytest.mark.parametrize("statements", [LOOKUPS, COMMANDS, PAGES], ids=["look-ups", "commands", "pages"])
def test_no_look_up_reads_a_whole_table(filled: Connection, statements: dict[str, Bound]) -> None:
    for name, statement in statements.items():
        nodes = _plan(filled, statement)
        scanned = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
        # PostgreSQL may scan the other tables, which are empty here.
        assert not {"payments", "payment_status_history", "refunds"} & set(scanned), name


WITHOUT_ORDER = PAGES.keys() - OF_AN_ORDER - OF_EACH_OWNER


def test_a_page_reads_the_rows_that_it_shows_or_checks_and_no_more(in_order: Connection) -> None:
    """We leave an order's pages out: an order has few payments, and PostgreSQL may filter and sort them. It also sorts what
    it has read of each owner's customer."""
    faults = {name: _faults(_plan(in_order, PAGES[name])) for name in WITHOUT_ORDER}
    assert {name: found for name, found in faults.items() if found} == {}


def _payments_read(connection: Connection, statement: Bound) -> int:
    """Carry the statement out, and return how many payments it read."""
    answer = connection.execute_unnamed(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.sql}", statement.values).rows[0][0]
    nodes = list(_nodes((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]))
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(
        round((node["Actual Rows"] + sum(node.get(name, 0) for name in removed)) * node["Actual Loops"])
        for node in nodes
        if node.get("Relation Name") == "payments"
    )


def test_a_filter_that_nothing_fits_ends_after_a_bounded_number_of_payments(filled: Connection) -> None:
    """50,000 payments, 1,000 of each owner, and behind the filters none that fits. PostgreSQL plans as it likes."""
    read = {name: _payments_read(filled, page) for name, page in PAGES.items()}
    assert SCANNED <= max(read[name] for name in WITHOUT_ORDER) <= SCANNED + 2, "a range by ids has its minutes at each end"
    assert max(read[name] for name in OF_AN_ORDER) <= 4
    each = {name: count for name, count in read.items() if name in OF_EACH_OWNER}
    assert max(each.values()) <= OWNERS * (21 + 1), "of each owner a page, and the entry that names the next owner"


def test_a_scan_without_a_bound_would_be_seen(filled: Connection) -> None:
    for owner, rows in ("owner-1", 1_000), (None, 50_000):
        assert _payments_read(filled, list_statement(owner, ListFilter(payment_method="stripe"), 21, 10**6)) == rows


def test_a_page_that_is_full_at_once_reads_little_more_than_it_shows(filled: Connection) -> None:
    for which in ListFilter(payment_method="paypal"), ListFilter(customer_id="guest", amount_to=1999):
        assert _payments_read(filled, list_statement("owner-1", which, 21, SCANNED)) <= 3 * 21 + 2


@pytest.mark.parametrize(
    "index",
    ["payments_of_customer", "payments_by_owner", "payments_of_owner_not_captured", "payments_not_captured", "payments_of_order"],
)
def test_a_missing_index_is_seen(in_order: Connection, index: str) -> None:
    in_order.run(f"DROP INDEX {index}")
    faults = [_faults(_plan(in_order, PAGES[name])) for name in WITHOUT_ORDER]
    by_order = {node["Node Type"] for node in _plan(in_order, LOOKUPS["by order, admin"])}
    assert any(faults) or "Seq Scan" in by_order


def test_a_scan_of_the_whole_table_would_be_seen(filled: Connection) -> None:
    nodes = _plan(filled, Bound("SELECT * FROM payments WHERE description = $1", ("x",)))
    assert "Seq Scan" in {node["Node Type"] for node in nodes}


def _indexes_used(connection: Connection) -> set[str]:
    return {node["Index Name"] for _, bound in _statements() for node in _plan(connection, bound) if "Index Name" in node}


def _indexes(connection: Connection) -> set[str]:
    rows = connection.run("SELECT relname FROM pg_class WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace")
    return {name for (name,) in rows or []}


def test_every_index_serves_a_statement_that_the_service_sends_or_is_a_guard(in_order: Connection) -> None:
    used = _indexes_used(in_order)
    in_order.run("SET LOCAL enable_sort = on")
    in_order.run("SET LOCAL enable_bitmapscan = on")
    used |= _indexes_used(in_order)
    assert _indexes(in_order) - used == GUARDS.keys() | FOR_THE_LAST_RELEASE.keys()


def test_an_index_that_nothing_uses_is_seen(in_order: Connection) -> None:
    in_order.run("CREATE INDEX of_no_use ON payments (description, created_at)")
    assert "of_no_use" in _indexes(in_order) - _indexes_used(in_order)


def test_a_plan_that_is_kept_reads_no_whole_table(filled: Connection) -> None:
    """Such a plan holds for any values. It is made on a table that is large enough for an index."""
    for name, statement in plans.named().items():
        [[answer]] = filled.execute_simple(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement.sql}").rows
        nodes = list(_nodes((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]))
        scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
        assert not scanned - {"refunds"}, name  # It has no rows here.
