from __future__ import annotations

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


@pytest.fixture(scope="session")
def publisher(broker: Broker, topic: str) -> Iterator[KafkaPublisher]:
    publisher = KafkaPublisher([broker.bootstrap_servers], topic)
    yield publisher
    publisher.close()


@pytest.fixture(scope="session")
def make_service(database: Database, publisher: KafkaPublisher) -> Iterator[Callable[..., Service]]:
    """`make_service(gateway=…, url=…)` returns a service on the shared topic and on the shared database, or on that of `url`."""
    databases: list[StoreDatabase] = []

    def make(gateway: Gateway = INSTANT, url: str | None = None, **parts: object) -> Service:
        databases.append(StoreDatabase.at(url or database.service_url))
        return Service(**{"db": databases[-1], "gateway": gateway, "publisher": publisher} | parts)  # type: ignore[arg-type]

    yield make
    for each in databases:
        each.close()


@pytest.fixture(scope="session")
def service(make_service: Callable[..., Service]) -> Service:
    return make_service()


@pytest.fixture(scope="session")
def api(service: Service) -> Api:
    return Api(service)
