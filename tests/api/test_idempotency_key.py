"""The Idempotency-Key header, on every command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.api_client import ADMIN, Api, order
from tests.cases import case

COMMANDS = ["process", "capture", "void", "refund"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_key_that_is_not_one_is_refused(command: str, api: Api) -> None:
    body = order() if command == "process" else {"transaction_id": "txn_of_nobody"}
    control = ["a\tb", "a\nb", "k\x7f"]
    repeated = ["one,two", "one, two", ","]
    for key in ("", "k" * 256, "a b", " a", "a ", "ключ", "clé", *control, *repeated):
        with case(key):
            assert api.post(command, body, key=key).code == "idempotency_key_invalid"


@pytest.mark.parametrize("key", ["!", "k" * 255, "5b0f7c1e-2f0a-4c86-9d0b-0f4a6f0f6a11", "a:b/c~d;e=f"])
def test_visible_ascii_is_a_key(key: str, api: Api) -> None:
    request = order()
    assert api.post("process", request, owner=f"owner of {key}", key=key).status == 201
    assert api.post("process", request, owner=f"owner of {key}", key=key).headers["idempotent-replayed"] == "true"


def _on(kind: str, token: str) -> Callable[[Api], dict[str, Any]]:
    """Return a function that makes a payment with the token and returns a request about it."""
    make = {"capture": Api.authorize, "void": Api.authorize, "refund": Api.pay}[kind]
    return lambda api: {"transaction_id": make(api, token)["transaction_id"]}


REPEATED: dict[str, tuple[str, int, Callable[[Api], dict[str, Any]]]] = {
    "process, captured": ("process", 201, lambda _: order()),
    "process, authorized": ("process", 201, lambda _: order(capture_method="manual")),
    "process, declined": ("process", 402, lambda _: order(payment_token="tok_expired_card")),
    "process, unknown": ("process", 202, lambda _: order(payment_token="tok_timeout_then_captured")),
    "capture": ("capture", 200, _on("capture", "tok_ok")),
    "capture, declined": ("capture", 402, _on("capture", "tok_capture_declined")),
    "void": ("void", 200, _on("void", "tok_ok")),
    "refund": ("refund", 201, _on("refund", "tok_ok")),
    "refund, declined": ("refund", 402, _on("refund", "tok_refund_declined")),
    "refund, unknown": ("refund", 202, _on("refund", "tok_refund_timeout")),
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_repeated_request_gets_the_same_answer_marked_as_replayed(name: str, api: Api) -> None:
    command, status, make = REPEATED[name]
    request, key = make(api), name.replace(", ", "-")
    first = api.post(command, request, key=key)
    again = api.post(command, request, key=key)
    assert (first.status, again.status) == (status, status)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    # Only the request id differs: it is that of the repeated request.
    assert again.body | {"request_id": 0} == first.body | {"request_id": 0}
    other = request | ({"amount": 1} if command != "void" else {"reason": "another"})
    assert api.post(command, other, key=key).code == "idempotency_key_reused"


def test_a_key_belongs_to_its_command(api: Api) -> None:
    payment = api.post("process", order(), key="one-for-all").body
    refund = api.post("refund", {"transaction_id": payment["transaction_id"]}, key="one-for-all")
    assert refund.status == 201
    assert "idempotent-replayed" not in refund.headers


def test_json_objects_have_no_order(api: Api) -> None:
    request = order(metadata={"a": "1", "b": "2"})
    first = api.post("process", request, key="no-order")
    turned = dict(reversed(request.items())) | {"metadata": {"b": "2", "a": "1"}}
    again = api.post("process", turned, key="no-order")
    assert (first.status, again.status) == (201, 201)
    assert again.body["payment_id"] == first.body["payment_id"]


def test_a_replay_shows_the_present_state_under_the_first_outcome(api: Api) -> None:
    request = order()
    payment = api.post("process", request, key="present-state").body
    api.post("refund", {"transaction_id": payment["transaction_id"]})
    again = api.post("process", request, key="present-state")
    assert (again.status, again.body["status"], again.body["amount_refunded"]) == (201, "REFUNDED", 1999)


def test_requests_that_were_refused_do_not_use_the_key_up(api: Api) -> None:
    key, request = "not-used-up", order()
    refused = [
        api.post("process", "{", key=key),
        api.post("process", order(amount=0), key=key),
        api.post("process", order(description="4242424242424242"), key=key),
        api.post("process", request, key=key, scopes=ADMIN),
        api.post("process", request, key=key, headers={"content-type": "text/plain"}),
        api.post("process", " " * 40_000, key=key),
    ]
    assert {answer.status // 100 for answer in refused} == {4}
    accepted = api.post("process", request, key=key)
    assert accepted.status == 201
    assert "idempotent-replayed" not in accepted.headers


def test_a_refused_refund_does_not_use_the_key_up(api: Api) -> None:
    transaction_id = api.pay()["transaction_id"]
    too_much = api.post("refund", {"transaction_id": transaction_id, "amount": 2000}, key="refund-not-used-up")
    less = api.post("refund", {"transaction_id": transaction_id, "amount": 1999}, key="refund-not-used-up")
    assert (too_much.code, less.status) == ("amount_too_large", 201)
