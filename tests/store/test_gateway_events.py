"""The inbox of gateway events in PostgreSQL: an event is kept once, claimed by one worker, and handled once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest

from payments.domain.payment import PaymentStatus
from payments.gateway.port import Declined, GatewayRequest, Hint, Reply
from payments.store import gateway_events
from payments.store.connection import Database
from payments.store.gateway_events import GIVE_UP_H, INSERTED, WAITS_S, Door, EventOutcome
from tests import servers
from tests.fakes import lose_reply
from tests.shop import Books, Shop, at_once

CREATED = datetime(2026, 11, 29, 12, tzinfo=UTC)
LEASE_S = 30.0
NUMBERS = count(1)


def hint(intent: str | None = "pi_1", event_id: str | None = None, **changes: Any) -> Hint:
    told: dict[str, Any] = {"type": "payment_intent.succeeded", "created_at": CREATED, "payment_id": None} | changes
    return Hint(event_id=event_id or f"evt_{next(NUMBERS)}", payment_intent_id=intent, **told)


@pytest.fixture
def db(lone_database: servers.Database) -> Iterator[Database]:
    opened = Database.at(lone_database.service_url)
    yield opened
    opened.close()


def kept(db: Database, *hints: Hint, door: Door = Door.WEBHOOK) -> set[str]:
    return gateway_events.insert(db, "stripe", door, hints)


def claimed(db: Database, event_id: str | None = None) -> set[str]:
    return {event.event_id for event in gateway_events.claim(db, "stripe", LEASE_S, event_id)}


def make_due(books: Books) -> None:
    books.query("UPDATE gateway_events SET next_attempt_at = now(), lease_until = NULL WHERE handled_at IS NULL")


def test_an_event_is_kept_once_through_whichever_door_it_comes(db: Database, lone_books: Books) -> None:
    one, two = hint(payment_id=uuid4()), hint(None)
    assert kept(db, one) == {one.event_id}
    assert kept(db, one, two, one, door=Door.PULL) == {two.event_id}
    assert kept(db, one, two, door=Door.EVENTBRIDGE) == set()
    first, second = lone_books.record("SELECT * FROM gateway_events ORDER BY received_at")
    assert (first["event_id"], first["type"], first["payment_intent_id"]) == (one.event_id, one.type, "pi_1")
    assert (first["payment_id"], first["created_at"], first["door"]) == (one.payment_id, CREATED, "webhook")
    assert (second["payment_intent_id"], second["payment_id"], second["door"]) == (None, None, "pull")


def test_many_events_are_kept_at_once_and_an_id_is_anothers_at_another_gateway(db: Database) -> None:
    many = [hint(f"pi_{number}") for number in range(2 * INSERTED + 1)]
    assert kept(db, *many) == {each.event_id for each in many}
    assert gateway_events.insert(db, "simulated", Door.PULL, many[:1]) == {many[0].event_id}
    assert kept(db) == set()


def test_of_many_that_bring_an_event_one_brings_it_first(lone_database: servers.Database, lone_books: Books) -> None:
    one = hint()

    def bring(_: int) -> set[str]:
        with closing(Database.at(lone_database.service_url)) as own:
            return kept(own, one)

    assert sorted(map(len, at_once(8, bring))) == [0] * 7 + [1]  # type: ignore[arg-type]
    assert lone_books.query("SELECT count(*) FROM gateway_events") == [[1]]


def test_a_claim_takes_all_events_of_a_payment_and_leaves_the_others(db: Database) -> None:
    one, two, other, without = hint("pi_1"), hint("pi_1"), hint("pi_2"), hint(None)
    kept(db, one, two, other, without)
    assert claimed(db, two.event_id) == {one.event_id, two.event_id}
    assert claimed(db, one.event_id) == set(), "a claimed event is not due"
    assert [claimed(db) for _ in range(3)] == [{other.event_id}, {without.event_id}, set()]


def test_a_claim_brings_along_what_waits_for_a_later_attempt(db: Database) -> None:
    one, two = hint(), hint()
    kept(db, one)
    gateway_events.note(db, "stripe", gateway_events.claim(db, "stripe", LEASE_S), EventOutcome.LATER)
    kept(db, two)
    found = gateway_events.claim(db, "stripe", LEASE_S)
    assert {(event.event_id, event.attempt) for event in found} == {(one.event_id, 2), (two.event_id, 1)}


def test_workers_that_claim_at_once_share_the_events_out(lone_database: servers.Database, db: Database) -> None:
    hints = [hint(f"pi_{number % 10}") for number in range(60)]
    kept(db, *hints)

    def work(_: int) -> list[str]:
        found = list[str]()
        with closing(Database.at(lone_database.service_url)) as own:
            while events := gateway_events.claim(own, "stripe", LEASE_S):
                found += [event.event_id for event in events]
        return found

    found = [event_id for each in at_once(6, work) for event_id in each]  # type: ignore[union-attr]
    assert sorted(found) == sorted(each.event_id for each in hints)


def test_another_gateways_events_wait_for_that_gateway(db: Database) -> None:
    gateway_events.insert(db, "simulated", Door.PULL, [hint(), hint()])
    assert claimed(db) == set()
    assert len(gateway_events.claim(db, "simulated", LEASE_S)) == 2


def test_a_lease_that_has_ended_makes_the_event_due_again_and_its_old_worker_can_no_longer_note(
    db: Database, lone_books: Books
) -> None:
    kept(db, hint())
    [dead] = gateway_events.claim(db, "stripe", LEASE_S)
    assert not claimed(db)
    lone_books.query("UPDATE gateway_events SET lease_until = now(), next_attempt_at = now()")
    [alive] = gateway_events.claim(db, "stripe", LEASE_S)
    assert (dead.attempt, alive.attempt) == (1, 2)
    assert gateway_events.note(db, "stripe", [dead], EventOutcome.FOREIGN) == 0
    assert gateway_events.note(db, "stripe", [alive], EventOutcome.SETTLED) == 1
    assert gateway_events.note(db, "stripe", [alive], EventOutcome.ORPHAN) == 0
    assert lone_books.query("SELECT outcome, next_attempt_at, lease_until FROM gateway_events") == [["settled", None, None]]


def test_an_event_that_waits_is_tried_for_a_day_and_then_left(db: Database, lone_books: Books) -> None:
    kept(db, hint())
    waits = "SELECT extract(epoch FROM next_attempt_at - now())::int FROM gateway_events"
    for attempt, wait_s in enumerate((*WAITS_S, *[WAITS_S[-1]] * 30), 1):
        [event] = gateway_events.claim(db, "stripe", LEASE_S)
        assert event.attempt == attempt
        assert gateway_events.note(db, "stripe", [event], EventOutcome.LATER) == 0
        [[left_s]] = lone_books.query(waits)
        assert wait_s - 5 <= left_s <= wait_s
        make_due(lone_books)
    lone_books.query(f"UPDATE gateway_events SET received_at = now() - interval '{GIVE_UP_H} hours'")
    [event] = gateway_events.claim(db, "stripe", LEASE_S)
    assert gateway_events.note(db, "stripe", [event], EventOutcome.LATER) == 1
    assert lone_books.query("SELECT outcome, handled_at IS NOT NULL, next_attempt_at FROM gateway_events") == [
        ["later", True, None]
    ]
    assert not claimed(db)


def found(shop: Shop, intent: str | None, payment_id: UUID | None = None) -> UUID | None:
    payment = gateway_events.payment_of(shop.service.db, "simulated", intent, payment_id)
    return payment.payment_id if payment else None


def test_a_payment_is_found_by_its_intent_or_by_our_id_and_never_by_anothers_intent(shop: Shop) -> None:
    paid, other = shop.captured(), shop.captured()
    assert found(shop, paid.payment_intent_id) == paid.payment_id
    assert found(shop, None, paid.payment_id) == paid.payment_id
    assert found(shop, paid.payment_intent_id, other.payment_id) == paid.payment_id
    assert found(shop, "pi_of_somebody", paid.payment_id) is None
    assert found(shop, "pi_of_somebody") is found(shop, None) is found(shop, None, uuid4()) is None
    of_another = gateway_events.payment_of(shop.service.db, "stripe", paid.payment_intent_id, paid.payment_id)
    assert of_another is None, "it is at another gateway"


def decline_without_an_intent(action: str, request: GatewayRequest) -> Reply:
    return Declined("card_declined", "The card was declined.", None, None, {})


def test_a_payment_whose_intent_is_not_known_yet_is_found_by_our_id(shop: Shop) -> None:
    paid = shop.captured()
    shop.gateway.answer = lose_reply
    waiting = shop.captured()
    assert waiting.payment_intent_id is None
    assert found(shop, "pi_that_it_will_have", waiting.payment_id) == waiting.payment_id
    shop.gateway.answer = decline_without_an_intent
    failed = shop.captured()
    assert (failed.status, failed.payment_intent_id) == (PaymentStatus.FAILED, None)
    assert found(shop, "pi_that_it_should_not_have", failed.payment_id) is None, "it has none: whose money is it?"
    assert found(shop, None, failed.payment_id) == failed.payment_id
    assert found(shop, paid.payment_intent_id, waiting.payment_id) == paid.payment_id


def test_a_pull_begins_where_the_last_one_began_less_an_overlap_and_at_most_days_ago(db: Database, lone_books: Books) -> None:
    def begun(gateway: str = "stripe") -> tuple[datetime, datetime, datetime | None]:
        return gateway_events.begin_pull(db, gateway, 300.0, 3 * 86400.0)

    def since_s(gateway: str = "stripe") -> float:
        begun_at, since, _ = begun(gateway)
        return (begun_at - since).total_seconds()

    assert since_s() == 300, "of the first pull"
    first = begun()[0]
    lone_books.query("UPDATE gateway_pulls SET pulled_at = pulled_at - interval '1 hour'")
    assert (begun()[0], since_s()) == (first, 3900), "the same pull goes on"
    assert since_s("simulated") == 300
    gateway_events.pulled(db, "stripe", first)
    assert begun()[0] > first
    assert 300 <= since_s() < 360
    gateway_events.pulled(db, "stripe", begun()[0])
    lone_books.query("UPDATE gateway_pulls SET pulled_at = now() - interval '9 days'")
    assert since_s() == 3 * 86400


def test_a_pull_that_goes_on_asks_up_to_what_was_read(db: Database) -> None:
    def until() -> datetime | None:
        return gateway_events.begin_pull(db, "stripe", 300.0, 3 * 86400.0)[2]

    begun_at = gateway_events.begin_pull(db, "stripe", 300.0, 3 * 86400.0)[0]
    assert until() is None
    for moment, expected in ((CREATED, CREATED), (CREATED + timedelta(hours=1), CREATED)):
        gateway_events.read_to(db, "stripe", begun_at, moment)
        assert until() == expected, "a slower worker does not set it back"
    gateway_events.read_to(db, "stripe", begun_at - timedelta(minutes=1), CREATED - timedelta(days=1))
    gateway_events.pulled(db, "stripe", begun_at - timedelta(minutes=1))
    assert until() == CREATED, "of an earlier pull"
    gateway_events.pulled(db, "stripe", begun_at)
    assert until() is None


def test_what_was_handled_a_month_ago_leaves_and_what_waits_stays(db: Database, lone_books: Books) -> None:
    old, new, waits = hint("pi_1"), hint("pi_2"), hint("pi_3")
    kept(db, old, new, waits)

    def handled() -> None:
        gateway_events.note(db, "stripe", gateway_events.claim(db, "stripe", LEASE_S), EventOutcome.NOTHING_NEW)

    handled()
    lone_books.query("UPDATE gateway_events SET handled_at = now() - interval '31 days' WHERE handled_at IS NOT NULL")
    handled()
    lone_books.query("UPDATE gateway_events SET received_at = now() - interval '31 days'")
    gateway_events.prune(db)
    assert lone_books.query("SELECT event_id FROM gateway_events ORDER BY event_id") == [[new.event_id], [waits.event_id]]
