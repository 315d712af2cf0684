"""What the gateway says of a payment's disputes is recorded once, told in order, and never touches another owner's payment."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from payments.commands import dispute as disputes
from payments.commands.dispute import LookAgain
from payments.domain.errors import AmountTooLarge, PaymentDisputed, PaymentNotFound
from payments.domain.operation import Outcome
from payments.domain.payment import Payment, PaymentStatus
from payments.gateway.port import Alarm, SeenDispute
from payments.store.connection import Database
from tests import servers
from tests.commands.test_finding_out import metrics_of
from tests.domain.examples import NOON
from tests.fakes import decline, lose_reply, refuse
from tests.seen_disputes import present, seen
from tests.shop import Books, Shop, at_once


def standing(books: Books, payment: Payment) -> list[dict[str, Any]]:
    return books.record("SELECT * FROM disputes WHERE payment_id = :id ORDER BY dispute_id", id=payment.payment_id)


def told(books: Books, payment: Payment) -> list[tuple[str, str | None]]:
    """Return the type and the dispute's outcome of each event about a dispute, in order."""
    events = [(row["type"], json.loads(row["data"])) for row in books.outbox(payment.payment_id)]
    return [(type_, data["dispute"]["outcome"]) for type_, data in events if "dispute" in data]


def test_a_dispute_is_recorded_with_the_payment_and_told_once(shop: Shop, books: Books) -> None:
    payment, one = shop.captured(), seen()
    assert disputes.record(shop.service, payment, [one])
    [row] = standing(books, payment)
    expected = {name: getattr(one, name) for name in SeenDispute.__dataclass_fields__}
    expected |= {"payment_id": payment.payment_id, "owner": shop.owner, "gateway": "simulated"}
    assert {name: row[name] for name in expected} == expected
    assert row["dispute_id"].version == 7
    after = books.payment(payment.payment_id)
    assert (after["status"], after["captured_minor"], after["refunded_minor"]) == ("CAPTURED", 1999, 0)
    assert (after["version"], row["version"]) == (payment.version + 1, payment.version + 1)
    event = shop.publisher.published[-1]
    assert (event.type, event.sequence, event.traceparent) == ("payment.disputed", payment.event_sequence + 1, None)
    data = json.loads(event.data)
    assert data["dispute"] == {
        "dispute_id": str(row["dispute_id"]),
        "payment_id": str(payment.payment_id),
        "gateway_dispute_id": one.gateway_dispute_id,
        "amount": 1999,
        "currency": "USD",
        "reason": "fraudulent",
        "status": "needs_response",
        "outcome": None,
        "due_by": "2026-02-09T12:00:00.000000Z",
        "is_refundable": False,
        "created_at": "2026-01-31T12:00:00.000000Z",
        "updated_at": data["updated_at"],
    }
    assert (data["payment_id"], data["status"], data["amount_captured"]) == (str(payment.payment_id), "CAPTURED", 1999)
    assert books.history(payment.payment_id)[-1] == ("CAPTURED", "CAPTURED", "disputed: fraudulent")
    assert not disputes.record(shop.service, payment, [one]), "the same again is nothing new"
    assert not disputes.record(shop.service, present(shop.service, payment.payment_id), [one])
    assert not disputes.record(shop.service, payment, [])
    assert told(books, payment) == [("payment.disputed", None)]
    shop.wait_for_mark()
    assert all(row["published_at"] for row in books.outbox(payment.payment_id))


def test_from_several_threads_at_once_it_is_recorded_once_and_nothing_is_lost(shop: Shop, books: Books) -> None:
    payment, both = shop.captured(), [seen(), seen(outcome="lost", status="lost")]
    shops = [shop.elsewhere() for _ in range(6)]
    news = at_once(6, lambda number: disputes.record(shops[number].service, payment, both if number % 2 else both[::-1]))
    for each in shops:
        each.close()
    assert set(map(type, news)) == {bool}, news
    assert any(news)
    assert len(standing(books, payment)) == 2
    assert sorted(map(str, told(books, payment))) == sorted(
        map(str, [("payment.disputed", None), ("payment.disputed", None), ("payment.dispute_closed", "lost")])
    )
    assert [row["sequence"] for row in books.outbox(payment.payment_id)] == [1, 2, 3, 4]


def test_while_refunds_of_the_payment_settle_neither_is_lost(shop: Shop, books: Books) -> None:
    payment, one = shop.captured(), seen(is_refundable=True)
    shops = [shop.elsewhere() for _ in range(5)]

    def do(number: int) -> object:
        mine = shops[number]
        if number:
            return mine.refund(payment.transaction_id, amount=100).outcome
        return disputes.record(mine.service, payment, [one])

    done = at_once(5, do)
    for each in shops:
        each.close()
    assert (done[0], {str(outcome) for outcome in done[1:]}) == (True, {"succeeded"})
    assert books.payment(payment.payment_id)["refunded_minor"] == 400
    assert told(books, payment) == [("payment.disputed", None)]
    assert [row["sequence"] for row in books.outbox(payment.payment_id)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("outcome", "word"), [("won", "won"), ("lost", "lost"), ("closed", "warning_closed")])
def test_a_dispute_that_ends_is_told_as_closed(shop: Shop, books: Books, outcome: Any, word: str) -> None:
    payment, one = shop.captured(), seen()
    disputes.record(shop.service, payment, [one])
    ended = replace(one, status=word, outcome=outcome, due_by=None)
    assert disputes.record(shop.service, payment, [ended])
    assert told(books, payment) == [("payment.disputed", None), ("payment.dispute_closed", outcome)]
    [row] = standing(books, payment)
    assert (row["status"], row["outcome"], row["due_by"]) == (word, outcome, None)
    assert books.history(payment.payment_id)[-1] == ("CAPTURED", "CAPTURED", f"dispute {outcome}")
    later = present(shop.service, payment.payment_id)
    assert not disputes.record(shop.service, later, [ended])
    assert not disputes.record(shop.service, later, [replace(ended, status="archived")]), "after its end, a word is no news"


def test_one_that_had_ended_when_we_first_heard_of_it_is_told_open_and_then_closed(shop: Shop, books: Books) -> None:
    payment = shop.captured()
    assert disputes.record(shop.service, payment, [seen(status="lost", outcome="lost")])
    assert told(books, payment) == [("payment.disputed", None), ("payment.dispute_closed", "lost")]
    assert [event.type for event in shop.publisher.published[1:]] == ["payment.disputed", "payment.dispute_closed"]
    assert [row["outcome"] for row in standing(books, payment)] == ["lost"]


def test_killed_between_its_two_events_it_is_closed_by_the_next_look(shop: Shop, books: Books) -> None:
    payment, one = shop.captured(), seen(status="lost", outcome="lost")
    disputes.record(shop.service, payment, [replace(one, outcome=None)])
    assert disputes.record(shop.service, payment, [one]), "the payment may be as it was read before the first try"
    assert told(books, payment) == [("payment.disputed", None), ("payment.dispute_closed", "lost")]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "under_review", "due_by": None},
        {"amount_minor": 500},
        {"currency": "EUR"},
        {"reason": "product_not_received"},
        {"due_by": NOON + timedelta(days=20)},
        {"is_refundable": True},
        {"status": "a_word_that_nobody_knows"},
    ],
    ids=str,
)
def test_what_changes_while_it_is_open_is_recorded_and_told(shop: Shop, books: Books, change: dict[str, Any]) -> None:
    payment, one = shop.captured(), seen()
    disputes.record(shop.service, payment, [one])
    assert disputes.record(shop.service, present(shop.service, payment.payment_id), [replace(one, **change)])
    assert told(books, payment) == [("payment.disputed", None)] * 2
    [row] = standing(books, payment)
    assert {name: row[name] for name in change} == change


@pytest.mark.parametrize(
    ("first", "then", "type_"),
    [
        ("lost", "won", "payment.dispute_closed"),
        ("won", "lost", "payment.dispute_closed"),
        ("closed", None, "payment.disputed"),
        ("lost", None, "payment.disputed"),
    ],
)
def test_the_gateways_last_word_counts_also_after_the_end(shop: Shop, books: Books, first: Any, then: Any, type_: str) -> None:
    payment, one = shop.captured(), seen()
    disputes.record(shop.service, payment, [replace(one, outcome=first)])
    assert disputes.record(shop.service, present(shop.service, payment.payment_id), [replace(one, outcome=then)])
    assert told(books, payment)[1:] == [("payment.dispute_closed", first), (type_, then)]
    assert [row["outcome"] for row in standing(books, payment)] == [then]


@pytest.mark.parametrize("old", [{"outcome": None}, {"outcome": "lost"}, {"outcome": None, "status": "under_review"}], ids=str)
def test_a_look_that_may_be_older_than_what_is_recorded_changes_nothing(shop: Shop, books: Books, old: dict[str, Any]) -> None:
    """Two look at once: the later look is written first."""
    payment, one = shop.captured(), seen()
    disputes.record(shop.service, payment, [replace(one, outcome="won", status="won")])
    written = standing(books, payment)
    with pytest.raises(LookAgain):
        disputes.record(shop.service, payment, [replace(one, **old)])
    assert standing(books, payment) == written
    assert told(books, payment)[1:] == [("payment.dispute_closed", "won")]


def test_a_payment_may_have_several_disputes_each_with_its_own_end(shop: Shop, books: Books) -> None:
    payment, first, second = shop.captured(), seen(amount_minor=500), seen(amount_minor=700)
    assert disputes.record(shop.service, payment, [first, second])
    later = present(shop.service, payment.payment_id)
    assert disputes.record(shop.service, later, [replace(first, outcome="won"), second])
    assert sorted((row["amount_minor"], row["outcome"] or "") for row in standing(books, payment)) == [(500, "won"), (700, "")]
    assert told(books, payment) == [("payment.disputed", None)] * 2 + [("payment.dispute_closed", "won")]


@pytest.mark.parametrize("status", [PaymentStatus.PARTIALLY_REFUNDED, PaymentStatus.REFUNDED])
def test_a_payment_that_was_refunded_may_be_disputed_all_the_same(shop: Shop, books: Books, status: PaymentStatus) -> None:
    payment = shop.in_status(status)
    assert disputes.record(shop.service, payment, [seen()])
    after = books.payment(payment.payment_id)
    assert (after["status"], after["refunded_minor"]) == (status, payment.refunded_minor)
    assert told(books, payment) == [("payment.disputed", None)]


@pytest.mark.parametrize("odd", [{"amount_minor": 5000}, {"currency": "EUR"}, {"currency": "ZZZ"}, {"amount_minor": 0}], ids=str)
def test_a_bank_may_ask_for_another_amount_or_currency_than_the_payments(shop: Shop, books: Books, odd: dict[str, Any]) -> None:
    payment = shop.captured()
    assert disputes.record(shop.service, payment, [seen(**odd)])
    [row] = standing(books, payment)
    assert {name: row[name] for name in odd} == odd
    after = books.payment(payment.payment_id)
    assert (after["amount_minor"], after["currency"], after["captured_minor"]) == (1999, "USD", 1999)


@pytest.mark.parametrize(
    "odd",
    [
        {"amount_minor": -1},
        {"amount_minor": 10**12},
        {"currency": "usd"},
        {"reason": "a\0b"},
        {"status": "x" * 101},
        {"outcome": "drawn"},
    ],
    ids=lambda odd: str(odd)[:40],
)
def test_what_is_no_dispute_is_an_alarm_and_not_in_the_way_of_the_others(
    shop: Shop, books: Books, odd: dict[str, Any], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    payment, both = shop.captured(), [seen(**odd), seen(amount_minor=7)]
    assert Alarm.AMOUNT_MISMATCH in metrics_of(lambda: disputes.record(shop.service, payment, both), capsys)
    assert [row["amount_minor"] for row in standing(books, payment)] == [7]
    assert "a dispute that the books cannot take" in caplog.text
    assert Alarm.AMOUNT_MISMATCH not in metrics_of(lambda: disputes.record(shop.service, payment, both), capsys), "once a day"


def test_the_dispute_of_another_payment_stays_there(
    shop: Shop, database: servers.Database, books: Books, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Shop.on(database)
    theirs, mine, one = other.captured(), shop.captured(), seen()
    disputes.record(other.service, theirs, [one])
    written = standing(books, theirs)
    news: list[bool] = []
    taken = replace(one, outcome="lost", amount_minor=1)
    assert Alarm.AMOUNT_MISMATCH in metrics_of(lambda: news.append(disputes.record(shop.service, mine, [taken])), capsys)
    assert Alarm.AMOUNT_MISMATCH not in metrics_of(lambda: news.append(disputes.record(shop.service, mine, [taken])), capsys)
    assert news == [False, False]
    other.close()
    assert (standing(books, theirs), standing(books, mine)) == (written, [])
    assert (told(books, mine), told(books, theirs)) == ([], [("payment.disputed", None)])
    assert books.payment(mine.payment_id)["version"] == mine.version
    assert "the dispute of another" in caplog.text


@pytest.mark.parametrize(
    "status", [PaymentStatus.PROCESSING, PaymentStatus.AUTHORIZED, PaymentStatus.FAILED, PaymentStatus.VOIDED]
)
def test_a_payment_without_captured_money_takes_no_dispute_yet(shop: Shop, books: Books, status: PaymentStatus) -> None:
    payment = shop.in_status(status)
    with pytest.raises(LookAgain):
        disputes.record(shop.service, payment, [seen()])
    assert (standing(books, payment), books.payment(payment.payment_id)["version"]) == ([], payment.version)


def test_the_relay_tells_what_the_broker_did_not_take(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.captured()
    acknowledges, lone_shop.publisher.acknowledges = lone_shop.publisher.acknowledges, refuse
    disputes.record(lone_shop.service, payment, [seen(outcome="won")])
    lone_shop.publisher.acknowledges = acknowledges
    lone_books.end_event_leases()
    assert lone_shop.relay().published == 2
    assert [event.type for event in lone_shop.publisher.published[1:]] == ["payment.disputed", "payment.dispute_closed"]


BARRING = [{}, {"outcome": "lost"}]
LETTING = [{"is_refundable": True}, {"outcome": "won"}, {"outcome": "closed"}, {"outcome": "lost", "is_refundable": True}]


@pytest.mark.parametrize("name", ["transaction_id", "payment_id", "order_id"])
@pytest.mark.parametrize("barring", BARRING, ids=str)
def test_a_refund_that_the_gateway_would_refuse_because_of_a_dispute_is_refused_before_anything_is_written(
    shop: Shop, books: Books, barring: dict[str, Any], name: str
) -> None:
    payment, one = shop.captured(), seen(**barring)
    disputes.record(shop.service, payment, [seen(amount_minor=1, outcome="won"), one])
    before, operations = books.payment(payment.payment_id), books.operations(payment.payment_id)
    asked = len(shop.gateway.asked)
    body = {name: str(getattr(payment, name)), "amount": 100}
    for _ in range(2):
        with pytest.raises(PaymentDisputed) as refused:
            shop.perform("refund", body, "k")
        assert (refused.value.retryable, refused.value.extra["payment_id"]) == (False, str(payment.payment_id))
    assert len(shop.gateway.asked) == asked
    assert (books.payment(payment.payment_id), books.operations(payment.payment_id)) == (before, operations)
    assert books.refunds(payment.payment_id) == []
    disputes.record(shop.service, present(shop.service, payment.payment_id), [replace(one, outcome="won")])
    done = shop.perform("refund", body, "k")
    assert (done.outcome, done.replayed) == (Outcome.SUCCEEDED, False), "the key was not used up"


@pytest.mark.parametrize("letting", LETTING, ids=str)
def test_a_dispute_that_lets_refunds_pass_is_in_the_way_of_none(shop: Shop, letting: dict[str, Any]) -> None:
    payment = shop.captured()
    disputes.record(shop.service, payment, [seen(**letting)])
    assert shop.refund(payment.transaction_id, amount=100).outcome is Outcome.SUCCEEDED
    assert shop.refund(payment.transaction_id).payment.status is PaymentStatus.REFUNDED


def test_a_dispute_is_in_the_way_of_its_own_payment_alone(shop: Shop, database: servers.Database) -> None:
    other = Shop.on(database)
    mine, my_other, theirs = shop.captured(), shop.captured(), other.captured()
    disputes.record(shop.service, mine, [seen()])
    assert shop.refund(my_other.transaction_id).outcome is Outcome.SUCCEEDED
    assert other.refund(theirs.transaction_id).outcome is Outcome.SUCCEEDED
    with pytest.raises(PaymentNotFound):
        other.refund(mine.transaction_id)
    other.close()


def test_a_refund_from_before_the_dispute_is_answered_again_and_goes_on(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.captured()
    lone_shop.refund(payment.transaction_id, "done", amount=100)
    lone_shop.gateway.answer = lose_reply
    lone_shop.refund(payment.transaction_id, "lost", amount=200)
    disputes.record(lone_shop.service, payment, [seen()])
    assert lone_shop.refund(payment.transaction_id, "done", amount=100).replayed
    assert lone_shop.hears_later(decline, lone_books).settled == 1, "what the gateway says of it counts"
    assert lone_shop.refund(payment.transaction_id, "lost", amount=200).outcome is Outcome.DECLINED


@pytest.mark.parametrize(
    ("fields", "error"), [({"amount": 2000}, AmountTooLarge), ({"transaction_id": "txn_of_nobody"}, PaymentNotFound)]
)
def test_what_is_wrong_with_the_request_itself_is_said_first(shop: Shop, fields: dict[str, Any], error: type[Exception]) -> None:
    payment = shop.captured()
    disputes.record(shop.service, payment, [seen()])
    with pytest.raises(error):
        shop.perform("refund", {"transaction_id": payment.transaction_id} | fields, None)


class LostAnswer(Database):
    """The answer to the first statement that writes a dispute is lost after the server has committed it."""

    lost = 0

    def _flush(self, statements: Any) -> Any:
        rows = super()._flush(statements)
        if not self.lost and any("INSERT INTO disputes" in statement.sql for statement in statements):
            self.lost += 1
            self.close()
            raise ConnectionResetError
        return rows


def test_a_record_whose_answer_is_lost_is_written_once(shop: Shop, books: Books) -> None:
    payment, one = shop.captured(), seen()
    broken = shop.with_(db=LostAnswer.at(shop.url))
    disputes.record(broken.service, payment, [one])
    broken.close()
    assert broken.service.db.lost == 1  # type: ignore[attr-defined]
    assert told(books, payment) == [("payment.disputed", None)]
    assert len(standing(books, payment)) == 1
