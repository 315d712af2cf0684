"""Fixtures on real servers. A test that needs only its own orders shares `database`, `topic` and the servers."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.servers import EmbeddedBroker, EmbeddedPostgres
from tests import servers
from tests.faults import FaultProxy, Writes
from tests.lambda_runtime import LambdaRuntime, missing
from tests.servers import Broker, Database, PgBouncer, Postgres, ProxiedBroker

pytest_plugins = ["tests.api_fixtures", "tests.shop_fixtures", "tests.tiers"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fail-on-skip", action="store_true", help="count a skipped test as failed: here all is installed")


def pytest_configure() -> None:
    # A shell makes its background jobs ignore Ctrl-C. The processes that the tests interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--fail-on-skip") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder that every user can reach: started by root, PostgreSQL runs as nobody."""
    with tempfile.TemporaryDirectory(prefix="payments-tests-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[Postgres]:
    with servers.running_postgres(servers_folder / "postgres") as running:
        yield running


@pytest.fixture(scope="session")
def database(postgres: Postgres) -> Database:
    """Migrated and shared by all tests. Tell your rows apart by owner and order id."""
    return postgres.new_database()


@pytest.fixture
def own_database(postgres: Postgres) -> Database:
    """Migrated and empty, for one test."""
    return postgres.new_database()


@pytest.fixture(scope="session")
def pgbouncer(postgres: Postgres) -> Iterator[PgBouncer]:
    """`pgbouncer.url(database.service_url)` is the same database through a pool of two connections in transaction mode."""
    if not PgBouncer.program():
        pytest.skip("PgBouncer is not installed (apt-get install pgbouncer, brew install pgbouncer)")
    running = PgBouncer(postgres.service_url)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def broker(servers_folder: Path) -> Iterator[Broker]:
    with servers.running_broker(servers_folder / "broker") as running:
        yield running


@pytest.fixture(scope="session")
def topic(broker: Broker) -> str:
    """Three partitions, shared by all tests. Tell your messages apart by payment id."""
    return broker.new_topic()


@pytest.fixture
def own_topic(broker: Broker) -> str:
    """Empty, for one test."""
    return broker.new_topic()


@pytest.fixture
def outage_postgres(servers_folder: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, which the test may stop, start, kill and freeze (servers.kill, servers.frozen)."""
    server = servers.ThrowawayPostgres(servers_folder / tmp_path.name)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def outage_database(outage_postgres: EmbeddedPostgres) -> Database:
    return servers.prepared(outage_postgres).new_database()


@pytest.fixture
def outage_broker(servers_folder: Path, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of the test's own. It holds its topics in memory and comes back without them."""
    server = servers.ThrowawayBroker(servers_folder / tmp_path.name)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def fault_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """`fault_proxy(url)` puts a proxy in front of the server.

    `servers.with_address(url, "127.0.0.1", proxy.port)` goes through it.
    """
    with contextlib.ExitStack() as stack:

        def before(url: str, writes: Writes | None = None) -> FaultProxy:
            parts = urlsplit(url)
            proxy = FaultProxy((str(parts.hostname), int(parts.port or 5432)), writes=writes)
            stack.callback(proxy.close)
            return proxy

        yield before


@pytest.fixture
def proxied_broker(servers_folder: Path, tmp_path: Path) -> Iterator[tuple[FaultProxy, ProxiedBroker]]:
    """A broker of the test's own. All its clients come through the proxy: 127.0.0.1:proxy.port."""
    broker = ProxiedBroker(servers_folder / tmp_path.name)
    proxy = FaultProxy(("127.0.0.1", broker.port))
    broker.advertised_port = proxy.port
    broker.start()
    yield proxy, broker
    broker.stop()
    proxy.close()


@pytest.fixture(scope="session")
def lambda_runtime(servers_folder: Path) -> type[LambdaRuntime]:
    """The class, to be called as LambdaRuntime(function, environment). Skips the test where the runtime cannot run."""
    if reason := missing():
        pytest.skip(reason)
    return LambdaRuntime
