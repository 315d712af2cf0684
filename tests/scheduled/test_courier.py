"""The courier: every event arrives, in its payment's order, whoever is slow, broken or away, and wherever a run is killed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest
import standardwebhooks

from payments.broker.kafka import message_of
from payments.commands.service import Deadline
from payments.domain.errors import ServiceUnavailable
from payments.domain.ids import uuid7
from payments.scheduled.courier import (
    LAST_S,
    LEASE_S,
    OF_ONE_OWNER,
    OF_ONE_WEBHOOK,
    OF_SLOW_ONES,
    RUN_RESERVE_S,
    SIDE_BY_SIDE,
    Couriered,
    Send,
    courier,
)
from payments.store import webhooks
from payments.store.connection import Bound, Database, Row
from payments.webhooks.post import TIMEOUT_S, Post
from payments.webhooks.signature import new_secret
from tests import servers
from tests.cases import case
from tests.fakes import Killed
from tests.servers import PgBouncer
from tests.shop import Books, Shop
from tests.webhooks.receiver import Receiver, receiving, says

Headers = Mapping[str, str]


@dataclass
class Receivers:
    """The receivers of all URLs: what came to each, in order, and what each answers."""

    answer: Callable[[str, Headers], int | str] = lambda url, headers: 204
    came: list[tuple[str, Headers, bytes]] = field(default_factory=list)

    def __call__(self, url: str, headers: Headers, body: bytes) -> int | str:
        answer = self.answer(url, headers)
        self.came.append((url, headers, body))
        return answer

    def ids(self, url: str | None = None) -> list[str]:
        return [headers["webhook-id"] for at, headers, _ in self.came if url in (None, at)]


@pytest.fixture
def receivers() -> Receivers:
    return Receivers()


def registered(shop: Shop, url: str = "https://shop.example.com/", **told: Any) -> UUID:
    webhook_id = uuid7()
    told = {"url": url, "description": None, "event_types": None} | told
    assert webhooks.create(shop.service.db, shop.owner, webhook_id, new_secret(), **told)
    return webhook_id


def run(shop: Shop, send: Send, time_s: float = 60) -> Couriered:
    """Send until nothing is due."""
    return courier(shop.service, send, Deadline.in_s(time_s), poll_s=None)


def events(books: Books) -> list[str]:
    return [str(event_id) for [event_id] in books.query("SELECT event_id FROM outbox ORDER BY created_at, payment_id, sequence")]


def make_due(books: Books) -> None:
    books.query("UPDATE webhooks SET next_attempt_at = now()")
    books.query("UPDATE webhook_deliveries SET next_attempt_at = now(), lease_until = NULL")


def age(books: Books, hours: float) -> None:
    """Let so much time pass."""
    for table, columns in {"webhook_deliveries": ["created_at"], "webhooks": ["failing_since"]}.items():
        for column in columns:
            books.query(f"UPDATE {table} SET {column} = {column} - make_interval(secs => :s)", s=hours * 3600)
    make_due(books)


def state(books: Books, webhook_id: UUID) -> dict[str, Any]:
    [row] = books.record("SELECT * FROM webhooks WHERE webhook_id = :id", id=webhook_id)
    return row


def deliveries(books: Books) -> list[dict[str, Any]]:
    return books.record("SELECT * FROM webhook_deliveries ORDER BY payment_id, sequence")


# What arrives


def test_every_event_arrives_once_and_leaves_nothing(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    registered(lone_shop)
    for _ in range(3):
        lone_shop.refund(lone_shop.captured().transaction_id, amount=500)
    assert run(lone_shop, receivers) == Couriered(delivered=6)
    assert sorted(receivers.ids()) == sorted(events(lone_books))
    assert deliveries(lone_books) == []
    assert run(lone_shop, receivers) == Couriered()


def test_it_is_the_same_event_as_on_the_topic(lone_shop: Shop, receivers: Receivers) -> None:
    """All attributes, the same id, the same data: as one document, with the attributes of CloudEvents' structured mode."""
    registered(lone_shop)
    lone_shop.captured()
    [event] = lone_shop.publisher.published
    run(lone_shop, receivers)
    [(_, headers, body)] = receivers.came
    assert headers["webhook-id"] == str(event.event_id)
    on_topic = message_of(event)
    names = {name: value.decode() for name, value in on_topic["headers"]}
    sent = json.loads(body)
    assert sent.pop("data") == json.loads(on_topic["value"])
    assert sent.pop("datacontenttype") == names.pop("content-type")
    assert sent == {name.removeprefix("ce_"): value for name, value in names.items()}


def test_an_event_without_a_trace_is_json_too(lone_shop: Shop, receivers: Receivers, lone_books: Books) -> None:
    registered(lone_shop)
    lone_shop.captured(description='A "quoted" ü \u2028 text')
    lone_books.query("UPDATE outbox SET traceparent = NULL")
    run(lone_shop, receivers)
    sent = json.loads(receivers.came[0][2])
    assert "traceparent" not in sent
    assert sent["data"]["description"] == 'A "quoted" ü \u2028 text'


def test_a_payments_events_arrive_in_order_one_after_the_other(lone_shop: Shop, lone_books: Books) -> None:
    registered(lone_shop)
    for _ in range(4):
        payment = lone_shop.captured()
        for _ in range(3):
            lone_shop.refund(payment.transaction_id, amount=100)
    order, on_their_way, lock = dict[str, list[int]](), set[str](), threading.Lock()

    def send(url: str, headers: Headers, body: bytes) -> int:
        sent = json.loads(body)
        with lock:
            assert sent["subject"] not in on_their_way
            on_their_way.add(sent["subject"])
        threading.Event().wait(0.01)
        with lock:
            on_their_way.remove(sent["subject"])
            order.setdefault(sent["subject"], []).append(int(sent["sequence"]))
        return 200

    assert run(lone_shop, send).delivered == 16
    assert list(order.values()) == [[1, 2, 3, 4]] * 4


def test_what_fails_holds_back_its_payment_and_no_other(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    registered(lone_shop)
    stuck, free = lone_shop.captured(), lone_shop.captured()
    for payment in (stuck, free):
        lone_shop.refund(payment.transaction_id, amount=100)
    [[poison]] = lone_books.query("SELECT event_id FROM outbox WHERE payment_id = :id AND sequence = 1", id=stuck.payment_id)
    receivers.answer = lambda url, headers: 500 if headers["webhook-id"] == str(poison) else 204
    for _ in range(3):
        run(lone_shop, receivers)
        lone_books.query("UPDATE webhooks SET next_attempt_at = now()")
    assert [row["sequence"] for row in deliveries(lone_books)] == [1, 2]
    assert {row["payment_id"] for row in deliveries(lone_books)} == {stuck.payment_id}
    receivers.answer = lambda url, headers: 204
    make_due(lone_books)
    assert run(lone_shop, receivers).delivered == 2
    assert deliveries(lone_books) == []


def test_the_signature_is_of_both_secrets_while_one_follows_the_other(
    lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    webhook_id = registered(lone_shop)
    counts = []
    for rotate, expire in ((False, False), (True, False), (False, True)):
        if rotate:
            webhooks.rotate(lone_shop.service.db, lone_shop.owner, webhook_id, new_secret(), 60)
        if expire:
            lone_books.query("UPDATE webhooks SET previous_until = now()")
        lone_shop.captured()
        run(lone_shop, receivers)
        counts.append(len(receivers.came[-1][1]["webhook-signature"].split(" ")))
    assert counts == [1, 2, 1]


# Who is slow, broken or away


def test_a_slow_receiver_delays_nobody_else(lone_shop: Shop, lone_books: Books) -> None:
    """The slow one answers when the quick one has all of its events, or never."""
    registered(lone_shop, "https://slow.example.com/")
    registered(lone_shop, "https://quick.example.com/")
    for _ in range(3 * OF_ONE_WEBHOOK):
        lone_shop.captured()
    came, all_quick, most = {"slow": 0, "quick": 0}, threading.Event(), 0
    lock = threading.Lock()

    def send(url: str, headers: Headers, body: bytes) -> int:
        nonlocal most
        name = "slow" if "slow" in url else "quick"
        if name == "slow" and not all_quick.is_set():
            with lock:
                came["slow"] += 1
                most = max(most, came["slow"])
            assert all_quick.wait(60)
            return 200
        with lock:
            came[name] += 1
            if came["quick"] == 3 * OF_ONE_WEBHOOK:
                all_quick.set()
        return 200

    assert run(lone_shop, send).delivered == 6 * OF_ONE_WEBHOOK
    assert most == OF_ONE_WEBHOOK < SIDE_BY_SIDE


class TookS:
    """A clock on which a sending takes as long as `send` says, in its own thread."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def __call__(self) -> float:
        return float(getattr(self._of_thread, "now_s", 0.0))

    def add(self, seconds: float) -> None:
        self._of_thread.now_s = self() + seconds


def until(all_came: threading.Event) -> Deadline:
    """Time is short from then on."""

    class Clock(Deadline):
        def remaining_s(self) -> float:
            return LAST_S + 1 if all_came.is_set() else 1_000.0

    return Clock(0)


@dataclass
class Crowd:
    """Receivers that hang, and an owner whose one receiver answers at once. Who hangs is held until the healthy owner has all of
    its events. Where that never comes, the attempt fails."""

    shop: Shop
    healthy: Shop
    events: int = 4 * OF_ONE_WEBHOOK
    came: list[str] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)
    clock: TookS = field(default_factory=TookS)
    all_came: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, url: str, headers: Headers, body: bytes) -> int | str:
        if "slow" in url:
            with self.lock:
                self.hanging.append(url)
            held = not self.all_came.wait(30)
            self.clock.add(TIMEOUT_S)
            return "timed out" if held else 200
        with self.lock:
            self.came.append(headers["webhook-id"])
            if len(self.came) == self.events:
                self.all_came.set()
        return 200


@pytest.fixture
def crowd(lone_shop: Shop, lone_books: Books) -> Crowd:
    healthy = replace(lone_shop.elsewhere(), owner="healthy-shop")
    registered(healthy, "https://quick.example.com/")
    lone_books.query("UPDATE webhooks SET slow_until = now()")
    return Crowd(lone_shop, healthy)


def owe(books: Books, payments: list[UUID], urls: str) -> None:
    """Owe all webhooks at such addresses the first event of the payments."""
    books.query(
        "INSERT INTO webhook_deliveries (webhook_id, payment_id, sequence, created_at, next_attempt_at)"
        " SELECT webhook_id, payment_id, 1, now(), now() FROM webhooks, payments WHERE url LIKE :urls AND payment_id = ANY (:ids)"
        " ON CONFLICT DO NOTHING",
        urls=urls,
        ids=payments,
    )


def slow_owners(books: Books, count: int, until: str) -> None:
    """Register ten webhooks of each, which count as slow until then."""
    books.query(
        "INSERT INTO webhooks (webhook_id, owner, url, secret, created_at, next_attempt_at, slow_until)"
        " SELECT gen_random_uuid(), 'slow-' || o, 'https://slow.example.com/' || n, 'whsec_', now(), now(), :until::timestamptz"
        " FROM generate_series(1, :owners) o, generate_series(1, 10) n",
        owners=count,
        until=until,
    )


@pytest.mark.parametrize("slow_until", ["infinity", "2999-01-01"], ids=["new", "slow"])
def test_forty_owners_whose_ten_receivers_hang_delay_no_healthy_one(slow_until: str, crowd: Crowd, lone_books: Books) -> None:
    """They would take 3,200 places. While they hang, the healthy owner's events go out."""
    slow_owners(lone_books, 40, slow_until)
    payments = [crowd.healthy.captured().payment_id for _ in range(crowd.events)]
    owe(lone_books, payments[:OF_ONE_WEBHOOK], "%slow%")
    done = courier(crowd.shop.service, crowd.send, until(crowd.all_came), None, crowd.clock)
    assert len(crowd.came) == crowd.events
    assert done.failed == 0, "nobody was given up on before the healthy owner had everything"
    assert 0 < len(crowd.hanging) <= OF_SLOW_ONES
    assert OF_SLOW_ONES < SIDE_BY_SIDE


def test_receivers_that_begin_to_hang_are_slow_from_their_first_time_out_on(crowd: Crowd, lone_books: Books) -> None:
    """All were quick until now. In a first run all their attempts time out; in the next one they have the slow ones' places."""
    slow_owners(lone_books, 20, "-infinity")
    payments = [crowd.healthy.captured().payment_id for _ in range(crowd.events)]
    owe(lone_books, payments, "%slow%")

    def times_out(url: str, headers: Headers, body: bytes) -> int | str:
        crowd.clock.add(TIMEOUT_S if "slow" in url else 0.1)
        return "timed out" if "slow" in url else 200

    courier(crowd.shop.service, times_out, Deadline.in_s(60), None, crowd.clock)
    [[quick]] = lone_books.query("SELECT count(*) FROM webhooks WHERE url LIKE '%slow%' AND slow_until <= now()")
    assert quick == 0
    make_due(lone_books)
    for _ in payments:
        crowd.healthy.captured()
    assert courier(crowd.shop.service, crowd.send, until(crowd.all_came), None, crowd.clock).failed == 0
    assert 0 < len(crowd.hanging) <= OF_SLOW_ONES


def test_a_receiver_that_answers_200_after_nine_seconds_is_slow_without_failing(crowd: Crowd, lone_books: Books) -> None:
    webhook_id = registered(crowd.shop, "https://slow.example.com/")
    lone_books.query("UPDATE webhooks SET slow_until = now()")
    crowd.all_came.set()
    crowd.shop.captured()
    is_slow = "SELECT slow_until - now() BETWEEN interval '9 min' AND interval '11 min' FROM webhooks WHERE webhook_id = :id"
    assert lone_books.query(is_slow, id=webhook_id) == [[False]]
    assert courier(crowd.shop.service, crowd.send, Deadline.in_s(60), None, crowd.clock) == Couriered(delivered=1)
    assert lone_books.query(is_slow, id=webhook_id) == [[True]]
    assert state(lone_books, webhook_id)["failing_since"] is None
    crowd.shop.captured()
    [one], _ = webhooks.claim(crowd.shop.service.db, 8, 8, 8, 8, LEASE_S)
    assert one.is_slow
    assert webhooks.claim(crowd.shop.service.db, 8, 0, 8, 8, LEASE_S) == ([], False)


def test_one_that_hangs_is_still_slow_at_its_next_attempt_and_one_that_answers_500_at_once_is_quick(
    crowd: Crowd, lone_books: Books
) -> None:
    webhook_id = registered(crowd.shop)
    lone_books.query("UPDATE webhooks SET slow_until = now(), failing_since = now() - interval '5 hours'")
    for answer, took_s in ((500, 0.1), ("timed out", TIMEOUT_S)):
        crowd.shop.captured()

        def send(url: str, headers: Headers, body: bytes, answer: int | str = answer, took_s: float = took_s) -> int | str:
            crowd.clock.add(took_s)
            return answer

        make_due(lone_books)
        assert courier(crowd.shop.service, send, Deadline.in_s(60), None, crowd.clock).failed == 1
        is_slow = "SELECT slow_until > next_attempt_at, next_attempt_at > now() FROM webhooks WHERE webhook_id = :id"
        assert lone_books.query(is_slow, id=webhook_id) == [[answer == "timed out", True]]


def test_a_webhook_with_an_attempt_that_hangs_right_now_gets_no_more_of_the_quick_ones_places(
    crowd: Crowd, lone_books: Books
) -> None:
    webhook_id, db = registered(crowd.shop), crowd.shop.service.db
    lone_books.query("UPDATE webhooks SET slow_until = now()")
    crowd.shop.captured()
    [one], _ = webhooks.claim(db, 8, 0, 8, 8, LEASE_S)
    assert not one.is_slow
    crowd.shop.captured()
    lone_books.query("UPDATE webhook_deliveries SET lease_until = lease_until - make_interval(secs => :s) WHERE attempt = 1",
                     s=webhooks.SLOW_S)  # fmt: skip
    assert webhooks.claim(db, 8, 0, 8, 8, LEASE_S) == ([], False)
    [two], _ = webhooks.claim(db, 8, 1, 8, 8, LEASE_S)
    assert (two.webhook_id, two.is_slow) == (webhook_id, True)


def test_an_owner_whose_webhooks_begin_to_hang_one_after_the_other_gets_no_further_places(
    crowd: Crowd, lone_books: Books
) -> None:
    """All were quick until now, and none has timed out yet. So they count with his quick ones, also those that hang."""
    payments, claimed = [crowd.healthy.captured().payment_id for _ in range(OF_ONE_WEBHOOK)], list[UUID]()
    lone_books.query("DELETE FROM webhook_deliveries")
    for number in range(2 * OF_ONE_OWNER // OF_ONE_WEBHOOK):
        registered(crowd.shop, f"https://slow.example.com/{number}")
        lone_books.query("UPDATE webhooks SET slow_until = now()")
        owe(lone_books, payments, f"%slow%/{number}")
        found, _ = webhooks.claim(crowd.shop.service.db, SIDE_BY_SIDE, OF_SLOW_ONES, OF_ONE_WEBHOOK, OF_ONE_OWNER, LEASE_S)
        claimed += [one.webhook_id for one in found]
        lone_books.query("UPDATE webhook_deliveries SET lease_until = lease_until - make_interval(secs => :s)", s=webhooks.SLOW_S)
    assert len(claimed) == OF_ONE_OWNER


def test_a_new_webhook_is_quick_ten_minutes_after_its_first_success(
    lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    """So nobody gets a quick one's places by registering again and again."""
    webhook_id = registered(lone_shop)
    lone_shop.captured()
    receivers.answer = lambda url, headers: 500
    run(lone_shop, receivers)
    lone_books.query("UPDATE webhooks SET failing_since = NULL")
    assert lone_books.query("SELECT slow_until = 'infinity' FROM webhooks") == [[True]]
    receivers.answer = lambda url, headers: 204
    make_due(lone_books)
    run(lone_shop, receivers)
    until = "SELECT EXTRACT(EPOCH FROM slow_until - now())::float8 FROM webhooks WHERE webhook_id = :id"
    [[left_s]] = lone_books.query(until, id=webhook_id)
    assert webhooks.SLOW_FOR_S - 60 < left_s <= webhooks.SLOW_FOR_S
    lone_shop.captured()
    run(lone_shop, receivers)
    assert lone_books.query(until, id=webhook_id)[0][0] < left_s, "a later success does not begin it anew"


def test_the_slow_webhooks_of_an_owner_take_no_places_of_his_quick_one(crowd: Crowd, lone_books: Books) -> None:
    for number in range(webhooks.MOST - 1):
        registered(crowd.healthy, f"https://slow.example.com/{number}")
    for _ in range(crowd.events):
        crowd.healthy.captured()
    assert courier(crowd.shop.service, crowd.send, until(crowd.all_came), None, crowd.clock).failed == 0
    assert len(crowd.hanging) == OF_ONE_OWNER


def test_a_dead_receiver_costs_one_attempt_in_a_while(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    webhook_id = registered(lone_shop)
    for _ in range(3 * OF_ONE_WEBHOOK):
        lone_shop.captured()
    receivers.answer = lambda url, headers: "timed out"
    assert run(lone_shop, receivers) == Couriered(failed=OF_ONE_WEBHOOK), "these were on their way at once"
    assert run(lone_shop, receivers) == Couriered(), "it is left alone for a while"
    make_due(lone_books)
    assert run(lone_shop, receivers) == Couriered(failed=1)
    state_ = state(lone_books, webhook_id)
    assert state_["last_error"] == "timed out"
    receivers.answer = lambda url, headers: 204
    make_due(lone_books)
    assert run(lone_shop, receivers).delivered == 3 * OF_ONE_WEBHOOK
    state_ = state(lone_books, webhook_id)
    assert (state_["failing_since"], state_["last_error"]) == (None, None)


def test_the_waits_of_a_webhook_and_of_a_delivery_grow_up_to_a_bound(
    lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    registered(lone_shop)
    lone_shop.captured()
    receivers.answer = lambda url, headers: 500
    waits = list[list[float]]()
    for _ in range(8):
        run(lone_shop, receivers)
        waits += lone_books.query(
            "SELECT EXTRACT(EPOCH FROM d.next_attempt_at - now())::float8, EXTRACT(EPOCH FROM w.next_attempt_at - now())::float8"
            " FROM webhook_deliveries d JOIN webhooks w USING (webhook_id)"
        )
        age(lone_books, hours=1)
    for number, (delivery_s, webhook_s) in enumerate(waits):
        with case(number):
            expected_s = min(webhooks.FIRST_S * 4**number, webhooks.LONGEST_S)
            assert 0.8 * expected_s - 1 < delivery_s <= 1.2 * expected_s
            paused_s = max(webhooks.FIRST_S, min(webhooks.LONGEST_PAUSE_S, number * 3600 / 2))
            assert 0.8 * paused_s - 1 < webhook_s <= 1.2 * paused_s + 1


def test_a_delivery_is_given_up_after_a_day_if_the_receiver_takes_others(
    lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    webhook_id = registered(lone_shop)
    payment = lone_shop.captured()
    lone_shop.refund(payment.transaction_id, amount=100)
    [[poison]] = lone_books.query("SELECT event_id FROM outbox WHERE sequence = 1")
    receivers.answer = lambda url, headers: 422 if headers["webhook-id"] == str(poison) else 200
    assert run(lone_shop, receivers) == Couriered(failed=1)
    age(lone_books, hours=23)
    lone_shop.captured()
    assert run(lone_shop, receivers) in (Couriered(failed=1, delivered=1), Couriered(failed=1))
    lone_books.query("UPDATE webhooks SET failing_since = NULL")
    age(lone_books, hours=2)
    lone_books.query("UPDATE webhook_deliveries SET attempt = :attempts", attempts=webhooks.GIVE_UP_ATTEMPTS - 1)
    done = run(lone_shop, receivers)
    make_due(lone_books)
    rest = run(lone_shop, receivers)
    assert (done.given_up, done.delivered + rest.delivered >= 1) == (1, True)
    found = webhooks.webhook(lone_shop.service.db, lone_shop.owner, webhook_id)
    assert found is not None
    assert (found.waiting, found.failed) == (0, 1)
    # It can be had again, by its id.
    receivers.answer = lambda url, headers: 200
    assert webhooks.deliver_again(lone_shop.service.db, lone_shop.owner, webhook_id, poison) == 1
    assert run(lone_shop, receivers) == Couriered(delivered=1)
    assert receivers.ids()[-1] == str(poison)
    assert deliveries(lone_books) == []


@pytest.mark.parametrize("was_disabled", [False, True])
def test_what_waited_while_nothing_was_taken_is_not_given_up_at_its_first_failures(
    was_disabled: bool, lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    """The receiver is back, and takes one event of the crowd. It is still starting, and refuses the others for a while."""
    webhook_id = registered(lone_shop)
    for _ in range(OF_ONE_WEBHOOK):
        lone_shop.captured()
    age(lone_books, hours=60)
    if was_disabled:
        webhooks.enable(lone_shop.service.db, lone_shop.owner, webhook_id)
    taken = list[str]()

    def answer(url: str, headers: Headers) -> int:
        taken.extend([] if taken else [headers["webhook-id"]])
        return 200 if headers["webhook-id"] in taken else 503

    receivers.answer = answer
    for number in range(webhooks.GIVE_UP_ATTEMPTS):
        assert not any(row["failed_at"] for row in deliveries(lone_books)), number
        run(lone_shop, receivers)
        lone_books.query("UPDATE webhooks SET failing_since = NULL")
        make_due(lone_books)
    assert all(row["failed_at"] for row in deliveries(lone_books))


def test_a_quiet_while_after_a_failure_is_no_time_of_failing(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    """What failed was given up, and nothing came for days. The next failure is the first one of a new time."""
    webhook_id = registered(lone_shop)
    lone_shop.captured()
    receivers.answer = lambda url, headers: 503
    run(lone_shop, receivers)
    lone_books.query("UPDATE webhook_deliveries SET failed_at = now()")
    lone_books.query("UPDATE webhooks SET failing_since = now() - interval '4 days', next_attempt_at = now() - interval '4 days'")
    lone_shop.captured()
    assert run(lone_shop, receivers) == Couriered(failed=1)
    assert state(lone_books, webhook_id)["disabled_at"] is None


def test_an_event_that_is_asked_for_while_it_is_on_its_way_is_not_sent_twice_at_a_time(
    lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    webhook_id, other = registered(lone_shop), lone_shop.elsewhere()
    lone_shop.captured()
    [event_id] = map(UUID, events(lone_books))

    def answer(url: str, headers: Headers) -> int:
        if not receivers.came:
            assert webhooks.deliver_again(other.service.db, other.owner, webhook_id, event_id) == 1
            assert webhooks.claim(other.service.db, 1, 1, 1 + OF_ONE_WEBHOOK, SIDE_BY_SIDE, LEASE_S) == ([], False)
        return 204

    receivers.answer = answer
    assert run(lone_shop, receivers) == Couriered(delivered=1)


def test_a_receiver_that_was_away_for_two_days_gets_everything(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    registered(lone_shop)
    payment = lone_shop.captured()
    lone_shop.refund(payment.transaction_id, amount=100)
    receivers.answer = lambda url, headers: "the connection was refused"
    for _ in range(10):
        run(lone_shop, receivers)
        age(lone_books, hours=5)
    receivers.answer = lambda url, headers: 204
    receivers.came.clear()
    assert run(lone_shop, receivers) == Couriered(delivered=2)
    assert receivers.ids() == events(lone_books)


def test_after_three_days_of_failures_a_webhook_is_disabled_and_keeps_what_waits(
    lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    webhook_id = registered(lone_shop)
    lone_shop.captured()
    receivers.answer = lambda url, headers: 503
    run(lone_shop, receivers)
    age(lone_books, hours=71)
    assert run(lone_shop, receivers) == Couriered(failed=1)
    age(lone_books, hours=2)
    assert run(lone_shop, receivers) == Couriered(failed=1, disabled=1)
    assert state(lone_books, webhook_id)["disabled_reason"] == "failing"
    make_due(lone_books)
    assert run(lone_shop, receivers) == Couriered()
    receivers.answer = lambda url, headers: 204
    assert webhooks.enable(lone_shop.service.db, lone_shop.owner, webhook_id)
    assert run(lone_shop, receivers) == Couriered(delivered=1)


def test_enable_sends_what_waits_at_once_also_what_failed_a_while_ago(
    lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    webhook_id = registered(lone_shop)
    lone_shop.captured()
    receivers.answer = lambda url, headers: 410
    assert run(lone_shop, receivers) == Couriered(failed=1, disabled=1)
    receivers.answer = lambda url, headers: 204
    assert webhooks.enable(lone_shop.service.db, "somebody-else", webhook_id) is None
    assert run(lone_shop, receivers) == Couriered()
    lone_books.query("UPDATE webhook_deliveries SET next_attempt_at = now() + interval '4 hours'")
    assert webhooks.enable(lone_shop.service.db, lone_shop.owner, webhook_id)
    assert run(lone_shop, receivers) == Couriered(delivered=1)


def test_who_says_gone_is_disabled_at_once(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    webhook_id = registered(lone_shop)
    lone_shop.captured()
    receivers.answer = lambda url, headers: 410
    assert run(lone_shop, receivers) == Couriered(failed=1, disabled=1)
    assert state(lone_books, webhook_id)["disabled_reason"] == "gone"


def test_a_defect_in_one_sending_stops_no_other(
    lone_shop: Shop, lone_books: Books, receivers: Receivers, caplog: pytest.LogCaptureFixture
) -> None:
    registered(lone_shop, "https://odd.example.com/")
    webhook_id = registered(lone_shop)
    for _ in range(2 * OF_ONE_WEBHOOK):
        lone_shop.captured()

    def answer(url: str, headers: Headers) -> int:
        if "odd" in url:
            raise ValueError(url)
        return 204

    receivers.answer = answer
    assert run(lone_shop, receivers) == Couriered(delivered=2 * OF_ONE_WEBHOOK, failed=OF_ONE_WEBHOOK)
    assert {row["last_error"] for row in deliveries(lone_books) if row["attempt"]} == {"it could not be sent"}
    assert state(lone_books, webhook_id)["failing_since"] is None
    assert "a sending failed with ValueError" in caplog.text
    assert "odd.example.com" not in caplog.text


@pytest.mark.parametrize("answer", [301, 307, 400, 404, 429, 500, 100])
def test_only_2xx_is_success(answer: int, lone_shop: Shop, receivers: Receivers) -> None:
    registered(lone_shop)
    lone_shop.captured()
    receivers.answer = lambda url, headers: answer
    assert run(lone_shop, receivers) == Couriered(failed=1)


def test_an_event_that_is_kept_no_longer_is_given_up(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    webhook_id = registered(lone_shop)
    lone_shop.captured()
    lone_books.query("DELETE FROM outbox")
    assert run(lone_shop, receivers) == Couriered(failed=1, given_up=1)
    assert receivers.came == []
    assert state(lone_books, webhook_id)["failing_since"] is None, "the receiver has done nothing wrong"


def test_an_event_of_an_earlier_week_is_sent(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    registered(lone_shop)
    lone_shop.captured()
    lone_books.query("UPDATE outbox SET created_at = now() - interval '8 days'")
    assert lone_books.query("SELECT turn_outbox(7, 7)") == [[1]]
    assert lone_books.query("SELECT count(*) FROM ONLY outbox") == [[0]]
    lone_shop.captured()
    assert run(lone_shop, receivers) == Couriered(delivered=2)


# Kills


class Dying(Database):
    """The store of a run that is killed before or after its Nth phase."""

    def __init__(self, real: Database, phase: int, *, after: bool) -> None:
        self._real, self._left, self._after = real, phase, after

    def send(self, *statements: Bound) -> tuple[list[list[Row]], bool]:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        answer = self._real.send(*statements)
        if self._left == 0:
            raise Killed
        return answer


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("answer", [204, 500])
def test_wherever_a_run_is_killed_nothing_is_lost(
    answer: int, after: bool, lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    """A run is killed at each of its phases in turn, until one comes to its end. Then a next one finds what is left."""
    registered(lone_shop)
    killed = 0
    for phase in range(1, 30):
        payment = lone_shop.captured()
        lone_shop.refund(payment.transaction_id, amount=100)
        receivers.answer = lambda url, headers: answer
        try:
            run(lone_shop.with_(db=Dying(lone_shop.service.db, phase, after=after)), receivers)
        except Killed:
            killed += 1
        receivers.answer = lambda url, headers: 204
        make_due(lone_books)  # The lease ends.
        run(lone_shop, receivers)
        assert deliveries(lone_books) == []
        assert set(receivers.ids()) == set(events(lone_books))
        first = [json.loads(body) for _, _, body in receivers.came if json.loads(body)["subject"] == str(payment.payment_id)]
        sequences = list(dict.fromkeys(int(sent["sequence"]) for sent in first))
        assert sequences == [1, 2]
    assert killed >= 3


def test_a_run_that_is_killed_while_it_sends_leaves_its_lease_for_the_next(
    lone_shop: Shop, lone_books: Books, receivers: Receivers
) -> None:
    registered(lone_shop)
    lone_shop.captured()

    def killed(url: str, headers: Headers) -> int:
        raise Killed

    receivers.answer = killed
    with pytest.raises(Killed):
        run(lone_shop, receivers)
    receivers.answer = lambda url, headers: 204
    assert run(lone_shop, receivers) == Couriered(), "it may still be on its way"
    make_due(lone_books)
    assert run(lone_shop, receivers) == Couriered(delivered=1)
    assert LEASE_S > 2 * TIMEOUT_S


def test_two_runs_at_once_send_each_event_once(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    for number in range(3):
        registered(lone_shop, f"https://shop.example.com/{number}")
    for _ in range(20):
        lone_shop.refund(lone_shop.captured().transaction_id, amount=100)
    shops = [lone_shop.elsewhere() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        done = list(threads.map(lambda shop: run(shop, receivers), shops))
    assert sum(each.delivered for each in done) == len(receivers.came) == 120
    assert len({(url, headers["webhook-id"]) for url, headers, _ in receivers.came}) == 120


def test_a_run_works_through_a_pooler(
    lone_shop: Shop, lone_database: servers.Database, pgbouncer: PgBouncer, receivers: Receivers
) -> None:
    registered(lone_shop)
    for _ in range(5):
        lone_shop.refund(lone_shop.captured().transaction_id, amount=100)
    pooled = lone_shop.elsewhere(pgbouncer.url(lone_database.service_url))
    assert run(pooled, receivers) == Couriered(delivered=10)


# Time


def test_a_run_begins_nothing_that_it_cannot_end(lone_shop: Shop, receivers: Receivers) -> None:
    registered(lone_shop)
    lone_shop.captured()
    assert courier(lone_shop.service, receivers, Deadline.in_s(RUN_RESERVE_S - 1)) == Couriered()
    assert receivers.came == []


def test_a_run_waits_for_nobody_whose_name_is_never_found(lone_shop: Shop, lone_books: Books) -> None:
    """A look-up of a name has no limit of ours. The others' results are noted, and this one's lease stays for the next run."""
    registered(lone_shop, "https://stuck.example.com/")
    registered(lone_shop)
    lone_shop.captured()
    found, others = threading.Event(), threading.Event()

    class Clock(Deadline):
        def remaining_s(self) -> float:
            return LAST_S if others.is_set() and not deliveries_of(lone_books, "https://shop.example.com/") else 100.0

    def send(url: str, headers: Headers, body: bytes) -> int | str:
        if "stuck" in url:
            found.wait(60)
        others.set()
        return 200

    try:
        assert courier(lone_shop.service, send, Clock(0), poll_s=0.05) == Couriered(delivered=1)
    finally:
        found.set()
    assert len(deliveries_of(lone_books, "https://stuck.example.com/")) == 1


def deliveries_of(books: Books, url: str) -> list[list[Any]]:
    return books.query("SELECT sequence FROM webhook_deliveries JOIN webhooks USING (webhook_id) WHERE url = :url", url=url)


def test_the_log_names_the_webhook_and_neither_its_address_nor_its_secret(
    lone_shop: Shop, lone_books: Books, receivers: Receivers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    webhook_id = registered(lone_shop, "https://shop.example.com/key-of-the-receiver")
    lone_shop.captured()
    receivers.answer = lambda url, headers: 500
    run(lone_shop, receivers)
    [record] = [record for record in caplog.records if record.message == "not delivered: it answered 500"]
    assert record.__dict__["webhook_id"] == str(webhook_id)
    everything = str([record.__dict__ for record in caplog.records])
    assert "shop.example.com" not in everything
    assert state(lone_books, webhook_id)["secret"] not in everything


def test_a_run_without_a_webhook_ends_at_once(lone_shop: Shop, receivers: Receivers) -> None:
    lone_shop.captured()
    assert courier(lone_shop.service, receivers, Deadline.in_s(10_000)) == Couriered()


def test_a_run_waits_for_new_events_while_there_is_a_webhook(lone_shop: Shop, lone_books: Books) -> None:
    registered(lone_shop)
    deadline, came = [1_000.0], list[bytes]()
    pay = iter([lone_shop.elsewhere()])

    class Clock(Deadline):
        def remaining_s(self) -> float:
            for shop in pay:  # once, when the run is under way
                shop.captured()
                shop.close()
            return deadline[0]

    def send(url: str, headers: Headers, body: bytes) -> int:
        came.append(body)
        deadline[0] = 0.0
        return 200

    assert courier(lone_shop.service, send, Clock(0), poll_s=0.01) == Couriered(delivered=1)


def test_what_is_older_than_a_month_is_deleted(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    registered(lone_shop)
    lone_shop.captured()
    lone_books.query("UPDATE webhooks SET disabled_at = now()")
    run(lone_shop, receivers)
    assert len(deliveries(lone_books)) == 1
    age(lone_books, hours=24 * webhooks.KEEP_DAYS + 1)
    # A run was killed while it sent it.
    lone_books.query("UPDATE webhook_deliveries SET lease_until = now() - interval '1 day'")
    run(lone_shop, receivers)
    assert deliveries(lone_books) == []
    assert receivers.came == []


def test_what_waits_for_deleted_webhooks_is_deleted_in_batches(lone_shop: Shop, lone_books: Books, receivers: Receivers) -> None:
    """What was owed by a settle that did not see the deletion yet."""
    kept = registered(lone_shop)
    lone_books.query("UPDATE webhooks SET disabled_at = now()")
    gone = [uuid7() for _ in range(5)]
    lone_books.query(
        "INSERT INTO webhook_deliveries (webhook_id, payment_id, sequence, created_at, next_attempt_at, lease_until)"
        " SELECT webhook_id, gen_random_uuid(), 1, now(), now(), now()"
        " FROM unnest(:ids::uuid[]) webhook_id, generate_series(1, :n)",
        ids=[kept, *gone],
        n=webhooks.PRUNED // 2 + 1,
    )
    assert webhooks.prune(lone_shop.service.db), "there is more"
    assert lone_books.query("SELECT count(*) FROM webhook_deliveries") == [[6 * (webhooks.PRUNED // 2 + 1) - webhooks.PRUNED]]
    assert run(lone_shop, receivers) == Couriered()
    assert {row["webhook_id"] for row in deliveries(lone_books)} == {kept}
    assert len(deliveries(lone_books)) == webhooks.PRUNED // 2 + 1


def test_a_webhook_goes_with_all_that_waits_for_it(lone_shop: Shop, lone_books: Books) -> None:
    """Who registers, asks for a range and deletes, again and again, leaves nothing to the courier. A request stops after a while,
    and the next one goes on."""
    webhook_id, kept = registered(lone_shop), registered(lone_shop, "https://kept.example.com/")
    owe = (
        "INSERT INTO webhook_deliveries (webhook_id, payment_id, sequence, created_at, next_attempt_at)"
        " SELECT webhook_id, gen_random_uuid(), 1, now(), now() FROM webhooks, generate_series(1, :n)"
    )
    lone_books.query(owe, n=2 * webhooks.DELETED + 1)
    assert not webhooks.delete(lone_shop.service.db, "somebody-else", webhook_id)
    with pytest.raises(ServiceUnavailable):
        webhooks.delete(lone_shop.service.db, lone_shop.owner, webhook_id, most=2)
    assert webhooks.delete(lone_shop.service.db, lone_shop.owner, webhook_id)
    assert not webhooks.delete(lone_shop.service.db, lone_shop.owner, webhook_id)
    assert {row["webhook_id"] for row in deliveries(lone_books)} == {kept}
    assert len(deliveries(lone_books)) == 2 * webhooks.DELETED + 1


# Over a real connection


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def test_over_real_connections_the_official_library_verifies_what_came(
    lone_shop: Shop, lone_books: Books, receiver: Receiver
) -> None:
    webhook_id = registered(lone_shop, receiver.url)
    first, second = state(lone_books, webhook_id)["secret"], new_secret()
    for _ in range(3):
        lone_shop.captured()
    assert run(lone_shop, Post(is_local=True)).delivered == 3
    webhooks.rotate(lone_shop.service.db, lone_shop.owner, webhook_id, second, 60)
    lone_shop.captured()
    assert run(lone_shop, Post(is_local=True)).delivered == 1
    for request in receiver.received:
        assert standardwebhooks.Webhook(first).verify(request.body, request.headers)["id"] == request.id
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(first).verify(request.body + b" ", request.headers)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(new_secret()).verify(request.body, request.headers)
    assert standardwebhooks.Webhook(second).verify(receiver.received[-1].body, receiver.received[-1].headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(second).verify(receiver.received[0].body, receiver.received[0].headers)


def test_a_receiver_that_breaks_off_at_any_byte_of_the_request_gets_the_event_again(
    lone_shop: Shop, lone_books: Books, receiver: Receiver
) -> None:
    registered(lone_shop, receiver.url)
    lone_shop.captured()
    receiver.answer = lambda connection, request: connection.close()
    assert run(lone_shop, Post(is_local=True)) == Couriered(failed=1)
    receiver.answer = says(200)
    make_due(lone_books)
    assert run(lone_shop, Post(is_local=True)) == Couriered(delivered=1)
    assert len(set(receiver.ids)) == 1 and len(receiver.ids) == 2
