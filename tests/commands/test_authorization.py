"""Capture and void, the commands that follow an authorization."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from payments.commands.command import Result, state_of
from payments.domain.errors import AmountTooLarge, PaymentNotFound, PaymentStateConflict, ServiceUnavailable
from payments.domain.events import payment_body
from payments.domain.ids import uuid7
from payments.domain.operation import Outcome
from payments.domain.payment import PaymentStatus
from payments.gateway.port import GatewayRequest, Reply
from payments.gateway.simulated import SimulatedGateway
from tests import servers
from tests.fakes import approve, decline, lose_reply
from tests.faults import FaultProxy
from tests.shop import Books, LateBooks, Shop, at_once

S = PaymentStatus
COMMANDS = ["capture", "void"]


@pytest.mark.parametrize(("fields", "captured"), [({}, 1999), ({"amount": 1999}, 1999), ({"amount": 1}, 1)])
def test_an_authorization_is_captured_wholly_or_in_part(shop: Shop, books: Books, fields: dict[str, Any], captured: int) -> None:
    payment = shop.authorized(payment_token="tok_mine")
    result = shop.capture(payment.transaction_id, **fields)
    assert (result.outcome, result.payment.status) == (Outcome.SUCCEEDED, S.CAPTURED)
    row = books.payment(payment.payment_id)
    assert (row["status"], row["amount_minor"], row["captured_minor"], row["capture_before"]) == (
        "CAPTURED",
        1999,
        captured,
        None,
    )
    assert books.statuses(payment.payment_id) == ["PENDING", "PROCESSING", "AUTHORIZED", "CAPTURED"]
    action, request = shop.gateway.asked[-1]
    operation = books.operations(payment.payment_id)[-1]
    assert (action, request.key, request.amount_minor) == ("capture", f"capture-{operation['operation_id']}", captured)
    assert (request.transaction_id, request.payment_intent_id) == (payment.transaction_id, payment.payment_intent_id)
    assert request.payment_token == "tok_mine"
    event = shop.publisher.published[-1]
    assert (event.type, event.sequence, json.loads(event.data)) == ("payment.successful", 2, payment_body(result.payment))


def test_an_authorization_is_voided(shop: Shop, books: Books) -> None:
    payment = shop.authorized()
    result = shop.void(payment.transaction_id, reason="Out of stock")
    assert (result.outcome, result.payment.status, result.payment.status_reason) == (Outcome.SUCCEEDED, S.VOIDED, "Out of stock")
    row = books.payment(payment.payment_id)
    assert (row["status"], row["captured_minor"], row["capture_before"]) == ("VOIDED", 0, None)
    assert row["voided_at"] == result.payment.voided_at
    history = books.query(
        "SELECT reason FROM payment_status_history WHERE payment_id = :id ORDER BY version", id=payment.payment_id
    )
    assert history[-1] == ["Out of stock"]
    event = shop.publisher.published[-1]
    assert (event.type, event.sequence, json.loads(event.data)) == ("payment.voided", 2, payment_body(result.payment))
    assert books.operations(payment.payment_id)[-1]["reason"] == "Out of stock"


def test_more_than_was_authorized_is_refused(shop: Shop, books: Books) -> None:
    payment = shop.authorized()
    with pytest.raises(AmountTooLarge, match=r"19\.99 USD") as refused:
        shop.capture(payment.transaction_id, amount=2000)
    assert refused.value.extra == {
        "payment_id": str(payment.payment_id),
        "order_id": payment.order_id,
        "payment_status": "AUTHORIZED",
        "amount_available": 1999,
    }
    assert len(books.operations(payment.payment_id)) == 1
    assert shop.capture(payment.transaction_id).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("status", [S.PROCESSING, S.CAPTURED, S.PARTIALLY_REFUNDED, S.REFUNDED, S.FAILED, S.VOIDED])
def test_nothing_but_an_authorization_is_captured_or_voided(shop: Shop, books: Books, command: str, status: S) -> None:
    payment = shop.in_status(status)
    transaction_id = payment.transaction_id
    if transaction_id is None:  # a payment in PROCESSING has none yet
        transaction_id = f"txn_{uuid7()}"
        books.query("UPDATE payments SET transaction_id = :txn WHERE payment_id = :id", txn=transaction_id, id=payment.payment_id)
    requests, operations = len(shop.gateway.asked), len(books.operations(payment.payment_id))
    with pytest.raises(PaymentStateConflict, match=status.value) as refused:
        getattr(shop, command)(transaction_id)
    assert refused.value.extra == state_of(payment)
    assert refused.value.retryable == (status is S.PROCESSING), "only what is in flight may still become an authorization"
    assert (len(shop.gateway.asked), len(books.operations(payment.payment_id))) == (requests, operations)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_there_or_not_ones_own_is_not_found(shop: Shop, database: servers.Database, command: str) -> None:
    other = Shop.on(database)
    for transaction_id in ("txn_nobody", other.authorized().transaction_id):
        with pytest.raises(PaymentNotFound) as refused:
            getattr(shop, command)(transaction_id)
        assert refused.value.extra == {}
    other.close()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_declined_command_leaves_the_authorization_and_the_next_one_has_a_new_key(
    shop: Shop, books: Books, command: str
) -> None:
    payment = shop.authorized()
    shop.gateway.answer = decline
    result = getattr(shop, command)(payment.transaction_id)
    assert (result.outcome, result.decline_code, result.payment.status) == (Outcome.DECLINED, "card_declined", S.AUTHORIZED)
    row = books.payment(payment.payment_id)
    assert (row["status"], row["decline_code"], row["captured_minor"]) == ("AUTHORIZED", "card_declined", 0)
    operation = books.operations(payment.payment_id)[-1]
    assert (operation["outcome"], operation["reply"]["decline_code"]) == ("declined", "card_declined")
    assert abs((operation["settled_at"] - operation["created_at"]).total_seconds()) < 20, "settled_at is the moment of the settle"
    event = shop.publisher.published[-1]
    assert (event.type, event.sequence, json.loads(event.data)) == (f"payment.{command}_failed", 2, payment_body(result.payment))
    assert json.loads(event.data)["decline_code"] == "card_declined"
    assert books.history(payment.payment_id)[-1] == ("AUTHORIZED", "AUTHORIZED", f"{command} declined: card_declined")
    shop.gateway.answer = approve
    assert getattr(shop, command)(payment.transaction_id).outcome is Outcome.SUCCEEDED
    assert len(set(shop.gateway.keys)) == 3
    assert [event.sequence for event in shop.publisher.published] == [1, 2, 3]
    assert books.payment(payment.payment_id)["decline_code"] is None, "it is the reason of no failure any more"


def test_the_simulated_gateway_declines_the_capture_of_its_scenario(shop: Shop) -> None:
    simulated = shop.with_(gateway=SimulatedGateway(success_rate=1, delay_ms=(0, 0)))
    payment = simulated.authorized(payment_token="tok_capture_declined")
    assert simulated.capture(payment.transaction_id).outcome is Outcome.DECLINED
    assert simulated.void(payment.transaction_id).payment.status is S.VOIDED


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("later", [approve, decline])
def test_a_command_whose_outcome_is_unknown_holds_the_authorization_until_it_is_known(
    lone_shop: Shop, lone_books: Books, command: str, later: Callable[[str, GatewayRequest], Reply]
) -> None:
    payment = lone_shop.authorized()
    lone_shop.gateway.answer = lose_reply
    result = getattr(lone_shop, command)(payment.transaction_id)
    assert (result.outcome, result.payment.status) == (Outcome.UNKNOWN, S.AUTHORIZED)
    for other in COMMANDS:
        with pytest.raises(PaymentStateConflict, match="in flight") as refused:
            getattr(lone_shop, other)(payment.transaction_id)
        assert (refused.value.extra, refused.value.retryable) == (state_of(payment), True)
    assert lone_shop.hears_later(later, lone_books).settled == 1
    after = "AUTHORIZED" if later is decline else {"capture": "CAPTURED", "void": "VOIDED"}[command]
    assert lone_books.payment(payment.payment_id)["status"] == after
    assert lone_shop.gateway.keys[-1] == lone_shop.gateway.keys[-2]
    if later is decline:
        assert lone_shop.capture(payment.transaction_id).outcome is Outcome.DECLINED, "the authorization is free again"


@pytest.mark.parametrize("mixture", [["capture"] * 8, ["void"] * 8, ["capture", "void"] * 4], ids=lambda m: "-".join(m[:2]))
def test_of_captures_and_voids_at_once_one_wins(shop: Shop, books: Books, mixture: list[str]) -> None:
    payment = shop.authorized()
    shops = [shop.elsewhere() for _ in mixture]
    results = at_once(len(mixture), lambda number: getattr(shops[number], mixture[number])(payment.transaction_id))
    [won] = [result for result in results if isinstance(result, Result)]
    lost = [error for error in results if isinstance(error, PaymentStateConflict)]
    assert len(lost) == len(mixture) - 1, results
    assert all(error.extra["payment_id"] == str(payment.payment_id) for error in lost)
    assert {error.extra["payment_status"] for error in lost} <= {"AUTHORIZED", won.payment.status.value}
    assert len(shop.gateway.asked) == 2
    assert won.payment.status.value == books.payment(payment.payment_id)["status"]
    assert [row["sequence"] for row in books.outbox(payment.payment_id)] == [1, 2]


def test_a_capture_and_refunds_at_once_give_back_no_more_than_was_captured(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.authorized()
    shops = [lone_shop.elsewhere() for _ in range(8)]

    def do(number: int) -> Result:
        if number == 0:
            return shops[0].capture(payment.transaction_id, amount=700)
        return shops[number].refund(payment.transaction_id, amount=300)

    results = at_once(8, do)
    assert isinstance(results[0], Result)
    assert all(isinstance(other, Result | PaymentStateConflict | AmountTooLarge) for other in results[1:]), results
    lone_books.make_due()
    lone_shop.reconcile()
    row = lone_books.payment(payment.payment_id)
    assert (row["captured_minor"], row["refund_reserved_minor"]) == (700, 0)
    assert row["refunded_minor"] == sum(refund["amount_minor"] for refund in lone_books.refunds(payment.payment_id)) <= 700


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("key", [None, "k-1"])
def test_a_command_whose_claim_lost_its_reply_is_carried_out(
    database: servers.Database, fault_proxy: Callable[..., FaultProxy], command: str, key: str | None
) -> None:
    proxy = fault_proxy(database.service_url)
    shop = Shop.on(database).elsewhere(servers.with_address(database.service_url, "127.0.0.1", proxy.port))
    payment = shop.authorized()
    proxy.lose_reply()
    result = getattr(shop, command)(payment.transaction_id, key)
    assert (result.outcome, result.replayed) == (Outcome.SUCCEEDED, False)
    assert result.payment.status is {"capture": S.CAPTURED, "void": S.VOIDED}[command]
    assert len(shop.gateway.asked) == 2
    shop.close()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_whose_settle_lost_its_reply_returns_its_outcome(
    database: servers.Database, fault_proxy: Callable[..., FaultProxy], command: str
) -> None:
    proxy = fault_proxy(database.service_url)
    shop = Shop.on(database).elsewhere(servers.with_address(database.service_url, "127.0.0.1", proxy.port))
    payment = shop.authorized()

    def lose_next_reply(action: str, request: GatewayRequest) -> Reply:
        proxy.lose_reply()
        return approve(action, request)

    shop.gateway.answer = lose_next_reply
    result = getattr(shop, command)(payment.transaction_id)
    assert result.outcome is Outcome.SUCCEEDED
    assert result.payment.status is {"capture": S.CAPTURED, "void": S.VOIDED}[command]
    shop.close()


@pytest.mark.parametrize(("command", "status"), [("capture", "CAPTURED"), ("void", "VOIDED")])
def test_a_command_that_may_still_be_begun_is_not_reported_as_refused(
    lone_shop: Shop, lone_books: Books, command: str, status: str
) -> None:
    payment, late = lone_shop.authorized(), LateBooks.at(lone_shop.url)
    lone_shop.gateway.answer = lose_reply
    lone_shop.capture(payment.transaction_id)
    with pytest.raises(ServiceUnavailable, match="may have been started"):  # the second sending finds the capture in flight
        getattr(lone_shop.with_(db=late), command)(payment.transaction_id)
    lone_shop.hears_later(decline, lone_books)
    late.arrive()
    lone_shop.hears_later(approve, lone_books)
    assert lone_books.payment(payment.payment_id)["status"] == status
