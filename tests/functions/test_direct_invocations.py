"""The order service's invocations in the real Lambda runtime: which return, which raise, and that each is carried out once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.api_client import http_event
from tests.contract import documents
from tests.lambda_runtime import LambdaRuntime

Functions = Callable[[str], LambdaRuntime]
CARD = "4929 1234 5678 9015"


def _order(**fields: object) -> dict[str, Any]:
    return {
        "order_id": str(uuid4()),
        "amount": 1999,
        "currency": "USD",
        "payment_method": "paypal",
        "payment_token": "tok_ok",
    } | fields


def _command(kind: str, functions: Functions, event: dict[str, Any]) -> Any:
    invocation = functions("refund" if kind == "refund" else "process").invoke(event)
    assert not invocation.function_error, invocation.payload
    documents.check_direct_answer(kind, invocation.payload)
    return invocation.payload


def test_lambdas_retry_of_an_event_lands_on_the_same_payment(functions: Functions) -> None:
    event = _order()
    answers = [_command("process", functions, event) for _ in range(3)]
    assert [answer["replayed"] for answer in answers] == [False, True, True]
    assert {answer["body"]["payment_id"] for answer in answers} == {answers[0]["body"]["payment_id"]}
    assert {(answer["outcome"], answer["status"]) for answer in answers} == {("succeeded", 201)}


def test_the_order_of_a_payloads_fields_makes_no_difference(functions: Functions) -> None:
    event = _order(metadata={"a": "1", "b": "2"})
    first = _command("process", functions, event)
    turned = dict(reversed(event.items())) | {"metadata": {"b": "2", "a": "1"}}
    assert _command("process", functions, turned)["replayed"] is True
    assert first["replayed"] is False


@pytest.mark.parametrize("token", ["tok_ok", "tok_expired_card"])
def test_one_request_written_in_several_ways_lands_on_the_same_payment(token: str, functions: Functions) -> None:
    """Without a key of its own, an invocation is known by its request, and not by what else the payload says."""
    event = _order(payment_token=token)
    first = _command("process", functions, event)
    ways: list[dict[str, object]] = [
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        {"traceparent": None},
        {"operation": "process"},
        {"capture_method": "automatic"},
        {"description": None, "customer_id": None, "idempotency_key": None},
        {"metadata": {}},
        {"metadata": None},
    ]
    for way in ways:
        again = _command("process", functions, event | way)
        assert (again["outcome"], again["replayed"]) == (first["outcome"], True), way
        assert again["body"]["payment_id"] == first["body"]["payment_id"], way


def test_another_card_after_a_decline_is_a_new_attempt(functions: Functions) -> None:
    declined = _order(payment_token="tok_expired_card")
    first = _command("process", functions, declined)
    again = _command("process", functions, declined)
    other = _command("process", functions, declined | {"payment_token": "tok_ok"})
    assert [first["outcome"], again["outcome"], other["outcome"]] == ["declined", "declined", "succeeded"]
    assert again["replayed"] is True
    assert first["body"]["payment_id"] == again["body"]["payment_id"] != other["body"]["payment_id"]


def test_a_key_tells_two_equal_refunds_from_a_retry(functions: Functions) -> None:
    transaction_id = _command("process", functions, _order())["body"]["transaction_id"]
    refund = {"transaction_id": transaction_id, "amount": 500}
    keys = ["one", "one", "two"]
    answers = [_command("refund", functions, refund | {"idempotency_key": f"{key}-{transaction_id}"}) for key in keys]
    assert [answer["replayed"] for answer in answers] == [False, True, False]
    assert [answer["body"]["amount_refunded"] for answer in answers] == [500, 500, 1000]


def test_every_outcome_returns(functions: Functions) -> None:
    event = _order()
    paid = _command("process", functions, event)
    already = _command("process", functions, event | {"amount": 2000})
    unknown = _command("process", functions, _order(payment_token="tok_timeout_then_captured"))
    held = _command("process", functions, _order(capture_method="manual"))
    about = {"transaction_id": held["body"]["transaction_id"], "idempotency_key": str(uuid4())}
    too_much = _command("capture", functions, about | {"operation": "capture", "amount": 2000})
    voided = _command("void", functions, about | {"operation": "void"})
    conflict = _command("capture", functions, about | {"operation": "capture"})
    told = [paid, already, unknown, too_much, voided, conflict]
    assert [(answer["outcome"], answer["status"], answer["body"].get("code")) for answer in told] == [
        ("succeeded", 201, None),
        ("refused", 409, "order_already_paid"),
        ("unknown", 202, None),
        ("refused", 422, "amount_too_large"),
        ("succeeded", 200, None),
        ("refused", 409, "payment_state_conflict"),
    ]
    assert already["body"]["payment_id"] == paid["body"]["payment_id"]


def test_a_refusal_that_waiting_may_cure_raises_so_that_lambda_invokes_again(functions: Functions) -> None:
    unknown = _command("process", functions, _order(payment_token="tok_timeout_then_captured"))
    event = _order(order_id=unknown["body"]["order_id"], idempotency_key=str(uuid4()))
    invocation = functions("process").invoke(event)
    assert invocation.function_error
    assert invocation.payload["errorType"] == "InvocationFailed"
    assert invocation.payload["errorMessage"].startswith("order_in_progress: ")
    for named in ("order_in_progress", event["order_id"], event["idempotency_key"]):
        assert named in invocation.logs
    assert "tok_ok" not in invocation.logs + json.dumps(invocation.payload)


REFUSED: dict[str, tuple[Any, str]] = {
    "a list": ([], "invalid_request"),
    "a text": ("process", "invalid_request"),
    "a number": (7, "invalid_request"),
    "null": (None, "invalid_request"),
    "an empty object": ({}, "invalid_request"),
    "an unknown operation": (_order(operation="fly"), "invalid_request"),
    "an operation that is no text": (_order(operation=["process"]), "invalid_request"),
    "an operation of another function": (
        {"operation": "refund", "transaction_id": "txn_1", "idempotency_key": "k"},
        "invalid_request",
    ),
    "a void without a key": ({"operation": "void", "transaction_id": "txn_1"}, "invalid_request"),
    "a capture without a key": ({"operation": "capture", "transaction_id": "txn_1"}, "invalid_request"),
    "a key that is no text": (_order(idempotency_key=7), "invalid_request"),
    "an empty key": (_order(idempotency_key=""), "idempotency_key_invalid"),
    "a key that is too long": (_order(idempotency_key="k" * 256), "idempotency_key_invalid"),
    "a key with a space": (_order(idempotency_key="a b"), "idempotency_key_invalid"),
    "a request context that is none": (_order(requestContext=None), "invalid_request"),
    "a request context that is a number": (_order(requestContext=5), "invalid_request"),
    "a request context that is a text": (_order(requestContext="http"), "invalid_request"),
    "a request context that is a list": (_order(requestContext=["http"]), "invalid_request"),
    "a request context without a request": (_order(requestContext={"http": None}), "invalid_request"),
    "a fraction": (_order(amount=19.99), "invalid_request"),
    "a float": (_order(amount=1999.0), "invalid_request"),
    "an unknown field": (_order(owner="somebody else"), "invalid_request"),
    "NUL": (_order(description="a\0b"), "invalid_request"),
    "a lone surrogate": (_order(description="a\ud800b"), "invalid_request"),
    "an order that is nested": (_order(metadata={"a": {"b": "c"}}), "invalid_request"),
    "depth 20": ({"a": json.loads("[" * 20 + "]" * 20)}, "malformed_json"),
    "17 KB": (_order(description="x" * 17_000), "body_too_large"),
    "a card number": (_order(description=CARD), "card_data_not_accepted"),
    "a transaction of nobody": ({"operation": "void", "transaction_id": "txn_1", "idempotency_key": "k"}, "payment_not_found"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_and_not_retried(name: str, functions: Functions) -> None:
    event, code = REFUSED[name]
    invocation = functions("process").invoke(event)
    assert not invocation.function_error, "an error makes Lambda invoke the function again, in vain"
    assert (invocation.payload["outcome"], invocation.payload["body"]["code"]) == ("refused", code)
    assert invocation.payload["status"] == invocation.payload["body"]["status"]
    assert invocation.payload["replayed"] is False


def test_the_owner_is_the_functions_and_no_token_has_its_name_unless_the_operator_says_so(
    functions: Functions, start: Callable[..., LambdaRuntime]
) -> None:
    payment = _command("process", functions, _order())["body"]
    path = f"/api/v1/payments/payment/{payment['payment_id']}"
    sharing = start("lookups", {"DIRECT_OWNER": "jwt/order-service"})
    statuses = [
        lookups.invoke(http_event("GET", path, claims={"sub": owner, "scope": "payments/read"})).payload["statusCode"]
        for lookups in (functions("lookups"), sharing)
        for owner in ("order-service", "local", "jwt/order-service")
    ]
    assert statuses == [403, 404, 404, 200, 404, 404]


UNREACHABLE = {"DATABASE_URL": "postgresql://payments_service:hush@127.0.0.1:9/payments"}


@pytest.fixture(scope="module")
def without_database(start: Callable[..., LambdaRuntime]) -> Functions:
    running: dict[str, LambdaRuntime] = {}

    def function(name: str) -> LambdaRuntime:
        if name not in running:
            running[name] = start(name, UNREACHABLE)
        return running[name]

    return function


@pytest.mark.parametrize(
    ("function", "event"),
    [
        ("process", _order()),
        ("process", {"operation": "capture", "transaction_id": "txn_1", "idempotency_key": "k"}),
        ("refund", {"transaction_id": "txn_1", "idempotency_key": "k"}),
        ("relay", {}),
        ("reconcile", {}),
    ],
)
def test_a_fault_raises_so_that_lambda_invokes_again(function: str, event: object, without_database: Functions) -> None:
    invocation = without_database(function).invoke(event)
    assert invocation.function_error
    assert invocation.payload["errorType"] == "InvocationFailed"
    assert invocation.payload["errorMessage"].startswith("service_unavailable")
    for told in (json.dumps(invocation.payload), invocation.logs):
        assert "hush" not in told
        assert "tok_ok" not in told


def test_over_http_the_same_fault_is_an_answer(without_database: Functions) -> None:
    event = http_event("POST", "/api/v1/payments/process", _order(), claims={"sub": "shop", "scope": "payments/write"})
    invocation = without_database("process").invoke(event)
    assert not invocation.function_error
    assert (invocation.payload["statusCode"], invocation.payload["headers"]["retry-after"]) == (503, "2")


@pytest.mark.parametrize("event", [{"replay": {}}, {"replay": {"from": "today", "to": "tomorrow"}}, {"replay": None}])
def test_a_replay_of_no_range_fails_before_it_sends_anything(event: object, functions: Functions) -> None:
    invocation = functions("relay").invoke(event)
    assert invocation.function_error
    assert "today" not in json.dumps(invocation.payload)
