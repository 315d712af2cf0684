from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from kafka import KafkaProducer
from kafka.errors import InvalidConfigurationError, InvalidReplicationFactorError, PolicyViolationError
from kafka.partitioner import murmur2

from local.servers import EmbeddedBroker
from migrations.topic import DURABLE, create_topic
from payments.broker.kafka import KafkaPublisher
from payments.commands.phases import publish
from payments.commands.service import Deadline
from payments.commands.settle import PUBLISH_LEASE_S
from payments.domain.errors import InternalError
from payments.domain.events import Event
from payments.domain.ids import uuid7
from payments.domain.times import rfc3339
from payments.scheduled.relay import BATCH, LEASE_S, RUN_RESERVE_S, Relayed, replay
from payments.store import backlog, outbox
from payments.store.connection import Bound, Database, Row
from tests import servers
from tests.fakes import refuse
from tests.faults import FaultProxy
from tests.servers import Broker, ProxiedBroker
from tests.shop import TRACEPARENT, Books, Shop, at_once
from tests.topic import Message, messages


def with_events(shop: Shop, books: Books, *, payments: int, events: int, published: bool) -> datetime:
    """Insert events of one moment, more than a test has time to make by paying. Return the moment."""
    payment = shop.captured()
    books.query("DELETE FROM outbox")
    [[noon]] = books.query("SELECT date_trunc('day', now()) - interval '12 hours'")
    books.query(
        "INSERT INTO payments SELECT (json_populate_record(p, json_build_object('payment_id', gen_random_uuid(), 'order_id', n,"
        " 'status', 'PENDING', 'captured_minor', 0, 'transaction_id', NULL, 'payment_intent_id', NULL))).*"
        f" FROM payments p, generate_series(1, {payments}) n WHERE payment_id = '{payment.payment_id}'"
    )
    books.query(
        "INSERT INTO outbox (event_id, payment_id, sequence, type, data, created_at, lease_until, published_at)"
        " SELECT gen_random_uuid(), payment_id, s, 'payment.successful', '{}', :noon, now(), CASE WHEN :published THEN now() END"
        f" FROM payments, generate_series(1, {events}) s WHERE status = 'PENDING'",
        noon=noon,
        published=published,
    )
    shop.publisher.published.clear()
    shop.publisher.batches.clear()
    moment: datetime = noon
    return moment


# Content and order of the events


def story(shop: Shop) -> UUID:
    """Make a payment with four events, none of them published."""
    shop.publisher.acknowledges = refuse
    payment = shop.authorized()
    shop.capture(payment.transaction_id)
    shop.refund(payment.transaction_id, amount=500)
    shop.refund(payment.transaction_id)
    shop.publisher.acknowledges = lambda event: True
    return payment.payment_id


STORY = ["payment.authorized", "payment.successful", "payment.refunded", "payment.refunded"]


def test_each_payments_events_leave_in_order_and_no_more_than_one_a_batch(lone_shop: Shop, lone_books: Books) -> None:
    payment_ids = [story(lone_shop) for _ in range(5)]
    lone_books.end_event_leases()
    lone_shop.publisher.batches.clear()
    assert lone_shop.relay() == Relayed(published=20)
    assert lone_shop.publisher.batches == [5, 5, 5, 5]
    for payment_id in payment_ids:
        sent = [event for event in lone_shop.publisher.published if event.payment_id == payment_id]
        assert [event.type for event in sent] == STORY
        assert [event.sequence for event in sent] == [1, 2, 3, 4]
        assert all(row["published_at"] is not None for row in lone_books.outbox(payment_id))
    assert lone_shop.relay() == Relayed()


def test_what_is_sent_is_what_was_written_with_the_settle(lone_shop: Shop, lone_books: Books) -> None:
    payment_id = story(lone_shop)
    lone_books.end_event_leases()
    lone_shop.relay()
    assert [
        (e.event_id, e.payment_id, e.sequence, e.type, json.loads(e.data), e.created_at, e.traceparent)
        for e in lone_shop.publisher.published
    ] == [
        (r["event_id"], payment_id, r["sequence"], r["type"], json.loads(r["data"]), r["created_at"], TRACEPARENT)
        for r in lone_books.outbox(payment_id)
    ]


def test_a_fresh_event_is_left_to_the_invocation_that_wrote_it(lone_shop: Shop, lone_books: Books) -> None:
    payment_id = story(lone_shop)
    for row in lone_books.outbox(payment_id):
        assert row["lease_until"] - row["created_at"] >= timedelta(seconds=PUBLISH_LEASE_S)
    lone_books.query("UPDATE outbox SET lease_until = now() + interval '1 second' * sequence * 60")
    assert lone_shop.relay().unpublished == 4
    assert lone_shop.publisher.published == []
    lone_books.end_event_leases()
    assert lone_shop.relay() == Relayed(published=4)


def test_the_lag_is_the_age_of_the_oldest_event_that_waits(lone_shop: Shop, lone_books: Books) -> None:
    story(lone_shop)
    lone_books.query("UPDATE outbox SET created_at = now() - interval '90 seconds' WHERE sequence = 1")
    relayed = lone_shop.relay()
    assert (relayed.published, relayed.unpublished) == (0, 4)
    assert 90 <= relayed.lag_s < 150


def test_a_broker_that_acknowledges_nothing_is_left_alone_until_the_lease_ends(lone_shop: Shop, lone_books: Books) -> None:
    payment_ids = [story(lone_shop) for _ in range(3)]
    lone_books.end_event_leases()
    lone_shop.publisher.acknowledges = refuse
    lone_shop.publisher.batches.clear()
    assert lone_shop.relay().unpublished == 12
    assert lone_shop.publisher.batches == [3], "one batch and no further one"
    lone_shop.publisher.acknowledges = lambda event: True
    assert lone_shop.relay().published == 0, "the events may still be on their way"
    [[left_s]] = lone_books.query("SELECT EXTRACT(EPOCH FROM max(lease_until) - now())::float8 FROM outbox")
    assert 5 < left_s <= LEASE_S
    lone_books.end_event_leases()
    assert lone_shop.relay() == Relayed(published=12)
    for payment_id in payment_ids:
        sent = [event.sequence for event in lone_shop.publisher.published if event.payment_id == payment_id]
        assert sent == [1, 2, 3, 4]


def test_what_one_partition_refuses_does_not_hold_up_the_others(lone_shop: Shop, lone_books: Books) -> None:
    dead, *alive = [story(lone_shop) for _ in range(4)]
    lone_books.end_event_leases()
    lone_shop.publisher.acknowledges = lambda event: event.payment_id != dead
    assert lone_shop.relay().published == 12
    assert {event.payment_id for event in lone_shop.publisher.published} == set(alive)
    assert [row["published_at"] for row in lone_books.outbox(dead)] == [None] * 4
    lone_shop.publisher.acknowledges = lambda event: True
    lone_books.end_event_leases()
    assert lone_shop.relay() == Relayed(published=4)
    assert [event.sequence for event in lone_shop.publisher.published[-4:]] == [1, 2, 3, 4]


def test_a_broker_that_is_down_is_not_offered_batch_after_batch(lone_shop: Shop, lone_books: Books) -> None:
    with_events(lone_shop, lone_books, payments=BATCH + 50, events=1, published=False)
    lone_shop.publisher.acknowledges, lone_shop.publisher.away = refuse, True
    assert lone_shop.relay().unpublished == BATCH + 50
    assert lone_shop.publisher.batches == [BATCH]


def test_callers_leave_a_broker_alone_that_was_away_a_moment_ago_and_the_relay_does_not(
    lone_shop: Shop, lone_books: Books
) -> None:
    """A caller waits for the broker. Nobody waits for the relay, and only its tries show that the broker is back."""
    lone_shop.publisher.away = True
    payment_id = story(lone_shop)
    assert lone_shop.publisher.batches == []
    lone_books.end_event_leases()
    assert lone_shop.relay() == Relayed(published=4)
    assert [event.payment_id for event in lone_shop.publisher.published] == [payment_id] * 4


@dataclass
class Topic:
    """The producers of a topic, and how often somebody waited for one of its dead partitions."""

    dead: set[int]
    partitions: int = 12
    waits: int = 0
    _asked: bool = False
    _sender: Any = field(default_factory=lambda: SimpleNamespace(force_close=lambda: None))

    def __call__(self, **_: object) -> Topic:
        return self

    def partitions_for(self, topic: str) -> set[int]:
        return set(range(self.partitions))

    def send(self, topic: str, *, partition: int, **_: object) -> SimpleNamespace:
        self._asked |= partition in self.dead
        return SimpleNamespace(get=self._refuse if partition in self.dead else lambda timeout: SimpleNamespace(offset=1))

    def flush(self, timeout: float) -> None:
        self.waits, self._asked = self.waits + self._asked, False

    def _refuse(self, timeout: float) -> None:
        raise TimeoutError

    def is_dead(self, payment_id: UUID) -> bool:
        return (murmur2(str(payment_id).encode()) & 0x7FFFFFFF) % self.partitions in self.dead


@pytest.mark.parametrize("oldest", ["= ANY", "<> ALL"])
def test_one_dead_partition_does_not_stop_the_relay_which_waits_for_it_once(
    lone_shop: Shop, lone_books: Books, monkeypatch: pytest.MonkeyPatch, wall: Wall, oldest: str
) -> None:
    """Its events come first, or those of the others."""
    topic = Topic({0}, partitions=3)
    monkeypatch.setattr("kafka.KafkaProducer", topic)
    monkeypatch.setattr("payments.scheduled.relay.BATCH", 5)
    with_events(lone_shop, lone_books, payments=60, events=1, published=False)
    dead = [[payment_id] for [payment_id] in lone_books.query("SELECT payment_id FROM outbox") if topic.is_dead(payment_id)]
    lone_books.query(
        f"UPDATE outbox SET lease_until = now() - interval '1 minute' WHERE payment_id {oldest} (:dead::uuid[])",
        dead=[payment_id for [payment_id] in dead],
    )
    assert len(dead) > 5
    assert lone_shop.with_(publisher=KafkaPublisher(["broker:9092"], "payments")).relay().published == 60 - len(dead)
    assert sorted(lone_books.query("SELECT payment_id FROM outbox WHERE published_at IS NULL")) == sorted(dead)
    assert topic.waits == 1


class Counting(Database):
    """Counts the claims."""

    claims = 0

    def __init__(self, real: Database) -> None:
        self._real = real

    def send(self, *statements: Bound) -> tuple[list[list[Row]], bool]:
        self.claims += "FOR UPDATE OF head" in statements[0].sql
        return self._real.send(*statements)


def test_a_run_ends_when_a_dead_partition_alone_has_events_and_their_leases_end_meanwhile(
    lone_shop: Shop, lone_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would claim them again and again, a write each, for as long as it lasts."""
    topic = Topic({0}, partitions=3)
    monkeypatch.setattr("kafka.KafkaProducer", topic)
    monkeypatch.setattr("payments.scheduled.relay.BATCH", 5)
    monkeypatch.setattr("payments.scheduled.relay.LEASE_S", 0.001)
    with_events(lone_shop, lone_books, payments=60, events=1, published=False)
    ids = [id_ for [id_] in lone_books.query("SELECT payment_id FROM outbox")]
    lone_books.query("DELETE FROM outbox WHERE payment_id = ANY (:alive::uuid[])", alive=[i for i in ids if not topic.is_dead(i)])
    publisher = KafkaPublisher(["broker:9092"], "payments")
    publisher.close([0])  # The partition rests, as after an earlier failure.
    counting = Counting(lone_shop.service.db)
    assert lone_shop.with_(db=counting, publisher=publisher).relay().published == 0
    assert counting.claims < 60


def test_an_event_that_cannot_be_sent_leaves_the_others_of_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [replace(EVENT, event_id=uuid7(), payment_id=uuid7()) for _ in range(10)]

    class Refusing(Topic):
        def send(self, topic: str, *, partition: int, **message: Any) -> SimpleNamespace:
            if message["key"] == str(events[0].payment_id).encode():
                raise ValueError("too large")
            return super().send(topic, partition=partition, **message)

    monkeypatch.setattr("kafka.KafkaProducer", Refusing(set()))
    publisher = KafkaPublisher(["broker:9092"], "payments")
    assert publisher.publish(events, 2.0) == {event.event_id for event in events[1:]}
    assert not publisher.backs_off()


def test_a_topic_without_partitions_costs_a_caller_no_more_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.KafkaProducer", Topic(set(), partitions=0))
    assert KafkaPublisher(["broker:9092"], "payments").publish([EVENT], 0.1) == set()


class Claims(Database):
    """A database that calls `at` with the number of each claim of the relay."""

    def __init__(self, url: str, at: Callable[[int], object]) -> None:
        super().__init__(lambda: Database.at(url)._connect())
        self._at, self._claims = at, 0

    def run(self, *statements: Bound) -> list[list[Row]]:
        if statements[0].sql == backlog.CLAIM_UNPUBLISHED.sql:
            self._claims += 1
            self._at(self._claims)
        return super().run(*statements)


def test_the_next_batch_is_claimed_while_this_one_is_sent(
    lone_shop: Shop, lone_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_events(lone_shop, lone_books, payments=10, events=1, published=False)
    monkeypatch.setattr("payments.scheduled.relay.BATCH", 5)
    claimed_twice = threading.Event()
    lone_shop.publisher.acknowledges = lambda event: claimed_twice.wait(20)
    db = Claims(lone_shop.url, lambda number: claimed_twice.set() if number == 2 else None)
    assert lone_shop.with_(db=db).relay() == Relayed(published=10)
    db.close()


def test_what_was_acknowledged_while_a_claim_failed_is_marked(
    lone_shop: Shop, lone_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each run would send it again, as long as claims fail."""
    with_events(lone_shop, lone_books, payments=15, events=1, published=False)
    monkeypatch.setattr("payments.scheduled.relay.BATCH", 5)

    def fail(number: int) -> None:
        if number == 3:
            raise InternalError("The claim has failed.")

    db = Claims(lone_shop.url, fail)
    with pytest.raises(InternalError):
        lone_shop.with_(db=db).relay()
    db.close()
    marked = lone_books.query("SELECT event_id FROM outbox WHERE published_at IS NOT NULL")
    assert {event_id for [event_id] in marked} == {event.event_id for event in lone_shop.publisher.published}
    assert len(marked) == 10


def test_a_batch_that_is_refused_again_and_again_does_not_starve_the_rest(lone_shop: Shop, lone_books: Books) -> None:
    with_events(lone_shop, lone_books, payments=BATCH + 50, events=1, published=False)
    lone_books.query("UPDATE outbox SET created_at = created_at + random() * interval '1 hour'")
    tried: set[UUID] = set()

    def poison(event: Event) -> bool:
        """Refuse the first batch for good."""
        if len(tried) < BATCH:
            tried.add(event.event_id)
        return event.event_id not in tried

    lone_shop.publisher.acknowledges = poison
    for _ in range(2):
        lone_shop.relay()
        lone_books.query(
            "UPDATE outbox SET lease_until = lease_until - :s * interval '1 second' WHERE lease_until > now()", s=LEASE_S
        )
    assert len(lone_shop.publisher.published) == 50


def test_relays_at_the_same_time_send_each_event_once_and_in_order(lone_shop: Shop, lone_books: Books) -> None:
    payment_ids = [story(lone_shop) for _ in range(25)]
    lone_books.end_event_leases()
    workers = [lone_shop.elsewhere() for _ in range(4)]
    results = at_once(4, lambda number: workers[number].relay())
    while lone_shop.relay().published:  # a relay may stop while another one holds leases
        pass
    assert all(isinstance(result, Relayed) for result in results), results
    sent = [(event.payment_id, event.sequence) for event in lone_shop.publisher.published]
    assert set(Counter(sent).values()) == {1}
    for payment_id in payment_ids:
        assert [sequence for one, sequence in sent if one == payment_id] == [1, 2, 3, 4]


def test_a_mark_that_is_lost_sends_the_event_again_with_the_same_id(lone_shop: Shop, lone_books: Books) -> None:
    story(lone_shop)
    lone_books.end_event_leases()
    lone_shop.relay()
    lone_books.query("UPDATE outbox SET published_at = NULL, lease_until = now() WHERE sequence = 4")
    lone_shop.relay()
    ids = [event.event_id for event in lone_shop.publisher.published]
    assert len(ids) == 5
    assert ids[3] == ids[4]


def test_with_too_little_time_nothing_is_sent_but_the_lag_is_reported(lone_shop: Shop, lone_books: Books) -> None:
    story(lone_shop)
    lone_books.end_event_leases()
    lone_shop.publisher.batches.clear()
    assert lone_shop.relay(time_s=RUN_RESERVE_S).unpublished == 4
    assert lone_shop.publisher.batches == []


def test_a_run_that_cannot_turn_the_outbox_has_sent_its_events_and_reports_the_lag(
    lone_shop: Shop, lone_books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    """As between the deployment and `migrate`. What becomes of old events is in tests/store/test_outbox_weeks.py."""
    lone_books.query("ALTER FUNCTION turn_outbox RENAME TO not_there_yet")
    try:
        story(lone_shop)
        lone_books.end_event_leases()
        assert (lone_shop.relay().published, lone_shop.relay().unpublished) == (4, 0)
    finally:
        lone_books.query("ALTER FUNCTION not_there_yet RENAME TO turn_outbox")
    assert "the outbox keeps its tables and grows" in caplog.text


# Replay


def published_at_minutes(books: Books, payment_id: UUID, minutes: Sequence[int]) -> datetime:
    """Mark the payment's events published, and date them to these minutes after a past noon. Return that noon."""
    [[noon]] = books.query("SELECT date_trunc('day', now()) - interval '12 hours'")
    for row, minute in zip(books.outbox(payment_id), minutes, strict=True):
        books.query(
            "UPDATE outbox SET created_at = :at, published_at = now() WHERE event_id = :id",
            at=noon + timedelta(minutes=minute),
            id=row["event_id"],
        )
    moment: datetime = noon
    return moment


def test_a_range_is_sent_again_with_the_same_ids_from_inclusive_to_exclusive(lone_shop: Shop, lone_books: Books) -> None:
    payment_id = story(lone_shop)
    noon = published_at_minutes(lone_books, payment_id, [0, 1, 2, 3])
    rows = lone_books.outbox(payment_id)
    lone_shop.publisher.published.clear()
    ends = noon + timedelta(minutes=1), noon + timedelta(minutes=3)
    assert replay(lone_shop.service, Deadline.in_s(55), *ends) == (2, None)
    assert [event.event_id for event in lone_shop.publisher.published] == [row["event_id"] for row in rows[1:3]]
    assert lone_books.outbox(payment_id) == rows, "a replay writes nothing"


def test_what_was_not_published_is_not_replayed(lone_shop: Shop, lone_books: Books) -> None:
    payment_id = story(lone_shop)
    noon = published_at_minutes(lone_books, payment_id, [0, 1, 2, 3])
    lone_books.query("UPDATE outbox SET published_at = NULL WHERE sequence >= 3")
    lone_shop.publisher.published.clear()
    assert replay(lone_shop.service, Deadline.in_s(55), noon, noon + timedelta(hours=1)) == (2, None)
    assert [event.sequence for event in lone_shop.publisher.published] == [1, 2]


@pytest.fixture
def many(lone_shop: Shop, lone_books: Books) -> datetime:
    """Insert 2.25 batches of published events of one moment, three a payment. Return the moment."""
    return with_events(lone_shop, lone_books, payments=BATCH * 3 // 4, events=3, published=True)


def test_a_long_range_is_sent_page_by_page_without_gap_or_double(lone_shop: Shop, many: datetime) -> None:
    total = BATCH * 3 // 4 * 3
    assert replay(lone_shop.service, Deadline.in_s(55), many, many + timedelta(minutes=1)) == (total, None)
    assert lone_shop.publisher.batches == [BATCH, BATCH, total - 2 * BATCH]
    sent = lone_shop.publisher.published
    assert len({event.event_id for event in sent}) == len(sent) == total
    by_payment: dict[UUID, list[int]] = {}
    for event in sent:
        by_payment.setdefault(event.payment_id, []).append(event.sequence)
    assert set(map(tuple, by_payment.values())) == {(1, 2, 3)}


@pytest.mark.parametrize("pages", [0, 1])
def test_a_replay_that_did_not_reach_the_end_says_where_to_go_on(lone_shop: Shop, many: datetime, pages: int) -> None:
    lone_shop.publisher.acknowledges = lambda event: len(lone_shop.publisher.batches) <= pages
    assert replay(lone_shop.service, Deadline.in_s(55), many, many + timedelta(minutes=1)) == (pages * BATCH, many)
    lone_shop.publisher.acknowledges = lambda event: True
    assert replay(lone_shop.service, Deadline.in_s(RUN_RESERVE_S), many, many + timedelta(minutes=1)) == (0, many)


# On a real broker


def of_payment(found: list[Message], payment_id: UUID) -> list[Message]:
    return [message for message in found if message.key == str(payment_id)]


def test_an_event_reaches_the_topic_as_a_cloud_event(shop: Shop, books: Books, broker: Broker, topic: str) -> None:
    publisher = KafkaPublisher([broker.bootstrap_servers], topic)
    real = shop.with_(publisher=publisher)
    payment = real.captured(description="注文")
    real.refund(payment.transaction_id, amount=500)
    real.wait_for_mark()
    publisher.close()
    found = of_payment(list(messages(broker.bootstrap_servers, topic)), payment.payment_id)
    rows = books.outbox(payment.payment_id)
    assert [row["published_at"] is not None for row in rows] == [True, True], "the invocations published and marked them"
    for message, row in zip(found, rows, strict=True):
        assert message.headers == {
            "ce_specversion": "1.0",
            "ce_id": str(row["event_id"]),
            "ce_source": "urn:payments:service",
            "ce_type": row["type"],
            "ce_time": rfc3339(row["created_at"]),
            "ce_subject": str(payment.payment_id),
            "ce_sequence": f"000000000{row['sequence']}",
            "ce_dataschema": f"urn:payments:schema:{row['type']}:1",
            "content-type": "application/json",
            "ce_traceparent": TRACEPARENT,
            "traceparent": TRACEPARENT,
        }
        assert message.value == json.loads(row["data"])
    assert "注文" in found[0].text


def test_what_the_function_the_relay_and_a_replay_send_is_the_same(
    lone_shop: Shop, lone_books: Books, broker: Broker, own_topic: str
) -> None:
    publisher = KafkaPublisher([broker.bootstrap_servers], own_topic)
    real = lone_shop.with_(publisher=publisher)
    payment = real.captured()
    # A function that is killed before it marks leaves the event to the relay.
    lone_books.query("UPDATE outbox SET published_at = NULL")
    lone_books.end_event_leases()
    assert real.relay() == Relayed(published=1)
    [row] = lone_books.outbox(payment.payment_id)
    at = row["created_at"]
    assert replay(real.service, Deadline.in_s(55), at, at + timedelta(seconds=1)) == (1, None)
    publisher.close()
    inline, relayed, replayed = messages(broker.bootstrap_servers, own_topic)
    assert inline == relayed == replayed
    assert inline.headers.keys() >= {"ce_dataschema", "ce_traceparent", "traceparent"}


def test_on_the_topic_each_payments_events_are_in_order(
    lone_shop: Shop, lone_books: Books, broker: Broker, own_topic: str
) -> None:
    payment_ids = [story(lone_shop) for _ in range(30)]
    lone_books.end_event_leases()
    publisher = KafkaPublisher([broker.bootstrap_servers], own_topic)
    assert lone_shop.with_(publisher=publisher).relay() == Relayed(published=120)
    publisher.close()
    found = list(messages(broker.bootstrap_servers, own_topic))
    assert len({message.headers["ce_id"] for message in found}) == len(found) == 120
    for payment_id in payment_ids:
        own = of_payment(found, payment_id)
        assert [message.headers["ce_sequence"] for message in own] == [f"000000000{number}" for number in (1, 2, 3, 4)]
        assert [message.headers["ce_type"] for message in own] == STORY


def test_a_payments_events_are_in_the_partition_that_kafkas_own_producer_chooses(broker: Broker, own_topic: str) -> None:
    """Other producers and earlier releases leave the choice to the driver."""
    events = [replace(EVENT, event_id=uuid7(), payment_id=UUID(int=number)) for number in range(20)]
    publisher = KafkaPublisher([broker.bootstrap_servers], own_topic)
    assert len(publisher.publish(events, 5)) == 20
    publisher.close()
    with contextlib.closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers)) as producer:
        chosen = {
            str(event.payment_id): producer.send(own_topic, b"", str(event.payment_id).encode()).get(5).partition
            for event in events
        }
    found = list(messages(broker.bootstrap_servers, own_topic))
    assert {(message.key, message.partition) for message in found} == set(chosen.items())
    assert len(found) == 40
    assert len(set(chosen.values())) > 1


def test_a_broker_that_stops_answering_costs_no_payment_and_gets_its_events_when_it_is_back(
    lone_shop: Shop, lone_books: Books, proxied_broker: tuple[FaultProxy, ProxiedBroker]
) -> None:
    proxy, embedded = proxied_broker
    topic = Broker(embedded.bootstrap_servers).new_topic()
    publisher = KafkaPublisher([f"127.0.0.1:{proxy.port}"], topic)
    real = lone_shop.with_(publisher=publisher)
    first = real.captured()
    with proxy.stalled():
        paid = [real.captured() for _ in range(3)]
        refunded = real.refund(first.transaction_id)
    assert {payment.status for payment in paid} == {"CAPTURED"}
    assert refunded.payment.status == "REFUNDED"
    waiting = lone_books.query("SELECT count(*) FROM outbox WHERE published_at IS NULL")
    assert waiting == [[4]]
    publisher.close()
    publisher = KafkaPublisher([f"127.0.0.1:{proxy.port}"], topic)
    real = lone_shop.with_(publisher=publisher)
    lone_books.end_event_leases()
    assert real.relay() == Relayed(published=4)
    publisher.close()
    found = list(messages(embedded.bootstrap_servers, topic))
    ids = {message.headers["ce_id"] for message in found}
    assert ids == {str(event_id) for (event_id,) in lone_books.query("SELECT event_id FROM outbox")}
    sequences = [message.headers["ce_sequence"] for message in of_payment(found, first.payment_id)]
    assert sequences == sorted(sequences)
    assert set(sequences) == {"0000000001", "0000000002"}


class Wall:
    """A wall clock that the test sets, in the place of the module `time`."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    wall = Wall()
    monkeypatch.setattr("payments.broker.kafka.time", wall)
    return wall


EVENT = Event(UUID(int=1), UUID(int=2), 1, "payment.successful", "{}", datetime.fromisoformat("2026-01-31T12:00:00Z"), None)
EVERY = set(range(12))


def calls(shop: Shop, topic: Topic, wall: Wall, *, every_s: float, for_s: float) -> tuple[list[float], int]:
    """Call one environment at these intervals, each time for another payment. Return when, in seconds, a caller waited for the
    broker, and how many events callers left to the relay although their partition is up."""
    begun_s, waited, left, chance = wall.now_s, list[float](), 0, random.Random(7)
    while wall.now_s < begun_s + for_s:
        before, event = topic.waits, replace(EVENT, payment_id=UUID(int=chance.getrandbits(128)))
        left += not publish([event], shop.service) and not topic.is_dead(event.payment_id)
        waited += [round(wall.now_s - begun_s, 1)] if topic.waits > before else []
        wall.now_s += every_s
    return waited, left


@pytest.mark.parametrize(
    ("every_s", "for_s", "waited"),
    [
        (4, 120, [0, 4, 8, 20, 68]),
        (30, 600, [0, 30, 60, 90, 150, 360]),
        (0.2, 60, [0, 0.2, 3.2, 15.2]),
        (400, 1600, [0, 400, 800, 1200]),
    ],
)
def test_the_longer_a_broker_is_away_the_fewer_callers_wait_for_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, wall: Wall, every_s: float, for_s: float, waited: list[float]
) -> None:
    """The monotonic clock does not go on here: that of a function that is frozen between two calls may stand still."""
    topic = Topic(EVERY)
    monkeypatch.setattr("kafka.KafkaProducer", topic)
    real = shop.with_(publisher=KafkaPublisher(["broker:9092"], "payments"))
    assert calls(real, topic, wall, every_s=every_s, for_s=for_s) == (waited, 0)


def test_a_broker_that_is_back_is_noticed_at_the_end_of_the_pause_or_by_a_relay_in_the_same_process(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, wall: Wall
) -> None:
    topic = Topic(EVERY)
    monkeypatch.setattr("kafka.KafkaProducer", topic)
    publisher = KafkaPublisher(["broker:9092"], "payments")
    real = shop.with_(publisher=publisher)
    calls(real, topic, wall, every_s=4, for_s=60)
    topic.dead = set()
    assert publish([EVENT], real.service) == set(), "the pause is not over"
    wall.now_s += 10
    assert publish([EVENT], real.service) == {EVENT.event_id}
    topic.dead = EVERY
    publisher.close()
    assert publish([EVENT], real.service) == set()
    topic.dead = set()
    assert publisher.publish([EVENT], 1) == {EVENT.event_id}, "the relay asks"
    assert publish([EVENT], real.service) == {EVENT.event_id}, "and callers need not wait for the end of the pause"


@pytest.mark.parametrize("partitions", [2, 12])
def test_one_dead_partition_costs_a_caller_in_a_while_and_the_events_of_the_others_leave_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, wall: Wall, partitions: int
) -> None:
    topic = Topic({1}, partitions)
    monkeypatch.setattr("kafka.KafkaProducer", topic)
    real = shop.with_(publisher=KafkaPublisher(["broker:9092"], "payments"))
    waited, left = calls(real, topic, wall, every_s=2, for_s=3600)
    assert len(waited) <= 3600 / 48 + 3, "one in 48 s, and the first ones"
    assert left == 0


def test_a_partition_that_is_back_gets_its_events_within_a_minute(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, wall: Wall
) -> None:
    """A minute, because the relay heeds the pause of a partition too, and runs each minute."""
    topic = Topic({1}, 2)
    monkeypatch.setattr("kafka.KafkaProducer", topic)
    real = shop.with_(publisher=KafkaPublisher(["broker:9092"], "payments"))
    calls(real, topic, wall, every_s=2, for_s=3600)
    topic.dead = set()
    wall.now_s += 60
    assert calls(real, topic, wall, every_s=2, for_s=60) == ([], 0)


def test_a_clock_that_is_set_back_does_not_prolong_the_pause(shop: Shop, monkeypatch: pytest.MonkeyPatch, wall: Wall) -> None:
    monkeypatch.setattr("kafka.KafkaProducer", Topic(EVERY, 1))
    publisher = KafkaPublisher(["broker:9092"], "payments")
    publish([EVENT], shop.with_(publisher=publisher).service)
    assert publisher.backs_off()
    wall.now_s -= 3600
    assert not publisher.backs_off()


def test_a_warm_up_and_a_publish_that_fail_together_are_one_failure(wall: Wall) -> None:
    publisher = KafkaPublisher([f"127.0.0.1:{servers.free_port()}"], "payments")
    for _ in range(2):
        publisher.close()
    assert publisher.backs_off()
    wall.now_s += 3
    assert not publisher.backs_off(), "the second one did not lengthen the pause"


def test_a_broker_that_is_not_there_is_not_warmed_up_again_and_no_one_waits_long() -> None:
    publisher = KafkaPublisher([f"127.0.0.1:{servers.free_port()}"], "payments")
    assert publisher.publish([EVENT], 0.5) == set()
    assert publisher._producer is None, "a producer that failed is dropped"
    assert publisher.backs_off()
    publisher.warm_up()
    assert publisher._producer is None


class FakeAdmin:
    """A cluster of so many brokers. With `refuses` it refuses the first request, because it decides on replicas itself."""

    def __init__(self, brokers: int, refuses: type[Exception] | None) -> None:
        self._brokers, self._refuses = brokers, refuses
        self.requests: list[tuple[int, dict[str, str]]] = []

    def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{"broker_id": number} for number in range(self._brokers)]}

    def create_topics(self, topics: Sequence[Any]) -> None:
        [topic] = topics
        self.requests.append((topic.replication_factor, topic.topic_configs))
        if self._refuses and len(self.requests) == 1:
            raise self._refuses

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("brokers", "refuses", "requests"),
    [
        (1, None, [(1, {})]),
        (2, None, [(2, DURABLE)]),
        (6, None, [(3, DURABLE)]),
        (3, InvalidReplicationFactorError, [(3, DURABLE), (-1, {})]),
        (3, PolicyViolationError, [(3, DURABLE), (-1, {})]),
        (3, InvalidConfigurationError, [(3, DURABLE), (-1, {})]),
    ],
)
def test_an_acknowledged_event_has_two_copies_where_there_are_brokers_for_them(
    monkeypatch: pytest.MonkeyPatch,
    brokers: int,
    refuses: type[Exception] | None,
    requests: list[tuple[int, dict[str, str]]],
) -> None:
    admin = FakeAdmin(brokers, refuses)
    monkeypatch.setattr("kafka.admin.KafkaAdminClient", lambda **_: admin)
    assert create_topic(["broker:9092"], "payments", 12, dict)
    assert admin.requests == requests


def test_a_topic_is_made_once(broker: Broker) -> None:
    name = f"made-{uuid7()}"
    made = [create_topic([broker.bootstrap_servers], name, 3, dict) for _ in range(2)]
    assert made == [True, False]


def test_a_broker_that_took_an_event_for_a_duplicate_of_what_it_never_had_has_not_acknowledged(
    outage_broker: EmbeddedBroker,
) -> None:
    address, payment_id = outage_broker.bootstrap_servers, UUID(int=1)

    def event(number: int) -> Event:
        moment = datetime.fromisoformat("2026-01-31T12:00:00Z")
        return Event(UUID(int=number), payment_id, number, "payment.successful", "{}", moment, None)

    older = KafkaPublisher([address], "payments")
    assert older.publish([event(1)], 5) == {UUID(int=1)}
    before = outage_broker.restarts
    servers.kill(outage_broker)  # it forgets everything, so it gives the second producer the first one's id
    end_s = time.monotonic() + 60
    while outage_broker.restarts == before and time.monotonic() < end_s:
        time.sleep(0.05)
    younger = KafkaPublisher([address], "payments")
    for number in (2, 3, 4):
        assert younger.publish([event(number)], 5) == {UUID(int=number)}
    acknowledged = older.publish([event(5)], 5)
    older.close()
    younger.close()
    on_topic = {UUID(message.headers["ce_id"]) for message in messages(address, "payments")}
    assert acknowledged <= on_topic


def test_the_store_leases_a_payments_events_from_the_oldest_on(lone_shop: Shop, lone_books: Books) -> None:
    payment_id = story(lone_shop)
    lone_books.end_event_leases()
    db = lone_shop.service.db
    claimed, _ = backlog.claim_unpublished(db, 2, 60)
    assert [(event.payment_id, event.sequence) for event in claimed] == [(payment_id, 1), (payment_id, 2)]
    assert backlog.claim_unpublished(db, 10, 60)[0] == [], "the others wait while the first are on their way"
    outbox.mark_published(db, [event.event_id for event in claimed])
    assert [event.sequence for event in backlog.claim_unpublished(db, 10, 60)[0]] == [3, 4]


def test_an_event_that_is_being_sent_holds_up_those_behind_it_alone(lone_shop: Shop, lone_books: Books) -> None:
    payment_id = story(lone_shop)
    lone_books.end_event_leases()
    lone_books.query(
        f"UPDATE outbox SET lease_until = now() + interval '1 minute' WHERE payment_id = '{payment_id}' AND sequence = 3"
    )
    assert [event.sequence for event in backlog.claim_unpublished(lone_shop.service.db, 10, 60)[0]] == [1, 2]


@pytest.mark.parametrize("refused", [1, 2, 4])
def test_no_event_leaves_before_the_one_in_front_of_it_is_acknowledged(lone_shop: Shop, lone_books: Books, refused: int) -> None:
    payment_ids = [story(lone_shop) for _ in range(3)]
    lone_books.end_event_leases()
    lone_shop.publisher.acknowledges = lambda event: event.sequence < refused
    assert lone_shop.relay().published == 3 * (refused - 1)
    for payment_id in payment_ids:
        sent = [event.sequence for event in lone_shop.publisher.published if event.payment_id == payment_id]
        assert sent == list(range(1, refused))


def test_a_payment_with_thousands_of_events_is_sent_in_one_run(lone_shop: Shop, lone_books: Books) -> None:
    with_events(lone_shop, lone_books, payments=1, events=500, published=False)
    assert lone_shop.relay() == Relayed(published=500)
    assert [event.sequence for event in lone_shop.publisher.published] == list(range(1, 501))
