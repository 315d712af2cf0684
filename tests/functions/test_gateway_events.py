"""Stripe's events in the real Lambda runtime: kept, answered, and looked at after the answer."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.functions.test_after_answer import ANSWERED, REGISTERED
from tests.gateway.test_stripe_signature import NEW, OLD, signed
from tests.lambda_runtime import Invocation, LambdaRuntime
from tests.sample_events import EVENTS
from tests.servers import Database, Postgres
from tests.shop import Books

Start = Callable[..., LambdaRuntime]

STRIPE = {"STRIPE_SECRET": "", "STRIPE_API_KEY": "sk_test_1", "STRIPE_API_BASE": "http://127.0.0.1:9"}
STRIPE |= {"STRIPE_WEBHOOK_SECRETS": f"{OLD},{NEW}"}
NOBODY_LISTENS = "127.0.0.1:9"
LOOKED = '"message":"gateway event"'


@pytest.fixture(scope="module")
def inbox(postgres: Postgres) -> Database:
    return postgres.new_database()


@pytest.fixture(scope="module")
def books(inbox: Database) -> Books:
    return Books(inbox.owner_url)


@pytest.fixture(scope="module")
def function(start: Start, inbox: Database) -> LambdaRuntime:
    return start("gateway_events", STRIPE | {"DATABASE_URL": inbox.service_url})


def sample(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))
    return event


def anew(name: str, secret: str = NEW) -> dict[str, Any]:
    """Return the sample, signed now."""
    event = sample(name)
    body = base64.b64decode(event["body"]) if event["isBase64Encoded"] else event["body"].encode()
    event["headers"]["stripe-signature"] = signed(int(time.time()), body, secret)
    return event


def status(invocation: Invocation) -> int:
    assert not invocation.function_error, invocation.payload
    return int(invocation.payload["statusCode"])


def kept(books: Books) -> dict[str, tuple[str, str | None]]:
    """Return door and outcome of each event in the inbox."""
    rows = books.query("SELECT event_id, door, outcome FROM gateway_events")
    return {event_id.removeprefix("evt_3Sample000000000000000"): (door, outcome) for event_id, door, outcome in rows}


@pytest.fixture(autouse=True)
def emptied(books: Books) -> None:
    books.query("DELETE FROM gateway_events")


def until_handled(books: Books) -> dict[str, tuple[str, str | None]]:
    while any(outcome is None for _, outcome in kept(books).values()):
        pass
    return kept(books)


def test_an_event_is_kept_and_answered_and_looked_at_after_the_answer(function: LambdaRuntime, books: Books) -> None:
    first = function.invoke(anew("gateway_event"))
    assert status(first) == 200
    assert until_handled(books) == {"1": ("webhook", "orphan")}, "it says that it is ours, and these books are empty"
    assert REGISTERED in function.logs()
    again = function.invoke(anew("gateway_event", OLD))
    assert status(again) == 200
    assert until_handled(books) == {"1": ("webhook", "orphan")}
    logs = function.logs()
    assert logs.index(ANSWERED) < logs.index(LOOKED)
    assert logs.count(LOOKED) == 1, "an event is looked at once"
    assert "GatewayEventOrphan" in logs


def test_a_body_in_base64_and_eventbridges_envelope_are_one_event(function: LambdaRuntime, books: Books) -> None:
    assert status(function.invoke(anew("gateway_event_base64"))) == 200
    assert until_handled(books) == {"2": ("webhook", "foreign")}
    assert function.invoke(sample("gateway_event_eventbridge")).payload == {"outcome": "kept"}
    assert until_handled(books) == {"2": ("webhook", "foreign")}


def test_eventbridge_needs_no_signature_and_comes_through_the_alias_for_it_alone(function: LambdaRuntime, books: Books) -> None:
    envelope = sample("gateway_event_eventbridge")
    refused = function.invoke(envelope, "live")
    assert refused.payload["errorType"] == "InvocationFailed"
    assert kept(books) == {}
    assert function.invoke(envelope, "direct").payload == {"outcome": "kept"}
    assert until_handled(books) == {"2": ("eventbridge", "foreign")}


def test_an_event_that_looks_like_http_and_comes_through_another_door_needs_more_than_a_signature(
    function: LambdaRuntime, books: Books
) -> None:
    assert function.invoke(anew("gateway_event"), "direct").payload == {"outcome": "refused"}
    assert kept(books) == {}


def test_the_samples_as_they_are_have_signatures_of_the_past(function: LambdaRuntime, books: Books) -> None:
    for name in ("gateway_event", "gateway_event_base64"):
        assert status(function.invoke(sample(name))) == 400
    assert kept(books) == {}


def test_with_another_gateway_there_is_no_such_route(start: Start, inbox: Database, books: Books) -> None:
    function = start("gateway_events", {"GATEWAY": "simulated", "DATABASE_URL": inbox.service_url})
    assert status(function.invoke(anew("gateway_event"))) == 404
    assert function.invoke(sample("gateway_event_eventbridge")).payload == {"outcome": "refused"}
    assert kept(books) == {}


def test_while_the_books_are_away_or_of_the_last_release_stripe_and_lambda_try_again(start: Start, postgres: Postgres) -> None:
    older = postgres.new_database()
    Books(older.owner_url).query("DROP TABLE gateway_events, gateway_pulls")
    for url in (older.service_url, f"postgresql://payments_service@{NOBODY_LISTENS}/payments"):
        function = start("gateway_events", STRIPE | {"DATABASE_URL": url})
        assert status(function.invoke(anew("gateway_event"))) == 503
        failed = function.invoke(sample("gateway_event_eventbridge"))
        assert failed.payload["errorType"] == "InvocationFailed"


def test_no_secret_signature_or_payload_is_in_the_log(function: LambdaRuntime, books: Books) -> None:
    event = anew("gateway_event_base64")
    function.invoke(event)
    until_handled(books)
    function.invoke(sample("gateway_event"))
    logs = function.logs()
    mac = event["headers"]["stripe-signature"].partition("v1=")[2]
    assert [word for word in (NEW, OLD, "whsec_", mac, "requested_by_customer", "sk_test_1") if word in logs] == []
