from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest

from payments.commands.catalog import COMMANDS
from payments.commands.service import Deadline, Service
from payments.domain.operation import GATEWAY_KEY_LIFETIME_S, Outcome
from payments.domain.payment import Payment
from payments.gateway.port import GatewayRequest, Reply
from payments.scheduled.reconcile import ONE_OPERATION_S, SIDE_BY_SIDE, Reconciled, reconcile
from payments.settings import settings_from
from payments.store.connection import Statement
from payments.store.due import claim_due
from tests.fakes import FakeGateway, Killed, approve, decline, kill, lose_reply
from tests.shop import Books, Shop, at_once

BEFORE: dict[str, Callable[[Shop], Payment | None]] = {
    "process": lambda shop: None,
    "capture": Shop.authorized,
    "void": Shop.authorized,
    "refund": Shop.captured,
}
SUCCESS = {"process": "CAPTURED", "capture": "CAPTURED", "void": "VOIDED", "refund": "REFUNDED"}
DECLINE = {"process": "FAILED", "capture": "AUTHORIZED", "void": "AUTHORIZED", "refund": "CAPTURED"}


def run(shop: Shop, kind: str, before: Payment | None) -> Any:
    return shop.process() if before is None else getattr(shop, kind)(before.transaction_id)


def killed_at_the_gateway(shop: Shop, kind: str) -> str:
    """Kill a worker after its claim, in its call of the gateway. Return the payment's id."""
    before = BEFORE[kind](shop)
    shop.gateway.answer = kill
    with pytest.raises(Killed):
        run(shop, kind, before)
    shop.gateway.answer = approve
    return newest_payment(shop)


def newest_payment(shop: Shop) -> str:
    newest = Statement("SELECT payment_id FROM payments WHERE owner = :owner ORDER BY created_at DESC, payment_id DESC LIMIT 1")
    return str(shop.service.db.run(newest(owner=shop.owner))[0][0][0])


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("answer", [approve, decline])
def test_what_a_killed_worker_left_behind_is_settled_with_the_same_key(
    lone_shop: Shop, lone_books: Books, kind: str, answer: Callable[[str, GatewayRequest], Reply]
) -> None:
    payment_id = killed_at_the_gateway(lone_shop, kind)
    events = len(lone_shop.publisher.published)
    assert lone_shop.reconcile() == Reconciled(), "its lease still runs"
    lone_books.make_due()
    lone_shop.gateway.answer = answer
    assert lone_shop.reconcile() == Reconciled(settled=1)
    [*_, operation] = lone_books.record("SELECT * FROM operations WHERE payment_id = :id ORDER BY created_at", id=payment_id)
    outcome, statuses = ("succeeded", SUCCESS) if answer is approve else ("declined", DECLINE)
    assert (operation["outcome"], operation["attempt"]) == (outcome, 2)
    assert lone_books.query("SELECT status FROM payments WHERE payment_id = :id", id=payment_id) == [[statuses[kind]]]
    assert lone_shop.gateway.keys[-2:] == [operation["gateway_key"]] * 2
    assert lone_shop.gateway.attempts[-2:] == [1, 2]
    assert len(lone_shop.publisher.published) == events + 1, "its event is published at once"
    assert lone_shop.reconcile() == Reconciled(), "an operation is settled once"


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_worker_that_dies_after_its_settle_leaves_only_the_event(lone_shop: Shop, lone_books: Books, kind: str) -> None:
    before = BEFORE[kind](lone_shop)

    def die(event: object) -> bool:
        raise Killed

    lone_shop.publisher.acknowledges = die
    with pytest.raises(Killed):
        run(lone_shop, kind, before)
    requests = len(lone_shop.gateway.asked)
    lone_shop.publisher.acknowledges = lambda event: True
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled()
    assert len(lone_shop.gateway.asked) == requests
    lone_books.end_event_leases()
    assert lone_shop.relay().published == 1
    assert lone_books.query("SELECT status FROM payments") == [[SUCCESS[kind]]]


def test_each_further_attempt_has_the_same_key_and_the_next_number(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = lose_reply
    payment = lone_shop.captured()
    for _ in range(4):
        lone_books.make_due()
        assert lone_shop.reconcile() == Reconciled(unknown=1)
    assert lone_shop.hears_later(approve, lone_books) == Reconciled(settled=1)
    assert lone_shop.gateway.keys == [f"pay-{payment.payment_id}"] * 6
    assert lone_shop.gateway.attempts == [1, 2, 3, 4, 5, 6]
    assert {request.amount_minor for _, request in lone_shop.gateway.asked} == {1999}
    assert lone_books.statuses(payment.payment_id) == ["PENDING", "PROCESSING", "CAPTURED"]


# The schedule, in seconds since the claim

SCHEDULE = (30, 120, 600, 3600, 21600, 72000, *(day * 86400 for day in range(2, 31)))


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_fast_clock_does_not_make_a_gateway_key_look_younger(lone_shop: Shop, lone_books: Books, kind: str) -> None:
    before = BEFORE[kind](lone_shop)
    lone_shop.gateway.answer = lose_reply
    run(lone_shop.with_(clock=lambda: datetime.now(UTC) + timedelta(hours=3)), kind, before)
    in_flight = "SELECT created_at <= now(), next_attempt_at <= now() + interval '31 s' FROM operations WHERE outcome IS NULL"
    assert lone_books.query(in_flight) == [[True, True]]


def test_the_schedule_is_that_of_the_design_and_goes_on_each_day_for_a_month() -> None:
    environment = {"DATABASE_URL": "x", "KAFKA_BOOTSTRAP_SERVERS": "y"}
    assert settings_from(environment).retry_schedule_s == SCHEDULE
    assert Service.__dataclass_fields__["retry_schedule_s"].default == SCHEDULE
    assert GATEWAY_KEY_LIFETIME_S < 24 * 3600


@pytest.mark.parametrize(
    ("age_s", "next_s"),
    [
        (0, 30),
        (29, 30),
        (31, 120),
        (121, 600),
        (601, 3600),
        (3601, 21600),
        (21601, 72000),
        (72001, 172800),
        (2505601, 2592000),
        (2592001, None),
    ],
)
def test_the_next_attempt_is_the_schedules_next_moment(
    lone_shop: Shop, lone_books: Books, age_s: int, next_s: int | None
) -> None:
    lone_shop.gateway.answer = lose_reply
    payment = lone_shop.captured()
    lone_books.query(f"UPDATE operations SET created_at = created_at - interval '{age_s} seconds', next_attempt_at = now()")
    assert lone_shop.reconcile() == Reconciled(unknown=1, exhausted=int(next_s is None))
    [operation] = lone_books.operations(payment.payment_id)
    assert operation["next_attempt_at"] == (operation["created_at"] + timedelta(seconds=next_s) if next_s else None)
    assert operation["outcome"] is None
    assert lone_shop.reconcile() == Reconciled(exhausted=int(next_s is None)), "no attempt comes before that moment"


def test_when_the_schedule_is_exhausted_a_person_has_to_look(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = lose_reply
    payment = lone_shop.with_(retry_schedule_s=()).captured()
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(exhausted=1)
    assert len(lone_shop.gateway.asked) == 1
    row = lone_books.payment(payment.payment_id)
    assert (row["status"], row["captured_minor"]) == ("PROCESSING", 0), "we assume no outcome"


def test_the_age_of_the_oldest_unknown_outcome_is_reported(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.captured()
    assert reconcile(lone_shop.service, Deadline.in_s(55)).oldest_unknown_s == 0
    lone_shop.gateway.answer = lose_reply
    for _ in range(2):
        lone_shop.captured()
    lone_books.query("UPDATE operations SET created_at = created_at - interval '1 day' WHERE outcome IS NOT NULL")
    lone_books.query(
        "UPDATE operations SET created_at = now() - interval '1 hour' WHERE operation_id ="
        " (SELECT operation_id FROM operations WHERE outcome IS NULL LIMIT 1)"
    )
    assert 3600 <= reconcile(lone_shop.service, Deadline.in_s(55)).oldest_unknown_s < 3700


def test_settled_operations_are_never_due(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.captured()
    lone_books.query("UPDATE operations SET next_attempt_at = now() - interval '1 day', lease_until = now()")
    assert lone_shop.reconcile() == Reconciled()


# Workers that act on the same operation


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_worker_whose_lease_ran_out_returns_what_reconcile_wrote_and_writes_nothing(
    lone_shop: Shop, lone_books: Books, kind: str
) -> None:
    before = BEFORE[kind](lone_shop)
    reconciler = lone_shop.elsewhere().with_(gateway=FakeGateway(approve))

    def reconcile_meanwhile(action: str, request: GatewayRequest) -> Reply:
        lone_books.make_due()
        assert reconciler.reconcile() == Reconciled(settled=1)
        return decline(action, request)  # a late decline must not undo the success that was written

    lone_shop.gateway.answer = reconcile_meanwhile
    result = run(lone_shop, kind, before)
    assert (result.outcome, result.payment.status, result.decline_code) == (Outcome.SUCCEEDED, SUCCESS[kind], None)
    row = lone_books.payment(result.payment.payment_id)
    assert (row["status"], row["decline_code"], row["refund_reserved_minor"]) == (SUCCESS[kind], None, 0)
    assert [event.sequence for event in lone_shop.publisher.published] == ([1] if before is None else [1, 2])
    if result.refund is not None:
        assert result.refund.status == "SUCCEEDED"


@pytest.mark.parametrize("answer", [approve, decline, lose_reply])
def test_a_worker_whose_attempt_was_taken_over_writes_nothing_even_while_nothing_is_known(
    lone_shop: Shop, lone_books: Books, answer: Callable[[str, GatewayRequest], Reply]
) -> None:
    """The second attempt owns the operation now, while it runs and while it waits for its next moment."""
    reconciler = lone_shop.elsewhere().with_(gateway=FakeGateway(lose_reply))

    def reconcile_meanwhile(action: str, request: GatewayRequest) -> Reply:
        lone_books.make_due()
        assert reconciler.reconcile() == Reconciled(unknown=1)
        return answer(action, request)

    lone_shop.gateway.answer = reconcile_meanwhile
    result = lone_shop.process()
    assert (result.outcome, result.payment.status) == (Outcome.UNKNOWN, "PROCESSING")
    [operation] = lone_books.operations(result.payment.payment_id)
    assert (operation["attempt"], operation["outcome"]) == (2, None)
    assert operation["next_attempt_at"] - operation["created_at"] == timedelta(seconds=30), "as the second attempt set it"
    assert lone_books.outbox(result.payment.payment_id) == []


@pytest.mark.parametrize("answer", [approve, decline, lose_reply])
def test_a_worker_whose_attempt_was_taken_over_leaves_the_new_ones_lease(
    lone_shop: Shop, lone_books: Books, answer: Callable[[str, GatewayRequest], Reply]
) -> None:
    taken: list[Any] = []

    def take_over(action: str, request: GatewayRequest) -> Reply:
        lone_books.make_due()
        [claimed] = claim_due(lone_shop.service.db, 1, 60)
        taken.extend(lone_books.operations(claimed.payment.payment_id))
        return answer(action, request)

    lone_shop.gateway.answer = take_over
    result = lone_shop.process()
    assert result.outcome is Outcome.UNKNOWN
    assert lone_books.operations(result.payment.payment_id) == taken
    assert lone_shop.reconcile() == Reconciled(), "the lease of the worker that took over still runs"


def test_reconcilers_at_the_same_time_try_each_operation_once(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = lose_reply
    for _ in range(20):
        lone_shop.process()
    lone_shop.gateway.answer = approve
    lone_shop.gateway.asked.clear()
    lone_books.make_due()
    workers = [lone_shop.elsewhere() for _ in range(4)]
    results = at_once(4, lambda number: workers[number].reconcile())
    assert sum(result.settled for result in results if isinstance(result, Reconciled)) == 20, results
    assert len(lone_shop.gateway.keys) == len(set(lone_shop.gateway.keys)) == 20
    assert lone_books.query("SELECT status, count(*) FROM payments GROUP BY status") == [["CAPTURED", 20]]


def test_one_operation_that_cannot_be_settled_does_not_hold_up_the_others(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = lose_reply
    poison, *rest = [lone_shop.process().payment for _ in range(4)]
    lone_shop.gateway.answer = approve
    # PostgreSQL refuses every further change of this payment.
    lone_books.make_due()
    with lone_books.refusing("payments", f"payment_id <> '{poison.payment_id}' OR version <= 2"):
        assert lone_shop.reconcile() == Reconciled(settled=3, unknown=1)
    assert {lone_books.payment(one.payment_id)["status"] for one in rest} == {"CAPTURED"}
    assert lone_books.payment(poison.payment_id)["status"] == "PROCESSING"


def test_no_operation_is_begun_with_less_time_than_one_may_take(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = lose_reply
    lone_shop.process()
    lone_books.make_due()
    assert lone_shop.reconcile(time_s=ONE_OPERATION_S - 1) == Reconciled()
    assert len(lone_shop.gateway.asked) == 1
    assert lone_shop.reconcile(time_s=ONE_OPERATION_S + 1) == Reconciled(unknown=1)


def test_operations_of_every_owner_and_kind_are_settled_in_one_run(lone_shop: Shop, lone_books: Books) -> None:
    for number in range(2):
        shop = replace(lone_shop, owner=f"owner-{number}")
        for kind in COMMANDS:
            killed_at_the_gateway(shop, kind)
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(settled=8)
    assert lone_books.query("SELECT status, count(*) FROM payments GROUP BY status ORDER BY status") == [
        ["CAPTURED", 4],
        ["REFUNDED", 2],
        ["VOIDED", 2],
    ]


# A long queue


def test_gateway_calls_run_side_by_side_each_under_its_own_lease(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = lose_reply
    for _ in range(SIDE_BY_SIDE):
        lone_shop.process()
    together = Barrier(SIDE_BY_SIDE)

    def when_all_have_called(action: str, request: GatewayRequest) -> Reply:
        together.wait(30)  # Fails unless so many calls are in flight at once.
        return approve(action, request)

    assert lone_shop.hears_later(when_all_have_called, lone_books) == Reconciled(settled=SIDE_BY_SIDE)
    assert lone_books.query("SELECT count(DISTINCT gateway_key), max(attempt) FROM operations") == [[SIDE_BY_SIDE, 2]]
    assert len(lone_shop.publisher.published) == SIDE_BY_SIDE


def test_expired_authorizations_and_due_operations_share_a_run(lone_shop: Shop, lone_books: Books) -> None:
    for _ in range(SIDE_BY_SIDE):
        lone_shop.authorized()
    lone_books.query("UPDATE payments SET capture_before = now() - interval '1 minute'")
    lone_shop.gateway.answer = lose_reply
    for _ in range(SIDE_BY_SIDE):
        lone_shop.process()
    lone_shop.gateway.asked.clear()
    assert lone_shop.hears_later(approve, lone_books) == Reconciled(settled=SIDE_BY_SIDE, expired=SIDE_BY_SIDE)
    first = [action for action, _ in lone_shop.gateway.asked[:SIDE_BY_SIDE]]
    assert first.count("void") >= SIDE_BY_SIDE // 4
    assert first.count("charge") >= SIDE_BY_SIDE // 4


def test_given_up_operations_leave_the_queue(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = lose_reply
    for _ in range(SIDE_BY_SIDE * 2):
        lone_shop.process()
    lone_books.make_due()
    assert lone_shop.with_(retry_schedule_s=()).reconcile() == Reconciled(unknown=SIDE_BY_SIDE * 2, exhausted=SIDE_BY_SIDE * 2)
    fresh = lone_shop.process()
    lone_books.make_due()
    lone_shop.gateway.answer = approve
    lone_shop.gateway.asked.clear()
    assert lone_shop.reconcile() == Reconciled(settled=1, exhausted=SIDE_BY_SIDE * 2)
    assert [request.key for _, request in lone_shop.gateway.asked] == [f"pay-{fresh.payment.payment_id}"]
    assert lone_books.query("SELECT count(*) FROM operations WHERE next_attempt_at IS NOT NULL") == [[0]]
    attempts = lone_books.query("SELECT DISTINCT attempt FROM operations WHERE outcome IS NULL")
    assert attempts == [[2]], "an operation that has left the queue is not attempted again"


def test_an_event_of_a_settled_operation_is_published_although_another_cannot_be_settled(
    lone_shop: Shop, lone_books: Books
) -> None:
    lone_shop.gateway.answer = lose_reply
    poison, *rest = [lone_shop.process().payment for _ in range(8)]
    lone_shop.gateway.answer = approve
    lone_books.make_due()
    with lone_books.refusing("payments", f"payment_id <> '{poison.payment_id}' OR version <= 2"):
        lone_shop.reconcile()
    assert {event.payment_id for event in lone_shop.publisher.published} == {payment.payment_id for payment in rest}
