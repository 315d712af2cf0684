from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pg8000.exceptions import DatabaseError

from payments.commands.command import Result, state_of
from payments.domain.errors import OrderAlreadyPaid, OrderInProgress, ServiceUnavailable
from payments.domain.events import Event, payment_body
from payments.domain.operation import Outcome
from payments.domain.payment import PaymentStatus
from payments.gateway.port import GatewayRequest, Reply
from payments.gateway.simulated import SimulatedGateway
from payments.gateway.simulated_scenarios import DECLINE_CODES
from payments.store.connection import Bound, Database, Row
from payments.store.due import claim_due
from payments.store.lookups import find_payment
from tests import servers
from tests.fakes import approve, decline, lose_reply, refuse
from tests.faults import FaultProxy
from tests.shop import TRACEPARENT, Books, LateBooks, Shop, at_once

S = PaymentStatus
SUCCEEDED, DECLINED, UNKNOWN = Outcome.SUCCEEDED, Outcome.DECLINED, Outcome.UNKNOWN

# The columns: token, capture method, outcome, decline code, statuses, events. The gateway is the simulated one.
OUTCOMES: list[tuple[str, str, Outcome, str | None, list[S], list[str]]] = [
    ("tok_ok", "automatic", SUCCEEDED, None, [S.CAPTURED], ["payment.successful"]),
    ("tok_ok", "manual", SUCCEEDED, None, [S.AUTHORIZED], ["payment.authorized"]),
    ("tok_capture_declined", "automatic", DECLINED, "card_declined", [S.FAILED], ["payment.failed"]),
    ("tok_capture_declined", "manual", SUCCEEDED, None, [S.AUTHORIZED], ["payment.authorized"]),
    ("tok_timeout_then_captured", "automatic", UNKNOWN, None, [], []),
    ("tok_timeout_then_declined", "manual", UNKNOWN, None, [], []),
    *((f"tok_{code}", "automatic", DECLINED, code, [S.FAILED], ["payment.failed"]) for code in DECLINE_CODES),
]


@pytest.mark.parametrize(("token", "method", "outcome", "code", "statuses", "events"), OUTCOMES)
def test_a_payment_ends_as_the_gateway_says(
    shop: Shop, books: Books, token: str, method: str, outcome: Outcome, code: str | None, statuses: list[S], events: list[str]
) -> None:
    simulated = SimulatedGateway(success_rate=1, delay_ms=(0, 0), sleep=lambda seconds: None)
    result = shop.with_(gateway=simulated).process(payment_token=token, capture_method=method)
    payment_id = result.payment.payment_id
    assert (result.outcome, result.decline_code, result.payment.decline_code) == (outcome, code, code)
    assert result.payment.status == [S.PROCESSING, *statuses][-1]
    assert books.statuses(payment_id) == ["PENDING", "PROCESSING", *statuses]
    assert [event["type"] for event in books.outbox(payment_id)] == events
    [operation] = books.operations(payment_id)
    assert operation["outcome"] == (None if outcome is UNKNOWN else outcome)
    assert operation["gateway_key"] == f"pay-{payment_id}"
    row = books.payment(payment_id)
    assert (row["status"], row["decline_code"]) == (result.payment.status, code)
    assert (row["transaction_id"] is None) == (row["payment_intent_id"] is None) == (outcome is UNKNOWN)


def test_a_captured_payment_is_stored_with_every_field(shop: Shop, books: Books) -> None:
    result = shop.process(
        order_id="o-full",
        currency="KWD",
        payment_method="paypal",
        payment_token="tok_mine",
        customer_id="c-1",
        description="Böots",
        metadata={"size": "44"},
    )
    row = books.payment(result.payment.payment_id)
    assert (
        row.items()
        >= {
            "owner": shop.owner,
            "order_id": "o-full",
            "status": "CAPTURED",
            "amount_minor": 1999,
            "currency": "KWD",
            "payment_method": "paypal",
            "payment_token": "tok_mine",
            "capture_method": "automatic",
            "captured_minor": 1999,
            "refunded_minor": 0,
            "transaction_id": f"txn_pay-{result.payment.payment_id}",
            "payment_intent_id": f"pi_pay-{result.payment.payment_id}",
            "customer_id": "c-1",
            "description": "Böots",
            "metadata": {"size": "44"},
            "event_sequence": 1,
        }.items()
    )
    assert row["captured_at"] == row["updated_at"] == result.payment.captured_at
    [operation] = books.operations(result.payment.payment_id)
    assert operation["reply"] == {
        "result": "approved",
        "transaction_id": row["transaction_id"],
        "payment_intent_id": row["payment_intent_id"],
        "raw": {"action": "charge"},
        "refund_id": None,
    }
    assert operation["next_attempt_at"] is None
    [event] = books.outbox(result.payment.payment_id)
    assert (event["traceparent"], operation["traceparent"]) == (TRACEPARENT, TRACEPARENT)


def test_the_payment_that_is_returned_equals_the_stored_one(shop: Shop) -> None:
    for status in (S.PROCESSING, S.AUTHORIZED, S.CAPTURED, S.FAILED, S.VOIDED, S.PARTIALLY_REFUNDED, S.REFUNDED):
        returned = shop.in_status(status)
        assert returned.status is status
        assert find_payment(shop.service.db, shop.owner, "payment_id", returned.payment_id) == returned


def test_the_gateway_is_called_for_this_payment_under_its_key(shop: Shop) -> None:
    result = shop.process(currency="JPY", payment_method="stripe", payment_token="tok_mine", capture_method="manual")
    [(action, request)] = shop.gateway.asked
    assert action == "charge"
    assert request == GatewayRequest(
        kind="process",
        payment_id=result.payment.payment_id,
        order_id=result.payment.order_id,
        key=f"pay-{result.payment.payment_id}",
        attempt=1,
        amount_minor=1999,
        currency="JPY",
        payment_method="stripe",
        payment_token="tok_mine",
        timeout_s=request.timeout_s,
        capture=False,
    )
    assert 9 < request.timeout_s <= 10


def test_an_authorization_holds_as_long_as_the_capture_window(shop: Shop) -> None:
    authorized = shop.with_(capture_window=timedelta(hours=3)).authorized()
    assert authorized.authorized_at is not None
    assert authorized.capture_before is not None
    window = authorized.capture_before - authorized.authorized_at
    assert timedelta(hours=3) <= window + timedelta(seconds=1) <= timedelta(hours=3, seconds=2)
    assert (authorized.captured_minor, authorized.captured_at) == (0, None)


# The phases


def test_one_payment_is_three_round_trips_and_three_commits(
    database: servers.Database, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """They are claim, settle and mark."""
    proxy = fault_proxy(database.service_url)
    shop = Shop.on(database).elsewhere(servers.with_address(database.service_url, "127.0.0.1", proxy.port))
    counts = proxy.postgres

    def counted() -> tuple[int, int]:
        shop.service.db._make_ready()  # Nobody waits for a mark's answer. Once it is read, the proxy has counted it.
        return counts.round_trips, counts.commits

    first = shop.process()
    before = counted()
    shop.process()
    assert counted() == (before[0] + 3, before[1] + 3)
    shop.refund(first.payment.transaction_id)
    assert counted() == (before[0] + 6, before[1] + 6)
    shop.close()


def test_no_transaction_is_open_and_the_claim_is_committed_while_the_gateway_is_called(shop: Shop, books: Books) -> None:
    open_transactions = (
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database()"
    )
    seen: list[list[object]] = []

    def look(action: str, request: GatewayRequest) -> Reply:
        seen.extend(books.query("SELECT status FROM payments WHERE payment_id = :id", id=request.key.removeprefix("pay-")))
        seen.extend(books.query(open_transactions))
        return approve(action, request)

    shop.gateway.answer = look
    shop.process()
    assert seen == [["PROCESSING"], [0]]


def test_an_event_is_published_after_the_commit_that_wrote_it(shop: Shop, books: Books) -> None:
    seen: list[list[object]] = []

    def look(event: Event) -> bool:
        seen.extend(
            books.query(
                "SELECT status, published_at FROM payments JOIN outbox USING (payment_id) WHERE event_id = :id", id=event.event_id
            )
        )
        return True

    shop.publisher.acknowledges = look
    result = shop.process()
    assert seen == [["CAPTURED", None]]
    shop.wait_for_mark()
    [row] = books.outbox(result.payment.payment_id)
    assert row["published_at"] is not None, "the event is marked"
    [event] = shop.publisher.published
    assert (event.event_id, event.type, event.sequence) == (row["event_id"], "payment.successful", 1)
    assert json.loads(event.data) == payment_body(result.payment)
    assert shop.publisher.warmed_up == 1


def test_outcome_payment_and_event_are_written_together_or_not_at_all(lone_shop: Shop, lone_books: Books) -> None:
    with lone_books.refusing("outbox", "false"):
        result = lone_shop.process()
    payment_id = result.payment.payment_id
    assert (result.outcome, result.payment.status) == (UNKNOWN, S.PROCESSING)
    assert lone_books.statuses(payment_id) == ["PENDING", "PROCESSING"]
    assert [row["outcome"] for row in lone_books.operations(payment_id)] == [None]
    lone_books.make_due()
    assert lone_shop.reconcile().settled == 1
    assert lone_books.statuses(payment_id) == ["PENDING", "PROCESSING", "CAPTURED"]
    assert lone_shop.gateway.keys == [f"pay-{payment_id}"] * 2
    assert [event.sequence for event in lone_shop.publisher.published] == [1]


# A payment does not depend on the broker


def broken(event: Event) -> bool:
    raise RuntimeError("a publisher that breaks its promise not to raise")


@pytest.mark.parametrize("acknowledges", [refuse, broken])
def test_a_payment_does_not_fail_because_kafka_does(
    lone_shop: Shop, lone_books: Books, acknowledges: Callable[[Event], bool]
) -> None:
    lone_shop.publisher.acknowledges = acknowledges
    result = lone_shop.process()
    assert (result.outcome, result.payment.status) == (SUCCEEDED, S.CAPTURED)
    [row] = lone_books.outbox(result.payment.payment_id)
    assert row["published_at"] is None
    lone_shop.publisher.acknowledges = lambda event: True
    lone_books.end_event_leases()
    assert lone_shop.relay().published == 1
    assert [event.event_id for event in lone_shop.publisher.published] == [row["event_id"]]
    assert lone_books.outbox(result.payment.payment_id)[0]["published_at"] is not None


def test_an_event_does_not_overtake_an_older_one_that_was_not_published(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.publisher.acknowledges = refuse
    payment = lone_shop.captured()
    lone_shop.publisher.acknowledges = lambda event: True
    assert lone_shop.refund(payment.transaction_id, amount=500).outcome is SUCCEEDED
    assert lone_shop.publisher.published == [], "the second event waits for the first"
    lone_books.end_event_leases()
    lone_shop.relay()
    assert [(event.sequence, event.type) for event in lone_shop.publisher.published] == [
        (1, "payment.successful"),
        (2, "payment.refunded"),
    ]
    lone_shop.refund(payment.transaction_id, amount=500)
    assert [event.sequence for event in lone_shop.publisher.published] == [1, 2, 3], "the third event is sent at once"


# One order, one payment


def test_an_order_that_is_paid_eight_times_at_once_is_charged_once(shop: Shop, database: servers.Database, books: Books) -> None:
    shops = [shop.elsewhere() for _ in range(8)]
    results = at_once(8, lambda number: shops[number].process(order_id="o-8", payment_token=f"tok_{number}"))
    [paid] = [result for result in results if isinstance(result, Result)]
    refused = [error for error in results if isinstance(error, OrderInProgress | OrderAlreadyPaid)]
    assert len(refused) == 7, results
    assert all(error.extra["payment_id"] == str(paid.payment.payment_id) for error in refused)
    assert shop.gateway.keys == [f"pay-{paid.payment.payment_id}"]
    assert books.query("SELECT count(*), sum(captured_minor) FROM payments WHERE owner = :owner", owner=shop.owner) == [[1, 1999]]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (S.PROCESSING, OrderInProgress),
        (S.AUTHORIZED, OrderAlreadyPaid),
        (S.CAPTURED, OrderAlreadyPaid),
        (S.PARTIALLY_REFUNDED, OrderAlreadyPaid),
        (S.REFUNDED, OrderAlreadyPaid),
        (S.FAILED, None),
        (S.VOIDED, None),
    ],
)
def test_an_order_can_be_paid_again_only_when_nothing_came_of_it(
    shop: Shop, books: Books, status: S, error: type[OrderInProgress | OrderAlreadyPaid] | None
) -> None:
    first = shop.in_status(status)
    requests = len(shop.gateway.asked)
    if error is None:
        second = shop.captured(order_id=first.order_id)
        assert second.status is S.CAPTURED
        assert second.payment_id != first.payment_id
        return
    with pytest.raises(error) as refused:
        shop.process(order_id=first.order_id)
    assert refused.value.extra == state_of(first) | {"payment_status": status.value}
    assert (refused.value.retry_after_s is not None) == (error is OrderInProgress)
    assert len(shop.gateway.asked) == requests
    assert books.query("SELECT count(*) FROM payments WHERE owner = :owner", owner=shop.owner) == [[1]], "nothing was written"


def test_another_owners_order_of_the_same_name_is_another_order(shop: Shop, database: servers.Database) -> None:
    other = Shop.on(database)
    assert shop.captured(order_id="same").payment_id != other.captured(order_id="same").payment_id
    other.close()


# Unknown outcomes


def test_an_adapter_that_raises_leaves_the_outcome_unknown(shop: Shop, books: Books) -> None:
    def broken_adapter(action: str, request: GatewayRequest) -> Reply:
        raise ConnectionResetError("token tok_canary")

    shop.gateway.answer = broken_adapter
    result = shop.process(payment_token="tok_canary")
    assert (result.outcome, result.payment.status) == (UNKNOWN, S.PROCESSING)
    [operation] = books.operations(result.payment.payment_id)
    assert (operation["outcome"], operation["reply"]) == (None, {"result": "unknown", "reason": "the gateway adapter raised"})
    assert operation["next_attempt_at"] - operation["created_at"] == timedelta(seconds=30)
    assert operation["lease_until"] < operation["next_attempt_at"], "the lease was given back"


def test_with_too_little_time_left_the_gateway_is_not_called(shop: Shop, books: Books) -> None:
    result = replace(shop, time_s=4.0).process()
    assert (result.outcome, result.payment.status) == (UNKNOWN, S.PROCESSING)
    assert shop.gateway.asked == []
    assert books.operations(result.payment.payment_id)[0]["outcome"] is None


def test_the_gateway_is_given_no_more_time_than_there_is(shop: Shop) -> None:
    replace(shop, time_s=9.0).process()
    [(_, request)] = shop.gateway.asked
    assert 0 < request.timeout_s <= 5, "4 s are kept for settle and publish"


@pytest.mark.parametrize("answer", [approve, decline])
def test_a_database_that_is_lost_after_the_charge_leaves_the_outcome_to_reconcile(
    lone_database: servers.Database,
    lone_books: Books,
    fault_proxy: Callable[..., FaultProxy],
    answer: Callable[[str, GatewayRequest], Reply],
) -> None:
    proxy = fault_proxy(lone_database.service_url)
    shop = Shop.on(lone_database).elsewhere(servers.with_address(lone_database.service_url, "127.0.0.1", proxy.port))
    connected = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'payments_service' AND datname = current_database()"
    before = lone_books.query(connected)  # of a pooler, whose tests came first
    with contextlib.ExitStack() as outage:

        def lose_database(action: str, request: GatewayRequest) -> Reply:
            outage.enter_context(proxy.refusing())
            while lone_books.query(connected) != before:  # a connection that was just cut may still pass a request on
                pass
            return answer(action, request)

        shop.gateway.answer = lose_database
        result = shop.process()
        assert (result.outcome, result.payment.status) == (UNKNOWN, S.PROCESSING)
        assert shop.publisher.published == []
        with pytest.raises(ServiceUnavailable):
            shop.process()
    assert shop.hears_later(answer, lone_books).settled == 1
    payment_id = result.payment.payment_id
    assert lone_books.payment(payment_id)["status"] == ("CAPTURED" if answer is approve else "FAILED")
    assert shop.gateway.keys == [f"pay-{payment_id}"] * 2
    assert shop.gateway.attempts == [1, 2]
    shop.close()


# Lost replies of the database


def test_a_claim_whose_reply_was_lost_is_carried_out_once(
    database: servers.Database, books: Books, fault_proxy: Callable[..., FaultProxy]
) -> None:
    proxy = fault_proxy(database.service_url)
    shop = Shop.on(database).elsewhere(servers.with_address(database.service_url, "127.0.0.1", proxy.port))
    shop.process()
    for key in (None, "k-1"):
        proxy.lose_reply()
        result = shop.process(key)
        assert (result.outcome, result.replayed) == (SUCCEEDED, False)
        assert shop.gateway.keys[-1] == f"pay-{result.payment.payment_id}"
        assert books.statuses(result.payment.payment_id) == ["PENDING", "PROCESSING", "CAPTURED"]
    assert len(shop.gateway.asked) == 3
    shop.close()


@pytest.mark.parametrize("key", [None, "k-1"])
def test_an_order_that_may_still_be_charged_is_not_reported_as_paid_already(
    lone_shop: Shop, lone_books: Books, key: str | None
) -> None:
    payment, late = lone_shop.authorized(order_id="o"), LateBooks.at(lone_shop.url)
    with pytest.raises(ServiceUnavailable, match="may have been started") as raised:
        lone_shop.with_(db=late).process(key, order_id="o")
    assert raised.value.retryable
    lone_shop.void(payment.transaction_id)
    late.arrive()
    lone_books.make_due()
    assert lone_shop.reconcile().settled == 1
    statuses = lone_books.query("SELECT status FROM payments WHERE order_id = 'o' ORDER BY created_at")
    assert statuses == [["VOIDED"], ["CAPTURED"]]


def test_a_repeated_request_is_answered_whatever_became_of_its_first_sending(shop: Shop) -> None:
    first, late = shop.process("k-1", order_id=f"o-{shop.owner}"), LateBooks.at(shop.url)
    again = shop.with_(db=late).process("k-1", order_id=f"o-{shop.owner}")
    assert (again.payment.payment_id, again.replayed) == (first.payment.payment_id, True)
    with pytest.raises(DatabaseError, match="payments_one_live_per_order"):
        late.arrive()
    late.close()


class TakenOverDatabase(Database):
    """The first claim is committed, and its reply is lost. Its lease ends and reconcile takes over before we send it again."""

    take_over: Callable[[], object] | None = None

    def _flush(self, statements: Sequence[Bound]) -> list[list[Row]]:
        rows = super()._flush(statements)
        if self.take_over and any("INSERT INTO operations" in statement.sql for statement in statements):
            take_over, self.take_over = self.take_over, None
            take_over()
            raise ConnectionResetError
        return rows


def test_a_worker_leaves_an_operation_alone_that_reconcile_took_over_before_it_was_found(
    lone_shop: Shop, lone_books: Books
) -> None:
    slow, taken = TakenOverDatabase.at(lone_shop.url), list[dict[str, Any]]()

    def take_over() -> None:
        lone_books.make_due()
        [claimed] = claim_due(lone_shop.service.db, 1, 60)
        taken.extend(lone_books.operations(claimed.payment.payment_id))

    slow.take_over = take_over
    result = lone_shop.with_(db=slow).process()
    assert (result.outcome, result.payment.status) == (UNKNOWN, S.PROCESSING)
    assert lone_shop.gateway.asked == [], "reconcile calls the gateway"
    assert [row["attempt"] for row in taken] == [2]
    assert lone_books.operations(result.payment.payment_id) == taken, "its lease is not touched"
    slow.close()


def test_a_worker_returns_the_outcome_that_reconcile_wrote_before_it_was_found(lone_shop: Shop, lone_books: Books) -> None:
    slow = TakenOverDatabase.at(lone_shop.url)
    slow.take_over = lambda: lone_shop.hears_later(approve, lone_books)
    result = lone_shop.with_(db=slow).process()
    assert (result.outcome, result.payment.status) == (Outcome.SUCCEEDED, S.CAPTURED)
    assert len(lone_shop.gateway.asked) == 1
    slow.close()


@pytest.mark.parametrize(("answer", "status"), [(approve, S.CAPTURED), (decline, S.FAILED)])
def test_a_settle_whose_reply_was_lost_returns_its_outcome(
    lone_database: servers.Database,
    lone_books: Books,
    fault_proxy: Callable[..., FaultProxy],
    answer: Callable[[str, GatewayRequest], Reply],
    status: S,
) -> None:
    proxy = fault_proxy(lone_database.service_url)
    shop = Shop.on(lone_database).elsewhere(servers.with_address(lone_database.service_url, "127.0.0.1", proxy.port))

    def lose_next_reply(action: str, request: GatewayRequest) -> Reply:
        proxy.lose_reply()
        return answer(action, request)

    shop.gateway.answer = lose_next_reply
    result = shop.process()
    assert (result.outcome, result.payment.status) == (SUCCEEDED if answer is approve else DECLINED, status)
    assert result.decline_code == (None if answer is approve else "card_declined")
    assert len(lone_books.outbox(result.payment.payment_id)) == 1
    lone_books.end_event_leases()
    shop.relay()
    assert [event.sequence for event in shop.publisher.published] == [1]
    shop.close()


@pytest.mark.parametrize("answered", [True, False], ids=["the server got the write", "the server never saw the write"])
def test_a_connection_that_breaks_at_any_write_charges_once_and_ends_well(
    lone_database: servers.Database, lone_books: Books, fault_proxy: Callable[..., FaultProxy], answered: bool
) -> None:
    proxy = fault_proxy(lone_database.service_url)
    broken_at = 0
    while True:
        shop = Shop.on(lone_database).elsewhere(servers.with_address(lone_database.service_url, "127.0.0.1", proxy.port))
        proxy.writes.fail(broken_at + 1, answered=answered)
        order_id, result = f"o-{answered}-{broken_at}", None
        with contextlib.suppress(ServiceUnavailable):
            result = shop.process(order_id=order_id)
        shop.wait_for_mark()
        broke = proxy.writes.failed
        proxy.writes.fail(0, answered=True)
        if result is None:
            result = shop.process(order_id=order_id)
        lone_books.make_due()
        lone_books.end_event_leases()
        shop.reconcile()
        shop.relay()
        rows = lone_books.query("SELECT payment_id, status FROM payments WHERE order_id = :order", order=order_id)
        assert rows == [[result.payment.payment_id, "CAPTURED"]]
        assert set(shop.gateway.keys) == {f"pay-{result.payment.payment_id}"}
        assert {event.event_id for event in shop.publisher.published} == {
            row["event_id"] for row in lone_books.outbox(result.payment.payment_id)
        }
        assert {event.sequence for event in shop.publisher.published} == {1}
        shop.close()
        if not broke:
            break
        broken_at += 1
    assert broken_at >= 6, "logging in is three writes, and each of the three phases is one"


def test_after_a_lost_reply_the_gateway_is_called_again_with_the_same_key(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = lose_reply
    result = lone_shop.process()
    assert lone_shop.hears_later(approve, lone_books).settled == 1
    assert lone_books.payment(result.payment.payment_id)["status"] == "CAPTURED"
    assert lone_shop.gateway.keys == [f"pay-{result.payment.payment_id}"] * 2


class Measured(Database):
    """Keeps the size of each phase's parameters."""

    def _flush(self, statements: Sequence[Bound]) -> list[list[Row]]:
        values = [value for statement in statements for value in statement.values if isinstance(value, str)]
        self.sizes = [*getattr(self, "sizes", []), sum(len(value.encode()) for value in values)]
        return super()._flush(statements)


@pytest.mark.parametrize("character", ["語", "😀"])
def test_the_parameters_of_every_phase_are_about_as_long_as_the_body(shop: Shop, character: str) -> None:
    """An escape takes two or three times the bytes of its character, and statements over 16 KB pin RDS Proxy."""
    value = character * 500
    metadata = {f"key-{number}": value for number in range(15_000 // len(value.encode()))}
    db = Measured.at(shop.url)
    assert shop.with_(db=db).captured(metadata=metadata).metadata == metadata
    assert len(db.sizes) >= 2
    assert max(db.sizes) < 16 * 1024
    db.close()
