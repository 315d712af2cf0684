"""What `migrate` does to the server's roles, at each run."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

from local.servers import EmbeddedPostgres, connect
from migrations import roles
from migrations.apply import ALWAYS, MigrationError, migrate
from tests.migrations.test_apply import query
from tests.servers import MIGRATIONS, Database, Postgres, prepared, with_database

KEPT = roles.SCHEDULED + roles.MIGRATE


def limit(url: str) -> int:
    [[found]] = query(url, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'payments_service'")
    assert isinstance(found, int)
    return found


@pytest.fixture
def shares_restored(own_database: Database) -> Iterator[str]:
    """The owner's URL of a migrated database, whose server's roles are as `migrate` leaves them before and after the test."""
    yield own_database.owner_url
    migrate(own_database.owner_url, MIGRATIONS)


def test_callers_get_what_relay_reconcile_and_migrate_leave_of_nine_tenths(shares_restored: str) -> None:
    [[most]] = query(shares_restored, "SELECT current_setting('max_connections')::int")
    assert isinstance(most, int)
    assert limit(shares_restored) == most * 9 // 10 - KEPT
    query(shares_restored, "ALTER ROLE payments_service CONNECTION LIMIT 7")  # the server was smaller at the last run
    migrate(shares_restored, MIGRATIONS)
    assert limit(shares_restored) == most * 9 // 10 - KEPT


@pytest.mark.parametrize(("given", "callers"), [("50", 50 - KEPT), ("20", 20 - KEPT), ("100000", None), ("0", None)])
def test_on_a_shared_server_an_operator_says_how_many_connections_there_are(
    shares_restored: str, monkeypatch: pytest.MonkeyPatch, given: str, callers: int | None
) -> None:
    monkeypatch.setenv("DATABASE_CONNECTIONS", given)
    [[most, kept]] = query(
        shares_restored,
        "SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int"
        " + coalesce(current_setting('reserved_connections', true)::int, 0)",
    )
    assert isinstance(most, int)
    assert isinstance(kept, int)
    migrate(shares_restored, MIGRATIONS)
    everything = most - kept if given == "100000" else most * 9 // 10
    assert limit(shares_restored) == (everything - KEPT if callers is None else callers)


@pytest.mark.parametrize("given", ["1", "5", "8", "10", "19", "-20", "twenty", "²"])
def test_too_few_connections_are_refused_before_anything_changes(
    shares_restored: str, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    before = limit(shares_restored)
    monkeypatch.setenv("DATABASE_CONNECTIONS", given)
    with pytest.raises(MigrationError, match=f"DATABASE_CONNECTIONS must be 0 .* or at least 20, not {given}"):
        migrate(shares_restored, MIGRATIONS)
    assert limit(shares_restored) == before


def test_a_server_that_leaves_callers_few_connections_is_told_of(
    shares_restored: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The limit of a small server is what is left of its max_connections, as it is here of a small number."""
    with contextlib.closing(connect(shares_restored)) as connection, caplog.at_level(logging.WARNING):
        execute = SimpleNamespace(execute_simple=lambda sql: SimpleNamespace(rows=connection.run(sql)))
        roles.share_connections(execute, 15)
        [record] = caplog.records
        assert "leaves callers a CONNECTION LIMIT of 5" in record.getMessage()
        roles.share_connections(execute, 0)
        assert len(caplog.records) == 1


SETTINGS = """
    SELECT setting FROM pg_db_role_setting, unnest(setconfig) setting
    WHERE setrole = '{}'::regrole AND setdatabase = 0 ORDER BY setting
"""


@pytest.mark.parametrize("role", ["payments_service", "payments_scheduled"])
def test_each_role_gets_the_login_and_the_time_outs_that_it_lacks(shares_restored: str, role: str) -> None:
    whole = query(shares_restored, SETTINGS.format(role))
    query(shares_restored, f"ALTER ROLE {role} NOLOGIN")
    query(shares_restored, f"ALTER ROLE {role} RESET ALL")
    query(shares_restored, f"ALTER ROLE {role} SET log_min_duration_statement = '1s'")
    query(shares_restored, f"ALTER ROLE {role} SET lock_timeout = '1s'")
    try:
        migrate(shares_restored, MIGRATIONS)
        assert query(shares_restored, f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'") == [[True]]
        assert query(shares_restored, SETTINGS.format(role)) == [
            ["idle_in_transaction_session_timeout=10s"],
            ["lock_timeout=1s"],
            ["log_min_duration_statement=1s"],
            ["statement_timeout=5s"],
        ]
    finally:  # the other tests log in with it
        query(shares_restored, f"ALTER ROLE {role} LOGIN")
        query(shares_restored, f"ALTER ROLE {role} RESET log_min_duration_statement")
        query(shares_restored, f"ALTER ROLE {role} SET lock_timeout = '2s'")
    assert query(shares_restored, SETTINGS.format(role)) == whole


def test_a_dump_in_a_new_server_gets_the_role_with_its_time_outs(shares_restored: str) -> None:
    [[password]] = query(shares_restored, "SELECT rolpassword FROM pg_authid WHERE rolname = 'payments_scheduled'")
    query(shares_restored, "DROP ROLE payments_scheduled")
    try:
        assert migrate(shares_restored, MIGRATIONS) == []
    finally:  # the other tests log in with it
        query(shares_restored, f"ALTER ROLE payments_scheduled PASSWORD '{password}'")
    settings = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = '{}'::regrole AND setdatabase = 0"
    [[of_service], [of_scheduled]] = (
        query(shares_restored, settings.format(f"payments_{r}"))[0] for r in ("service", "scheduled")
    )
    assert sorted(str(of_scheduled)) == sorted(str(of_service)) != []


def test_an_operators_time_outs_stay(shares_restored: str) -> None:
    query(shares_restored, "ALTER ROLE payments_scheduled SET statement_timeout = '4s'")
    migrate(shares_restored, MIGRATIONS)
    shown = query(shares_restored, "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'payments_scheduled'::regrole")
    query(shares_restored, "ALTER ROLE payments_scheduled SET statement_timeout = '5s'")
    assert "statement_timeout=4s" in str(shown)


EACH_TIME = "".join(file.read_text() for file in sorted((MIGRATIONS / ALWAYS).glob("*.sql")))


@pytest.mark.parametrize(
    ("lacks", "other_does"),
    [
        ("ALTER ROLE payments_service NOLOGIN", EACH_TIME),
        ("ALTER ROLE payments_service RESET lock_timeout", EACH_TIME),
        ("ALTER ROLE payments_scheduled RESET ALL", EACH_TIME),
        ("ALTER ROLE payments_scheduled CONNECTION LIMIT -1", "ALTER ROLE payments_scheduled CONNECTION LIMIT -1"),  # a password
    ],
    ids=["a login", "one setting", "all settings", "a password"],
)
def test_two_databases_of_a_server_give_the_roles_what_they_lack_at_the_same_time(
    shares_restored: str, postgres: Postgres, lacks: str, other_does: str
) -> None:
    """The other database's run commits when ours waits for it. PostgreSQL then refuses the change of ours."""
    ours = postgres.new_database()
    password = unquote(urlsplit(ours.service_url).password or "")
    waits = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{urlsplit(ours.owner_url).path[1:]}' AND wait_event_type = 'Lock'"
    query(shares_restored, lacks)
    with contextlib.closing(connect(shares_restored)) as other, ThreadPoolExecutor(1) as pool:
        other.execute_simple(f"BEGIN; {other_does}")
        migration = pool.submit(migrate, ours.owner_url, MIGRATIONS, passwords={"payments_scheduled": password})
        while not query(shares_restored, waits):
            assert not migration.done(), "the two runs did not meet"
            time.sleep(0.01)
        other.run("COMMIT")
        assert migration.result() == []
    rows = query(
        shares_restored,
        "SELECT rolcanlogin, cardinality(setconfig) FROM pg_roles JOIN pg_db_role_setting ON setrole = oid AND setdatabase = 0"
        " WHERE rolname IN ('payments_service', 'payments_scheduled')",
    )
    assert rows == [[True, 3], [True, 3]]


def test_databases_of_a_fresh_server_are_migrated_at_once(outage_postgres: EmbeddedPostgres) -> None:
    """Somebody has made the role for the sake of a dump's GRANTs, and each run gives it its time-outs."""
    query(outage_postgres.url, "CREATE ROLE payments_service")
    urls = [with_database(outage_postgres.url, name) for name in ("one", "two", "three")]
    for url in urls:
        query(outage_postgres.url, f"CREATE DATABASE {urlsplit(url).path[1:]}")
    passwords = {"payments_service": "one", "payments_scheduled": "two"}
    with ThreadPoolExecutor(len(urls)) as pool:
        runs = [pool.submit(migrate, url, MIGRATIONS, passwords=passwords) for url in urls]
        assert [run.result() for run in runs] == [sorted(path.name for path in MIGRATIONS.glob("*.sql"))] * len(urls)


@pytest.fixture
def owners_server(outage_postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    """A server whose tables belong to `tables_owner`, who may make roles and is no superuser, as on RDS."""
    with contextlib.closing(connect(outage_postgres.url)) as connection:
        connection.run("CREATE ROLE tables_owner LOGIN CREATEROLE PASSWORD 'owner'")
        connection.run("CREATE DATABASE shop OWNER tables_owner")
    return outage_postgres


def owner_url(server: EmbeddedPostgres) -> str:
    return f"postgresql://tables_owner:owner@127.0.0.1:{server.port}/shop"


def test_an_owner_who_is_no_superuser_makes_and_limits_the_roles(owners_server: EmbeddedPostgres) -> None:
    passwords = {"payments_service": "one", "payments_scheduled": "two"}
    migrate(owner_url(owners_server), MIGRATIONS, passwords=passwords)
    assert limit(owners_server.url) == 100 * 9 // 10 - KEPT
    for role, password in passwords.items():
        with contextlib.closing(connect(f"postgresql://{role}:{password}@127.0.0.1:{owners_server.port}/shop")) as connection:
            assert connection.run("SELECT current_user, (SELECT count(*) FROM payments)") == [[role, 0]]


def test_an_owner_who_may_not_change_the_roles_is_told_and_the_migrations_are_applied(
    owners_server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    """An administrator made the roles, or has taken the right away since."""
    prepared(owners_server)  # another database's owner made them
    query(owners_server.url, "DROP ROLE payments_scheduled")
    query(owners_server.url, "ALTER ROLE payments_service CONNECTION LIMIT -1")
    with caplog.at_level(logging.WARNING):
        assert migrate(owner_url(owners_server), MIGRATIONS) == sorted(path.name for path in MIGRATIONS.glob("*.sql"))
    [record] = caplog.records
    assert "the owner may not change the roles" in record.getMessage()
    assert limit(owners_server.url) == -1


def test_migrations_of_another_product_change_no_role(outage_postgres: EmbeddedPostgres) -> None:
    with contextlib.closing(connect(outage_postgres.url)) as connection:
        roles.share_connections(connection)
        assert connection.run("SELECT 1 FROM pg_roles WHERE rolname LIKE 'payments%'") == []
