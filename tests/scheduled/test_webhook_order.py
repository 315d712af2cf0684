"""A payment's deliveries follow each other, and none is stuck, however who ends one and who puts off the next may meet."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from local.servers import connect
from payments.commands.service import Deadline
from payments.domain.ids import uuid7
from payments.scheduled.courier import LEASE_S, OF_ONE_OWNER, OF_ONE_WEBHOOK, OF_SLOW_ONES, SIDE_BY_SIDE, Couriered, courier
from payments.store import webhooks
from payments.store.backlog import EPOCH
from payments.store.connection import Bound, Row
from payments.store.connection import Database as Store
from payments.store.webhooks import Delivery
from payments.webhooks.signature import new_secret
from tests.servers import Database
from tests.shop import Books, Shop, at_once

NEVER = datetime(9998, 1, 1, tzinfo=UTC)


class Open(Store):
    """A session whose transaction stays open until `commit`."""

    def __init__(self, url: str) -> None:
        self._session = connect(url)
        self._session.run("BEGIN")

    def send(self, *statements: Bound) -> tuple[list[list[Row]], bool]:
        return [list(self._session.execute_unnamed(one.sql, one.values).rows or []) for one in statements], False

    def commit(self) -> None:
        self._session.run("COMMIT")

    def close(self) -> None:
        self._session.close()


@pytest.fixture(autouse=True)
def webhook(lone_shop: Shop, lone_books: Books) -> None:
    told = {"url": "https://shop.example.com/", "description": None, "event_types": None}
    assert webhooks.create(lone_shop.service.db, lone_shop.owner, uuid7(), new_secret(), **told)


@pytest.fixture
def opened(lone_database: Database) -> Iterator[Callable[[], Open]]:
    with contextlib.ExitStack() as sessions:
        yield lambda: sessions.enter_context(contextlib.closing(Open(lone_database.owner_url)))


def claim(db: Store) -> list[Delivery]:
    return webhooks.claim(db, SIDE_BY_SIDE, OF_SLOW_ONES, OF_ONE_WEBHOOK, OF_ONE_OWNER, LEASE_S)[0]


def arrived(db: Store, one: Delivery) -> None:
    webhooks.delivered(db, [one], [])


def given_up(db: Store, one: Delivery) -> None:
    """An event that is kept no longer is given up at once."""
    lost = Delivery(one.webhook_id, one.payment_id, one.sequence, one.attempt, one.url, one.secret, None, False, None)
    assert webhooks.failed(db, lost, "it is kept no longer", is_gone=False, is_slow=False)[0]


def failed(db: Store, one: Delivery) -> None:
    webhooks.failed(db, one, "timed out", is_gone=False, is_slow=False)


ENDS = pytest.mark.parametrize("end", [arrived, given_up])
End = Callable[[Store, Delivery], None]


def on_its_way(shop: Shop) -> Delivery:
    """Return the first delivery of a payment, which is on its way while the second one is due."""
    payment = shop.captured()
    [first] = claim(shop.service.db)
    shop.refund(payment.transaction_id, amount=100)
    return first


def end_the_lease(books: Books) -> None:
    books.query("UPDATE webhook_deliveries SET lease_until = now(), next_attempt_at = now() WHERE sequence = 1")
    books.query("UPDATE webhooks SET next_attempt_at = now()")


def wait_for_a_lock(books: Books, done: Future[Any]) -> None:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while books.query(waits) == [[0]]:
        assert not done.done(), "it waited for nobody"
        time.sleep(0.01)


def test_who_notes_an_arrival_waits_for_the_claim_that_puts_off_the_next(
    lone_shop: Shop, lone_books: Books, opened: Callable[[], Open]
) -> None:
    first, claiming, other = on_its_way(lone_shop), opened(), lone_shop.elsewhere()
    assert claim(claiming) == []
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(arrived, other.service.db, first)
        wait_for_a_lock(lone_books, done)
        claiming.commit()
        done.result()
    assert [one.sequence for one in claim(lone_shop.service.db)] == [2]


def test_nothing_is_given_up_while_a_claim_puts_off_the_next(
    lone_shop: Shop, lone_books: Books, opened: Callable[[], Open]
) -> None:
    """It is tried again when its lease ends."""
    first, claiming, db = on_its_way(lone_shop), opened(), lone_shop.service.db
    assert claim(claiming) == []
    with pytest.raises(AssertionError):
        given_up(db, first)
    claiming.commit()
    assert claim(db) == []
    end_the_lease(lone_books)
    [again] = claim(db)
    given_up(db, again)
    assert [one.sequence for one in claim(db)] == [2]


@pytest.mark.parametrize("note", [arrived, failed])
def test_who_notes_an_attempt_waits_for_no_redelivery(
    note: End, lone_shop: Shop, lone_books: Books, opened: Callable[[], Open]
) -> None:
    """An owner who asks for ranges without a pause would hold up the events of all. What he asks for is sent again."""
    first, asking, db = on_its_way(lone_shop), opened(), lone_shop.service.db
    assert webhooks.deliver_range_again(asking, lone_shop.owner, first.webhook_id, EPOCH, NEVER, 9)[0] == 2
    note(db, first)
    asking.commit()
    note(db, first)
    assert claim(db) == [], "it keeps its lease"
    end_the_lease(lone_books)
    [again] = claim(db)
    arrived(db, again)
    assert [again.sequence, *[one.sequence for one in claim(db)]] == [1, 2]


@pytest.mark.parametrize(("answer", "left"), [(204, []), (500, [[None, 1, "it answered 500"]])])
def test_an_end_that_could_not_be_noted_is_noted_a_moment_later(
    answer: int, left: list[Row], lone_shop: Shop, lone_books: Books, opened: Callable[[], Open]
) -> None:
    """Another courier's claim saw the delivery before it was on its way. It locks it, and then finds what has become of it."""
    lone_shop.captured()
    another = opened()

    class Noting(Store):
        def __init__(self) -> None:
            self.phases = 0

        def send(self, *statements: Bound) -> tuple[list[list[Row]], bool]:
            answered = lone_shop.service.db.send(*statements)
            self.phases += 1
            if self.phases == 2:
                assert lone_books.query("SELECT attempt FROM webhook_deliveries WHERE lease_until > now()") == [[1]]
                another.commit()
            return answered

    def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
        another._session.run("SELECT FROM webhook_deliveries FOR NO KEY UPDATE")
        return answer

    done = courier(lone_shop.with_(db=Noting()).service, send, Deadline.in_s(60), poll_s=None)
    assert done == Couriered(delivered=answer == 204, failed=answer == 500)
    assert lone_books.query("SELECT lease_until, attempt, last_error FROM webhook_deliveries") == left


@ENDS
def test_a_claim_waits_for_nobody_and_puts_off_nothing_behind_what_is_just_ending(
    end: End, lone_shop: Shop, lone_books: Books, opened: Callable[[], Open]
) -> None:
    first, ending = on_its_way(lone_shop), opened()
    end(ending, first)
    assert claim(lone_shop.service.db) == []
    assert lone_books.query("SELECT next_attempt_at <= now() FROM webhook_deliveries WHERE sequence = 2") == [[True]]
    ending.commit()
    assert [one.sequence for one in claim(lone_shop.service.db)] == [2]


@ENDS
@pytest.mark.parametrize("settles_first", [False, True])
def test_an_event_that_is_written_while_the_one_before_it_ends_is_sent(
    settles_first: bool, end: End, lone_shop: Shop, opened: Callable[[], Open]
) -> None:
    """The settle's trigger sees nothing of the courier's transaction, nor the courier of the settle's."""
    lone_shop.captured()
    [first] = claim(lone_shop.service.db)
    ending, settling = opened(), opened()
    settling._session.run(
        "INSERT INTO outbox SELECT gen_random_uuid(), payment_id, 2, type, data, traceparent, now(), now() FROM outbox"
    )
    settling._session.run("UPDATE payments SET event_sequence = 2, version = version + 1")
    end(ending, first)
    assert claim(lone_shop.service.db) == []
    for each in (settling, ending) if settles_first else (ending, settling):
        each.commit()
        found = [one.sequence for one in claim(lone_shop.service.db)]
        assert found == [2] if each is (ending if settles_first else settling) else found == []


def test_what_is_put_off_goes_when_the_one_before_it_has_arrived_and_not_when_it_failed(lone_shop: Shop) -> None:
    db, first = lone_shop.service.db, on_its_way(lone_shop)
    assert claim(db) == []
    webhooks.failed(db, first, "timed out", is_gone=False, is_slow=False)
    assert claim(db) == []
    arrived(db, first)
    assert [one.sequence for one in claim(db)] == [2]


def test_an_event_that_is_asked_for_again_goes_before_the_later_ones(lone_shop: Shop, lone_books: Books) -> None:
    db, first = lone_shop.service.db, on_its_way(lone_shop)
    [[event_id]] = lone_books.query("SELECT event_id FROM outbox WHERE sequence = 1")
    given_up(db, first)
    assert webhooks.deliver_again(db, lone_shop.owner, first.webhook_id, event_id) == 1
    [again] = claim(db)
    assert (again.sequence, claim(db)) == (1, [])
    arrived(db, again)
    [second] = claim(db)
    arrived(db, second)
    assert lone_books.query("SELECT count(*) FROM webhook_deliveries") == [[0]]


def test_what_nobody_set_free_is_due_again_after_a_day(lone_shop: Shop, lone_books: Books) -> None:
    """Somebody has deleted the one before it by hand."""
    on_its_way(lone_shop)
    assert claim(lone_shop.service.db) == []
    lone_books.query("DELETE FROM webhook_deliveries WHERE sequence = 1")
    assert claim(lone_shop.service.db) == []
    lone_books.query("UPDATE webhook_deliveries SET next_attempt_at = next_attempt_at - make_interval(secs => :s)",
                     s=1.2 * webhooks.BEHIND_S)  # fmt: skip
    assert [one.sequence for one in claim(lone_shop.service.db)] == [2]


def test_enable_leaves_in_its_place_what_is_behind_another(lone_shop: Shop, lone_books: Books) -> None:
    db, first = lone_shop.service.db, on_its_way(lone_shop)
    assert claim(db) == []
    webhooks.failed(db, first, "timed out", is_gone=True, is_slow=False)
    webhooks.enable(db, lone_shop.owner, first.webhook_id)
    due = lone_books.query("SELECT sequence FROM webhook_deliveries WHERE next_attempt_at <= now()")
    assert due == [[1]]


def test_a_webhook_is_deleted_after_the_range_that_is_under_way_and_its_deliveries_with_it(
    lone_shop: Shop, lone_books: Books, opened: Callable[[], Open]
) -> None:
    """Nobody makes deliveries of a webhook that is gone, as fast as he can ask for ranges."""
    webhook_id, asking, other = on_its_way(lone_shop).webhook_id, opened(), lone_shop.elsewhere()
    lone_books.query("DELETE FROM webhook_deliveries")
    assert webhooks.deliver_range_again(asking, lone_shop.owner, webhook_id, EPOCH, NEVER, 9)[0] == 2
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(webhooks.delete, other.service.db, lone_shop.owner, webhook_id)
        wait_for_a_lock(lone_books, done)
        asking.commit()
        assert done.result()
    assert lone_books.record("SELECT * FROM webhook_deliveries") == []
    assert webhooks.deliver_range_again(lone_shop.service.db, lone_shop.owner, webhook_id, EPOCH, NEVER, 9) == (0, None)


def test_enable_holds_the_webhook_not_while_it_makes_deliveries_due(
    lone_shop: Shop, lone_books: Books, opened: Callable[[], Open]
) -> None:
    """The courier notes each attempt on its webhook too, and would wait for thousands of deliveries of one owner."""
    first, locked = on_its_way(lone_shop), list[set[str]]()
    failed(lone_shop.service.db, first)

    class Phases(Store):
        def __init__(self) -> None: ...

        def send(self, *statements: Bound) -> tuple[list[list[Row]], bool]:
            phase = opened()
            answered = phase.send(*statements)
            free = {table: f"SELECT FROM {table} FOR NO KEY UPDATE SKIP LOCKED" for table in ("webhooks", "webhook_deliveries")}
            count = "SELECT (SELECT count(*) FROM ({}) free) < (SELECT count(*) FROM {})"
            locked.append({table for table, rows in free.items() if lone_books.query(count.format(rows, table)) == [[True]]})
            phase.commit()
            return answered

    assert webhooks.enable(Phases(), lone_shop.owner, first.webhook_id)
    assert locked == [{"webhook_deliveries"}, {"webhooks"}]


@pytest.mark.parametrize("seed", range(3))
def test_three_couriers_and_a_shop_at_once_leave_nothing_behind_and_nothing_out_of_order(
    seed: int, lone_shop: Shop, lone_books: Books
) -> None:
    """What failed is made due. What is put off is not: only the end of the one before it brings it back."""
    rolls, lock, taken, paid = random.Random(seed), threading.Lock(), list[tuple[str, int]](), threading.Event()
    shops = [lone_shop.elsewhere() for _ in range(4)]

    def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
        with lock:
            if rolls.random() < 0.2:
                return 503
            taken.append((json.loads(body)["subject"], int(json.loads(body)["sequence"])))
        return 204

    def deliver(shop: Shop) -> None:
        """Whoever leaves a delivery that is on its way to another courier leaves to it what follows, too."""
        is_all_paid, some_due = False, True
        while some_due or not is_all_paid:
            is_all_paid = paid.is_set()
            courier(shop.service, send, Deadline.in_s(60), poll_s=None)
            lone_books.query("UPDATE webhooks SET next_attempt_at = now()")
            lone_books.query("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE attempt > 0 AND lease_until IS NULL")
            [[some_due]] = lone_books.query("SELECT EXISTS (SELECT FROM webhook_deliveries WHERE next_attempt_at <= now())")

    def work(number: int) -> None:
        if number < 3:
            return deliver(shops[number])
        try:
            for _ in range(6):
                payment = shops[3].captured()
                for _ in range(5):
                    shops[3].refund(payment.transaction_id, amount=100)
        finally:
            paid.set()

    if errors := [error for error in at_once(4, work) if error]:
        raise ExceptionGroup("at once", errors)
    # A delivery that another courier held both times that its end was to be noted keeps its lease.
    lone_books.query("UPDATE webhook_deliveries SET lease_until = NULL")
    deliver(lone_shop)
    assert lone_books.record("SELECT * FROM webhook_deliveries") == []
    assert len(set(taken)) == 36
    for subject in {subject for subject, _ in taken}:
        assert list(dict.fromkeys(sequence for at, sequence in taken if at == subject)) == [1, 2, 3, 4, 5, 6]
