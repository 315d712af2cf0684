"""A card number sent to every function in the real runtime with the most verbose logging: no function keeps or prints it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.api_client import EVERYTHING, PAYMENTS, http_event
from tests.card_number import CARD, FORMS, holds_card_number, rows_with_card_number
from tests.contract import documents
from tests.lambda_runtime import LambdaRuntime
from tests.servers import Broker, Database
from tests.topic import messages

Start = Callable[..., LambdaRuntime]

CLAIMS = {"sub": "shop", "scope": EVERYTHING}
TALKATIVE = {
    "POWERTOOLS_LOG_LEVEL": "DEBUG",
    "AWS_LAMBDA_LOG_FORMAT": "JSON",
    "AWS_LAMBDA_LOG_LEVEL": "DEBUG",
    "POWERTOOLS_DEBUG": "true",
}
ORDER = {"amount": 1999, "currency": "USD", "payment_method": "paypal", "payment_token": "tok_ok"}
PLACES = ["nowhere", "body", "path", "query", "header", "key", "claims", "malformed", "bytes"]


def _http(method: str, path: str, place: str, card: str) -> dict[str, Any]:
    body: Any = (
        None
        if method == "GET"
        else ORDER | {"order_id": str(uuid4())}
        if path.endswith("process")
        else {"transaction_id": "txn_1"}
    )
    event = http_event(method, path, body, claims=CLAIMS)
    match place:
        case "body":
            event["body"] = json.dumps((body or {}) | {"description": f"\n{card}\t", card: [card]})
        case "path":
            event["rawPath"] = event["requestContext"]["http"]["path"] = path.replace("of-nobody", card) + (
                "" if "of-nobody" in path else f"/{card}"
            )
        case "query":
            event["rawQueryString"] = f"order_id={card}&{card}=1"
            event["queryStringParameters"] = {"order_id": card, card: "1"}
        case "header":
            event["headers"] |= {
                "user-agent": card,
                "traceparent": card,
                "authorization": f"Bearer {card}",
                "x-amzn-trace-id": card,
            }
        case "key":
            event["headers"]["idempotency-key"] = card
        case "malformed":
            event["body"] = f'{{"order_id": "{card}'
        case "bytes":
            event |= http_event(method, path, f'{{"order_id": "{card}"'.encode() + b"\xff", claims=CLAIMS)
        case "claims":
            event["requestContext"]["authorizer"] = {"jwt": {"claims": {"scope": card, card: card}}}
    return event


ROUTES = [
    (method, path.replace("{payment_id}", "of-nobody").replace("{order_id}", "of-nobody"))
    for method, path, _ in documents.operations()
]
OF_NOBODY = [
    (method, path.replace("{transaction_id}", "of-nobody").replace("{webhook_id}", "of-nobody")) for method, path in ROUTES
]


def _function_of(method: str, path: str) -> str:
    if path.startswith("/api/v1/webhooks"):
        return "webhooks"
    return "lookups" if method == "GET" else "refund" if path == f"{PAYMENTS}/refund" else "process"


def _direct(card: str) -> list[Any]:
    """Return events for the process function. The other functions get the same events."""
    order = ORDER | {"order_id": str(uuid4())}
    return [
        card,
        [card],
        int(CARD),
        {card: card},
        order | {"description": card},
        order | {"metadata": {card: card}},
        order | {"payment_token": card},
        order | {"amount": int(CARD)},
        order | {"idempotency_key": card},
        order | {"operation": card},
        order | {"traceparent": card},
        {"operation": "void", "transaction_id": card, "idempotency_key": "k"},
        {"replay": card},
        {"replay": {"from": card, "to": f"\n{card}"}},
        {"requestContext": card},
        {"requestContext": {"http": card, "requestId": card}},
        {"requestContext": {"requestId": f"\n{card}"}, "version": card},
        {"requestContext": {"http": {"method": card, "path": card}}, "version": "2.0", "headers": {card: card}},
        {"requestContext": {"authorizer": card, "http": {"method": "POST", "path": "/", "sourceIp": card}}, "version": "2.0"},
        {"requestContext": {"httpMethod": card, "identity": {}}, "resource": card, "path": card, "httpMethod": card},
    ]


@pytest.fixture(scope="module")
def talkative(start: Start) -> Callable[[str], LambdaRuntime]:
    running: dict[str, LambdaRuntime] = {}

    def function(name: str) -> LambdaRuntime:
        if name not in running:
            running[name] = start(name, TALKATIVE)
        return running[name]

    return function


def _nowhere(told: list[Any], functions: list[LambdaRuntime], database: Database, broker: Broker, topic: str) -> None:
    assert told
    assert not [answer for answer in told if holds_card_number(json.dumps(answer))]
    for function in functions:
        assert not [line for line in function.logs().splitlines() if holds_card_number(line)]
    assert rows_with_card_number(database) == []
    assert not [message for message in messages(broker.bootstrap_servers, topic) if holds_card_number(message.text)]


def test_http_events(
    talkative: Callable[[str], LambdaRuntime], runtime_database: Database, broker: Broker, runtime_topic: str
) -> None:
    told = []
    for method, path in OF_NOBODY:
        for place in PLACES:
            for form in ("plain", "spaces", "wide"):
                if (method == "GET" and place in {"malformed", "bytes"}) or (form != "plain" and place not in {"body", "path"}):
                    continue
                invocation = talkative(_function_of(method, path)).invoke(_http(method, path, place, FORMS[form]))
                assert not invocation.function_error, (path, place, invocation.payload)
                assert invocation.payload["statusCode"] < 500, (path, place, invocation.payload)
                told.append(invocation.payload)
    assert {answer["statusCode"] for answer in told} >= {200, 201, 400, 401, 404, 422}
    functions = [talkative(name) for name in ("process", "refund", "lookups", "webhooks")]
    assert all("refused" in function.logs() for function in functions)
    _nowhere(told, functions, runtime_database, broker, runtime_topic)


@pytest.mark.parametrize("name", ["process", "refund", "lookups", "webhooks", "relay", "reconcile", "courier", "gateway_events"])
def test_direct_events(
    name: str, talkative: Callable[[str], LambdaRuntime], runtime_database: Database, broker: Broker, runtime_topic: str
) -> None:
    told = [talkative(name).invoke(event).payload for form in ("plain", "spaces") for event in _direct(FORMS[form])]
    _nowhere(told, [talkative(name)], runtime_database, broker, runtime_topic)


def test_events_while_the_database_is_down(start: Start, runtime_database: Database, broker: Broker, runtime_topic: str) -> None:
    function = start("process", TALKATIVE | {"DATABASE_URL": "postgresql://payments_service@127.0.0.1:9/payments"})
    events = [_http("POST", f"{PAYMENTS}/process", place, CARD) for place in PLACES] + _direct(CARD)
    told = [function.invoke(event).payload for event in events]
    assert "service_unavailable" in json.dumps(told)
    _nowhere(told, [function], runtime_database, broker, runtime_topic)


def test_an_exception_that_leaves_a_handler(start: Start, runtime_database: Database, broker: Broker, runtime_topic: str) -> None:
    function = start("process", TALKATIVE, before="failing")
    told = [function.invoke({"card": card}) for card in FORMS.values()]
    assert all(invocation.function_error for invocation in told)
    assert "[card number removed]" in function.logs()
    _nowhere([invocation.payload for invocation in told], [function], runtime_database, broker, runtime_topic)


def test_settings_that_cannot_be_read_are_not_told_with_their_values(
    start: Start, runtime_database: Database, broker: Broker, runtime_topic: str
) -> None:
    """A function with a wrong environment fails without printing the environment."""
    function = start("process", {"DATABASE_URL": f"mysql://root:hush@host/{CARD}"})
    invocation = function.invoke(ORDER | {"order_id": "o"})
    assert invocation.function_error
    assert "hush" not in json.dumps(invocation.payload) + function.logs()
    _nowhere([invocation.payload], [function], runtime_database, broker, runtime_topic)
