"""Capture, void and refund name their payment by its transaction, its id or its order."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from payments.commands.command import Result
from payments.domain.errors import IdempotencyKeyReused, InvalidRequest, PaymentNotFound, PaymentStateConflict
from payments.domain.ids import uuid7
from payments.domain.operation import Outcome
from payments.domain.payment import Payment, PaymentStatus
from tests import servers
from tests.cases import case
from tests.fakes import approve, decline
from tests.shop import Books, Shop, at_once

S = PaymentStatus
NAMES = ["transaction_id", "payment_id", "order_id"]
KINDS = ["capture", "void", "refund"]
DONE = {"capture": S.CAPTURED, "void": S.VOIDED, "refund": S.REFUNDED}


def begun(shop: Shop, kind: str, **fields: Any) -> Payment:
    return shop.captured(**fields) if kind == "refund" else shop.authorized(**fields)


def named(payment: Payment, name: str) -> dict[str, Any]:
    return {name: str(getattr(payment, name))}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_name_finds_the_payment(shop: Shop, kind: str, name: str) -> None:
    begun(shop, kind)
    payment = begun(shop, kind)
    result = shop.perform(kind, named(payment, name), None)
    assert (result.outcome, result.payment.payment_id, result.payment.status) == (
        Outcome.SUCCEEDED,
        payment.payment_id,
        DONE[kind],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_one_name_is_taken(shop: Shop, kind: str) -> None:
    payment = begun(shop, kind)
    names = {name: str(getattr(payment, name)) for name in NAMES}
    wrong: dict[str, dict[str, Any]] = {
        "none": {},
        "nulls alone": dict.fromkeys(NAMES),
        "two": {"payment_id": names["payment_id"], "order_id": names["order_id"]},
        "all three": names,
        "an empty one": {"order_id": ""},
        "an empty one beside another": {"order_id": "", "payment_id": names["payment_id"]},
        "a number": {"order_id": 7},
        "a list": {"payment_id": [names["payment_id"]]},
        "a text that PostgreSQL would refuse": {"order_id": "a\x00b"},
    }
    for text, body in wrong.items():
        with case(text), pytest.raises(InvalidRequest):
            shop.perform(kind, body, None)
    null_beside_one = {"transaction_id": None, "payment_id": None, "order_id": names["order_id"]}
    assert shop.perform(kind, null_beside_one, None).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_another_owners_payment_is_not_found_under_any_name(shop: Shop, database: servers.Database, kind: str, name: str) -> None:
    other = Shop.on(database)
    with pytest.raises(PaymentNotFound, match=name) as refused:
        shop.perform(kind, named(begun(other, kind), name), None)
    assert refused.value.extra == {}
    assert [action for action, _ in shop.gateway.asked] == []
    other.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("payment_id", ["order-1", "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1", "019c", "x" * 255, "null", "ä"])
def test_a_payment_id_that_nobody_has_is_not_found(shop: Shop, kind: str, payment_id: str) -> None:
    with pytest.raises(PaymentNotFound, match="payment_id"):
        shop.perform(kind, {"payment_id": payment_id}, None)


def test_an_order_is_its_live_payment_and_not_an_attempt_that_failed(shop: Shop) -> None:
    order_id = f"order-{uuid7()}"
    shop.gateway.answer = decline
    failed = shop.captured(order_id=order_id)
    with pytest.raises(PaymentStateConflict, match="FAILED") as refused:
        shop.perform("refund", {"order_id": order_id}, None)
    assert refused.value.retryable is False
    shop.gateway.answer = approve
    voided = shop.void(shop.authorized(order_id=order_id).transaction_id).payment
    with pytest.raises(PaymentStateConflict, match="VOIDED"):
        shop.perform("void", {"order_id": order_id}, None)
    live = shop.captured(order_id=order_id)
    assert len({failed.payment_id, voided.payment_id, live.payment_id}) == 3
    assert shop.perform("refund", {"order_id": order_id, "amount": 500}, None).payment.payment_id == live.payment_id


def test_a_repeated_void_by_order_is_a_replay_although_the_order_has_a_new_payment(shop: Shop) -> None:
    held = shop.authorized()
    body = {"order_id": held.order_id}
    assert shop.perform("void", body, "k").outcome is Outcome.SUCCEEDED
    paid_again = shop.authorized(order_id=held.order_id)
    replay = shop.perform("void", body, "k")
    assert (replay.replayed, replay.payment.payment_id) == (True, held.payment_id)
    assert shop.perform("capture", body, "k").payment.payment_id == paid_again.payment_id


def test_the_same_key_with_another_name_of_the_payment_is_another_request(shop: Shop) -> None:
    paid = shop.captured()
    shop.perform("refund", {"order_id": paid.order_id, "amount": 100}, "k")
    with pytest.raises(IdempotencyKeyReused):
        shop.perform("refund", {"payment_id": str(paid.payment_id), "amount": 100}, "k")


@pytest.mark.parametrize("name", NAMES)
def test_refunds_at_once_never_exceed_the_capture_under_any_name(shop: Shop, books: Books, name: str) -> None:
    paid = shop.captured()
    shops = [shop.elsewhere() for _ in range(6)]
    results = at_once(6, lambda number: shops[number].perform("refund", named(paid, name) | {"amount": 600}, f"k-{number}"))
    assert sum(isinstance(result, Result) for result in results) == 3
    row = books.payment(UUID(str(paid.payment_id)))
    assert (row["refunded_minor"], row["refund_reserved_minor"]) == (1800, 0)


def test_an_order_of_yesterday_can_be_named_although_its_id_is_not_taken_any_more(shop: Shop, books: Books) -> None:
    paid = shop.captured()
    old = f"o\u200b{uuid7()}"
    books.query("UPDATE payments SET order_id = :old WHERE payment_id = :id", old=old, id=paid.payment_id)
    assert shop.perform("refund", {"order_id": old}, None).outcome is Outcome.SUCCEEDED
