"""Callers hold every connection: the next one hears 503 at its first try, and relay and reconcile work with theirs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pg8000.native
import pytest
from pg8000.exceptions import DatabaseError

from local.servers import EmbeddedPostgres, connect
from migrations import roles
from payments.commands.service import Service
from payments.store import connection
from payments.store.address import connection_options
from payments.store.connection import PING, RETRY_AFTER_S, Connection, NoConnectionFree, _close_quietly
from payments.store.connection import Database as StoreDatabase
from tests import servers
from tests.api_client import Answer, Api, order
from tests.fakes import lose_reply, refuse
from tests.lambda_runtime import LambdaRuntime
from tests.servers import Broker, Database, PgBouncer, Postgres
from tests.shop import Books, Shop

Start = Callable[..., LambdaRuntime]
PAID, LOST = 3, 4


def with_queues(database: Database) -> Books:
    """Leave events that wait for the relay, and operations that wait for reconcile."""
    shop, books = Shop.on(database), Books(database.owner_url)
    shop.publisher.acknowledges = refuse
    for _ in range(PAID):
        shop.captured()
    shop.gateway.answer = lose_reply
    for _ in range(LOST):
        shop.process(payment_token="tok_ok")
    shop.close()
    books.end_event_leases()
    books.make_due()
    return books


class Caller:
    """An environment of the API's functions that counts its tries to connect."""

    def __init__(self, url: str, make_service: Callable[..., Service]) -> None:
        self.tries, self.now_s = 0, 1000.0

        def connect_and_count() -> Connection:
            self.tries += 1
            return Connection(**connection_options(url))

        self.api = Api(make_service(db=StoreDatabase(connect_and_count, clock=lambda: self.now_s)))

    def hears_that_no_connection_is_free(self) -> None:
        asks: list[Callable[[], Answer]] = [
            lambda: self.api.post("process", order()),
            lambda: self.api.post("refund", {"transaction_id": "txn_1"}, key="k"),
            lambda: self.api.get("/order/order-1"),
        ]
        for ask in asks:
            before = self.tries
            for _ in "the one who waits", "the one after him":
                answer = ask()
                assert (answer.status, answer.code, answer.body["retryable"]) == (503, "service_unavailable", True)
                assert answer.headers["retry-after"] == "2"
                assert self.tries == before + 1, "a second try doubles the wait, and those who come later need not wait"
            self.now_s += RETRY_AFTER_S


def works_the_queues_off(start: Start, url: str, broker: Broker, topic: str, books: Books) -> list[str]:
    """Invoke the real relay and reconcile as the template configures them. Return what they logged."""
    variables = {"DATABASE_URL": url, "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "KAFKA_TOPIC": topic}
    reconciled, relayed = (start(name, variables).invoke({}) for name in ("reconcile", "relay"))
    assert reconciled.payload["settled"] == LOST, reconciled.logs
    assert relayed.payload["unpublished"] == 0, relayed.logs
    assert books.query("SELECT count(*) FROM outbox WHERE published_at IS NULL") == [[0]]
    assert books.query("SELECT count(*) FROM operations WHERE outcome IS NULL") == [[0]]
    return [reconciled.logs, relayed.logs]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take our own time-outs out of the way, so that only the answer of the server or the pooler ends a wait in time."""
    monkeypatch.setattr(connection, "READ_TIMEOUT_S", 600.0)
    monkeypatch.setattr("payments.store.address.CONNECT_TIMEOUT_S", 600.0)


@pytest.fixture
def small_postgres(servers_folder: Path, tmp_path: Path) -> Iterator[Postgres]:
    """A server of the test's own with 30 connections."""
    settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "30"}
    server = EmbeddedPostgres(servers_folder / tmp_path.name, lambda line: None, **settings)
    server.start()
    yield servers.prepared(server)
    server.stop()


@pytest.mark.usefixtures("patient")
def test_callers_that_hold_all_connections_of_the_server_leave_relay_and_reconcile_theirs(
    start: Start, make_service: Callable[..., Service], small_postgres: Postgres, broker: Broker, own_topic: str
) -> None:
    database = small_postgres.new_database()
    books = with_queues(database)
    with contextlib.ExitStack() as stack:
        held: list[pg8000.native.Connection] = []
        with contextlib.suppress(DatabaseError):
            while len(held) < 30:
                held.append(stack.enter_context(contextlib.closing(connect(database.service_url))))
        assert len(held) == 30 * 9 // 10 - roles.SCHEDULED - roles.MIGRATE
        Caller(database.service_url, make_service).hears_that_no_connection_is_free()
        works_the_queues_off(start, database.service_url, broker, own_topic, books)


@pytest.mark.usefixtures("patient")
def test_callers_that_hold_all_connections_of_the_pooler_leave_relay_and_reconcile_theirs(
    start: Start,
    make_service: Callable[..., Service],
    postgres: Postgres,
    own_database: Database,
    broker: Broker,
    own_topic: str,
) -> None:
    books = with_queues(own_database)
    pooler = PgBouncer(postgres.service_url, query_wait_timeout="1")
    url = pooler.url(own_database.service_url)
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(servers.POOL_SIZE):
                holder = stack.enter_context(contextlib.closing(connect(url)))
                holder.run("BEGIN")
                holder.run("SET LOCAL idle_in_transaction_session_timeout = 0")  # a slow machine may need longer than the role's
            Caller(url, make_service).hears_that_no_connection_is_free()
            works_the_queues_off(start, url, broker, own_topic, books)
    finally:
        pooler.stop()


def the_only_client(url: str) -> pg8000.native.Connection:
    """Connect once PgBouncer has noticed that the one who looked whether it listens has gone."""
    while True:
        with contextlib.suppress(DatabaseError):
            return connect(url)


@pytest.mark.usefixtures("patient")
def test_a_pooler_with_more_clients_than_it_takes_is_tried_once(
    make_service: Callable[..., Service], postgres: Postgres, own_database: Database
) -> None:
    pooler = PgBouncer(postgres.service_url, max_client_conn="1")
    url = pooler.url(own_database.service_url)
    try:
        with contextlib.closing(the_only_client(url)):
            Caller(url, make_service).hears_that_no_connection_is_free()
    finally:
        pooler.stop()


@contextlib.contextmanager
def pooled(server_url: str, url: str, **settings: Any) -> Iterator[str]:
    """Yield the URL of the database through a PgBouncer in front of that server."""
    pooler = PgBouncer(server_url, **settings)
    try:
        yield pooler.url(url)
    finally:
        pooler.stop()


def what_it_hears(url: str) -> str:
    try:
        refused = Connection(**connection_options(url))
        try:
            refused.flush([PING()])
        finally:
            _close_quietly(refused)
    except NoConnectionFree as error:
        return str(error.args[0]["M"])
    raise AssertionError("it has a connection")


@pytest.mark.usefixtures("patient")
def test_a_pooler_whose_server_does_not_answer_is_tried_once(make_service: Callable[..., Service], database: Database) -> None:
    nowhere = servers.with_address(database.service_url, "127.0.0.1", servers.free_port())
    with pooled(nowhere, database.service_url, client_login_timeout="1") as url:
        assert what_it_hears(url) == "client_login_timeout (server down)"
        Caller(url, make_service).hears_that_no_connection_is_free()


@pytest.mark.usefixtures("patient")
def test_a_pooler_that_its_server_refuses_is_tried_once(make_service: Callable[..., Service], small_postgres: Postgres) -> None:
    database = small_postgres.new_database()
    with (
        contextlib.closing(connect(database.owner_url)) as owner,
        pooled(small_postgres.service_url, database.service_url, query_wait_timeout="1") as url,
    ):
        owner.run("ALTER ROLE payments_service CONNECTION LIMIT 0")
        assert what_it_hears(url) == 'too many connections for role "payments_service"'
    with (
        contextlib.closing(connect(database.owner_url)) as owner,
        pooled(small_postgres.service_url, database.service_url, query_wait_timeout="1") as url,
    ):
        owner.run("ALTER ROLE payments_service CONNECTION LIMIT 20")
        with contextlib.closing(connect(url)) as before:
            [[pid]] = before.run("SELECT pg_backend_pid()") or []
        owner.run("ALTER ROLE payments_service CONNECTION LIMIT 0")
        owner.run("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
        what_it_hears(
            url
        )  # The pooler knows the server's greeting, so it lets the client in and finds out at the first statement.
        assert re.match(r"server login has been failing, .*", what_it_hears(url))
        Caller(url, make_service).hears_that_no_connection_is_free()


@pytest.mark.usefixtures("patient")
def test_a_pooler_that_lets_a_statement_wait_too_long_is_tried_once(
    make_service: Callable[..., Service], postgres: Postgres, database: Database
) -> None:
    with (
        pooled(postgres.service_url, database.service_url, query_timeout="1") as url,
        contextlib.closing(connect(servers.with_database(url, "pgbouncer"))) as console,
    ):
        console.run("PAUSE")
        assert what_it_hears(url) == "query_timeout"
        Caller(url, make_service).hears_that_no_connection_is_free()


def test_until_the_role_has_a_login_relay_and_reconcile_work_with_the_urls_own(
    start: Start, small_postgres: Postgres, broker: Broker, own_topic: str
) -> None:
    """Between a deployment and `migrate` the role is not there. On a server of one's own it may have no password for long."""
    database = small_postgres.new_database()
    books = with_queues(database)
    books.query("DROP ROLE payments_scheduled")
    for logs in works_the_queues_off(start, database.service_url, broker, own_topic, books):
        assert "payments_scheduled cannot log in (28P01); going on as payments_service" in logs
        assert str(urlsplit(database.service_url).password) not in logs
