from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from payments.commands.command import Result, state_of
from payments.commands.settle import SETTLE_TRIES
from payments.domain.changes import RefundReserved
from payments.domain.errors import AmountTooLarge, PaymentNotFound, PaymentStateConflict, ServiceUnavailable
from payments.domain.events import payment_body
from payments.domain.ids import uuid7
from payments.domain.operation import Outcome
from payments.domain.payment import Payment, PaymentStatus, apply
from payments.domain.refund import RefundStatus, refund_body
from payments.gateway.port import GatewayRequest, Reply
from payments.gateway.simulated import SimulatedGateway
from payments.store.connection import Bound, Database, Row
from tests import servers
from tests.fakes import Killed, approve, decline, lose_reply
from tests.faults import FaultProxy
from tests.shop import Books, LateBooks, Shop, at_once

S = PaymentStatus


def money(books: Books, payment: Payment) -> tuple[str, int, int, int]:
    """Return the status and the amounts captured, refunded and reserved."""
    row = books.payment(payment.payment_id)
    return row["status"], row["captured_minor"], row["refunded_minor"], row["refund_reserved_minor"]


def test_a_full_refund_gives_back_all_and_publishes_it(shop: Shop, books: Books) -> None:
    payment = shop.captured()
    result = shop.refund(payment.transaction_id, reason="Too small")
    assert result.outcome is Outcome.SUCCEEDED
    assert money(books, payment) == ("REFUNDED", 1999, 1999, 0)
    refund = result.refund
    assert refund is not None
    assert (refund.amount_minor, refund.currency, refund.status, refund.reason) == (
        1999,
        "USD",
        RefundStatus.SUCCEEDED,
        "Too small",
    )
    [row] = books.refunds(payment.payment_id)
    assert row.pop("gateway_refund_id") is None, "this gateway names none"
    assert row == {name: getattr(refund, name) for name in row}
    assert books.statuses(payment.payment_id) == ["PENDING", "PROCESSING", "CAPTURED", "REFUNDED"]
    event = shop.publisher.published[-1]
    assert (event.type, event.sequence) == ("payment.refunded", 2)
    assert json.loads(event.data) == payment_body(result.payment) | {"refund": refund_body(refund)}


def test_the_gateway_is_called_under_the_refunds_own_key(shop: Shop, books: Books) -> None:
    payment = shop.captured(currency="EUR", payment_method="paypal", payment_token="tok_mine")
    result = shop.refund(payment.transaction_id, amount=500)
    assert result.refund is not None
    action, sent = shop.gateway.asked[-1]
    assert action == "refund"
    assert sent == GatewayRequest(
        kind="refund",
        payment_id=payment.payment_id,
        order_id=payment.order_id,
        key=f"ref-{result.refund.refund_id}",
        attempt=1,
        amount_minor=500,
        currency="EUR",
        payment_method="paypal",
        payment_token="tok_mine",
        timeout_s=sent.timeout_s,
        transaction_id=payment.transaction_id,
        payment_intent_id=payment.payment_intent_id,
    )
    operation = books.operations(payment.payment_id)[-1]
    assert (operation["kind"], operation["gateway_key"], operation["refund_id"]) == ("refund", sent.key, result.refund.refund_id)


def test_a_refund_on_a_machine_whose_clock_is_behind_comes_after_the_capture(shop: Shop, books: Books) -> None:
    payment = shop.captured()
    behind = shop.with_(clock=lambda: datetime.now(UTC) - timedelta(minutes=5))
    behind.refund(payment.transaction_id, amount=500)
    shop.gateway.answer = decline
    behind.refund(payment.transaction_id, amount=500)
    row = books.payment(payment.payment_id)
    assert row["updated_at"] >= row["captured_at"]
    times = books.query("SELECT at FROM payment_status_history WHERE payment_id = :id ORDER BY version", id=payment.payment_id)
    assert times == sorted(times)
    events = [event["created_at"] for event in books.outbox(payment.payment_id)]
    assert events == sorted(events), "a replay sends the events in this order"


def test_the_amount_is_reserved_while_the_gateway_is_called(shop: Shop, books: Books) -> None:
    payment, seen = shop.captured(), []

    def look(action: str, request: GatewayRequest) -> Reply:
        seen.append((money(books, payment), [row["status"] for row in books.refunds(payment.payment_id)]))
        return approve(action, request)

    shop.gateway.answer = look
    shop.refund(payment.transaction_id, amount=500)
    assert seen == [(("CAPTURED", 1999, 0, 500), ["PENDING"])]


def test_refunds_add_up_until_nothing_is_left(shop: Shop, books: Books) -> None:
    payment = shop.captured()
    for amount, after in [
        (500, ("PARTIALLY_REFUNDED", 1999, 500, 0)),
        (1, ("PARTIALLY_REFUNDED", 1999, 501, 0)),
        (None, ("REFUNDED", 1999, 1999, 0)),
    ]:
        fields: dict[str, Any] = {} if amount is None else {"amount": amount}
        assert shop.refund(payment.transaction_id, **fields).outcome is Outcome.SUCCEEDED
        assert money(books, payment) == after
    assert [row["amount_minor"] for row in books.refunds(payment.payment_id)] == [500, 1, 1498]
    assert [row["sequence"] for row in books.outbox(payment.payment_id)] == [1, 2, 3, 4]
    partly = "PARTIALLY_REFUNDED"
    assert books.statuses(payment.payment_id) == ["PENDING", "PROCESSING", "CAPTURED", partly, partly, "REFUNDED"]


def test_only_what_was_captured_can_be_refunded(shop: Shop, books: Books) -> None:
    payment = shop.authorized()
    shop.capture(payment.transaction_id, amount=700)
    with pytest.raises(AmountTooLarge) as refused:
        shop.refund(payment.transaction_id, amount=701)
    assert refused.value.extra["amount_available"] == 700
    assert shop.refund(payment.transaction_id).refund is not None
    assert money(books, payment) == ("REFUNDED", 700, 700, 0)


@pytest.mark.parametrize(("before", "amount", "available"), [(0, 2000, 1999), (500, 1500, 1499), (1998, 2, 1), (0, 10**11, 1999)])
def test_more_than_is_left_is_refused_and_nothing_is_written(
    shop: Shop, books: Books, before: int, amount: int, available: int
) -> None:
    payment = shop.captured()
    if before:
        shop.refund(payment.transaction_id, amount=before)
    row, operations, calls = books.payment(payment.payment_id), len(books.operations(payment.payment_id)), len(shop.gateway.asked)
    with pytest.raises(AmountTooLarge) as refused:
        shop.refund(payment.transaction_id, amount=amount)
    assert refused.value.extra == {
        "payment_id": str(payment.payment_id),
        "order_id": payment.order_id,
        "payment_status": row["status"],
        "amount_available": available,
    }
    assert f"{available / 100:.2f} USD" in refused.value.detail
    assert books.payment(payment.payment_id) == row
    assert len(books.operations(payment.payment_id)) == operations
    assert len(shop.gateway.asked) == calls


def test_what_another_refund_has_reserved_is_not_available(shop: Shop, books: Books) -> None:
    payment = shop.captured()
    shop.gateway.answer = lose_reply
    waiting = shop.refund(payment.transaction_id, amount=1500)
    assert waiting.outcome is Outcome.UNKNOWN
    assert waiting.refund is not None
    assert waiting.refund.status is RefundStatus.PENDING
    assert money(books, payment) == ("CAPTURED", 1999, 0, 1500)
    shop.gateway.answer = approve
    with pytest.raises(AmountTooLarge) as refused:
        shop.refund(payment.transaction_id, amount=500)
    assert refused.value.extra["amount_available"] == 499
    rest = shop.refund(payment.transaction_id)
    assert rest.refund is not None
    assert rest.refund.amount_minor == 499, "the default is all that is left and not reserved"
    with pytest.raises(AmountTooLarge) as refused:
        shop.refund(payment.transaction_id)
    assert refused.value.extra["amount_available"] == 0


@pytest.mark.parametrize("status", [S.PROCESSING, S.AUTHORIZED, S.REFUNDED, S.FAILED, S.VOIDED])
def test_other_statuses_cannot_be_refunded(shop: Shop, books: Books, status: S) -> None:
    payment = shop.in_status(status)
    transaction_id = payment.transaction_id
    if transaction_id is None:  # a payment in PROCESSING has none yet
        transaction_id = f"txn_{uuid7()}"
        books.query("UPDATE payments SET transaction_id = :txn WHERE payment_id = :id", txn=transaction_id, id=payment.payment_id)
    with pytest.raises(PaymentStateConflict) as refused:
        shop.refund(transaction_id, amount=1)
    assert refused.value.extra == state_of(payment)
    assert refused.value.retryable == (status is S.PROCESSING), "only what is in flight may still become a captured payment"
    assert status.value in refused.value.detail
    assert "refund" not in [operation["kind"] for operation in books.operations(payment.payment_id)][-1:] or status is S.REFUNDED


def test_a_transaction_that_is_not_there_or_not_ones_own_is_not_found(shop: Shop, database: servers.Database) -> None:
    other = Shop.on(database)
    for transaction_id in ("txn_nobody", other.captured().transaction_id):
        with pytest.raises(PaymentNotFound) as refused:
            shop.refund(transaction_id)
        assert refused.value.extra == {}
    assert [action for action, _ in other.gateway.asked + shop.gateway.asked] == ["charge"]
    other.close()


def test_a_declined_refund_frees_what_it_reserved_and_is_told(shop: Shop, books: Books) -> None:
    payment = shop.captured()
    shop.gateway.answer = decline
    result = shop.refund(payment.transaction_id, amount=500)
    assert (result.outcome, result.decline_code) == (Outcome.DECLINED, "card_declined")
    assert result.refund is not None
    assert (result.refund.status, result.refund.decline_code) == (RefundStatus.FAILED, "card_declined")
    assert money(books, payment) == ("CAPTURED", 1999, 0, 0)
    event = shop.publisher.published[-1]
    told = payment_body(result.payment) | {"refund": refund_body(result.refund)}
    assert (event.type, event.sequence, json.loads(event.data)) == ("payment.refund_failed", 2, told)
    assert (json.loads(event.data)["refund"]["status"], json.loads(event.data)["refund"]["decline_code"]) == (
        "FAILED",
        "card_declined",
    )
    assert json.loads(event.data)["decline_code"] is None, "the payment itself was not declined"
    assert books.history(payment.payment_id)[-1] == ("CAPTURED", "CAPTURED", "refund declined: card_declined")
    shop.gateway.answer = approve
    assert shop.refund(payment.transaction_id).payment.status is S.REFUNDED
    assert [event.sequence for event in shop.publisher.published] == [1, 2, 3]


@pytest.mark.parametrize(
    ("token", "outcome", "status", "after"),
    [
        ("tok_refund_declined", Outcome.DECLINED, "FAILED", ("CAPTURED", 1999, 0, 0)),
        ("tok_refund_timeout", Outcome.UNKNOWN, "PENDING", ("CAPTURED", 1999, 0, 1999)),
        ("tok_ok", Outcome.SUCCEEDED, "SUCCEEDED", ("REFUNDED", 1999, 1999, 0)),
    ],
)
def test_the_simulated_gateways_scenarios(
    lone_shop: Shop, lone_books: Books, token: str, outcome: Outcome, status: str, after: tuple[str, int, int, int]
) -> None:
    shop = lone_shop.with_(gateway=SimulatedGateway(success_rate=1, delay_ms=(0, 0)))
    payment = shop.captured(payment_token=token)
    result = shop.refund(payment.transaction_id)
    assert result.outcome is outcome
    assert [row["status"] for row in lone_books.refunds(payment.payment_id)] == [status]
    assert money(lone_books, payment) == after
    lone_books.make_due()
    shop.reconcile()
    assert [row["status"] for row in lone_books.refunds(payment.payment_id)] == ["SUCCEEDED" if status == "PENDING" else status]


# Refunds at the same time


@pytest.mark.parametrize(("amount", "at_most"), [(300, 6), (None, 1), (1999, 1), (1000, 1)])
def test_eight_refunds_at_once_never_give_back_more_than_was_captured(
    lone_shop: Shop, lone_books: Books, amount: int | None, at_most: int
) -> None:
    payment = lone_shop.captured()
    shops = [lone_shop.elsewhere() for _ in range(8)]
    fields: dict[str, Any] = {} if amount is None else {"amount": amount}
    results = at_once(8, lambda number: shops[number].refund(payment.transaction_id, **fields))
    given = [result for result in results if isinstance(result, Result)]
    assert len(given) == at_most, results
    for error in results:
        assert isinstance(error, Result | AmountTooLarge | PaymentStateConflict), results
        if isinstance(error, AmountTooLarge):
            assert error.extra["amount_available"] == 1999 - at_most * (amount or 1999), "the amount that is left now"
    assert len(set(lone_shop.gateway.keys)) == 1 + at_most
    # If a settle loses SETTLE_TRIES times to the others, reconcile settles the refund after its lease.
    lone_books.make_due()
    lone_shop.reconcile()
    refunds = lone_books.refunds(payment.payment_id)
    assert [row["status"] for row in refunds] == ["SUCCEEDED"] * at_most
    total = sum(row["amount_minor"] for row in refunds)
    assert total <= 1999
    assert money(lone_books, payment)[1:] == (1999, total, 0)
    assert [row["sequence"] for row in lone_books.outbox(payment.payment_id)] == list(range(1, at_most + 2))


def test_a_settle_that_lost_to_an_overlapping_refund_counts_both(shop: Shop, books: Books) -> None:
    payment, other = shop.captured(), shop.elsewhere()
    inner: list[Result] = []

    def refund_in_between(action: str, request: GatewayRequest) -> Reply:
        shop.gateway.answer = approve
        inner.append(other.refund(payment.transaction_id, amount=300))
        return approve(action, request)

    shop.gateway.answer = refund_in_between
    outer = shop.refund(payment.transaction_id, amount=500)
    assert [outer.outcome, inner[0].outcome] == [Outcome.SUCCEEDED] * 2
    assert outer.payment.refunded_minor == 800
    assert money(books, payment) == ("PARTIALLY_REFUNDED", 1999, 800, 0)
    assert [json.loads(event.data)["amount_refunded"] for event in shop.publisher.published] == [0, 300, 800]
    assert [event.sequence for event in shop.publisher.published] == [1, 2, 3]


def test_two_overlapping_refunds_of_all_that_is_left_end_as_refunded(shop: Shop, books: Books) -> None:
    payment, other = shop.captured(), shop.elsewhere()

    def refund_in_between(action: str, request: GatewayRequest) -> Reply:
        shop.gateway.answer = approve
        other.refund(payment.transaction_id)
        return approve(action, request)

    shop.gateway.answer = refund_in_between
    outer = shop.refund(payment.transaction_id, amount=1)
    assert outer.payment.status is S.REFUNDED
    assert money(books, payment) == ("REFUNDED", 1999, 1999, 0)
    assert books.statuses(payment.payment_id)[-2:] == ["PARTIALLY_REFUNDED", "REFUNDED"]


def test_a_settle_that_is_overtaken_between_two_looks_returns_what_was_written(lone_shop: Shop, lone_books: Books) -> None:
    other = lone_shop.elsewhere()

    class OvertakenAfterALook(Database):
        def run(self, *statements: Bound) -> list[list[Row]]:
            rows = super().run(*statements)
            if re.match(r"\s*SELECT .* FROM operations", statements[0].sql, re.DOTALL):
                lone_books.make_due()
                other.reconcile()
            return rows

    def refund_in_between(action: str, request: GatewayRequest) -> Reply:
        lone_shop.gateway.answer = approve
        other.refund(payment.transaction_id, amount=999)
        return approve(action, request)

    payment, shop = lone_shop.captured(), lone_shop.with_(db=OvertakenAfterALook.at(lone_shop.url))
    lone_shop.gateway.answer = refund_in_between
    result = shop.refund(payment.transaction_id, amount=1000)
    assert (result.outcome, result.payment.status) == (Outcome.SUCCEEDED, S.REFUNDED)
    assert len(lone_shop.gateway.asked) == 4, "the charge, the two refunds, and a second attempt for one of them"
    shop.close()


def test_a_settle_that_keeps_losing_is_left_to_reconcile(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.captured()
    looked: list[datetime] = []

    def change_the_payment() -> datetime:
        """Change the payment when the flow reads the clock: once for its claim and once for each try to settle."""
        looked.append(datetime.now(UTC))
        lone_books.query("UPDATE payments SET version = version + 1 WHERE payment_id = :id", id=payment.payment_id)
        return looked[-1]

    result = lone_shop.with_(clock=change_the_payment).refund(payment.transaction_id, amount=500)
    assert len(looked) == 1 + SETTLE_TRIES
    assert result.outcome is Outcome.UNKNOWN
    assert money(lone_books, payment) == ("CAPTURED", 1999, 0, 500)
    lone_books.make_due()
    assert lone_shop.reconcile().settled == 1
    assert money(lone_books, payment) == ("PARTIALLY_REFUNDED", 1999, 500, 0)
    assert lone_shop.gateway.keys[-2] == lone_shop.gateway.keys[-1]


# Lost replies of the database


@pytest.mark.parametrize("key", [None, "k-1"])
@pytest.mark.parametrize("amount", [None, 1999, 500])
def test_a_refund_whose_claim_lost_its_reply_is_carried_out(
    database: servers.Database, books: Books, fault_proxy: Callable[..., FaultProxy], amount: int | None, key: str | None
) -> None:
    proxy = fault_proxy(database.service_url)
    shop = Shop.on(database).elsewhere(servers.with_address(database.service_url, "127.0.0.1", proxy.port))
    payment = shop.captured()
    proxy.lose_reply()
    result = shop.refund(payment.transaction_id, key, **({} if amount is None else {"amount": amount}))
    assert (result.outcome, result.replayed) == (Outcome.SUCCEEDED, False)
    [refund] = books.refunds(payment.payment_id)
    assert (refund["amount_minor"], refund["status"]) == (amount or 1999, "SUCCEEDED")
    assert money(books, payment)[1:] == (1999, amount or 1999, 0)
    assert len(shop.gateway.asked) == 2
    shop.close()


@pytest.mark.parametrize(("key", "retryable"), [(None, False), ("k-1", True)])
def test_only_a_key_makes_it_safe_to_repeat_a_refund_whose_claim_got_no_answer(
    database: servers.Database, fault_proxy: Callable[..., FaultProxy], key: str | None, retryable: bool
) -> None:
    proxy = fault_proxy(database.service_url)
    shop = Shop.on(database).elsewhere(servers.with_address(database.service_url, "127.0.0.1", proxy.port))
    payment = shop.captured()
    proxy.close()
    with pytest.raises(ServiceUnavailable) as raised:
        shop.refund(payment.transaction_id, key, amount=500)
    assert (raised.value.retryable, raised.value.retry_after_s is not None) == (retryable, retryable)
    assert ("Idempotency-Key" in raised.value.detail) is not retryable
    shop.close()


@pytest.mark.parametrize(("key", "retryable"), [(None, False), ("k-1", True)])
def test_a_refund_that_may_still_be_begun_is_not_reported_as_refused(
    lone_shop: Shop, lone_books: Books, key: str | None, retryable: bool
) -> None:
    payment, late = lone_shop.captured(), LateBooks.at(lone_shop.url)
    lone_shop.gateway.answer = lose_reply
    lone_shop.refund(payment.transaction_id)
    with pytest.raises(ServiceUnavailable, match="may have been started") as raised:  # the second sending finds nothing left
        lone_shop.with_(db=late).refund(payment.transaction_id, key, amount=500)
    assert raised.value.retryable is retryable
    lone_shop.hears_later(decline, lone_books)
    late.arrive()
    lone_shop.hears_later(approve, lone_books)
    assert money(lone_books, payment) == ("PARTIALLY_REFUNDED", 1999, 500, 0)


@pytest.mark.parametrize("answered", [True, False], ids=["the server got the write", "the server never saw the write"])
def test_a_connection_that_breaks_at_any_write_refunds_once(
    lone_database: servers.Database, lone_books: Books, fault_proxy: Callable[..., FaultProxy], answered: bool
) -> None:
    proxy = fault_proxy(lone_database.service_url)
    broken_at, broke = 0, True
    while broke:
        shop = Shop.on(lone_database)
        payment = shop.captured()
        frail = shop.elsewhere(servers.with_address(lone_database.service_url, "127.0.0.1", proxy.port))
        broken_at += 1
        proxy.writes.fail(broken_at, answered=answered)
        frail.refund(payment.transaction_id, f"k-{broken_at}")  # a refund always survives one broken connection
        frail.wait_for_mark()
        broke = proxy.writes.failed
        proxy.writes.fail(0, answered=True)
        lone_books.make_due()
        lone_books.end_event_leases()
        shop.reconcile()
        shop.relay()
        assert money(lone_books, payment) == ("REFUNDED", 1999, 1999, 0)
        assert len(set(shop.gateway.keys)) == 2
        assert {event.sequence for event in shop.publisher.published} == {1, 2}
        shop.close()
        frail.close()
    assert broken_at > 6


def test_a_worker_killed_before_or_after_the_gateway_gave_back_leaves_a_refund_that_reconcile_finishes(
    lone_shop: Shop, lone_books: Books
) -> None:
    def after(action: str, request: GatewayRequest) -> Reply:
        raise Killed

    for broken in (lone_shop.with_(gateway=replace(lone_shop.gateway, answer=after)), lone_shop.with_(clock=_Clock(2))):
        payment = lone_shop.captured()
        with pytest.raises(Killed):
            broken.refund(payment.transaction_id, amount=500)
        assert money(lone_books, payment) == ("CAPTURED", 1999, 0, 500)
        assert lone_shop.reconcile().settled == 0, "its lease still runs"
        lone_books.make_due()
        assert lone_shop.reconcile().settled == 1
        assert money(lone_books, payment) == ("PARTIALLY_REFUNDED", 1999, 500, 0)
        keys = {operation["gateway_key"] for operation in lone_books.operations(payment.payment_id)}
        assert keys >= set(lone_shop.gateway.keys[-1:])


class _Clock:
    """Kills the flow at its `fatal`-th look: it looks once for the claim and then after the gateway's answer."""

    def __init__(self, fatal: int) -> None:
        self._left = fatal

    def __call__(self) -> datetime:
        self._left -= 1
        if self._left == 0:
            raise Killed
        return datetime.now(UTC)


@pytest.mark.parametrize("amount", [1, 1998, 1999, None])
def test_a_claim_reserves_what_the_domain_says(shop: Shop, amount: int | None) -> None:
    """The claim's SQL and `apply` both state what a reservation changes. The test compares them."""
    before = shop.captured()
    shop.gateway.answer = lose_reply
    assert before.transaction_id is not None
    claimed = shop.refund(before.transaction_id, amount=amount).payment
    change = RefundReserved(before.refundable_minor if amount is None else amount)
    assert claimed == apply(before, change, claimed.updated_at)
    assert claimed.refundable_minor == 1999 - change.amount_minor


def test_a_payment_in_a_currency_of_yesterday_is_refused_like_any_other(shop: Shop, books: Books) -> None:
    captured, authorized = shop.captured(), shop.authorized()
    for payment in (captured, authorized):
        books.query("UPDATE payments SET currency = 'BGN' WHERE payment_id = :id", id=payment.payment_id)
    with pytest.raises(AmountTooLarge, match="1999 minor units of BGN"):
        shop.refund(captured.transaction_id, amount=2000)
    with pytest.raises(AmountTooLarge, match="1999 minor units of BGN"):
        shop.capture(authorized.transaction_id, amount=2000)
    assert shop.refund(captured.transaction_id).outcome is Outcome.SUCCEEDED
    assert shop.capture(authorized.transaction_id).outcome is Outcome.SUCCEEDED
