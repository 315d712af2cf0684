"""Every look-up and every list page uses an index and reads a bounded number of rows, and every index serves a statement or is a
guard: we read PostgreSQL's plans on tables that are large enough for one."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from pg8000.native import Connection

from bench.fill import OWNERS, fill
from contract import plans
from local.servers import connect
from payments.domain.operation import Draft
from payments.domain.payment import PaymentName, PaymentStatus
from payments.store import (
    backlog,
    claims,
    claims_on_payment,
    disputes,
    due,
    gateway_events,
    lookups,
    outbox,
    outside,
    waiting,
    webhooks,
)
from payments.store.connection import Bound, Statement
from payments.store.lookups import ListFilter, list_statement, owners_statement
from tests.domain.examples import dispute, payment, row_values
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
    "newest disputes": disputes.newest([ID], 21),
    "newest refunds": lookups.NEWEST_REFUNDS(payment_ids=[ID], limit=21),
    "a refund": lookups.ONE_REFUND(owner="owner-1", refund_id=ID),
    "a refund, admin": lookups.ONE_REFUND(owner=None, refund_id=ID),
    "refunds": lookups.REFUNDS(payment_id=ID, after_time=NOW, after_id=ID, limit=21),
    "state by key": claims.STATE_BY_KEY(owner="owner-1", kind="process", idempotency_key="key"),
    "state of an operation": claims.STATE(operation_id=ID),
    "authorizations that ran out": due.RUN_OUT(gateway="simulated", limit=10, but=[]),
    "books of a payment": outside.BOOKS(payment_id=ID),
    "refunds of the books": outside.BOOKED(payment_id=ID),
    "operations of a payment": due.CLAIM_OF_PAYMENT(payment_id=ID, limit=16, lease_s=30.0),
    "events to replay": backlog.PUBLISHED_BETWEEN(to_time=NOW, after_time=MONTHS_AGO, after_id=ID, after_sequence=0, limit=10),
}

NAMED: dict[PaymentName, object] = {"transaction_id": "txn_1", "payment_id": ID, "order_id": "order-1"}
DRAFT = Draft(
    operation_id=ID,
    owner="owner-1",
    kind="refund",
    refund_id=ID,
    request_hash="h",
    gateway_key="k",
    created_at=NOW,
    lease_s=30.0,
    gateway="simulated",
    key_lifetime_s=82800,
)
COMMANDS = {
    f"{what} by {name}": statement
    for name, value in NAMED.items()
    for what, statement in {
        "why not": lookups.STANDING[name](owner="owner-1", id=value),
        "capture or void": claims_on_payment.CLAIM_ON_AUTHORIZATION[name](DRAFT, id=value),
        "refund": claims_on_payment.CLAIM_REFUND[name](DRAFT, id=value),
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
    (owner, ListFilter(order_id=order_id, customer_id=customer_id, status=status, **after, **period, **checked))
    for owner, order_id, customer_id, status, period, after, checked in product(
        ("owner-1", None),
        ("order-1", "retried", None),
        ("guest", None),
        (PaymentStatus.REFUNDED, PaymentStatus.CAPTURED, None),
        ({"created_from": MONTHS_AGO, "created_to": NOW}, {}),
        ({"after_time": NOW - timedelta(days=100), "after_id": MIDDLE}, {}),
        CHECKED,
    )
]
MERGED = {f"admin, {which}": which for owner, which in FILTERS if owner is None and (which.order_id or which.customer_id)}
OF_EACH_OWNER = {name: owners_statement(which, 21, SCANNED) for name, which in MERGED.items()}
PAGES = {
    name: list_statement(owner, which, 21, SCANNED, [[f"owner-{n}", MIDDLE] for n in range(21)] if name in MERGED else [])
    for owner, which in FILTERS
    for name in [f"{owner or 'admin'}, {which}"]
}

MORE_VALUES: dict[str, object] = {
    "idempotency_key": "key", "payment_ids": [ID], "event_id": ID, "after": 0, "after_id": ID, "after_time": NOW,
    "after_sequence": 0, "ids": [ID], "from_time": MONTHS_AGO, "to_time": NOW, "limit": 10, "but": [], "followers": 50,
    "lease_s": 30.0, "publish_lease_s": 30.0, "key_lifetime_s": 1e5, "schedule_s": [2.0],
    "wait_s": None, "key_is_spent": False, "gateway": "simulated", "gateway_refund_id": "re_1", "refunded_at": NOW,
    "keep_days": 7, "week_days": 7, "window": timedelta(hours=1), "void_id": ID, "pause_s": 2.0, "gateway_dispute_id": "dp_1",
    "version_before": 2, "amount_minor": 1, "sequence": 1, "type": "payment.successful", "data": "{}", "traceparent": None,
    "refund_status": None, "recorded": {}, "refund_decline_code": None, "reply": {}, "outcome": "succeeded", "attempt": 1,
    "event_sequence": 1, "webhook_id": ID, "webhook_ids": [ID], "sequences": [1], "attempts": [1], "url": "https://shop.example.com/",
    "event_types": ["payment.failed"], "secret": "whsec_", "overlap_s": 60.0, "most": 10, "at_once": 8, "of_owner": 16,
    "error": "timed out", "is_gone": False, "is_lost": False, "is_slow": False, "is_again": False, "slow": 32, "slow_ids": [ID],
    "door": "pull", "event_ids": ["evt_1"], "types": ["refund.failed"], "payment_intent_id": "pi_1",
    "payment_intent_ids": ["pi_1"], "created": [NOW], "waits_s": [5.0], "longest_s": 86400.0, "begun_at": NOW,
    "moment": NOW, "why": "the gateway has canceled it",
}  # fmt: skip
"""For the parameters that are no field of DRAFT or of a payment."""


def _statements() -> Iterator[tuple[str, Bound]]:
    """Everything that the store sends, by its name. A look-up or a job that is written tomorrow is in it, too."""
    for name in plans.STORE:
        yield from _statements_of(importlib.import_module(name))
    yield from PAGES.items()
    yield from OF_EACH_OWNER.items()


def _statements_of(module: ModuleType) -> Iterator[tuple[str, Bound]]:
    rows = row_values(dispute()) | row_values(payment()) | {f.name: getattr(DRAFT, f.name) for f in fields(DRAFT)}
    for name, value in vars(module).items():
        ways = value if isinstance(value, Mapping) else {"": value}
        for way, statement in ways.items():
            if isinstance(statement, Statement):
                known = rows | MORE_VALUES
                known["id"] = next((value for known_as, value in NAMED.items() if known_as == way), ID)
                yield f"{name} {way}".strip(), statement(**{name: known[name] for name in statement._names})


GUARDS = {
    "payments_one_live_per_order": "an order is paid once",
    "disputes_one_per_gateway_dispute": "what the gateway calls one dispute is one payment's",
    "refunds_one_per_gateway_refund": "what the gateway gave back once is one refund",
    "operations_one_in_flight_after_process": "a payment is not captured and voided at once",
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

DISPUTES = """
INSERT INTO disputes (dispute_id, gateway, gateway_dispute_id, payment_id, owner, amount_minor, currency, reason, status, outcome,
                      due_by, is_refundable, created_at, updated_at, version)
SELECT payment_id, 'simulated', payment_id, payment_id, owner, amount_minor, currency, 'fraudulent', 'lost',
       CASE WHEN random() < 0.99 THEN 'lost' END, created_at + interval '7 days', false, created_at, updated_at, 4
FROM payments LIMIT 5000
"""

ATTEMPTS, FEW, MANY = 3_000, 80, 300
"""So many attempts has one order, and so many owners have an order and a customer of the same name."""
COPIES = f"""
INSERT INTO payments SELECT made.* FROM (SELECT * FROM payments WHERE status = 'FAILED' LIMIT 1) p, (
    SELECT jsonb_build_object('owner', 'owner-1', 'order_id', 'retried') FROM generate_series(1, {ATTEMPTS}) UNION ALL
    SELECT jsonb_build_object('owner', 'shop-' || n, 'order_id', which, 'customer_id', which)
    FROM (VALUES ('few', {FEW}), ('many', {MANY})) names (which, owners), generate_series(1, owners) n
) changes (by), jsonb_populate_record(NULL::payments, to_jsonb(p) || by || jsonb_build_object(
    'payment_id', overlay(gen_random_uuid()::text PLACING left(p.payment_id::text, 13) FROM 1),
    'transaction_id', 'txn_' || gen_random_uuid(), 'payment_intent_id', 'pi_' || gen_random_uuid()
)) made
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

GATEWAY_EVENTS = """
INSERT INTO gateway_events (gateway, event_id, type, payment_intent_id, created_at, received_at, door,
                            next_attempt_at, handled_at, outcome)
SELECT 'simulated', 'evt_' || n, 'refund.failed', 'pi_' || n, now(), now(), 'pull',
       CASE WHEN n % 2 = 0 THEN now() END, CASE WHEN n % 2 = 1 THEN now() END, CASE WHEN n % 2 = 1 THEN 'settled' END
FROM generate_series(1, 20000) n
"""

BUSY = ("operations", "outbox", "webhooks", "webhook_deliveries", "gateway_events")
BURST = {
    OPERATIONS.replace(
        "created_at, 'succeeded', '{}', created_at, created_at", "created_at, NULL, NULL, created_at, NULL"
    ): "LIMIT 30",
    EVENTS.replace("created_at, created_at, created_at FROM", "created_at, created_at, NULL FROM"): "LIMIT 30",
    DELIVERIES.replace("CASE WHEN n = 2 THEN now() END", "NULL"): "WHERE owner = 'owner-1'",
    GATEWAY_EVENTS.replace("n % 2 = ", "0 = "): "WHERE n < 30",
}
"""What makes the rows that wait for a job, and what of them is there in a quiet hour."""

Nodes = list[dict[str, Any]]


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[Connection]:
    database = postgres.new_database()
    fill(database.owner_url, 50_000)
    with contextlib.closing(connect(database.owner_url)) as connection:
        connection._usock.settimeout(None)
        connection.run(OPERATIONS)
        connection.run(EVENTS)
        connection.run(DISPUTES)
        connection.run(WEBHOOKS)
        connection.run(DELIVERIES)
        connection.run(GATEWAY_EVENTS)
        connection.run("ALTER TABLE payments DISABLE TRIGGER USER")
        connection.run(COPIES)
        connection.run("ALTER TABLE payments ENABLE TRIGGER USER")
        connection.run("ANALYZE payments, operations, outbox, disputes, webhooks, webhook_deliveries, gateway_events")
        yield connection


@pytest.fixture(scope="module")
def burst(postgres: Postgres) -> Iterator[Connection]:
    """A busy minute, with the statistics of the quiet hour before it. Nothing has been analyzed in between."""
    database = postgres.new_database()
    with contextlib.closing(connect(database.owner_url)) as connection:
        connection._usock.settimeout(None)
        for table in BUSY:
            connection.run(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        fill(database.owner_url, 6_000)
        connection.run(WEBHOOKS.replace("1000", "200"))
        for sql, few in BURST.items():
            connection.run(f"{sql} {few}")
        connection.run(f"VACUUM ANALYZE {', '.join(BUSY)}")
        for sql in BURST:
            connection.run(f"{sql} ON CONFLICT DO NOTHING")
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


def _plan(connection: Connection, statement: Bound, how: str = "FORMAT JSON") -> Nodes:
    return _nodes_told(connection.execute_unnamed(f"EXPLAIN ({how}) {statement.sql}", statement.values).rows)


def _nodes_told(rows: Any) -> Nodes:
    [[answer]] = rows
    return list(_nodes((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


ID_INDEXES = ("payments_pkey", "payments_not_captured", "payments_of_customer", "payments_of_owners_order")


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


@pytest.mark.parametrize("module", [webhooks, gateway_events])
def test_no_statement_of_webhooks_or_the_inbox_reads_all_of_them(module: ModuleType, filled: Connection) -> None:
    bound = dict(_statements_of(module))
    assert bound
    for name, statement in bound.items():
        nodes = _plan(filled, statement)
        scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
        assert not {"webhook_deliveries", "gateway_events", "outbox", "operations", "payments"} & scanned, name


def test_who_waits_for_a_customer_or_gives_up_reads_the_payment_with_its_operations_alone(filled: Connection) -> None:
    for name, statement in _statements_of(waiting):
        scanned = {node["Relation Name"] for node in _plan(filled, statement) if node["Node Type"] == "Seq Scan"}
        assert not {"payments", "operations", "outbox"} & scanned, name


def test_a_look_reads_the_payment_with_its_operations_and_refunds_alone(filled: Connection) -> None:
    bound = dict(_statements())
    names = [*(name for name, value in vars(outside).items() if isinstance(value, Statement)), "CLAIM_OF_PAYMENT"]
    assert len(names) == 7
    for name in names:
        scanned = {node["Relation Name"] for node in _plan(filled, bound[name]) if node["Node Type"] == "Seq Scan"}
        assert not {"payments", "operations", "refunds", "outbox"} & scanned, name


@pytest.mark.parametrize("statements", [LOOKUPS, COMMANDS, PAGES, OF_EACH_OWNER], ids=["look-ups", "commands", "pages", "owners"])
def test_no_look_up_reads_a_whole_table(filled: Connection, statements: dict[str, Bound]) -> None:
    for name, statement in statements.items():
        nodes = _plan(filled, statement)
        scanned = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
        # PostgreSQL may scan the other tables, which are empty here.
        assert not {"payments", "payment_status_history", "refunds"} & set(scanned), name


def test_a_page_reads_the_rows_that_it_shows_or_checks_and_no_more(in_order: Connection) -> None:
    faults = {name: _faults(_plan(in_order, page)) for name, page in PAGES.items()}
    for name in MERGED:
        faults[name] -= {"Sort"}  # of what was read of each owner; the rows are counted below
    assert {name: found for name, found in faults.items() if found} == {}


def _payments_read(connection: Connection, statement: Bound) -> int:
    """Carry the statement out, and return how many payments it read."""
    nodes = _plan(connection, statement, "ANALYZE, FORMAT JSON")
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(
        round((node["Actual Rows"] + sum(node.get(name, 0) for name in removed)) * node["Actual Loops"])
        for node in nodes
        if node.get("Relation Name") == "payments"
    )


def test_a_filter_that_nothing_fits_ends_after_a_bounded_number_of_payments(filled: Connection) -> None:
    """50,000 payments, 1,000 of each owner, 3,000 of one order, and behind the filters none that fits. PostgreSQL plans as it
    likes."""
    read = {name: _payments_read(filled, page) for name, page in PAGES.items()}
    assert SCANNED <= max(read.values()) <= SCANNED + 2, "a range by ids has its minutes at each end"
    each = max(_payments_read(filled, owners) for owners in OF_EACH_OWNER.values())
    assert each <= 2 * OWNERS, "of each owner its newest payment, and the entry that names the next owner"


@pytest.mark.parametrize("checked", CHECKED)
@pytest.mark.parametrize("name", ["order_id", "customer_id"])
def test_the_admin_scopes_page_is_bounded_however_many_owners_have_such_payments(
    filled: Connection, name: str, checked: dict[str, Any]
) -> None:
    for value, has_owners in ("few", True), ("many", False):
        which = replace(ListFilter(**checked), **{name: value})  # type: ignore[arg-type]
        finds = owners_statement(which, 21, SCANNED)
        owners = filled.execute_unnamed(finds.sql, finds.values).rows
        assert len(owners) == (21 if has_owners else 0)
        assert _payments_read(filled, finds) <= 2 * SCANNED + 2
        assert _payments_read(filled, list_statement(None, which, 21, SCANNED, owners)) <= SCANNED


def test_a_scan_without_a_bound_would_be_seen(filled: Connection) -> None:
    for owner, rows in ("owner-2", 1_000), (None, 50_000 + ATTEMPTS + FEW + MANY):
        assert _payments_read(filled, list_statement(owner, ListFilter(payment_method="stripe"), 21, 10**6)) == rows


def test_a_page_that_is_full_at_once_reads_little_more_than_it_shows(filled: Connection) -> None:
    for which in ListFilter(payment_method="paypal"), ListFilter(customer_id="guest", amount_to=1999):
        assert _payments_read(filled, list_statement("owner-1", which, 21, SCANNED)) <= 3 * 21 + 2


@pytest.mark.parametrize(
    "index",
    [
        "payments_of_customer", "payments_by_owner", "payments_of_owner_not_captured", "payments_not_captured",
        "payments_of_owners_order",
    ],
)  # fmt: skip
def test_a_missing_index_is_seen(in_order: Connection, index: str) -> None:
    in_order.run(f"DROP INDEX {index}")
    assert any(_faults(_plan(in_order, page)) for name, page in PAGES.items() if name not in MERGED)


def test_a_scan_of_the_whole_table_would_be_seen(filled: Connection) -> None:
    nodes = _plan(filled, Bound("SELECT * FROM payments WHERE description = $1", ("x",)))
    assert "Seq Scan" in {node["Node Type"] for node in nodes}


def _indexes_used(connection: Connection) -> set[str]:
    sent = [_plan(connection, bound) for _, bound in _statements()]
    kept = [_kept(connection, statement) for statement in plans.named().values()]  # with what older schemas lack
    return {node["Index Name"] for nodes in sent + kept for node in nodes if "Index Name" in node}


def _kept(connection: Connection, statement: Statement) -> Nodes:
    return _nodes_told(connection.execute_simple(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement.sql}").rows)


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
        scanned = {node["Relation Name"] for node in _kept(filled, statement) if node["Node Type"] == "Seq Scan"}
        assert not scanned - {"refunds"}, name  # It has no rows here.


def _most_rows(connection: Connection, statement: Bound) -> float:
    """Return how many rows the busiest node of the plan looked at."""
    connection.run("BEGIN")
    try:
        nodes = _plan(connection, statement, "ANALYZE, TIMING OFF, FORMAT JSON")
    finally:
        connection.run("ROLLBACK")
    looked_at = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")
    return float(max(node["Actual Loops"] * sum(node.get(name, 0) for name in looked_at) for node in nodes))


@pytest.mark.parametrize(
    "module", [due, backlog, outbox, webhooks, gateway_events], ids=lambda module: module.__name__.rpartition(".")[2]
)
def test_a_job_reads_each_row_a_few_times_with_the_statistics_of_a_quiet_hour(module: ModuleType, burst: Connection) -> None:
    """A claim of webhooks compared each delivery that was due with all others, and ended at the role's statement_timeout."""
    [[rows]] = burst.run(f"SELECT greatest({', '.join(f'(SELECT count(*) FROM {table})' for table in BUSY)})") or []
    most = {name: _most_rows(burst, statement) for name, statement in _statements_of(module)}
    assert {name: count for name, count in most.items() if count > 3 * rows} == {}
