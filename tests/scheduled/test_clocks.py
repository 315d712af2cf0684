"""A function's clock may be hours off. What is compared with the database's clock is therefore written by that clock."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from local.servers import connect
from payments.api import direct
from payments.commands.service import Deadline
from payments.domain.refund import refund_body
from payments.domain.times import rfc3339
from payments.scheduled.reconcile import Reconciled
from payments.scheduled.relay import relay, replay
from payments.store import lookups
from tests.fakes import approve, lose_reply, refuse
from tests.shop import Books, Shop

HOURS = (-26, -6, 6, 26)
NEAR = timedelta(seconds=60)
"""The clocks of this machine and of its database are one. A test takes less time."""

WEEK = timedelta(days=7)


@pytest.fixture(params=HOURS, ids=lambda hours: f"{hours:+} h")
def off(request: pytest.FixtureRequest) -> Callable[[], datetime]:
    """A clock that is so many hours off."""
    return lambda: datetime.now(UTC) + timedelta(hours=request.param)


def is_now(moment: datetime) -> bool:
    return abs(moment - datetime.now(UTC)) < NEAR


COMMANDS: dict[str, Callable[[Shop, Any], object]] = {
    "process": lambda shop, _: shop.process(),
    "capture": lambda shop, held: shop.capture(held.transaction_id),
    "void": lambda shop, held: shop.void(held.transaction_id),
    "refund": lambda shop, paid: shop.refund(paid.transaction_id, amount=500),
}


def test_an_authorization_holds_for_its_window_by_the_databases_clock(
    off: Callable[[], datetime], lone_shop: Shop, lone_books: Books
) -> None:
    shop = lone_shop.with_(clock=off)
    payment = shop.authorized()
    assert payment.capture_before is not None
    assert is_now(payment.capture_before - WEEK)
    assert lone_books.payment(payment.payment_id)["capture_before"] == payment.capture_before
    [event] = shop.publisher.published
    assert json.loads(event.data)["capture_before"] == rfc3339(payment.capture_before)
    assert shop.reconcile() == Reconciled()
    lone_books.query("UPDATE payments SET capture_before = now() - interval '1 s'")
    assert shop.reconcile() == Reconciled(expired=1)


def test_one_that_reconcile_finds_out_about_holds_from_its_claim_on(
    off: Callable[[], datetime], lone_shop: Shop, lone_books: Books
) -> None:
    shop = lone_shop.with_(clock=off)
    shop.gateway.answer = lose_reply
    payment_id = shop.authorized().payment_id
    assert lone_shop.hears_later(approve, lone_books) == Reconciled(settled=1)
    [operation] = lone_books.operations(payment_id)
    assert lone_books.payment(payment_id)["capture_before"] == operation["created_at"] + WEEK


@pytest.mark.parametrize("kind", COMMANDS)
def test_an_operation_counts_its_age_by_the_databases_clock(
    kind: str, off: Callable[[], datetime], lone_shop: Shop, lone_books: Books
) -> None:
    shop = lone_shop.with_(clock=off)
    before = lone_shop.captured() if kind == "refund" else lone_shop.authorized()
    shop.gateway.answer = lose_reply
    COMMANDS[kind](shop, before)
    [[created_at, next_attempt_at]] = lone_books.query(
        "SELECT created_at, next_attempt_at FROM operations WHERE outcome IS NULL AND kind = :kind", kind=kind
    )
    assert is_now(created_at)
    assert next_attempt_at == created_at + timedelta(seconds=30)
    # Neither is it given up before its time, nor is a key that the gateway may have forgotten sent again.
    assert shop.hears_later(lose_reply, lone_books) == Reconciled(unknown=1)
    lone_books.end_keys()
    lone_books.make_due()
    asked = len(shop.gateway.asked)
    assert shop.reconcile() == Reconciled(unknown=1)
    assert [action for action, _ in shop.gateway.asked[asked:]] == ["find"]


def test_an_event_is_as_old_as_the_database_says(off: Callable[[], datetime], lone_shop: Shop, lone_books: Books) -> None:
    shop = lone_shop.with_(clock=off)
    shop.publisher.acknowledges = refuse
    payment_id = shop.captured().payment_id
    relayed = relay(shop.service, Deadline.in_s(55))
    assert (relayed.unpublished, 0 <= relayed.lag_s < NEAR.total_seconds()) == (1, True)
    lone_books.query("UPDATE outbox SET created_at = now() - interval '10 minutes'")
    assert relay(shop.service, Deadline.in_s(55)).lag_s >= 600, "a late event is seen"
    lone_books.query("DELETE FROM outbox")
    shop.publisher.acknowledges = lambda event: True
    paid = shop.captured()
    assert paid.payment_id != payment_id
    [row] = lone_books.outbox(paid.payment_id)
    assert is_now(row["created_at"])
    sent = shop.publisher.published[-1]
    assert (sent.event_id, sent.created_at) == (row["event_id"], row["created_at"]), (
        "sent at once or by the relay, it is the same"
    )
    now = datetime.now(UTC)
    assert replay(shop.service, Deadline.in_s(55), now - NEAR, now + NEAR) == (1, None)


def test_a_refusal_is_as_old_as_the_database_says(off: Callable[[], datetime], lone_shop: Shop, lone_books: Books) -> None:
    shop = lone_shop.with_(clock=off)
    context = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 20_000)
    assert direct.invoke({"order_id": 7}, context, shop.service, shop.owner, "process")["outcome"] == "refused"
    [[created_at]] = lone_books.query("SELECT created_at FROM outbox")
    assert is_now(created_at)
    assert [event.created_at for event in shop.publisher.published] == [created_at]


def test_a_refunds_time_is_the_databases(off: Callable[[], datetime], lone_shop: Shop, lone_books: Books) -> None:
    """Pages of refunds go by this time. One that a slow function made after a page was read has to come on a later page."""
    payment = lone_shop.captured()
    first = lone_shop.refund(payment.transaction_id, amount=1).refund
    assert first
    second = lone_shop.with_(clock=off).refund(payment.transaction_id, amount=1).refund
    assert second
    [_, row] = lone_books.refunds(payment.payment_id)
    assert is_now(row["created_at"])
    assert row["updated_at"] >= row["created_at"]
    assert (second.created_at, second.updated_at) == (row["created_at"], row["updated_at"])
    assert lookups.refunds_after(lone_shop.service.db, payment.payment_id, (first.created_at, first.refund_id), 20) == [second]
    told = [json.loads(event["data"]) for event in lone_books.outbox(payment.payment_id)][-1]
    assert told["refund"] == refund_body(second)


def test_a_refund_that_waited_is_later_than_what_was_committed_meanwhile(lone_shop: Shop, lone_books: Books) -> None:
    """It began before the other refund, and commits after it: whoever has read the other one finds it on the next page."""
    payment = lone_shop.captured()
    with contextlib.closing(connect(lone_books.owner_url)) as other, ThreadPoolExecutor() as pool:
        other.run("BEGIN")
        other.run("UPDATE payments SET version = version + 1 WHERE payment_id = :id", id=payment.payment_id)
        waiting = pool.submit(lone_shop.refund, payment.transaction_id, amount=1)
        while lone_books.query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [[0]] and not waiting.done():
            time.sleep(0.01)
        [[meanwhile]] = other.run("SELECT clock_timestamp()")
        other.run("COMMIT")
        refund = waiting.result().refund
    assert refund
    assert refund.created_at > meanwhile
