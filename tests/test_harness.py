"""The test harness itself: it causes the faults that a test requests, and its counts are right."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import Connection

from local.servers import EmbeddedBroker, EmbeddedPostgres, connect
from local.template import Function
from tests.faults import FaultProxy, Writes
from tests.lambda_runtime import LambdaRuntime
from tests.servers import Broker, Database, PgBouncer, ProxiedBroker, frozen, kill, with_address

ROOT = Path(__file__).resolve().parent.parent
BROKEN = (InterfaceError, OSError)
"""What pg8000 raises when its connection breaks."""


def through(proxy: FaultProxy, url: str) -> Connection:
    return connect(with_address(url, "127.0.0.1", proxy.port))


@contextlib.contextmanager
def breaks(connection: Connection) -> Iterator[None]:
    """Expect that the block finds the connection broken."""
    with pytest.raises(BROKEN):
        yield
    with contextlib.suppress(*BROKEN):
        connection.close()


def eventually(check: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            check()
            return
        except (*BROKEN, DatabaseError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def ping(url: str) -> None:
    with contextlib.closing(connect(url)) as connection:
        connection.run("SELECT 1")


def test_the_service_role_is_not_the_owner(database: Database) -> None:
    with contextlib.closing(connect(database.service_url)) as connection:
        assert connection.run("SELECT current_user") == [["payments_service"]]
        with pytest.raises(DatabaseError, match="42501"):
            connection.run("DROP TABLE payments")


def test_databases_are_separate(database: Database, own_database: Database) -> None:
    with contextlib.closing(connect(own_database.owner_url)) as connection:
        connection.run("CREATE TABLE only_here ()")
    with contextlib.closing(connect(database.owner_url)) as connection:
        assert connection.run("SELECT to_regclass('only_here')") == [[None]]


def test_pgbouncer_gives_many_clients_two_servers(database: Database, pgbouncer: PgBouncer) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(connect(pgbouncer.url(database.service_url)))) for _ in range(8)]
        servers = {client.run("SELECT pg_backend_pid()")[0][0] for _ in range(5) for client in clients}
    assert len(servers) <= 2


def test_round_trips_and_commits_are_counted(database: Database, fault_proxy: Callable[..., FaultProxy]) -> None:
    proxy = fault_proxy(database.owner_url)
    with contextlib.closing(through(proxy, database.owner_url)) as connection:
        counts = proxy.postgres
        assert (counts.round_trips, counts.commits) == (0, 0)
        connection.run("SELECT 1")
        assert (counts.round_trips, counts.commits) == (1, 1)
        for sql in ("BEGIN", "SELECT 1", "COMMIT"):
            connection.run(sql)
        assert (counts.round_trips, counts.commits) == (4, 2)
        for sql in ("BEGIN", "SELECT 1", "ROLLBACK"):
            connection.run(sql)
        assert (counts.round_trips, counts.commits) == (7, 2)
        with pytest.raises(DatabaseError):
            connection.run("SELECT 1/0")
        assert (counts.round_trips, counts.commits) == (8, 2)


@pytest.mark.parametrize(("answered", "rows"), [(False, 0), (True, 1)])
def test_a_write_fails_before_or_after_the_server_sees_it(
    own_database: Database, fault_proxy: Callable[..., FaultProxy], answered: bool, rows: int
) -> None:
    writes, acted = Writes(), []
    proxy = fault_proxy(own_database.owner_url, writes)
    with contextlib.closing(connect(own_database.owner_url)) as direct:
        direct.run("CREATE TABLE marks (mark text)")
        connection = through(proxy, own_database.owner_url)
        writes.fail(2, answered=answered, action=lambda: acted.append(writes.count))
        connection.run("SELECT 1")
        with breaks(connection):
            connection.run("INSERT INTO marks VALUES ('x')")
        assert writes.failed
        assert acted == [2]
        assert direct.run("SELECT count(*) FROM marks") == [[rows]]
    ping(with_address(own_database.owner_url, "127.0.0.1", proxy.port))


def test_a_lost_reply_leaves_what_was_committed(own_database: Database, fault_proxy: Callable[..., FaultProxy]) -> None:
    proxy = fault_proxy(own_database.owner_url)
    connection = through(proxy, own_database.owner_url)
    proxy.lose_reply(after_bytes=3)
    with breaks(connection):
        connection.run("CREATE TABLE marks ()")
    with contextlib.closing(connect(own_database.owner_url)) as direct:
        assert direct.run("SELECT to_regclass('marks')") == [["marks"]]


def test_connections_are_cut_refused_and_stalled(database: Database, fault_proxy: Callable[..., FaultProxy]) -> None:
    proxy = fault_proxy(database.owner_url)
    connection = through(proxy, database.owner_url)
    proxy.cut()
    with breaks(connection):
        connection.run("SELECT 1")
    with proxy.refusing(), pytest.raises(BROKEN):
        through(proxy, database.owner_url)
    connection = through(proxy, database.owner_url)
    connection._usock.settimeout(0.2)
    with proxy.stalled(), breaks(connection):
        connection.run("SELECT 1")
    ping(with_address(database.owner_url, "127.0.0.1", proxy.port))


def test_postgres_is_killed_frozen_and_stopped(outage_postgres: EmbeddedPostgres, outage_database: Database) -> None:
    connection = connect(outage_database.service_url)
    kill(outage_postgres)
    with breaks(connection):
        connection.run("SELECT 1")
    eventually(lambda: ping(outage_database.service_url))
    connection = connect(outage_database.service_url)
    connection._usock.settimeout(0.2)
    with frozen(outage_postgres), breaks(connection):
        connection.run("SELECT 1")
    outage_postgres.stop()
    with pytest.raises(BROKEN):
        connect(outage_database.service_url)
    outage_postgres.start()
    ping(outage_database.service_url)


def test_the_broker_is_killed_and_comes_back(outage_broker: EmbeddedBroker) -> None:
    address = outage_broker.bootstrap_servers
    kill(outage_broker)
    eventually(lambda: Broker(address).new_topic())
    outage_broker.stop()
    outage_broker.start()
    Broker(address).new_topic()


def test_what_is_produced_through_the_proxy_is_read_back(proxied_broker: tuple[FaultProxy, ProxiedBroker]) -> None:
    proxy, _ = proxied_broker
    address = f"127.0.0.1:{proxy.port}"
    with contextlib.closing(KafkaProducer(bootstrap_servers=address)) as producer:
        producer.send("payments", b"paid", partition=0).get(timeout=5)
    assert proxy.writes.count > 0
    with contextlib.closing(KafkaConsumer(bootstrap_servers=address)) as consumer:
        partition = TopicPartition("payments", 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        [record] = consumer.poll(timeout_ms=5000)[partition]
    assert record.value == b"paid"


@pytest.fixture
def echo(tmp_path: Path) -> Function:
    (tmp_path / "handler.py").write_text(
        "import os, payments\n"
        "def lambda_handler(event, context):\n"
        "    print('handling', event)\n"
        "    if event == 'fault':\n"
        "        raise ValueError('as asked')\n"
        "    return {'event': event, 'function': context.function_name, 'pid': os.getpid(), 'env': dict(os.environ)}\n"
    )
    layer = ROOT / "layers" / "shared" / "python"
    return Function(
        name="EchoFunction",
        short_name="echo",
        code_folder=tmp_path,
        layer_folders=(layer,),
        handler="handler.lambda_handler",
        timeout_s=15,
        memory_mb=512,
        async_retries=0,
        alias="",
        environment={"KAFKA_TOPIC": "payments"},
    )


def test_a_handler_runs_in_the_lambda_runtime(
    lambda_runtime: type[LambdaRuntime], echo: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOT_FOR_THE_FUNCTION", "1")
    with lambda_runtime(echo, {"LOG_LEVEL": "DEBUG"}) as function:
        answer = function.invoke({"order_id": "o-1"})
        assert not answer.function_error
        assert answer.payload["event"] == {"order_id": "o-1"}
        assert answer.payload["function"] == "EchoFunction"
        assert answer.payload["env"].items() >= {"KAFKA_TOPIC": "payments", "LOG_LEVEL": "DEBUG"}.items()
        assert "NOT_FOR_THE_FUNCTION" not in answer.payload["env"]
        fault = function.invoke("fault")
        assert fault.function_error
        assert fault.payload["errorMessage"] == "as asked"
        assert "handling fault" in fault.logs
        assert "o-1" not in fault.logs
        assert "o-1" in function.logs()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(answer.payload["pid"]).wait(timeout=5)


def test_a_handler_that_takes_too_long_is_ended(lambda_runtime: type[LambdaRuntime], echo: Function) -> None:
    (echo.code_folder / "handler.py").write_text(
        "import time\ndef lambda_handler(event, context):\n    time.sleep(event)\n    return event\n"
    )
    with lambda_runtime(replace(echo, timeout_s=1)) as function:
        late = function.invoke(60)
        assert late.function_error
        assert "timed out" in late.payload["errorMessage"]
        assert function.invoke(0).payload == 0
