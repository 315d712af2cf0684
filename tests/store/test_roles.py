"""As which role a function logs in, and what it does when that role is refused."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from itertools import product
from urllib.parse import unquote, urlsplit

import pytest

from local.servers import SCHEDULED_ROLE, SERVICE_ROLE, connect
from payments.domain.errors import InternalError, ServiceUnavailable
from payments.store.address import connection_options
from payments.store.connection import IDLE_LIMIT_S, NO_CONNECTION_FREE, RETRY_AFTER_S, Bound, Connection, Database, Statement
from tests import servers
from tests.servers import PgBouncer

WHO = Statement("SELECT current_user")


@pytest.fixture(params=["directly", "through the pooler"])
def url(request: pytest.FixtureRequest, database: servers.Database) -> str:
    if request.param == "directly":
        return database.service_url
    pooler: PgBouncer = request.getfixturevalue("pgbouncer")
    return pooler.url(database.service_url)


@pytest.fixture
def without_login(database: servers.Database) -> Iterator[None]:
    """Within the test the role may not log in."""
    with contextlib.closing(connect(database.owner_url)) as owner:
        owner.run(f"ALTER ROLE {SCHEDULED_ROLE} NOLOGIN")
        yield
        owner.run(f"ALTER ROLE {SCHEDULED_ROLE} LOGIN")


def who(db: Database) -> str:
    return str(db.run(WHO())[0][0][0])


def test_a_function_logs_in_as_its_role_with_the_password_of_the_url(url: str) -> None:
    db, caller = Database.at(url, role=SCHEDULED_ROLE), Database.at(url)
    assert (who(db), who(caller)) == (SCHEDULED_ROLE, SERVICE_ROLE)
    db.close()
    caller.close()


def test_a_token_is_made_for_the_role_that_logs_in(database: servers.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    options = connection_options(database.service_url)  # without TLS, which a password made elsewhere would need
    monkeypatch.setattr("payments.store.connection.connection_options", lambda url, needs_tls: options)
    made: list[str] = []

    def token(host: str, port: int, user: str) -> str:
        made.append(user)
        return unquote(urlsplit(database.service_url).password or "") if user == SERVICE_ROLE else "refused"

    db = Database.at(database.service_url, token, SCHEDULED_ROLE)
    assert who(db) == SERVICE_ROLE
    assert made == [SCHEDULED_ROLE, SERVICE_ROLE]
    db.close()


@pytest.mark.usefixtures("without_login")
def test_a_role_that_is_refused_costs_a_line_of_the_log(database: servers.Database, caplog: pytest.LogCaptureFixture) -> None:
    db = Database.at(database.service_url, role=SCHEDULED_ROLE)
    with caplog.at_level(logging.WARNING):
        assert who(db) == SERVICE_ROLE
        assert who(db) == SERVICE_ROLE, "a connection that is open stays"
    assert [record.getMessage() for record in caplog.records] == [
        "payments_scheduled cannot log in (28000); going on as payments_service"
    ]
    with contextlib.closing(connect(database.owner_url)) as owner:
        owner.run(f"ALTER ROLE {SCHEDULED_ROLE} LOGIN")
    db.close()
    assert who(db) == SCHEDULED_ROLE, "the next connection tries the role again"
    db.close()


def test_the_log_says_when_the_role_has_no_connection_free(database: servers.Database, caplog: pytest.LogCaptureFixture) -> None:
    db = Database.at(database.service_url, role=SCHEDULED_ROLE)
    with contextlib.closing(connect(database.owner_url)) as owner, caplog.at_level(logging.WARNING):
        owner.run(f"ALTER ROLE {SCHEDULED_ROLE} CONNECTION LIMIT 0")
        try:
            assert who(db) == SERVICE_ROLE
        finally:
            owner.run(f"ALTER ROLE {SCHEDULED_ROLE} CONNECTION LIMIT -1")
    assert "payments_scheduled cannot log in (53300); going on as payments_service" in caplog.text
    db.close()


@pytest.mark.usefixtures("without_login")
def test_a_role_that_can_log_in_again_is_used_again_although_the_other_connection_never_idles(
    database: servers.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [time.time()]
    db = Database.at(database.service_url, role=SCHEDULED_ROLE)
    monkeypatch.setattr(db, "_clock", lambda: now_s[0])
    assert who(db) == SERVICE_ROLE
    with contextlib.closing(connect(database.owner_url)) as owner:
        owner.run(f"ALTER ROLE {SCHEDULED_ROLE} LOGIN")
    seen = []
    for _ in range(2):
        now_s[0] += IDLE_LIMIT_S / 2
        seen.append(who(db))
    assert seen == [SERVICE_ROLE, SCHEDULED_ROLE]
    db.close()


@pytest.mark.parametrize("auth_type", ["trust", "scram-sha-256"])
def test_a_role_that_the_pooler_does_not_know_is_no_outage(
    postgres: servers.Postgres, database: servers.Database, auth_type: str
) -> None:
    pooler = PgBouncer(postgres.service_url, auth_type=auth_type)
    db = Database.at(pooler.url(database.service_url), role="nobody_knows")
    try:
        assert who(db) == SERVICE_ROLE
    finally:
        db.close()
        pooler.stop()


def test_a_role_that_only_the_server_behind_the_pooler_refuses_is_no_outage(
    postgres: servers.Postgres, database: servers.Database
) -> None:
    """The pooler knows the server's greeting already, so it lets the client in and finds out at the first statement."""
    pooler = PgBouncer(postgres.service_url, query_wait_timeout="1")
    url = pooler.url(database.service_url)
    try:
        before = Database.at(url, role=SCHEDULED_ROLE)
        [[[pid]]] = before.run(Statement("SELECT pg_backend_pid()")())
        before.close()
        with contextlib.closing(connect(database.owner_url)) as owner:
            owner.run(f"ALTER ROLE {SCHEDULED_ROLE} NOLOGIN")
            try:
                owner.run("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
                after = Database.at(url, role=SCHEDULED_ROLE)
                assert who(after) == SERVICE_ROLE
                after.close()
            finally:
                owner.run(f"ALTER ROLE {SCHEDULED_ROLE} LOGIN")
    finally:
        pooler.stop()


@pytest.mark.server
def test_a_server_that_is_away_is_an_outage_for_every_role() -> None:
    db = Database.at(f"postgresql://{SERVICE_ROLE}@127.0.0.1:{servers.free_port()}/payments", role=SCHEDULED_ROLE)
    with pytest.raises(ServiceUnavailable):
        db.run(WHO())


FULL = [
    "no more connections allowed (max_client_conn)",
    "client connections exceeded (max_db_client_connections)",
    "client connections exceeded (max_user_client_connections)",
    "query_wait_timeout",
    "query_timeout",
    "client_login_timeout (server down)",
    "server login has been failing, try again later (server_login_retry)",
    "server login has been failing, cached error: connect timeout (server_login_retry)",
    "sorry, too many clients already",
    'too many connections for role "payments_service"',
    "remaining connection slots are reserved for roles with the SUPERUSER attribute",
    "Timed-out waiting to acquire database connection",
    "The maximum number of client connections to the proxy exceeded 1000.",
    "Rate of connection to proxy exceeded 100.",
    "The IAM authentication failed because of too many competing requests.",
]
BROKEN = ["server closed the connection unexpectedly", "server conn crashed?", "client_idle_timeout", "pooler is shutting down"]
BROKEN += ["server shutting down", "query timeout", "idle transaction timeout", 'database "payments" is disabled']


GERMAN = "tut mir leid, schon zu viele Verbindungen"


@pytest.mark.parametrize(("message", "state"), [*product([*FULL, *BROKEN], ["08P01", "08000", "XX000"]), (GERMAN, "53300")])
def test_what_a_pooler_says_when_it_is_full_is_tried_once(database: servers.Database, message: str, state: str) -> None:
    """A broken connection (08) is worth a second try, and a full pooler is not, whatever SQLSTATE it gives."""
    tries, is_full = 0, message in FULL or state == "53300"

    class Counted(Database):
        def _flush(self, statements: object) -> list[list[list[object]]]:
            nonlocal tries
            tries += 1
            return super()._flush(statements)  # type: ignore[arg-type]

    now_s = 1000.0
    db = Counted(lambda: Connection(**connection_options(database.service_url)), clock=lambda: now_s)
    says = f"DO $$ BEGIN RAISE EXCEPTION USING MESSAGE = '{message}', ERRCODE = '{state}'; END $$"
    with pytest.raises((ServiceUnavailable, InternalError)) as raised:
        db.run(Bound(says, ()))
    assert bool(NO_CONNECTION_FREE.search(message)) == (message in FULL)
    assert tries == (2 if message in BROKEN and state[:2] == "08" else 1)
    assert isinstance(raised.value, ServiceUnavailable) == (is_full or state[:2] == "08")
    if is_full:
        with pytest.raises(ServiceUnavailable):
            who(db)  # It hears at once what the first one waited for.
    now_s += RETRY_AFTER_S
    assert who(db) == SERVICE_ROLE, "no later statement reads what is left of this answer"
    db.close()


def test_who_found_no_connection_for_what_he_was_told_pauses_nobody_who_gets_one(
    postgres: servers.Postgres, database: servers.Database
) -> None:
    """The answer to a mark may be old when the next claim reads it. The claim gets a connection, so its settle does too."""
    pooler = PgBouncer(postgres.service_url, pool_size=1, query_wait_timeout="1")
    failures = list[bool]()
    db, other = (Database.at(pooler.url(database.service_url)) for _ in range(2))
    try:
        assert who(db) == SERVICE_ROLE
        other.send_without_waiting(Statement("SELECT pg_sleep(:seconds::float8)")(seconds=3), lambda: failures.append(False))
        db.send_without_waiting(WHO(), lambda: failures.append(True))
        other.run(WHO())
        assert [who(db), who(db)] == [SERVICE_ROLE, SERVICE_ROLE]
        assert failures == [True]
    finally:
        db.close()
        other.close()
        pooler.stop()
