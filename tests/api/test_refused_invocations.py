"""A direct invocation that is refused leaves a trace: it is raised when waiting may cure it, and told as an event when not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from payments.api import direct
from payments.domain.errors import Refused, ServiceUnavailable
from payments.domain.events import Event
from payments.domain.ids import uuid7
from payments.store.connection import Database
from tests.api_client import order
from tests.cases import case
from tests.contract import documents
from tests.fakes import approve, decline, lose_reply, refuse
from tests.shop import Books, Shop

CARD = "4242 4242 4242 4242"


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


DEEP: dict[str, Any] = {"x": _deep(20)}
LONG: dict[str, Any] = {"x": "y" * 17_000}


@dataclass
class Context:
    aws_request_id: str = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        return 20_000


def invoke(shop: Shop, event: Any, function: str = "process", request_id: str = "request-1") -> dict[str, Any]:
    return direct.invoke(event, Context(request_id), shop.service, shop.owner, function)


def refund(shop: Shop, key: str, **fields: Any) -> dict[str, Any]:
    return invoke(shop, {"idempotency_key": key} | fields, "refund")


def told(shop: Shop) -> list[Event]:
    return [event for event in shop.publisher.published if event.type == "payment.refused"]


def test_a_refusal_for_good_is_told_with_order_key_and_code(shop: Shop) -> None:
    paid = shop.captured()
    cases: dict[str, tuple[str, Any, dict[str, Any]]] = {
        "a currency in small letters": (
            "process",
            order(order_id="o-1", currency="usd", idempotency_key="k-1"),
            {"operation": "process", "order_id": "o-1", "idempotency_key": "k-1", "code": "invalid_request"},
        ),
        "an order that is paid": (
            "process",
            order(order_id=paid.order_id, idempotency_key="k-2"),
            {"order_id": paid.order_id, "idempotency_key": "k-2", "code": "order_already_paid"},
        ),
        "a capture of what is captured": (
            "process",
            {"operation": "capture", "transaction_id": paid.transaction_id, "idempotency_key": "k-3"},
            {"operation": "capture", "order_id": paid.order_id, "idempotency_key": "k-3", "code": "payment_state_conflict"},
        ),
        "a refund of too much": (
            "refund",
            {"order_id": paid.order_id, "amount": 2000, "idempotency_key": "k-4"},
            {"operation": "refund", "order_id": paid.order_id, "code": "amount_too_large", "amount_available": 1999},
        ),
        "a refund of nobody's": (
            "refund",
            {"payment_id": "no uuid", "idempotency_key": "k-5"},
            {"order_id": None, "idempotency_key": "k-5", "code": "payment_not_found"},
        ),
        "no key": ("refund", {"order_id": "o-6"}, {"order_id": "o-6", "idempotency_key": None, "code": "invalid_request"}),
        "no object": ("refund", ["o-7"], {"operation": "refund", "order_id": None, "code": "invalid_request"}),
        "nobody's transaction": (
            "refund",
            {"transaction_id": "txn_7", "idempotency_key": "k-8"},
            {"transaction_id": "txn_7", "idempotency_key": "k-8", "code": "payment_not_found"},
        ),
    }
    for name, (function, event, members) in cases.items():
        with case(name):
            answer = invoke(shop, event, function)
            refusal = told(shop)[-1]
            assert json.loads(refusal.data).items() >= members.items()
            assert answer == {
                "outcome": "refused",
                "status": json.loads(refusal.data)["status"],
                "replayed": False,
                "body": answer["body"],
            }
            assert json.loads(refusal.data) | answer["body"] == json.loads(refusal.data)
            assert (refusal.sequence, refusal.payment_id) == (1, refusal.event_id), "it is no event of a payment"
    assert len(told(shop)) == len(cases)


def test_a_refund_behind_a_refund_in_flight_is_raised_until_the_outcome_is_known(lone_shop: Shop, lone_books: Books) -> None:
    paid = lone_shop.captured()
    lone_shop.gateway.answer = lose_reply
    assert refund(lone_shop, "all", order_id=paid.order_id)["outcome"] == "unknown"
    for _ in range(2):
        with pytest.raises(Refused) as raised:
            refund(lone_shop, "part", order_id=paid.order_id, amount=100)
        assert (raised.value.code, raised.value.retryable) == ("amount_too_large", True)
    assert lone_shop.hears_later(decline, lone_books).settled == 1
    lone_shop.gateway.answer = approve
    assert refund(lone_shop, "part", order_id=paid.order_id, amount=100)["outcome"] == "succeeded"
    assert told(lone_shop) == [], "it was never refused for good"


def test_a_refund_that_the_other_one_leaves_nothing_for_is_told(lone_shop: Shop, lone_books: Books) -> None:
    paid = lone_shop.captured()
    lone_shop.gateway.answer = lose_reply
    refund(lone_shop, "all", order_id=paid.order_id)
    with pytest.raises(Refused):
        refund(lone_shop, "part", order_id=paid.order_id, amount=100)
    assert lone_shop.hears_later(approve, lone_books).settled == 1
    told_once = refund(lone_shop, "part", order_id=paid.order_id, amount=100)
    assert told_once["body"]["code"] == "payment_state_conflict"
    assert [json.loads(refusal.data)["idempotency_key"] for refusal in told(lone_shop)] == ["part"]


def test_a_refund_of_more_than_was_captured_need_not_wait_for_another(shop: Shop) -> None:
    paid = shop.captured()
    shop.gateway.answer = lose_reply
    refund(shop, "all", order_id=paid.order_id)
    assert refund(shop, "too much", order_id=paid.order_id, amount=2000)["body"]["retryable"] is False
    assert len(told(shop)) == 1


@pytest.mark.parametrize("in_flight", ["capture", "void"])
def test_what_an_operation_in_flight_may_still_allow_is_raised(shop: Shop, in_flight: str) -> None:
    held = shop.authorized()
    shop.gateway.answer = lose_reply
    assert invoke(shop, {"operation": in_flight, "order_id": held.order_id, "idempotency_key": "1"})["outcome"] == "unknown"
    others = {
        "another capture": ("process", {"operation": "capture", "order_id": held.order_id, "idempotency_key": "2"}),
        "another void": ("process", {"operation": "void", "order_id": held.order_id, "idempotency_key": "2"}),
        "a refund": ("refund", {"order_id": held.order_id, "idempotency_key": "2"}),
        "a new payment of the order": ("process", order(order_id=held.order_id)),
    }
    for name, (function, event) in others.items():
        with case(name), pytest.raises(Refused) as raised:
            invoke(shop, event, function)
        assert raised.value.retryable
        assert raised.value.extra["order_id"] == held.order_id
    assert told(shop) == []


@pytest.mark.parametrize("command", ["capture", "void", "refund"])
def test_a_command_on_a_payment_that_is_being_processed_is_raised(shop: Shop, command: str) -> None:
    shop.gateway.answer = lose_reply
    waiting = shop.captured()
    event = {"operation": command, "payment_id": str(waiting.payment_id), "idempotency_key": "k"}
    with pytest.raises(Refused) as raised:
        invoke(shop, event, "refund" if command == "refund" else "process")
    assert (raised.value.code, raised.value.retryable) == ("payment_state_conflict", True)


def test_a_refusal_is_told_once_for_a_key(shop: Shop) -> None:
    wrong = order(currency="usd", idempotency_key="k")
    same_key: list[dict[str, Any]] = [{}, {}, {"traceparent": "x"}, {"amount": 0}, DEEP, LONG]
    for number, event in enumerate(wrong | other for other in same_key):
        assert invoke(shop, event, request_id=f"request-{number}")["outcome"] == "refused"
    assert len(told(shop)) == 1
    invoke(shop, wrong | {"idempotency_key": "another"})
    invoke(shop, {"operation": "void", "idempotency_key": "k"})
    assert len(told(shop)) == 3, "a key is one for each operation"
    assert invoke(shop, order(order_id=wrong["order_id"], idempotency_key="k"))["outcome"] == "succeeded", "a slip is corrected"


@pytest.mark.parametrize("command", ["capture", "void", "refund", "process"])
def test_a_valid_request_that_was_refused_for_good_is_not_carried_out_later_under_its_key(shop: Shop, command: str) -> None:
    """Lambda may deliver it once more after its sender has heard of the refusal and has sent another one."""
    function = "refund" if command == "refund" else "process"
    event = order() if command == "process" else {"operation": command}
    event |= {"order_id": f"order-{uuid7()}", "idempotency_key": "k"}
    paid = shop.authorized(order_id=event["order_id"]) if command == "process" else None
    first = invoke(shop, event, function)
    assert first["outcome"] == "refused"
    if paid:
        shop.void(paid.transaction_id)
    elif command == "refund":
        shop.captured(order_id=event["order_id"])
    else:
        shop.authorized(order_id=event["order_id"])
    requests = len(shop.gateway.asked)
    late = invoke(shop, event, function, "request-2")
    assert late == first | {"replayed": True}
    assert (len(shop.gateway.asked), len(told(shop))) == (requests, 1)
    assert invoke(shop, event | {"idempotency_key": "k-2"}, function)["outcome"] == "succeeded", "a new try has a new key"
    documents.check_direct_answer(command, late)


def test_without_a_key_a_refusal_is_told_once_for_a_request(shop: Shop) -> None:
    paid = shop.captured()
    valid, wrong = order(order_id=paid.order_id), order(currency="usd")
    for event in (valid, valid | {"capture_method": "automatic", "metadata": {}, "operation": "process", "description": None}):
        assert invoke(shop, event)["body"]["code"] == "order_already_paid"
    assert len(told(shop)) == 1
    for event in (wrong, wrong | {"traceparent": "x"}):
        invoke(shop, event, request_id=str(event.get("traceparent")))
    assert len(told(shop)) == 2
    invoke(shop, wrong | {"amount": 1})
    assert len(told(shop)) == 3


def test_another_owners_refusal_under_the_same_key_is_told_too(shop: Shop, database: Any) -> None:
    other = Shop.on(database)
    for each in (shop, other):
        invoke(each, order(currency="usd", idempotency_key="k"))
    assert (len(told(shop)), len(told(other))) == (1, 1)
    other.close()


def test_the_relay_tells_what_the_broker_did_not_take_at_once(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.publisher.acknowledges = refuse
    wrong = order(currency="usd", idempotency_key="k")
    invoke(lone_shop, wrong)
    invoke(lone_shop, wrong)
    assert told(lone_shop) == []
    lone_shop.publisher.acknowledges = lambda event: True
    lone_books.end_event_leases()
    assert lone_shop.relay().published == 1
    assert lone_shop.relay().published == 0
    assert [json.loads(refusal.data)["order_id"] for refusal in told(lone_shop)] == [wrong["order_id"]]


def test_a_refusal_that_cannot_be_written_is_raised_so_that_lambda_tries_again(shop: Shop) -> None:
    away = shop.with_(db=Database.at("postgresql://payments_service@127.0.0.1:9/payments"))
    with pytest.raises(ServiceUnavailable):
        invoke(away, order(currency="usd"))


def test_nothing_is_kept_of_card_data(shop: Shop, books: Books) -> None:
    places: dict[str, dict[str, Any]] = {
        "the order": {"order_id": CARD},
        "the key": {"idempotency_key": CARD.replace(" ", "")},
        "the operation": {"operation": CARD},
        "a text": {"description": CARD},
        "the name of a member": {CARD: "x"},
        "the order of a deep payload": {"order_id": CARD, **DEEP},
        "the order of a long payload": {"order_id": CARD, **LONG},
    }
    payloads: dict[str, Any] = {name: order(**place) for name, place in places.items()}
    payloads |= {"no object": CARD, "a number": int(CARD.replace(" ", "")), "a list": [CARD], "any depth": _deep(5000)}
    for name, event in payloads.items():
        with case(name):
            assert invoke(shop, event, request_id=f"{name}-1")["outcome"] == "refused"
            first = told(shop)[-1]
            invoke(shop, event, request_id=f"{name}-1")
            assert told(shop)[-1] is first, "Lambda tries again with the same request id"
            assert "4242" not in str(first)
            invoke(shop, event, request_id=f"{name}-2")
            # The event's id is not made of the payload: all card numbers could be tried against a digest.
            assert told(shop)[-1].event_id != first.event_id
    assert books.query("SELECT data FROM outbox WHERE type = 'payment.refused' AND data ~ '4242 ?4242'") == []


def test_a_value_that_may_hold_anything_is_not_told(shop: Shop) -> None:
    for wrong in ("x" * 300, "a\nb", "a\x00b", "a\u202eb", 7, ["a"], {"a": "b"}, True):
        invoke(shop, order(order_id=wrong, idempotency_key="k" if wrong == 7 else f"k-{len(told(shop))}"))
        assert json.loads(told(shop)[-1].data)["order_id"] is None, wrong


def test_what_was_told_stands_also_when_somebody_has_used_the_key_over_http_since(shop: Shop) -> None:
    held = shop.authorized()
    told = refund(shop, "key-of-both", order_id=held.order_id)
    shop.capture(held.transaction_id)
    shop.perform("refund", {"order_id": held.order_id}, "key-of-both")
    assert refund(shop, "key-of-both", order_id=held.order_id) == told | {"replayed": True}
