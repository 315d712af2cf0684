"""The roles that the functions connect as can do their work and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import pg8000.native
import pytest
from pg8000.exceptions import DatabaseError

from local.servers import connect
from tests.cases import case
from tests.servers import Database, Postgres

TABLES = ("payments", "refunds", "operations", "payment_status_history", "outbox", "disputes")

FORBIDDEN = [
    *(f"DELETE FROM {table}" for table in TABLES if table != "outbox"),
    *(f"TRUNCATE {table} CASCADE" for table in TABLES),
    *(f"DROP TABLE {table} CASCADE" for table in TABLES),
    *(f"ALTER TABLE {table} ADD COLUMN extra text" for table in TABLES),
    *(f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in TABLES),
    "INSERT INTO payment_status_history SELECT payment_id, 1, NULL, 'CAPTURED', now(), 'forged' FROM payments",
    "UPDATE payment_status_history SET reason = 'forged'",
    "UPDATE payments SET owner = 'me'",
    "UPDATE payments SET amount_minor = 1",
    "UPDATE payments SET currency = 'JPY'",
    "UPDATE payments SET order_id = 'mine'",
    "UPDATE payments SET payment_id = gen_random_uuid()",
    "UPDATE payments SET created_at = now()",
    "UPDATE refunds SET amount_minor = 1",
    "UPDATE refunds SET payment_id = gen_random_uuid()",
    "UPDATE operations SET payment_id = gen_random_uuid()",
    "UPDATE operations SET gateway_key = 'another'",
    "UPDATE operations SET idempotency_key = 'another'",
    "UPDATE operations SET amount_minor = 1",
    "UPDATE disputes SET payment_id = gen_random_uuid()",
    "UPDATE disputes SET owner = 'me'",
    "UPDATE disputes SET gateway_dispute_id = 'another'",
    "UPDATE outbox SET data = '{}'",
    "UPDATE outbox SET event_id = gen_random_uuid()",
    "UPDATE outbox SET sequence = 0",
    "CREATE TABLE mine (id int)",
    "CREATE SCHEMA mine",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE INDEX mine ON payments (order_id)",
    "CREATE TRIGGER mine BEFORE UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION guard_payment_status()",
    "CREATE OR REPLACE FUNCTION guard_payment_status() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "DROP FUNCTION guard_payment_status() CASCADE",
    "DROP TRIGGER payments_guard_status ON payments",
    "DROP INDEX payments_one_live_per_order",
    "ALTER TABLE payments DROP CONSTRAINT payments_refunds_within_captured",
    "ALTER TABLE payments OWNER TO payments_service",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "ALTER ROLE payments_service SUPERUSER",
    "SET session_replication_role = replica",
    "SELECT turn_outbox_after(0, 0)",
    "SELECT * FROM schema_migrations",
    "COPY payments TO PROGRAM 'cat'",
    "SELECT pg_read_file('postgresql.conf')",
]


@pytest.fixture(params=["payments_service", "payments_scheduled"])
def service(request: pytest.FixtureRequest, database: Database) -> Iterator[pg8000.native.Connection]:
    """A connection of each role that functions log in as."""
    url = urlsplit(database.service_url)
    with contextlib.closing(
        connect(url._replace(netloc=url.netloc.replace(str(url.username), request.param)).geturl())
    ) as opened:
        assert opened.run("SELECT current_user") == [[request.param]]
        yield opened


def test_the_services_role_may_not(service: pg8000.native.Connection) -> None:
    for sql in FORBIDDEN:
        with case(sql):
            with pytest.raises(DatabaseError) as error:
                service.run(sql)
            assert error.value.args[0]["C"] == "42501", error.value


@pytest.mark.parametrize("table", TABLES)
def test_the_services_role_reads_every_table(service: pg8000.native.Connection, table: str) -> None:
    service.run(f"SELECT * FROM {table} LIMIT 1")


def test_the_services_role_deletes_events_as_the_last_release_does(service: pg8000.native.Connection) -> None:
    service.run("BEGIN")
    service.run("DELETE FROM outbox")
    service.run("ROLLBACK")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("statement_timeout", "5s"), ("lock_timeout", "2s"), ("idle_in_transaction_session_timeout", "10s")],
)
def test_time_outs_belong_to_the_role(service: pg8000.native.Connection, setting: str, value: str) -> None:
    assert service.run(f"SHOW {setting}") == [[value]]


def test_the_role_has_no_attribute_but_login(postgres: Postgres, owner: pg8000.native.Connection) -> None:
    assert owner.run(
        "SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles"
        " WHERE rolname = 'payments_service'"
    ) == [[True, False, False, False, False, False]]
    assert owner.run("SELECT 1 FROM pg_auth_members WHERE member = 'payments_service'::regrole") == []


def test_the_role_of_relay_and_reconcile_has_the_services_rights_and_none_of_its_own(
    postgres: Postgres, owner: pg8000.native.Connection
) -> None:
    assert owner.run(
        "SELECT rolcanlogin, rolinherit, rolconnlimit, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
        " FROM pg_roles WHERE rolname = 'payments_scheduled'"
    ) == [[True, True, -1, False, False, False, False, False]]
    assert owner.run(
        "SELECT roleid::regrole::text, admin_option FROM pg_auth_members WHERE member = 'payments_scheduled'::regrole"
    ) == [["payments_service", False]]
    assert owner.run("SELECT 1 FROM pg_class WHERE relacl::text LIKE '%payments_scheduled%'") == []
    assert owner.run("SELECT 1 FROM pg_shdepend WHERE refobjid = 'payments_scheduled'::regrole AND deptype IN ('o', 'a')") == []
