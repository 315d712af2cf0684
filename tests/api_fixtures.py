from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest

from payments.broker.kafka import KafkaPublisher
from payments.commands.service import Service
from payments.gateway.port import Gateway
from payments.gateway.simulated import SimulatedGateway
from payments.store.connection import Database as StoreDatabase
from tests.api_client import Api
from tests.servers import Broker, Database

INSTANT = SimulatedGateway(success_rate=1.0, delay_ms=(0, 0), sleep=lambda seconds: None)
"""Approves every charge without a delay, unless its token decides otherwise."""


_LOOP = pytest.StashKey[asyncio.AbstractEventLoop]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LOOP] = asyncio.new_event_loop()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set the thread's event loop, which Mangum looks for: asyncio.run, which some tests call, leaves the thread without one."""
    asyncio.set_event_loop(item.config.stash[_LOOP])


def pytest_unconfigure(config: pytest.Config) -> None:
    asyncio.set_event_loop(None)
    config.stash[_LOOP].close()


@pytest.fixture(scope="session")
def publisher(broker: Broker, topic: str) -> Iterator[KafkaPublisher]:
    publisher = KafkaPublisher([broker.bootstrap_servers], topic)
    yield publisher
    publisher.close()


@contextlib.contextmanager
def _making(database: Database, publisher: KafkaPublisher) -> Iterator[Callable[..., Service]]:
    with contextlib.ExitStack() as opened:

        def make(gateway: Gateway = INSTANT, url: str | None = None, **parts: object) -> Service:
            db = StoreDatabase.at(url or database.service_url)
            opened.callback(db.close)
            return Service(**{"db": db, "gateway": gateway, "publisher": publisher} | parts)  # type: ignore[arg-type]

        yield make


@pytest.fixture
def make_service(database: Database, publisher: KafkaPublisher) -> Iterator[Callable[..., Service]]:
    """`make_service(gateway=…, url=…)` returns a service on the shared topic and on the shared database, or on that of `url`.

    Its connection is closed after the test. The server has a hundred for all tests of a run.
    """
    with _making(database, publisher) as make:
        yield make


@pytest.fixture(scope="session")
def service(database: Database, publisher: KafkaPublisher) -> Iterator[Service]:
    with _making(database, publisher) as make:
        yield make()


@pytest.fixture(scope="session")
def api(service: Service) -> Api:
    return Api(service)
