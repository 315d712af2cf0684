"""Long queues behind the statistics of short ones: relay, settle, reconcile and expiry read the rows they act on, and few others.

In normal life nothing waits, so PostgreSQL's statistics say so. After an outage it plans with them until the next ANALYZE. We
count the rows that each statement really reads; a plan that looks harmless for one row may read a million. A week's end lies in
the middle of the outage, so each payment's first event is in a closed table.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pg8000.native import Connection

from local.servers import connect
from payments.domain.ids import uuid7
from payments.domain.payment import PaymentStatus
from payments.store import backlog, due, lookups, outbox, settlement, webhooks
from payments.store.connection import Bound
from tests.domain.examples import payment
from tests.servers import Postgres

BEHIND = 1_000_000
WAITING = 20_000
LIMIT = 100
WEBHOOKS = 100
"""Two of them have a backlog."""

NEVER = datetime(9000, 1, 1, tzinfo=UTC)
FEW = 40
"""Rows read for each row that the statement acts on: indexes, joins and updates read a row several times."""

FILL = f"""
ALTER TABLE payments DISABLE TRIGGER USER;
INSERT INTO payments (payment_id, owner, order_id, status, status_reason, amount_minor, currency, payment_method, capture_method,
                      captured_minor, transaction_id, payment_intent_id, created_at, updated_at, version)
SELECT gen_random_uuid(), 'shop', 'order-' || n, 'CAPTURED', 'made up', 1, 'USD', 'paypal', 'automatic', 1, 'txn_' || n,
       'pi_' || n, now(), now(), 3
FROM generate_series(1, {WAITING}) n;
INSERT INTO operations (operation_id, owner, kind, payment_id, amount_minor, request_hash, gateway_key, attempt, lease_until,
                        outcome, settled_at, created_at)
SELECT gen_random_uuid(), 'shop', 'refund', payment_id, 1, 'h', 'old-' || payment_id, 1, now(), 'succeeded', now(), now()
FROM payments;
INSERT INTO outbox (event_id, payment_id, sequence, type, data, created_at, lease_until, published_at)
SELECT id, id, 1, 'payment.successful', '{{}}', now(), now(), now()
FROM (SELECT lpad(to_hex(n), 32, '0')::uuid AS id FROM generate_series(1, {BEHIND}) n) ids;
ANALYZE payments, operations, outbox;
ALTER TABLE payments SET (autovacuum_enabled = false);
ALTER TABLE operations SET (autovacuum_enabled = false);
ALTER TABLE outbox SET (autovacuum_enabled = false);
INSERT INTO payments (payment_id, owner, order_id, status, status_reason, amount_minor, currency, payment_method, capture_method,
                      transaction_id, payment_intent_id, created_at, updated_at, capture_before, version)
SELECT gen_random_uuid(), 'shop', 'held-' || n, 'AUTHORIZED', 'made up', 1, 'USD', 'paypal', 'manual', 'held_' || n, 'held_' || n,
       now(), now(), now() - n * interval '1 second', 3
FROM generate_series(1, {WAITING}) n;
INSERT INTO operations (operation_id, owner, kind, payment_id, amount_minor, request_hash, gateway_key, attempt, lease_until,
                        next_attempt_at, created_at)
SELECT gen_random_uuid(), 'shop', 'capture', payment_id, 1, 'h', 'new-' || payment_id, 1, now(),
       now() - random() * interval '1 hour', now()
FROM payments WHERE status = 'CAPTURED';
INSERT INTO operations (operation_id, owner, kind, payment_id, amount_minor, request_hash, gateway_key, attempt, lease_until,
                        created_at)
SELECT gen_random_uuid(), 'shop', 'refund', payment_id, 1, 'h', 'up-' || payment_id, 7, now(), now() - interval '2 days'
FROM payments WHERE status = 'CAPTURED';
INSERT INTO outbox (event_id, payment_id, sequence, type, data, created_at, lease_until)
SELECT gen_random_uuid(), payment_id, 1, 'payment.successful', '{{}}', now(), now() - interval '2 minutes'
FROM payments WHERE status = 'CAPTURED';
SELECT turn_outbox_after(7, 0);
INSERT INTO outbox (event_id, payment_id, sequence, type, data, created_at, lease_until)
SELECT gen_random_uuid(), payment_id, 2, 'payment.successful', '{{}}', now(), now() - interval '1 minute'
FROM payments WHERE status = 'CAPTURED';
ALTER TABLE payments ENABLE TRIGGER USER;
ANALYZE webhooks, webhook_deliveries;
ALTER TABLE webhooks SET (autovacuum_enabled = false);
ALTER TABLE webhook_deliveries SET (autovacuum_enabled = false);
INSERT INTO webhooks (webhook_id, owner, url, secret, created_at, next_attempt_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'shop', 'https://shop.example.com/' || n, 'whsec_', now(), now()
FROM generate_series(1, {WEBHOOKS}) n;
INSERT INTO webhook_deliveries (webhook_id, payment_id, sequence, created_at, next_attempt_at)
SELECT webhook_id, payment_id, sequence, now(), now() - interval '1 hour' FROM webhooks, payments, generate_series(1, 2) sequence
WHERE payments.status = 'CAPTURED' AND webhook_id IN (SELECT webhook_id FROM webhooks ORDER BY webhook_id LIMIT 2)
"""


@pytest.fixture(scope="module")
def after_an_outage(postgres: Postgres) -> Iterator[Connection]:
    database = postgres.new_database()
    with contextlib.closing(connect(database.owner_url)) as connection:
        connection._usock.settimeout(None)
        connection.run("ALTER TABLE operations DROP CONSTRAINT operations_refund_has_refund")
        connection.run("SET synchronous_commit = off")
        for statement in FILL.split(";\n"):
            connection.run(statement)
        yield connection


def rows_read(connection: Connection, statement: Bound) -> int:
    """Run the statement, take it back, and return how many rows its scans have read."""
    connection.run("BEGIN")
    try:
        return rows_read_within(connection, statement)
    finally:
        connection.run("ROLLBACK")


def rows_read_within(connection: Connection, statement: Bound) -> int:
    answer = connection.execute_unnamed(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.sql}", statement.values).rows[0][0]
    return sum(map(_read, _nodes((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"])))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _read(node: dict[str, Any]) -> int:
    removed = sum(rows for name, rows in node.items() if name.startswith("Rows Removed by"))
    return int(node["Actual Loops"] * (node["Actual Rows"] + removed)) if "Scan" in node["Node Type"] else 0


def some(connection: Connection, sql: str) -> list[UUID]:
    return [row[0] for row in connection.run(f"{sql} LIMIT {LIMIT}")]


def statements(connection: Connection) -> dict[str, tuple[Bound, int]]:
    """Return each statement and how many rows it acts on."""
    events = some(connection, "SELECT event_id FROM outbox WHERE published_at IS NULL")
    [operation_id] = some(
        connection, "SELECT operation_id FROM operations WHERE outcome IS NULL AND next_attempt_at IS NOT NULL"
    )[:1]
    [[payment_id]] = connection.run("SELECT payment_id FROM operations WHERE operation_id = :id", id=operation_id)
    settle = {
        "operation_id": operation_id, "attempt": 1, "outcome": "succeeded", "reply": {}, "refund_id": None, "refund_status": None,
        "refund_decline_code": None, "event_id": uuid7(), "type": "payment.refunded", "data": {}, "traceparent": None,
        "publish_lease_s": 6.0, "version_before": 3, "gateway_refund_id": None,
    }  # fmt: skip
    webhook_id = UUID(int=1)
    late = webhooks.Delivery(webhook_id, payment_id, 1, 0, "", "", None, False, None)
    sent = {"webhook_ids": [webhook_id], "payment_ids": [payment_id], "sequences": [1]}
    after = payment(
        PaymentStatus.CAPTURED,
        payment_id=payment_id,
        captured_minor=1,
        transaction_id=str(payment_id),
        version=4,
        payment_intent_id=str(payment_id),
    )
    return {
        "relay, claim": (backlog.CLAIM_UNPUBLISHED(limit=LIMIT, lease_s=15.0, from_time=backlog.EPOCH, followers=50), 2 * LIMIT),
        "relay, mark": (outbox.MARK_PUBLISHED(ids=events), LIMIT),
        "settle": (settlement.SETTLE(after, **settle, event_sequence=3), 1),
        "settle, give back": (
            due.GIVE_BACK(
                operation_id=operation_id, attempt=1, recorded={}, schedule_s=[30.0], wait_s=None, key_is_spent=False
            ), 1,
        ),
        "reconcile, claim": (due.CLAIM_DUE(limit=LIMIT, lease_s=16.0), LIMIT),
        "by hand, may be settled": (due.MAY_BE_SETTLED(operation_id=operation_id), 1),
        "why not": (lookups.STANDING["payment_id"](owner="shop", id=payment_id), 1),
        "webhooks, put off": (webhooks.PUT_OFF(), 2 * webhooks.LOOKED_AT + WEBHOOKS),
        "webhooks, claim": (
            webhooks.CLAIM(limit=LIMIT, slow=LIMIT, at_once=LIMIT // 2, of_owner=LIMIT, lease_s=30.0), LIMIT + WEBHOOKS,
        ),
        "webhooks, make due": (webhooks.MAKE_DUE(webhook_id=webhook_id, owner="shop"), 5000),
        "webhooks, delivered": (webhooks.DELIVERED(**sent, attempts=[0], slow_ids=[webhook_id]), WEBHOOKS),
        "webhooks, next": (webhooks.NEXT(**sent), 1),
        "webhooks, failed": (
            webhooks.FAILED(late, error="timed out", is_gone=False, is_lost=False, is_slow=True, is_again=False), WEBHOOKS,
        ),
        "webhooks, again": (webhooks.AGAIN(webhook_id=webhook_id, owner="shop", event_id=events[0]), WEBHOOKS),
        "webhooks, range": (
            webhooks.RANGE_AGAIN(webhook_id=webhook_id, owner="shop", from_time=backlog.EPOCH, to_time=NEVER, most=LIMIT), LIMIT,
        ),
        "webhooks, prune": (webhooks.PRUNE(keep_days=30), WEBHOOKS),
        "expiry": (due.RUN_OUT(gateway="simulated", limit=LIMIT, but=[]), LIMIT),
    }  # fmt: skip


def test_each_statement_reads_few_rows_for_each_that_it_acts_on(after_an_outage: Connection) -> None:
    read = {name: (rows_read(after_an_outage, each), acts_on) for name, (each, acts_on) in statements(after_an_outage).items()}
    assert {name: found for name, found in read.items() if found[0] > FEW * found[1]} == {}


@pytest.mark.parametrize("is_put_off", [False, True])
def test_a_claim_reads_little_of_what_waits_behind_heads_that_wait(is_put_off: bool, after_an_outage: Connection) -> None:
    """The first event of each of 20,000 payments failed, and waits for its next attempt. The second ones are due, or put off."""
    after_an_outage.run("BEGIN")
    try:
        waits = "UPDATE webhook_deliveries SET next_attempt_at = now() + interval '1 hour'"
        after_an_outage.run(f"{waits} WHERE sequence = 1 OR :both", both=is_put_off)
        read = [
            rows_read_within(after_an_outage, each)
            for each in (webhooks.PUT_OFF(), webhooks.CLAIM(limit=64, slow=32, at_once=8, of_owner=16, lease_s=30.0))
        ]
    finally:
        after_an_outage.run("ROLLBACK")
    few = 0 if is_put_off else 2 * webhooks.LOOKED_AT
    assert max(read) <= FEW * (few + WEBHOOKS)


def test_what_is_put_off_is_due_no_longer(after_an_outage: Connection) -> None:
    """Claims put off 128 each, until none is left that is behind another."""
    due = "SELECT count(*) FROM webhook_deliveries WHERE next_attempt_at <= now()"
    put_off = webhooks.PUT_OFF()
    after_an_outage.run("BEGIN")
    try:
        after_an_outage.run("UPDATE webhook_deliveries SET next_attempt_at = now() + interval '1 hour' WHERE sequence = 1")
        [[before]] = after_an_outage.run(due)
        for _ in range(3):
            assert len(after_an_outage.execute_unnamed(put_off.sql, put_off.values).rows) == 2 * webhooks.LOOKED_AT
        assert after_an_outage.run(due) == [[before - 6 * webhooks.LOOKED_AT]]
    finally:
        after_an_outage.run("ROLLBACK")


def test_what_counts_a_queue_counts_to_a_limit(after_an_outage: Connection) -> None:
    limits = {"lag": (backlog.LAG(), backlog.LAG_LIMIT), "unknown": (due.UNKNOWN_OUTCOMES(), due.COUNT_LIMIT)}
    for name, (statement, limit) in limits.items():
        assert rows_read(after_an_outage, statement) <= 3 * limit, name


def test_a_statement_that_reads_the_whole_queue_is_seen(after_an_outage: Connection) -> None:
    """The claim of an earlier release, which ran out of time after an outage."""
    before = Bound(
        "SELECT event_id FROM outbox head WHERE published_at IS NULL AND lease_until <= now() AND NOT EXISTS"
        " (SELECT FROM outbox older WHERE older.payment_id = head.payment_id AND older.published_at IS NULL"
        " AND older.sequence < head.sequence)"
        " ORDER BY lease_until LIMIT 10 FOR UPDATE SKIP LOCKED",
        (),
    )
    assert rows_read(after_an_outage, before) > FEW * 10
