"""Health, and the answers while the database or the broker is down and after it is back."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

import pytest

from payments import __version__, wiring
from payments.broker.kafka import KafkaPublisher
from payments.commands.service import Service
from payments.settings import settings_from
from tests.api_client import Answer, Api, order
from tests.faults import FaultProxy
from tests.servers import Broker, Database, with_address

NOBODY_LISTENS = "127.0.0.1:9"


@pytest.fixture
def unreachable(topic: str) -> Iterator[KafkaPublisher]:
    publisher = KafkaPublisher([NOBODY_LISTENS], topic)
    yield publisher
    publisher.close()


def test_health_says_that_the_service_runs_to_anybody(api: Api) -> None:
    answer = api.call("GET", "/health", owner=None)
    assert (answer.status, answer.body) == (200, {"status": "ok", "version": __version__})
    assert answer.headers["cache-control"] == "no-store"


def test_deep_health_asks_the_database_and_the_broker(api: Api) -> None:
    answer = api.call("GET", "/health", owner=None, query="deep=true")
    assert (answer.status, answer.body["status"]) == (200, "ok")
    assert answer.body["checks"].keys() == {"database", "broker"}
    for check in answer.body["checks"].values():
        assert check.keys() == {"ok", "latency_ms"}
        assert check["ok"] is True
        assert check["latency_ms"] > 0


@pytest.mark.parametrize(("query", "status"), [("deep=false", 200), ("deep=perhaps", 422), ("deep=", 422), ("other=1", 200)])
def test_health_reads_deep_alone(query: str, status: int, api: Api) -> None:
    answer = api.call("GET", "/health", owner=None, query=query)
    assert answer.status == status
    assert "checks" not in answer.body


def test_shallow_health_needs_neither_server(make_service: Callable[..., Service], unreachable: KafkaPublisher) -> None:
    api = Api(make_service(url=f"postgresql://payments_service@{NOBODY_LISTENS}/payments", publisher=unreachable))
    assert api.call("GET", "/health").status == 200


def test_deep_health_says_which_server_is_away(make_service: Callable[..., Service], unreachable: KafkaPublisher) -> None:
    without_database = Api(make_service(url=f"postgresql://payments_service@{NOBODY_LISTENS}/payments"))
    without_broker = Api(make_service(publisher=unreachable))
    for api, missing in ((without_database, "database"), (without_broker, "broker")):
        answer = api.call("GET", "/health", query="deep=true")
        assert (answer.status, answer.body["status"]) == (503, "degraded")
        assert answer.headers["content-type"] == "application/json"
        assert {name for name, check in answer.body["checks"].items() if not check["ok"]} == {missing}
        assert "127.0.0.1" not in answer.text, "the answer tells an address"


def test_a_payment_is_taken_while_the_broker_is_down(make_service: Callable[..., Service], unreachable: KafkaPublisher) -> None:
    api = Api(make_service(publisher=unreachable))
    paid = api.post("process", order())
    assert (paid.status, paid.body["status"]) == (201, "CAPTURED")
    assert api.get(f"/payment/{paid.body['payment_id']}").status == 200


def _on_every_route(api: Api) -> list[Answer]:
    id_ = "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1"
    posts = [api.post("process", order())]
    posts += [api.post(command, {"transaction_id": "txn_of_nobody"}) for command in ("capture", "void", "refund")]
    paths = [
        "",
        *(f"/payment/{id_}{part}" for part in ("", "/refunds", "/history")),
        f"/refund/{id_}",
        "/order/of-nobody",
        "/transaction/txn_of_nobody",
    ]
    return [*posts, *(api.get(path) for path in paths)]


def test_every_route_says_when_the_database_is_down_and_works_once_it_is_back(
    make_service: Callable[..., Service], database: Database, fault_proxy: Callable[[str], FaultProxy]
) -> None:
    proxy = fault_proxy(database.service_url)
    api = Api(make_service(url=with_address(database.service_url, "127.0.0.1", proxy.port)))
    request = order()
    before = api.post("process", request, key="before-the-outage")
    assert before.status == 201
    with proxy.refusing():
        for answer in _on_every_route(api):
            assert (answer.status, answer.code) == (503, "service_unavailable")
            in_doubt = "The refund may have been started" in answer.body["detail"]  # without a key, a caller must not try again
            assert ("retry-after" in answer.headers, answer.body["retryable"]) == (not in_doubt, not in_doubt)
            assert "127.0.0.1" not in answer.text
        assert api.call("GET", "/health", query="deep=true").status == 503
    again = api.post("process", request, key="before-the-outage")
    assert (again.status, again.headers["idempotent-replayed"]) == (201, "true")
    assert [answer.status for answer in _on_every_route(api)] == [201, 404, 404, 404, 200, 404, 404, 404, 404, 404, 404]
    assert api.call("GET", "/health", query="deep=true").status == 200


def test_connections_that_broke_while_idle_are_not_noticed_by_callers(
    make_service: Callable[..., Service], database: Database, fault_proxy: Callable[[str], FaultProxy]
) -> None:
    proxy = fault_proxy(database.service_url)
    api = Api(make_service(url=with_address(database.service_url, "127.0.0.1", proxy.port)))
    for _ in range(3):
        assert api.post("process", order()).status == 201
        proxy.cut()


def test_the_deep_health_check_asks_without_the_right_to_write(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, topic: str
) -> None:
    environment = {"DATABASE_URL": "postgresql://me@127.0.0.1/payments", "KAFKA_TOPIC": topic}
    settings = settings_from(environment | {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers})
    monkeypatch.setattr(wiring, "settings", lambda: settings)
    monkeypatch.setattr(wiring, "publisher", wiring.publisher.__wrapped__)
    publisher = importlib.import_module("functions.lookups.handler").broker()
    publisher.check(5)
    assert publisher._producer._transaction_manager is None, "the call asks the broker for a producer id"
    publisher.close()
