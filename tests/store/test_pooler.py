"""The store behind a transaction pooler, which may change the server connection after every Sync."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from pg8000.core import CoreConnection

from payments.domain.ids import uuid7
from payments.store.address import connection_options
from payments.store.connection import Connection, Database, Statement, _close_quietly
from tests import servers
from tests.servers import PgBouncer

THREADS = 8
QUERIES = 2_500

# Of several shapes, so that a thread recognises rows of another thread whatever they hold.
SHAPES = [
    Statement("SELECT :thread::int, :number::int"),
    Statement("SELECT :number::text, :thread::int"),
    Statement("SELECT :thread::int * 1000000 + :number::int"),
    Statement("SELECT n, :thread::int, :number::int FROM generate_series(1, 2) n"),
]


def expected(thread: int, number: int) -> list[list[object]]:
    shapes: list[list[list[object]]] = [
        [[thread, number]],
        [[str(number), thread]],
        [[thread * 1_000_000 + number]],
        [[1, thread, number], [2, thread, number]],
    ]
    return shapes[number % len(SHAPES)]


def wrong_answers(url: str, ask: Callable[[CoreConnection, int, int], list[list[object]]], queries: int) -> int:
    """Run all threads at once, and return how many answers were errors or rows of another thread's statement."""
    start = Barrier(THREADS)

    def run(thread: int) -> int:
        connection, wrong = Connection(**connection_options(url)), 0
        start.wait()
        for number in range(queries):
            try:
                wrong += ask(connection, thread, number) != expected(thread, number)
            except Exception:
                wrong += 1
                _close_quietly(connection)
                connection = Connection(**connection_options(url))
        connection.close()
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(run, range(THREADS)))


def test_eight_clients_on_a_pool_of_two_get_their_own_rows_twenty_thousand_times(
    pgbouncer: PgBouncer, database: servers.Database
) -> None:
    def ask(connection: CoreConnection, thread: int, number: int) -> list[list[object]]:
        rows: list[list[list[object]]] = connection.flush([SHAPES[number % len(SHAPES)](thread=thread, number=number)])
        return rows[0]

    assert wrong_answers(pgbouncer.url(database.service_url), ask, QUERIES) == 0


def test_pg8000_as_it_comes_does_not(pgbouncer: PgBouncer, database: servers.Database) -> None:
    """The same load with pg8000 unchanged, which sends three Syncs a statement. This is why there is a subclass."""

    def ask(connection: CoreConnection, thread: int, number: int) -> list[list[object]]:
        bound = SHAPES[number % len(SHAPES)](thread=thread, number=number)
        rows: list[list[object]] = connection.execute_unnamed(bound.sql, bound.values).rows
        return rows

    assert wrong_answers(pgbouncer.url(database.service_url), ask, 100) > 0


def test_a_transaction_of_several_statements_stays_on_one_server(pgbouncer: PgBouncer, database: servers.Database) -> None:
    url = pgbouncer.url(database.service_url)
    same = Statement("SELECT pg_backend_pid(), pg_current_xact_id()::text")
    start = Barrier(THREADS)

    def run(thread: int) -> tuple[bool, set[int]]:
        db, servers_seen, whole = Database.at(url), set(), True
        start.wait()
        for _ in range(100):
            rows = db.run(same(), same(), same())
            whole = whole and rows[0] == rows[1] == rows[2]
            servers_seen.add(rows[0][0][0])
        db.close()
        return whole, servers_seen

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(run, range(THREADS)))
    assert all(whole for whole, _ in results)
    assert len(set.union(*(seen for _, seen in results))) > 1, "no server connection was shared, so the test proves nothing"


def test_nothing_of_one_client_is_left_for_the_next(pgbouncer: PgBouncer, database: servers.Database) -> None:
    """The role's time-outs apply behind the pooler too. A SET would stay on the server connection."""
    db = Database.at(pgbouncer.url(database.service_url))
    settings = db.run(*(Statement(f"SHOW {name}")() for name in ("statement_timeout", "lock_timeout")))
    assert settings == [[["5s"]], [["2s"]]]
    assert db.run(Statement("SELECT name FROM pg_prepared_statements")()) == [[]], "statements stay unnamed"
    db.run(Statement("SELECT :id::uuid")(id=uuid7()))
    db.close()


def test_a_client_that_was_frozen_before_it_read_its_answer_holds_no_server(
    pgbouncer: PgBouncer, database: servers.Database
) -> None:
    url, failures = pgbouncer.url(database.service_url), list[bool]()
    frozen = [Database.at(url) for _ in range(THREADS)]
    for db in frozen:
        db.send_without_waiting(Statement("SELECT 1")(), lambda: failures.append(True))
    awake = Database.at(url)
    assert [awake.run(Statement("SELECT :number::int")(number=number)) for number in range(3)] == [[[[0]]], [[[1]]], [[[2]]]]
    for db in (*frozen, awake):
        assert db.run(Statement("SELECT 2")()) == [[[2]]]
        db.close()
    assert not failures
