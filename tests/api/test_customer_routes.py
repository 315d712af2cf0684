"""Over HTTP: what the customer's browser needs goes to the payment's owner with payments/write, and to nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from payments.api import direct
from payments.commands.service import Service
from payments.telemetry import instrumented
from tests.api_client import PAYMENTS, Api, Context, order
from tests.fakes import FakeGateway, ask_customer, lose_reply
from tests.servers import Database
from tests.shop import Books

SECRET = "sim_secret_"


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database.owner_url)


def waiting(**fields: Any) -> dict[str, Any]:
    return order(payment_token="tok_requires_action", **fields)


def rested(books: Books, payment_id: str) -> None:
    books.query("UPDATE operations SET lease_until = lease_until - interval '2.1 s' WHERE payment_id = :id", id=payment_id)


def test_a_payment_that_waits_is_accepted_with_what_the_browser_needs(api: Api) -> None:
    answer = api.call("POST", f"{PAYMENTS}/process", waiting())
    assert (answer.status, answer.body["status"], answer.headers["retry-after"]) == (202, "REQUIRES_ACTION", "30")
    action = answer.body["next_action"]
    assert action.keys() == {"type", "client_secret", "expires_at"}
    assert (action["type"], action["client_secret"].startswith(SECRET)) == ("stripe_js", True)
    assert answer.headers["location"].endswith(answer.body["payment_id"])


def test_a_replay_of_the_key_gives_it_again_and_within_two_seconds_says_when(api: Api, books: Books) -> None:
    request, key = waiting(), {"idempotency-key": order()["order_id"]}
    first, early = (api.call("POST", f"{PAYMENTS}/process", request, headers=key) for _ in range(2))
    told = {name: value for name, value in first.body.items() if name != "next_action"}
    assert (early.status, early.headers["retry-after"], early.body) == (202, "2", told)
    rested(books, first.body["payment_id"])
    again = api.call("POST", f"{PAYMENTS}/process", request, headers=key)
    assert (again.headers["idempotent-replayed"], again.headers["retry-after"]) == ("true", "30")
    assert (again.status, again.body) == (202, first.body)


def test_a_look_up_the_list_and_another_owner_see_no_secret(api: Api) -> None:
    payment = api.call("POST", f"{PAYMENTS}/process", waiting()).body
    for path in (f"payment/{payment['payment_id']}", f"order/{payment['order_id']}", f"payment/{payment['payment_id']}/history"):
        assert SECRET not in api.call("GET", f"{PAYMENTS}/{path}").text
    assert SECRET not in api.call("GET", PAYMENTS, query=f"order_id={payment['order_id']}").text
    asked = {"payment_id": payment["payment_id"]}
    assert api.call("POST", f"{PAYMENTS}/sync", asked, owner="somebody else").code == "payment_not_found"
    assert api.call("POST", f"{PAYMENTS}/sync", asked, scopes="payments/read payments/admin").code == "forbidden"


@pytest.mark.parametrize("name", ["payment_id", "order_id"])
def test_sync_asks_the_gateway_and_gives_it_again(api: Api, books: Books, name: str) -> None:
    payment = api.call("POST", f"{PAYMENTS}/process", waiting()).body
    asked = {name: payment[name]}
    early = api.call("POST", f"{PAYMENTS}/sync", asked)
    assert (early.status, early.headers["retry-after"], "next_action" in early.body) == (202, "2", False)
    rested(books, payment["payment_id"])
    answer = api.call("POST", f"{PAYMENTS}/sync", asked)
    assert (answer.status, answer.body["next_action"]) == (202, payment["next_action"])


@pytest.mark.parametrize(("token", "status"), [("tok_action_then_captured", "CAPTURED"), ("tok_action_then_declined", "FAILED")])
def test_sync_tells_what_became_of_the_payment(api: Api, books: Books, token: str, status: str) -> None:
    payment = api.call("POST", f"{PAYMENTS}/process", order(payment_token=token)).body
    rested(books, payment["payment_id"])
    answer = api.call("POST", f"{PAYMENTS}/sync", {"payment_id": payment["payment_id"]})
    assert (answer.status, answer.body["status"], "next_action" in answer.body) == (200, status, False)


@pytest.mark.parametrize("body", [{}, {"payment_id": "a", "order_id": "b"}, {"payment_id": 1}, {"payment": "x"}, []])
def test_a_sync_that_names_no_payment_is_refused(api: Api, body: object) -> None:
    assert api.call("POST", f"{PAYMENTS}/sync", body).code == "invalid_request"


def test_a_payment_without_its_customer_is_declined_at_once(api: Api) -> None:
    answer = api.call("POST", f"{PAYMENTS}/process", waiting(off_session=True))
    assert (answer.status, answer.body["decline_code"]) == (402, "authentication_required")


def test_a_void_gives_the_payment_up_and_its_order_can_be_paid(api: Api) -> None:
    payment = api.call("POST", f"{PAYMENTS}/process", waiting()).body
    voided = api.call("POST", f"{PAYMENTS}/void", {"payment_id": payment["payment_id"]})
    assert (voided.status, voided.body["status"]) == (200, "VOIDED")
    paid = api.call("POST", f"{PAYMENTS}/process", order(order_id=payment["order_id"], payment_token="tok_ok"))
    assert (paid.status, paid.body["status"]) == (201, "CAPTURED")


def test_a_void_whose_answer_was_lost_hands_out_no_secret(make_service: Callable[..., Service], books: Books) -> None:
    """Nobody shall begin to pay what is being voided."""
    gateway = FakeGateway(ask_customer, ask_customer)
    api = Api(make_service(gateway=gateway))
    request, key = order(), {"idempotency-key": order()["order_id"]}
    payment = api.call("POST", f"{PAYMENTS}/process", request, headers=key).body
    assert payment["next_action"]
    gateway.answer = lose_reply
    asked = {"payment_id": payment["payment_id"]}
    answer = api.call("POST", f"{PAYMENTS}/void", asked)
    assert (answer.status, "next_action" in answer.body) == (202, False)
    for path, body in (("sync", asked), ("process", request)):
        rested(books, payment["payment_id"])
        gateway.found = lambda action, request: (
            lose_reply(action, request) if request.kind == "void" else ask_customer(action, request)
        )
        answer = api.call("POST", f"{PAYMENTS}/{path}", body, headers=key if path == "process" else {})
        assert (answer.status, answer.body["status"], "next_action" in answer.body) == (202, "REQUIRES_ACTION", False)


def test_a_direct_invocation_gets_no_secret_and_no_log_has_it(
    make_service: Callable[..., Service], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody reads the answer of an asynchronous invocation, and its destination may keep it."""

    @instrumented
    def handle(event: Any, context: Any) -> Any:
        return direct.invoke(event, context, make_service(), "order-service", "process")

    request = waiting(idempotency_key=order()["order_id"])
    for _ in range(2):
        answer = handle(request, Context())
        assert (answer["status"], answer["body"]["status"]) == (202, "REQUIRES_ACTION")
        assert SECRET not in json.dumps(answer)
    assert SECRET not in capsys.readouterr().out
