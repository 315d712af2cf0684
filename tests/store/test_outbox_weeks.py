"""The outbox is a chain of tables: published events leave with their whole table, and nothing else changes for anybody."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pg8000.exceptions import DatabaseError

from local.servers import connect
from payments.domain.events import refusal_event
from payments.domain.ids import uuid7
from payments.scheduled.relay import KEEP_DAYS, WEEK_DAYS
from payments.store import backlog, outbox
from tests.fakes import acknowledge, refuse
from tests.servers import Database, Postgres
from tests.shop import Books, Shop

NOW = 0
"""Days after which a table is closed: at once."""

FOREVER = 10_000


@pytest.fixture
def chain(postgres: Postgres) -> Iterator[tuple[Shop, Books]]:
    """A shop and its books in a database of their own, whose outbox has one table."""
    database: Database = postgres.new_database()
    shop = Shop.on(database)
    yield shop, Books(database.owner_url)
    shop.close()


def tables(books: Books) -> list[str]:
    return [name for (name,) in books.query("SELECT name FROM outbox_closed WHERE dropped_at IS NULL ORDER BY closed_at")]


def turn(books: Books, keep_days: int, week_days: int) -> int:
    """As the owner, who may give fewer days than the service."""
    [[turned]] = books.query("SELECT turn_outbox_after(:keep_days, :week_days)", keep_days=keep_days, week_days=week_days)
    return int(turned)


def close(books: Books) -> str:
    """Close the outbox's table and return its new name."""
    before = tables(books)
    assert turn(books, FOREVER, NOW) == 1
    [name] = set(tables(books)) - set(before)
    return name


def count(books: Books, table: str = "outbox") -> int:
    [[found]] = books.query(f"SELECT count(*) FROM {table}")
    return int(found)


def drained_days_ago(books: Books, days: float) -> None:
    books.query("UPDATE outbox_closed SET drained_at = now() - :days * interval '1 day'", days=days)


LOOKS = {
    "columns": "SELECT attname, atttypid::regtype::text, attnotnull, attnum::int FROM pg_attribute"
    " WHERE attrelid = '{0}'::regclass AND attnum > 0 ORDER BY attnum",
    "rights on columns": "SELECT attname, attacl::text FROM pg_attribute WHERE attrelid = '{0}'::regclass AND attacl IS NOT NULL",
    "rights": "SELECT relacl::text, relowner, relpersistence::text, relrowsecurity FROM pg_class WHERE oid = '{0}'::regclass",
    "settings": "SELECT reloptions::text FROM pg_class WHERE oid = '{0}'::regclass",
    "constraints": "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '{0}'::regclass ORDER BY 1",
    "triggers": "SELECT tgname FROM pg_trigger WHERE tgrelid = '{0}'::regclass",
    "indexes": "SELECT regexp_replace(pg_get_indexdef(indexrelid), '(INDEX) \\S+ ON \\S+', '\\1'), indisprimary, indisvalid"
    " FROM pg_index WHERE indrelid = '{0}'::regclass ORDER BY 1",
}


def test_a_new_table_is_like_the_one_before(chain: tuple[Shop, Books]) -> None:
    shop, books = chain
    names = books.query("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'outbox'::regclass ORDER BY 1")
    for _ in range(2):
        shop.captured()
        looks = {name: books.query(sql.format("outbox")) for name, sql in LOOKS.items()}
        assert looks["columns"] and looks["indexes"] and looks["rights on columns"] and looks["settings"] != [[None]]
        close(books)
        assert {name: books.query(sql.format("outbox")) for name, sql in LOOKS.items()} == looks
        assert names == books.query(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'outbox'::regclass ORDER BY 1"
        )


def test_an_index_that_a_later_migration_adds_comes_along(chain: tuple[Shop, Books]) -> None:
    shop, books = chain
    books.query("CREATE INDEX of_an_operator ON outbox (traceparent)")
    books.query("CREATE INDEX outbox_by_type ON outbox (type) WITH (fillfactor = 70) WHERE type <> 'x'")
    shop.captured()
    close(books)
    [[definition]] = books.query("SELECT pg_get_indexdef('outbox_by_type'::regclass)")
    assert books.query("SELECT indrelid::regclass::text FROM pg_index WHERE indexrelid = 'of_an_operator'::regclass") == [
        ["outbox"]
    ]
    assert "ON public.outbox " in definition and "fillfactor='70'" in definition and "WHERE" in definition


def test_the_table_is_closed_after_a_week_and_dropped_a_week_after_its_last_event_was_published(
    chain: tuple[Shop, Books],
) -> None:
    shop, books = chain
    paid = shop.captured()
    shop.relay()
    assert tables(books) == []
    books.query("UPDATE outbox SET created_at = now() - interval '7 days 1 minute'")
    shop.relay()
    [old] = tables(books)
    assert (count(books), count(books, "ONLY outbox")) == (1, 0)
    shop.captured()
    shop.relay()  # sees that nothing waits in it
    for days, is_there in ((6.9, True), (7.1, False)):
        drained_days_ago(books, days)
        shop.relay()
        assert (old in tables(books)) is is_there
    assert (count(books), len(books.outbox(paid.payment_id))) == (1, 0)
    assert books.query("SELECT to_regclass(:name)", name=old) == [[None]]


def test_an_event_that_waits_keeps_its_table(chain: tuple[Shop, Books]) -> None:
    shop, books = chain
    shop.publisher.acknowledges = refuse
    paid = shop.captured()
    old = close(books)
    for _ in range(3):
        assert turn(books, 0, FOREVER) == 0
        drained_days_ago(books, 30)  # as if it had been seen drained, and an operator had unmarked the event since
    assert turn(books, 0, FOREVER) == 0
    assert count(books, old) == 1
    shop.publisher.acknowledges = acknowledge
    books.end_event_leases()
    assert shop.relay().published == 1
    turn(books, FOREVER, FOREVER)
    drained_days_ago(books, 1)
    assert turn(books, 0, FOREVER) == 1
    assert books.outbox(paid.payment_id) == []


def test_an_old_table_with_a_waiting_event_holds_up_neither_the_closing_nor_itself(chain: tuple[Shop, Books]) -> None:
    shop, books = chain
    shop.publisher.acknowledges = refuse
    shop.captured()
    oldest = close(books)
    shop.publisher.acknowledges = acknowledge
    shop.captured()
    newer = close(books)
    for _ in range(2):
        assert turn(books, 0, FOREVER) == 0
        drained_days_ago(books, 30)
    shop.captured()
    assert tables(books) == [oldest, newer], "the older table is the newer one's child, so it has to go first"
    newest = close(books)
    books.end_event_leases()
    assert shop.relay().published == 1
    turn(books, FOREVER, FOREVER)
    drained_days_ago(books, 1)
    for left in ([newer, newest], [newest], []):
        assert turn(books, 0, FOREVER) == 1
        assert tables(books) == left


def test_a_table_that_somebody_dropped_is_taken_for_dropped(chain: tuple[Shop, Books]) -> None:
    shop, books = chain
    shop.captured()
    old = close(books)
    books.query(f"DROP TABLE {old}")
    assert turn(books, FOREVER, FOREVER) == 0
    assert tables(books) == []


def test_events_of_two_tables_keep_their_order_are_marked_and_are_sent_again(chain: tuple[Shop, Books]) -> None:
    shop, books = chain
    shop.publisher.acknowledges = refuse
    paid = shop.captured()
    close(books)
    behind = shop.refund(paid.transaction_id, amount=1)
    close(books)
    shop.refund(paid.transaction_id, amount=2)
    assert behind.refund and shop.publisher.batches == [1], "the refunds' events wait behind an event of an earlier table"
    shop.publisher.acknowledges = acknowledge
    books.end_event_leases()
    assert shop.relay().published == 3
    assert [event.sequence for event in shop.publisher.published] == [1, 2, 3]
    assert all(row["published_at"] for row in books.outbox(paid.payment_id))
    hour = timedelta(hours=1)
    again = backlog.published_between(shop.service.db, datetime.now(UTC) - hour, datetime.now(UTC) + hour, None, 10)
    assert [event.sequence for event in again] == [1, 2, 3]
    shop.refund(paid.transaction_id, amount=3)
    assert shop.publisher.published[-1].sequence == 4, "nothing waits, so it is sent at once"


def test_a_refusal_is_told_once_over_the_tables(chain: tuple[Shop, Books]) -> None:
    shop, books = chain
    event = refusal_event(uuid7(), {"code": "order_already_paid"}, datetime.now(UTC))
    assert outbox.write(shop.service.db, event, 6.0)
    assert not outbox.write(shop.service.db, event, 6.0)
    close(books)
    assert not outbox.write(shop.service.db, event, 6.0)
    assert outbox.data_of(shop.service.db, event.event_id) == json.loads(event.data)
    assert count(books) == 1


def test_whoever_holds_a_lock_delays_the_turn_and_no_payment_waits_long(chain: tuple[Shop, Books]) -> None:
    shop, books = chain
    shop.captured()
    with contextlib.closing(connect(books.owner_url)) as reader:
        reader.run("BEGIN")
        reader.run("SELECT count(*) FROM outbox")
        assert turn(books, FOREVER, NOW) == 0
        assert shop.captured().captured_minor == 1999
        assert tables(books) == []
        assert books.query("SELECT to_regclass('outbox_next')") == [[None]], "nothing of the try is left"
        reader.run("COMMIT")
    old = close(books)
    shop.captured()
    turn(books, FOREVER, FOREVER)
    drained_days_ago(books, 1)
    books.query("UPDATE outbox_closed SET closed_at = now() - interval '2 days'")
    with contextlib.closing(connect(books.owner_url)) as reader:
        reader.run("BEGIN")
        reader.run(f"SELECT count(*) FROM {old}")
        assert turn(books, 0, FOREVER) == 0
        reader.run("COMMIT")
    assert turn(books, 0, 1) == 1, "the closed table is dropped"
    assert (tables(books), count(books)) == ([], 1)
    assert turn(books, 0, 1) == 1, "the next run closes this one"


@pytest.mark.parametrize("days", [7, 1, 0, -7])
def test_the_service_closes_and_drops_no_table_before_its_time(chain: tuple[Shop, Books], days: int) -> None:
    shop, books = chain
    shop.captured()
    books.query("UPDATE outbox SET created_at = now() - interval '6.9 days'")
    assert backlog.turn(shop.service.db, days, days) == 0, "the table is younger than a week"
    old = close(books)
    assert backlog.turn(shop.service.db, days, days) == 0, "it has only now seen that nothing waits"
    drained_days_ago(books, 6.9)
    assert backlog.turn(shop.service.db, days, days) == 0
    assert (tables(books), count(books)) == ([old], 1)
    drained_days_ago(books, 7.1)
    assert backlog.turn(shop.service.db, days, days) == 1
    assert (tables(books), count(books)) == ([], 0)


def test_the_relay_asks_for_no_fewer_days_than_the_database_grants() -> None:
    """A shorter KEEP_DAYS or WEEK_DAYS would change nothing: it needs a migration."""
    assert min(KEEP_DAYS, WEEK_DAYS) >= 7


def test_the_service_may_turn_the_outbox_and_nothing_more(chain: tuple[Shop, Books]) -> None:
    shop, books = chain
    shop.captured()
    old = close(books)
    with contextlib.closing(connect(shop.url)) as service:
        for sql in (
            f"DROP TABLE {old}",
            f"TRUNCATE {old}",
            "CREATE TABLE mine (a int)",
            "ALTER TABLE outbox NO INHERIT outbox",
            "UPDATE outbox_closed SET drained_at = '-infinity'",
            "SELECT * FROM outbox_closed",
        ):
            with pytest.raises(DatabaseError) as refused:
                service.run(sql)
            assert refused.value.args[0]["C"] in ("42501", "3F000"), sql
    [[public]] = books.query("SELECT has_function_privilege('public', 'turn_outbox(integer, integer)', 'EXECUTE')")
    assert public is False


def test_the_settings_of_autovacuum_are_those_of_the_decision(chain: tuple[Shop, Books]) -> None:
    """docs/adr/017-growth.md says why."""
    _, books = chain
    set_ = dict(books.query("SELECT relname, reloptions::text FROM pg_class WHERE reloptions IS NOT NULL AND relkind = 'r'"))
    assert {name: set_[name].strip("{}").split(",") for name in set_ if not name.startswith("pg_")} == {
        "outbox": ["autovacuum_vacuum_scale_factor=0.05", "autovacuum_vacuum_insert_threshold=-1"],
        "payment_status_history": ["autovacuum_freeze_min_age=0", "autovacuum_vacuum_insert_scale_factor=0.02"],
        "payments": ["autovacuum_freeze_min_age=1000000"],
        "operations": ["autovacuum_freeze_min_age=1000000"],
        "refunds": ["autovacuum_freeze_min_age=1000000"],
        # docs/adr/031-webhooks.md: each row changes and goes within seconds.
        "webhook_deliveries": ["autovacuum_vacuum_scale_factor=0.02", "autovacuum_vacuum_insert_threshold=-1"],
        # docs/adr/035-events-from-the-gateway.md: each row changes twice within seconds.
        "gateway_events": ["autovacuum_vacuum_scale_factor=0.02", "autovacuum_vacuum_insert_threshold=-1"],
    }
