"""Migrations that meet a lock: payments go on, the migration gets its turn, or the message names who blocks."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pg8000.native
import pytest
from pg8000.core import CoreConnection

from local.servers import connect
from migrations import apply
from migrations.apply import MigrationError, migrate
from payments.domain.payment import PaymentStatus
from tests.servers import MIGRATIONS, Database, Postgres, with_database
from tests.shop import Shop

LOCKING = {
    "006_every_outcome_is_told": (MIGRATIONS / "006_every_outcome_is_told.sql").read_text(),
    "a change without a time-out of its own": "ALTER TABLE payments ADD COLUMN note text;",
}
"""Both need ACCESS EXCLUSIVE on payments, which a reader's ACCESS SHARE keeps from them."""

WAIT_S = 60.0
"""Longer than a migration waits for a lock, and than it pauses after its first try. It ends the wait of a test that fails."""


@pytest.fixture
def before_006(postgres: Postgres, tmp_path: Path) -> Database:
    """A database that has the migrations before 006, which lie in tmp_path."""
    name = postgres._create("template1")
    database = Database(with_database(postgres.owner_url, name), with_database(postgres.service_url, name))
    for path in sorted(MIGRATIONS.glob("00[1-5]*.sql")):
        shutil.copy(path, tmp_path)
    migrate(database.owner_url, tmp_path)
    return database


@contextlib.contextmanager
def reader(database: Database, of: str = "payments") -> Iterator[pg8000.native.Connection]:
    """A session in a transaction that has read the table, so that it holds ACCESS SHARE on it until it ends."""
    with contextlib.closing(connect(database.owner_url)) as connection:
        connection.run("SET application_name = 'monthly report'")
        connection.run("BEGIN")
        connection.run(f"SELECT 'query-canary' FROM {of} LIMIT 1")
        yield connection


def wait_until_a_migration_waits(database: Database, waits: bool = True) -> None:
    """Wait until the owner waits for a lock, or until it does not. The payments have another role."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename <> 'payments_service'"
    deadline = time.monotonic() + WAIT_S
    with contextlib.closing(connect(database.owner_url)) as connection:
        while bool(connection.run(waiting + " AND datname = current_database()")) is not waits:
            assert time.monotonic() < deadline, "the migration still waits" if not waits else "no migration waits"
            time.sleep(0.01)


def schema(database: Database) -> list[list[object]]:
    """What the migrations of these tests change."""
    with contextlib.closing(connect(database.owner_url)) as connection:
        return list(
            connection.run(
                "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'payments_write_history_of_update'"
                " UNION ALL SELECT conname FROM pg_constraint WHERE conname = 'outbox_payment_id_fkey'"
                " UNION ALL SELECT attname FROM pg_attribute WHERE attname = 'note'"
                " UNION ALL SELECT name FROM schema_migrations ORDER BY 1"
            )
            or []
        )


@pytest.mark.parametrize("sql", LOCKING.values(), ids=LOCKING)
def test_payments_go_on_while_a_migration_waits_for_a_reader(before_006: Database, tmp_path: Path, sql: str) -> None:
    """The reader outlasts the first try. The payments' role waits 2 s for a lock, so one that waits for longer is refused."""
    (tmp_path / "006.sql").write_text(sql)
    payments: list[PaymentStatus | Exception] = []
    over = threading.Event()

    def pay() -> None:
        shop = Shop.on(before_006)
        with contextlib.closing(shop.service.db):
            while not over.is_set():
                try:
                    payments.append(shop.captured().status)
                except Exception as error:
                    payments.append(error)

    with ThreadPoolExecutor(3) as pool:
        with reader(before_006):
            migration = pool.submit(migrate, before_006.owner_url, tmp_path)
            customers = [pool.submit(pay) for _ in range(2)]
            try:
                for waits in (True, False, True):  # the first try, the pause, the second try
                    wait_until_a_migration_waits(before_006, waits)
                    assert not migration.done(), "the migration did not wait for the reader"
            finally:
                over.set()
            for customer in customers:
                customer.result()
        assert migration.result() == ["006.sql"]
    assert set(payments) == {PaymentStatus.CAPTURED}


@pytest.mark.parametrize("sql", LOCKING.values(), ids=LOCKING)
def test_a_reader_that_never_ends_is_named_and_nothing_is_half_applied(
    before_006: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.setattr(apply, "TRIES", 2)
    monkeypatch.setattr(apply, "FIRST_PAUSE_S", 0.1)
    (tmp_path / "006.sql").write_text(sql)
    before = schema(before_006)
    with reader(before_006) as reading:
        [[pid]] = reading.run("SELECT pg_backend_pid()") or []
        with pytest.raises(MigrationError) as error:
            migrate(before_006.owner_url, tmp_path)
        assert schema(before_006) == before
    message = str(error.value)
    assert message.startswith("006.sql: 2 tries met a lock of pid ")
    assert f"pid {pid} (application_name 'monthly report', role " in message
    assert ", idle in transaction, in a transaction for " in message
    assert "canary" not in message
    assert migrate(before_006.owner_url, tmp_path) == ["006.sql"]


def test_a_try_that_deadlocks_is_repeated(own_database: Database, tmp_path: Path) -> None:
    """The migration locks refunds and then payments; another transaction has payments and then wants refunds."""
    shutil.copytree(MIGRATIONS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "999.sql").write_text(
        "LOCK TABLE refunds; SELECT pg_sleep(0.5); LOCK TABLE payments; ALTER TABLE refunds ADD COLUMN note text;"
    )
    with ThreadPoolExecutor(1) as pool, contextlib.closing(connect(own_database.owner_url)) as other:
        other.run("SET deadlock_timeout = '30s'")  # so that the migration is the one that finds the deadlock
        other.run("BEGIN")
        other.run("LOCK TABLE payments")
        migration = pool.submit(migrate, own_database.owner_url, tmp_path)
        wait_until_a_migration_waits(own_database)
        other.run("LOCK TABLE refunds")
        other.run("COMMIT")
        assert migration.result() == ["999.sql"]


def test_a_migration_waits_longer_than_an_autovacuum_and_shorter_than_a_payment(own_database: Database) -> None:
    """PostgreSQL cancels an autovacuum for whoever has waited for deadlock_timeout. A shorter wait would meet it at each try."""
    with contextlib.closing(connect(own_database.owner_url)) as connection:
        [[deadlock_timeout, lock_timeout, service_waits]] = connection.run(
            "SELECT current_setting('deadlock_timeout')::interval, CAST(:ours AS interval),"
            " (SELECT split_part(setting, '=', 2)::interval FROM pg_db_role_setting, unnest(setconfig) setting"
            " WHERE setrole = 'payments_service'::regrole AND setting LIKE 'lock_timeout=%')",
            ours=apply.LOCK_TIMEOUT,
        ) or [[None, None, None]]
    assert deadlock_timeout < lock_timeout < service_waits


def test_an_index_that_waits_for_an_old_transaction_keeps_no_payment_waiting(own_database: Database, tmp_path: Path) -> None:
    shutil.copytree(MIGRATIONS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "999.sql").write_text("-- outside a transaction\nCREATE INDEX CONCURRENTLY more ON payments (customer_id);")
    shop = Shop.on(own_database)
    with ThreadPoolExecutor(1) as pool, contextlib.closing(shop.service.db):
        # A write: CREATE INDEX CONCURRENTLY also waits for whoever has written the table.
        with reader(own_database) as reading:
            reading.run("LOCK TABLE payments IN ROW EXCLUSIVE MODE")
            migration = pool.submit(migrate, own_database.owner_url, tmp_path)
            wait_until_a_migration_waits(own_database)
            deadline = time.monotonic() + 2  # longer than LOCK_TIMEOUT, which does not hold here
            while time.monotonic() < deadline:
                assert shop.captured().status is PaymentStatus.CAPTURED
            assert not migration.done()
        assert migration.result() == ["999.sql"]


def test_an_index_that_waited_too_long_names_who_blocked_and_what_is_left(
    own_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "LOCK_TIMEOUT_CONCURRENTLY", "1s")
    shutil.copytree(MIGRATIONS, tmp_path, dirs_exist_ok=True)
    sql = "-- outside a transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS more ON payments (customer_id);"
    (tmp_path / "999.sql").write_text(sql)
    with reader(own_database) as reading:
        reading.run("LOCK TABLE payments IN ROW EXCLUSIVE MODE")
        with pytest.raises(
            MigrationError, match=r"999\.sql: it waited too long for pid \d+ .*Drop the invalid index more before"
        ):
            migrate(own_database.owner_url, tmp_path)
    with pytest.raises(MigrationError, match=r"999\.sql: drop the invalid index more first"):
        migrate(own_database.owner_url, tmp_path)
    with contextlib.closing(connect(own_database.owner_url)) as connection:
        connection.run("DROP INDEX more")
    assert migrate(own_database.owner_url, tmp_path) == ["999.sql"]


def test_a_second_runner_waits_while_the_first_one_tries_again(before_006: Database, tmp_path: Path) -> None:
    shutil.copy(MIGRATIONS / "006_every_outcome_is_told.sql", tmp_path)
    with ThreadPoolExecutor(2) as pool:
        with reader(before_006):
            runs = [pool.submit(migrate, before_006.owner_url, tmp_path) for _ in range(2)]
            wait_until_a_migration_waits(before_006)
            wait_until_a_migration_waits(
                before_006, False
            )  # in its pause, the first runner holds no lock but that of the runners
            assert not any(run.done() for run in runs)
        assert sorted(run.result() for run in runs) == [[], ["006_every_outcome_is_told.sql"]]


def test_a_runner_that_never_gets_its_turn_names_who_has_it(own_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "TURN_S", 0.3)
    with contextlib.closing(connect(own_database.owner_url)) as other:
        other.run("SET application_name = 'a run by hand'")
        other.run(f"SELECT pg_advisory_lock({apply.LOCK_ID})")
        [[pid]] = other.run("SELECT pg_backend_pid()") or []
        with pytest.raises(MigrationError, match=rf"another run .* holds the lock: pid {pid} \(application_name 'a run by hand'"):
            migrate(own_database.owner_url, MIGRATIONS)


def test_a_migration_that_meets_no_lock_opens_no_second_connection(
    own_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []

    class Counted(CoreConnection):  # type: ignore[misc]  # pg8000 has no types
        def __init__(self, **options: Any) -> None:
            opened.append(self)
            super().__init__(**options)

    monkeypatch.setattr(apply, "CoreConnection", Counted)
    monkeypatch.setattr(apply, "LOOK_S", 60)
    (tmp_path / "999.sql").write_text("ALTER TABLE payments ADD COLUMN note text;")
    assert migrate(own_database.owner_url, tmp_path) == ["999.sql"]
    assert len(opened) == 1


def test_what_another_role_may_not_see_of_a_session_is_said_to_be_hidden(own_database: Database) -> None:
    """The owner of the tables need not be a superuser."""
    with reader(own_database) as reading, contextlib.closing(connect(own_database.service_url)) as connection:
        [[pid]] = reading.run("SELECT pg_backend_pid()") or []
        [row] = connection.run(apply.SESSIONS.format(pids=f"SELECT {pid}")) or []
        hidden = r"what it does is hidden from a role without pg_read_all_stats\)"
        assert re.fullmatch(rf"pid {pid} \(application_name 'monthly report', role \w+, {hidden}", apply._described(*row))
