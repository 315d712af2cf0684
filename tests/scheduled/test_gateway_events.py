"""What comes of the gateway's events: each is handled once, by the payment's present state, however it came."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest

from payments import telemetry
from payments.commands.look import Look, look_at
from payments.commands.service import Deadline, Service
from payments.domain.payment import Payment
from payments.gateway.port import Declined, Hint, Seen, SeenRefund
from payments.scheduled.gateway_events import LEAST_S, LONGEST_S, LOOK_S, OVERLAP_S, LookAt, handle, inbox, pull
from payments.store import gateway_events
from payments.store.gateway_events import INSERTED, Door
from tests.fakes import FakeGateway, approve, lose_reply
from tests.shop import Books, Shop, at_once

CREATED = datetime(2026, 11, 29, 12, tzinfo=UTC)
NUMBERS = count(1)


def hint(payment: Payment | None = None, intent: str | None = None, payment_id: UUID | None = None) -> Hint:
    if payment:
        intent, payment_id = payment.payment_intent_id, payment.payment_id
    told: dict[str, Any] = {"type": "refund.failed", "created_at": CREATED, "payment_intent_id": intent, "payment_id": payment_id}
    return Hint(event_id=f"evt_{next(NUMBERS)}", **told)


@dataclass
class Looks:
    """Looks at payments as the test says, and records which, and for how long it may."""

    answers: list[Look | Exception] = field(default_factory=list)
    of: list[UUID] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    def __call__(self, service: Service, payment: Payment, deadline: Deadline) -> Look:
        self.of.append(payment.payment_id)
        self.times_s.append(deadline.remaining_s())
        answer = self.answers.pop(0) if self.answers else Look.NOTHING_NEW
        if isinstance(answer, Exception):
            raise answer
        return answer


def keep(shop: Shop, *hints: Hint) -> None:
    gateway_events.insert(shop.service.db, shop.gateway.name, Door.WEBHOOK, hints)


def handled(shop: Shop, looks: Looks, event_id: str | None = None, time_s: float = 55.0) -> dict[str, int]:
    return dict(+handle(shop.service, Deadline.in_s(time_s), looks, event_id))


def outcomes(books: Books) -> dict[str, str | None]:
    return dict(books.query("SELECT event_id, outcome FROM gateway_events"))


def make_due(books: Books) -> None:
    books.query("UPDATE gateway_events SET next_attempt_at = now(), lease_until = NULL WHERE handled_at IS NULL")


def test_an_event_of_ours_is_looked_at_and_gets_what_came_of_it(lone_shop: Shop, lone_books: Books) -> None:
    paid, other = lone_shop.captured(), lone_shop.captured()
    first, second = hint(paid), hint(intent=other.payment_intent_id)
    keep(lone_shop, first, second)
    looks = Looks([Look.SETTLED, Look.NOTHING_NEW])
    assert handled(lone_shop, looks) == {"settled": 1, "nothing_new": 1}
    assert looks.of == [paid.payment_id, other.payment_id]
    assert outcomes(lone_books) == {first.event_id: "settled", second.event_id: "nothing_new"}
    assert handled(lone_shop, looks) == {}
    keep(lone_shop, first)
    assert handled(lone_shop, looks) == {}, "it came again, and was handled"
    assert len(looks.of) == 2


def test_one_look_serves_all_events_of_a_payment(lone_shop: Shop, lone_books: Books) -> None:
    paid = lone_shop.captured()
    keep(lone_shop, hint(paid), hint(paid), hint(intent=paid.payment_intent_id))
    looks = Looks([Look.SETTLED])
    assert handled(lone_shop, looks) == {"settled": 3}
    assert looks.of == [paid.payment_id]


def test_an_event_of_a_payment_whose_charge_was_not_answered_waits_until_its_intent_is_known(
    lone_shop: Shop, lone_books: Books
) -> None:
    """The gateway does not copy our id from the payment to its refunds and disputes."""
    looks = Looks()
    lone_shop.gateway.answer = lose_reply
    payment = lone_shop.process().payment
    keep(lone_shop, hint(intent=f"pi_pay-{payment.payment_id}"), hint())
    assert handled(lone_shop, looks) == {"waiting": 1, "foreign": 1}
    lone_shop.hears_later(approve, lone_books)
    make_due(lone_books)
    assert handled(lone_shop, looks) == {"nothing_new": 1}
    assert looks.of == [payment.payment_id]


def test_a_charge_that_began_after_an_event_of_another_shop_does_not_keep_that_waiting(
    lone_shop: Shop, lone_books: Books
) -> None:
    """Where a charge is always under way, it would wait for a day, and raise an alarm."""
    keep(lone_shop, hint(intent="pi_of_another_shop"))
    lone_shop.gateway.answer = lose_reply
    lone_shop.process()
    looks = Looks()
    assert handled(lone_shop, looks) == {"foreign": 1}
    assert looks.of == []


def test_an_event_without_a_sign_of_ours_is_foreign_and_nothing_is_looked_at(lone_shop: Shop, lone_books: Books) -> None:
    events = hint(intent="pi_of_another_shop"), hint()
    keep(lone_shop, *events)
    looks = Looks()
    assert handled(lone_shop, looks) == {"foreign": 2}
    assert (looks.of, set(outcomes(lone_books).values())) == ([], {"foreign"})


def metrics(text: str) -> dict[str, float]:
    """Return the metrics that were written, by name."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    told = [(each["Metrics"][0]["Name"], line) for line in lines if "_aws" in line for each in line["_aws"]["CloudWatchMetrics"]]
    return {name: line[name] for name, line in told}


def test_an_event_of_a_payment_that_the_books_lack_is_an_orphan_and_a_metric_says_so(
    lone_shop: Shop, lone_books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = hint(intent="pi_lost", payment_id=uuid4())
    keep(lone_shop, lost, hint(intent="pi_lost"))
    telemetry.write_metrics()
    capsys.readouterr()
    assert handled(lone_shop, Looks()) == {"orphan": 2}
    telemetry.write_metrics()
    assert metrics(capsys.readouterr().out) == {"GatewayEventOrphan": 2}


def test_somebody_who_writes_our_payment_id_on_another_intent_does_not_have_our_payment_looked_at(
    lone_shop: Shop, lone_books: Books
) -> None:
    paid = lone_shop.captured()
    keep(lone_shop, hint(intent="pi_of_another", payment_id=paid.payment_id))
    looks = Looks()
    assert handled(lone_shop, looks) == {"orphan": 1}
    assert looks.of == []


def test_an_intent_of_a_payment_that_failed_without_one_is_an_orphan(
    lone_shop: Shop, lone_books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody settled the payment by hand as declined, or the gateway took the money after it had said no."""
    lone_shop.gateway.answer = lambda action, request: Declined("card_declined", "No.", None, None, {})
    failed = lone_shop.captured()
    keep(lone_shop, hint(intent="pi_with_money", payment_id=failed.payment_id))
    telemetry.write_metrics()
    capsys.readouterr()
    assert handled(lone_shop, Looks()) == {"orphan": 1}
    telemetry.write_metrics()
    assert metrics(capsys.readouterr().out) == {"GatewayEventOrphan": 1}


def test_an_event_that_comes_before_the_answer_finds_the_payment_by_our_id(lone_shop: Shop) -> None:
    lone_shop.gateway.answer = lose_reply
    waiting = lone_shop.captured()
    assert waiting.payment_intent_id is None
    keep(lone_shop, hint(intent="pi_that_it_will_have", payment_id=waiting.payment_id))
    looks = Looks([Look.LATER])
    assert handled(lone_shop, looks) == {"waiting": 1}
    assert looks.of == [waiting.payment_id]


def test_what_cannot_be_said_now_is_asked_again_for_a_day_and_then_left_with_a_metric(
    lone_shop: Shop, lone_books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(lone_shop, hint(lone_shop.captured()))
    looks = Looks([Look.LATER] * 30)
    for _ in range(10):
        assert handled(lone_shop, looks) == {"waiting": 1}
        assert handled(lone_shop, looks) == {}, "not yet"
        make_due(lone_books)
    age(lone_books, "23 hours 59 minutes")
    assert handled(lone_shop, looks) == {"waiting": 1}
    make_due(lone_books)
    age(lone_books, "24 hours")
    telemetry.write_metrics()
    capsys.readouterr()
    assert handled(lone_shop, looks) == {"later": 1}
    telemetry.write_metrics()
    assert metrics(capsys.readouterr().out) == {"GatewayEventsLeft": 1}
    make_due(lone_books)
    assert handled(lone_shop, looks) == {}
    assert set(outcomes(lone_books).values()) == {"later"}


def age(books: Books, how_long: str) -> None:
    books.query(f"UPDATE gateway_events SET received_at = now() - interval '{how_long}'")


def test_many_events_of_a_payment_that_come_while_a_worker_has_it_wait_for_their_day_all_the_same(
    lone_shop: Shop, lone_books: Books
) -> None:
    """Each brings the earlier ones along, so each of these has had as many attempts as events came after it."""
    payment, looks = lone_shop.captured(), Looks([Look.LATER] * 40)
    for number in range(1, 41):
        keep(lone_shop, hint(payment))
        assert handled(lone_shop, looks) == {"waiting": number}
    make_due(lone_books)
    assert handled(lone_shop, looks) == {"nothing_new": 40}


def test_an_event_that_waited_for_us_in_an_outage_has_some_attempts_however_old_it_is(lone_shop: Shop, lone_books: Books) -> None:
    keep(lone_shop, hint(lone_shop.captured()))
    age(lone_books, "3 days")
    looks = Looks([Look.LATER] * 5)
    for _ in range(5):
        assert handled(lone_shop, looks) == {"waiting": 1}
        make_due(lone_books)
    assert handled(lone_shop, looks) == {"nothing_new": 1}


def test_an_error_of_one_payment_does_not_keep_the_others_waiting(lone_shop: Shop, lone_books: Books) -> None:
    poor, good = hint(lone_shop.captured()), hint(lone_shop.captured())
    keep(lone_shop, poor, good)
    looks = Looks([ValueError("a defect of ours"), Look.SETTLED])
    assert handled(lone_shop, looks) == {"waiting": 1, "settled": 1}
    assert outcomes(lone_books) == {poor.event_id: None, good.event_id: "settled"}
    make_due(lone_books)
    assert handled(lone_shop, looks) == {"nothing_new": 1}


def test_the_door_handles_its_own_event_and_leaves_the_others_to_reconcile(lone_shop: Shop, lone_books: Books) -> None:
    own, other = hint(lone_shop.captured()), hint(lone_shop.captured())
    keep(lone_shop, other, own)
    assert handled(lone_shop, Looks(), own.event_id) == {"nothing_new": 1}
    assert outcomes(lone_books) == {own.event_id: "nothing_new", other.event_id: None}


def test_a_look_ends_before_its_lease_and_none_begins_when_time_is_short(lone_shop: Shop, lone_books: Books) -> None:
    keep(lone_shop, hint(lone_shop.captured()))
    looks = Looks()
    assert handled(lone_shop, looks, time_s=LEAST_S - 0.5) == {}
    assert handled(lone_shop, looks, time_s=900) == {"nothing_new": 1}
    assert looks.times_s[0] <= LOOK_S


@dataclass
class Undelivering(FakeGateway):
    """Has hints that it could not deliver."""

    hints: list[Hint] = field(default_factory=list)
    asked_since: list[datetime] = field(default_factory=list)
    asked_until: list[datetime | None] = field(default_factory=list)
    is_away: bool = False

    most: int | None = None
    """So many it can tell before the time is over."""

    def undelivered(self, since: datetime, timeout_s: float, until: datetime | None = None) -> Iterator[Hint]:
        self.asked_since.append(since)
        self.asked_until.append(until)
        if self.is_away:
            raise TimeoutError
        wanted = [one for one in reversed(self.hints) if until is None or one.created_at <= until]
        yield from wanted[: self.most]
        if self.most is not None and len(wanted) > self.most:
            raise TimeoutError


@pytest.fixture
def undelivering(lone_shop: Shop) -> Shop:
    gateway = Undelivering()
    return replace(lone_shop.with_(gateway=gateway), gateway=gateway)


def of(shop: Shop) -> Undelivering:
    assert isinstance(shop.gateway, Undelivering)
    return shop.gateway


def test_a_pull_brings_what_was_not_delivered_and_knows_what_was(undelivering: Shop, lone_books: Books) -> None:
    known, new = hint(intent="pi_1"), hint(intent="pi_2")
    keep(undelivering, known)
    of(undelivering).hints += [known, new]
    assert (pull(undelivering.service), pull(undelivering.service)) == (1, 0)
    doors = lone_books.query("SELECT event_id, door FROM gateway_events ORDER BY received_at")
    assert doors == [[known.event_id, "webhook"], [new.event_id, "pull"]]


def test_a_pull_asks_since_the_one_before_it_also_when_that_found_nothing(undelivering: Shop, lone_books: Books) -> None:
    def pulled_s_ago(seconds: float) -> None:
        lone_books.query(f"UPDATE gateway_pulls SET pulled_at = now() - interval '{seconds} s'")

    def asked_s_ago() -> float:
        asked = of(undelivering).asked_since
        pull(undelivering.service)
        [[now]] = lone_books.query("SELECT now()")
        return float((now - asked[-1]).total_seconds())

    for seconds, expected_s in [(0, OVERLAP_S), (60, OVERLAP_S + 60), (7200, OVERLAP_S + 7200), (30 * 86400, LONGEST_S)]:
        pulled_s_ago(seconds)
        assert expected_s <= asked_s_ago() < expected_s + 50, seconds
        assert asked_s_ago() < OVERLAP_S + 50, "the pull was noted"


def test_a_pull_that_fails_is_made_up_for_by_the_next_one(undelivering: Shop, lone_books: Books) -> None:
    pull(undelivering.service)
    lone_books.query("UPDATE gateway_pulls SET pulled_at = now() - interval '2 hours'")
    of(undelivering).is_away = True
    with pytest.raises(TimeoutError):
        pull(undelivering.service)
    of(undelivering).is_away = False
    pull(undelivering.service)
    failed, good = of(undelivering).asked_since[-2:]
    assert good - failed < timedelta(seconds=50)


def backlog(size: int) -> list[Hint]:
    """Return events, oldest first, seven of which happened in each second."""
    return [replace(hint(intent=f"pi_{number}"), created_at=CREATED + timedelta(seconds=number // 7)) for number in range(size)]


def test_a_backlog_of_any_size_is_worked_off_by_one_pull_after_the_other(undelivering: Shop, lone_books: Books) -> None:
    """No pull has the time for all of it, and new events come meanwhile."""
    waits = backlog(9 * INSERTED)
    of(undelivering).hints += waits
    of(undelivering).most = 2 * INSERTED + 20
    for turn in range(4):
        with pytest.raises(TimeoutError):
            pull(undelivering.service)
        assert lone_books.query("SELECT count(*) > :least FROM gateway_events", least=turn * 2 * INSERTED) == [[True]]
        new = replace(hint(intent="pi_new"), created_at=CREATED + timedelta(days=1, seconds=turn))
        of(undelivering).hints.append(new)
    pull(undelivering.service)
    assert {one.event_id for one in waits} <= outcomes(lone_books).keys()
    assert of(undelivering).asked_since[0] == of(undelivering).asked_since[-1], "the pull began with the first of them"
    of(undelivering).most = None
    assert pull(undelivering.service) == 4, "what came meanwhile"
    assert of(undelivering).asked_until[-1] is None


def test_a_pull_that_takes_long_stops_and_the_next_one_goes_on(undelivering: Shop, lone_books: Books) -> None:
    of(undelivering).hints += backlog(3 * INSERTED)
    first, second, rest = pull(undelivering.service, 0), pull(undelivering.service, 0), pull(undelivering.service)
    assert (first, first + second + rest) == (INSERTED, 3 * INSERTED)
    assert INSERTED - 7 <= second < INSERTED, "it asks for the whole second again"


def test_two_pulls_at_once_leave_nothing_out(undelivering: Shop, lone_books: Books) -> None:
    """The slower one neither sets the other back, nor ends what it has not begun."""
    of(undelivering).hints += backlog(3 * INSERTED)
    pull(undelivering.service, 0)
    [[begun_at]] = lone_books.query("SELECT begun_at FROM gateway_pulls")
    assert pull(undelivering.elsewhere().service) == 2 * INSERTED
    pull(undelivering.service, 0)
    db, name = undelivering.service.db, undelivering.gateway.name
    before = lone_books.query("SELECT * FROM gateway_pulls")
    gateway_events.read_to(db, name, begun_at, CREATED)
    gateway_events.pulled(db, name, begun_at)
    assert lone_books.query("SELECT * FROM gateway_pulls") == before


def test_neither_failing_stops_the_other(undelivering: Shop, lone_books: Books) -> None:
    looks, ends = Looks(), Deadline.in_s(55)
    keep(undelivering, hint(undelivering.captured()))
    of(undelivering).is_away = True
    assert inbox(undelivering.service, ends, looks) == {"nothing_new": 1}
    of(undelivering).is_away = False
    lone_books.query("ALTER TABLE gateway_events RENAME COLUMN attempt TO gone")
    try:
        of(undelivering).hints.append(new := hint(undelivering.captured()))
        assert inbox(undelivering.service, ends, looks) == {"pulled": 1}
    finally:
        lone_books.query("ALTER TABLE gateway_events RENAME COLUMN gone TO attempt")
    assert inbox(undelivering.service, ends, looks) == {"pulled": 0, "nothing_new": 1}
    assert outcomes(lone_books)[new.event_id] == "nothing_new"


def test_before_the_migration_the_inbox_does_nothing_and_does_not_raise(undelivering: Shop, lone_books: Books) -> None:
    tables = {"gateway_events": "later_events", "gateway_pulls": "later_pulls"}
    for name, other in tables.items():
        lone_books.query(f"ALTER TABLE {name} RENAME TO {other}")
    try:
        assert inbox(undelivering.service, Deadline.in_s(55), Looks()) == {}
        assert undelivering.reconcile() is not None
    finally:
        for name, other in tables.items():
            lone_books.query(f"ALTER TABLE {other} RENAME TO {name}")


@dataclass
class Ledger:
    """What the gateway has of each payment, which changes with each event, and what our books have. A look takes over
    what is new.

    One lock stands for that of a payment's row in PostgreSQL.
    """

    happened: set[str] = field(default_factory=set)
    at_the_gateway: Counter[UUID] = field(default_factory=Counter)
    in_the_books: Counter[UUID] = field(default_factory=Counter)
    taken_over: list[tuple[UUID, int]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(17))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def happens(self, one: Hint) -> None:
        """Change the payment, before its event is sent for the first time."""
        with self.lock:
            if one.payment_id and one.event_id not in self.happened:
                self.happened.add(one.event_id)
                self.at_the_gateway[one.payment_id] += 1

    def look(self, service: Service, payment: Payment, deadline: Deadline) -> Look:
        with self.lock:
            chance = self.chance.random()
        if chance < 0.1:
            return Look.LATER  # a worker has the payment's lease
        if chance < 0.15:
            raise TimeoutError
        with self.lock:
            new = range(self.in_the_books[payment.payment_id] + 1, self.at_the_gateway[payment.payment_id] + 1)
            self.taken_over += [(payment.payment_id, number) for number in new]
            self.in_the_books[payment.payment_id] += len(new)
            return Look.SETTLED if new else Look.NOTHING_NEW


def carried(shop: Shop, chance: random.Random, brought: Sequence[Hint], happens: Callable[[Hint], None], look: LookAt) -> None:
    """Bring each event 1 to 5 times, shuffled, through two doors, from six threads at once. It happens before it is sent."""
    sent = [(one, chance.choice([Door.WEBHOOK, Door.EVENTBRIDGE])) for one in brought for _ in range(chance.randint(1, 5))]
    chance.shuffle(sent)

    def carry(number: int) -> None:
        mine = shop.elsewhere()
        with closing(mine.service.db):
            for turn, (one, door) in enumerate(sent[number::6]):
                happens(one)
                gateway_events.insert(mine.service.db, mine.gateway.name, door, [one])
                handle(mine.service, Deadline.in_s(55), look, one.event_id)
                if turn % 7 == 0:
                    inbox(mine.service, Deadline.in_s(55), look)

    assert at_once(6, carry) == [None] * 6


def test_events_that_come_often_out_of_order_late_or_not_at_all_have_one_outcome_each_and_the_books_are_the_ledger(
    undelivering: Shop, lone_books: Books
) -> None:
    """A courier repeats, shuffles, and drops every fifth event. What it drops is found by a pull."""
    chance = random.Random(1117)
    payments = [undelivering.captured() for _ in range(30)]
    events = [hint(payment) for payment in payments for _ in range(chance.randint(1, 4))]
    ledger = Ledger()
    dropped = chance.sample(events, len(events) // 5)
    foreign = [hint(intent=f"pi_foreign_{number}") for number in range(10)]
    orphans = [hint(intent=f"pi_orphan_{number}", payment_id=uuid4()) for number in range(3)]
    for one in dropped:
        ledger.happens(one)
    of(undelivering).hints += dropped
    brought = [one for one in events if one not in dropped] + foreign + orphans
    carried(undelivering, chance, brought, ledger.happens, ledger.look)
    for _ in range(20):  # a minute each
        make_due(lone_books)
        inbox(undelivering.service, Deadline.in_s(55), ledger.look)
    rows = lone_books.record("SELECT * FROM gateway_events")
    assert len(rows) == len(events) + len(foreign) + len(orphans)
    assert {row["event_id"] for row in rows if row["door"] == "pull"} == {one.event_id for one in dropped}
    found = {row["event_id"]: row["outcome"] for row in rows}
    assert {found[one.event_id] for one in foreign} == {"foreign"}
    assert {found[one.event_id] for one in orphans} == {"orphan"}
    assert {found[one.event_id] for one in events} == {"settled", "nothing_new"}
    assert ledger.in_the_books == Counter(one.payment_id for one in events)
    assert sorted(ledger.taken_over) == sorted(set(ledger.taken_over)), "nothing was taken over twice"


@dataclass
class RefundingByItself(Undelivering):
    """Somebody refunds a part in its dashboard: one refund for each event, whose id it has."""

    refunds: list[tuple[str | None, SeenRefund]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def happens(self, one: Hint) -> None:
        seen = SeenRefund(gateway_refund_id=f"re_{one.event_id}", key=None, amount_minor=100, status="succeeded")
        with self.lock:
            if (one.payment_intent_id, seen) not in self.refunds:
                self.refunds.append((one.payment_intent_id, seen))

    def look(self, payment_intent_id: str, timeout_s: float) -> Seen | None:
        with self.lock:
            refunds = [refund for intent, refund in self.refunds if intent == payment_intent_id]
        return Seen(state="captured", transaction_id="txn", captured_minor=1999, currency="USD", refunds=refunds)


def test_refunds_that_others_made_are_in_the_books_once_however_their_events_came(lone_shop: Shop, lone_books: Books) -> None:
    """As above, with the look itself."""
    gateway, chance = RefundingByItself(), random.Random(3)
    shop = replace(lone_shop.with_(gateway=gateway), gateway=gateway)
    payments = [shop.captured() for _ in range(12)]
    events = [hint(payment) for payment in payments for _ in range(chance.randint(1, 4))]
    dropped = chance.sample(events, len(events) // 5)
    for one in dropped:
        gateway.happens(one)
    gateway.hints += dropped
    carried(shop, chance, [one for one in events if one not in dropped], gateway.happens, look_at)
    for _ in range(3):
        make_due(lone_books)
        inbox(shop.service, Deadline.in_s(55))
    assert set(outcomes(lone_books).values()) <= {"settled", "nothing_new"}
    assert len(outcomes(lone_books)) == len(events)
    entered = lone_books.query("SELECT gateway_refund_id FROM refunds")
    assert sorted(entered) == sorted([f"re_{one.event_id}"] for one in events)
    [[told]] = lone_books.query("SELECT count(*) FROM outbox WHERE type = 'payment.refunded'")
    assert told == len(events), "each with its event, once"
    for payment in payments:
        [[refunded]] = lone_books.query("SELECT refunded_minor FROM payments WHERE payment_id = :id", id=payment.payment_id)
        assert refunded == 100 * sum(one.payment_id == payment.payment_id for one in events)
