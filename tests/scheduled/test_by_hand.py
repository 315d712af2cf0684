"""A person settles an operation with the outcome that the gateway shows."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

import pytest

from local.servers import connect
from payments.domain.errors import OrderInProgress
from payments.domain.operation import Outcome
from payments.domain.payment import PaymentStatus
from payments.domain.refund import RefundStatus
from payments.gateway.port import GatewayRequest, Reply
from payments.scheduled.by_hand import NotSettled, settle_by_hand
from tests.fakes import approve, lose_reply
from tests.servers import Database
from tests.shop import Books, Shop

IDS = {"transaction_id": "txn_of_the_gateway", "payment_intent_id": "pi_of_the_gateway"}
KIM = {"by": "kim", "attempt": 1}
NEVER_SEEN = {"outcome": "declined", "decline_code": "processing_error"}


def operation_of(database: Database, payment_id: UUID, kind: str) -> str:
    with contextlib.closing(connect(database.owner_url)) as connection:
        sql = "SELECT operation_id FROM operations WHERE payment_id = :payment_id AND kind = :kind AND outcome IS NULL"
        rows = connection.run(sql, payment_id=str(payment_id), kind=kind)
    return str(rows[0][0])


def reply_of(database: Database, operation_id: str) -> Any:
    with contextlib.closing(connect(database.owner_url)) as connection:
        return connection.run("SELECT reply FROM operations WHERE operation_id = :id", id=operation_id)[0][0]


def lost(shop: Shop, database: Database) -> str:
    """Make a payment whose first attempt gets no reply, and return its operation's id."""
    shop.gateway.answer = lose_reply
    return operation_of(database, shop.process().payment.payment_id, "process")


def make_older(database: Database, operation_id: str, age_s: int) -> None:
    with contextlib.closing(connect(database.owner_url)) as connection:
        older = ", ".join(f"{name} = {name} - interval '{age_s} seconds'" for name in ("created_at", "key_ends_at"))
        connection.run(f"UPDATE operations SET {older} WHERE operation_id = :id", id=operation_id)


DAY_S = 25 * 3600
"""Reconcile only asks the gateway about an operation of this age."""

SHORT = (30.0,)
"""A schedule whose last moment comes long before the gateway's key ends."""


OUTCOMES: dict[str, tuple[dict[str, str], PaymentStatus]] = {
    "captured": ({"outcome": "succeeded", **IDS}, PaymentStatus.CAPTURED),
    "declined": ({"outcome": "declined", "decline_code": "card_declined"}, PaymentStatus.FAILED),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_a_payment_gets_the_outcome_and_owes_its_event(shop: Shop, database: Database, case: str) -> None:
    found, status = OUTCOMES[case]
    shop.gateway.answer = lose_reply
    payment = shop.process().payment
    operation_id = operation_of(database, payment.payment_id, "process")
    make_older(database, operation_id, DAY_S)
    settled = settle_by_hand(shop.service, {"operation_id": operation_id, **KIM, **found})
    assert (settled.payment.status, settled.replayed) == (status, False)
    assert reply_of(database, operation_id)["raw"] == {"by_hand": "kim"}
    with contextlib.closing(connect(database.owner_url)) as connection:
        sql = "SELECT data::jsonb ->> 'status' FROM outbox WHERE payment_id = :id"
        assert connection.run(sql, id=str(payment.payment_id)) == [[status.value]]
    again = settle_by_hand(shop.service, {"operation_id": operation_id, **KIM, **OUTCOMES["declined"][0]})
    assert (again.payment.status, again.replayed) == (status, True), "an outcome stands"


def test_a_declined_refund_frees_what_it_had_reserved(shop: Shop, database: Database) -> None:
    payment = shop.captured()
    shop.gateway.answer = lose_reply
    shop.refund(payment.transaction_id, amount=1500)
    shop.gateway.answer = approve
    operation_id = operation_of(database, payment.payment_id, "refund")
    make_older(database, operation_id, DAY_S)
    found = {"operation_id": operation_id, **KIM, "outcome": "declined", "decline_code": "generic_decline"}
    settled = settle_by_hand(shop.service, found)
    assert settled.refund and settled.refund.status is RefundStatus.FAILED
    assert shop.refund(payment.transaction_id, amount=1999).outcome is Outcome.SUCCEEDED


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such operation": ({"operation_id": "019c0000-0000-7000-8000-000000000000"}, "no such operation"),
    "no person": ({"by": ""}, "who looked"),
    "no ids": ({"transaction_id": ""}, "must be the gateway's"),
    "no outcome": ({"outcome": "unknown"}, "outcome must be"),
    "no code": ({"outcome": "declined"}, "decline_code of"),
    "no attempt": ({"attempt": None}, "attempt is not the last one"),
    "an earlier attempt": ({"attempt": 0}, "attempt is not the last one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_says_too_little_is_refused_and_changes_nothing(shop: Shop, database: Database, case: str) -> None:
    difference, reason = REFUSED[case]
    operation_id = lost(shop, database)
    make_older(database, operation_id, DAY_S)
    before = reply_of(database, operation_id)
    found = {"operation_id": operation_id, **KIM, "outcome": "succeeded", **IDS} | difference
    with pytest.raises(NotSettled, match=reason):
        settle_by_hand(shop.service, found)
    assert reply_of(database, operation_id) == before


@pytest.mark.parametrize("name", ["transaction_id", "payment_intent_id"])
def test_an_id_that_another_payment_has_is_refused_with_a_reason(shop: Shop, database: Database, name: str) -> None:
    paid = shop.captured()
    operation_id = lost(shop, database)
    make_older(database, operation_id, DAY_S)
    found = {"operation_id": operation_id, **KIM, "outcome": "succeeded", **IDS, name: getattr(paid, name)}
    with pytest.raises(NotSettled, match="belongs to another payment"):
        settle_by_hand(shop.service, found)


@pytest.mark.parametrize("found", ["019c139e-4c00-7a41-9b0f-2d6c31e0a7f1", [], None, {"operation_id": "no id"}])
def test_what_is_no_object_or_names_no_operation_is_refused_with_a_reason(shop: Shop, found: Any) -> None:
    with pytest.raises(NotSettled, match="operation_id must be the UUID"):
        settle_by_hand(shop.service, found)


def test_an_operation_that_reconcile_still_tries_is_left_to_it(shop: Shop, database: Database) -> None:
    found = {"operation_id": lost(shop, database), **KIM, "outcome": "succeeded", **IDS}
    with pytest.raises(NotSettled, match="still works"):
        settle_by_hand(shop.service, found)


def test_the_last_attempt_is_waited_for_although_its_moment_has_passed(
    lone_shop: Shop, lone_database: Database, lone_books: Books
) -> None:
    lone_shop = lone_shop.with_(retry_schedule_s=SHORT)
    operation_id = lost(lone_shop, lone_database)
    make_older(lone_database, operation_id, 31)
    found = {"operation_id": operation_id, **KIM, **NEVER_SEEN}
    lone_books.make_due()
    with pytest.raises(NotSettled, match="still works"):
        settle_by_hand(lone_shop.service, found)

    def settle_meanwhile(action: str, request: GatewayRequest) -> Reply:
        with pytest.raises(NotSettled, match="still works"):
            settle_by_hand(lone_shop.service, found | {"attempt": 2})
        return lose_reply(action, request)

    lone_shop.gateway.answer = settle_meanwhile
    assert lone_shop.reconcile().exhausted == 1
    settled = settle_by_hand(lone_shop.service, found | {"attempt": 2})
    assert settled.payment.status is PaymentStatus.FAILED


def test_a_look_before_the_last_attempt_does_not_free_an_order_that_the_attempt_charged(
    lone_shop: Shop, lone_database: Database, lone_books: Books
) -> None:
    charged: set[str] = set()

    def charge_and_lose_the_reply(action: str, request: GatewayRequest) -> Reply:
        charged.add(request.key)
        return lose_reply(action, request)

    lone_shop = lone_shop.with_(retry_schedule_s=SHORT)
    lone_shop.gateway.answer = lose_reply  # the request itself is lost, so a person who looks now finds nothing
    payment = lone_shop.process(order_id="o").payment
    operation_id = operation_of(lone_database, payment.payment_id, "process")
    make_older(lone_database, operation_id, 31)
    lone_books.make_due()
    lone_shop.gateway.answer = charge_and_lose_the_reply
    assert lone_shop.reconcile().exhausted == 1
    with pytest.raises(NotSettled, match="attempt is not the last one"):
        settle_by_hand(lone_shop.service, {"operation_id": operation_id, **KIM, **NEVER_SEEN})
    lone_shop.gateway.answer = approve
    with pytest.raises(OrderInProgress):
        lone_shop.process(order_id="o")
    assert charged == {f"pay-{payment.payment_id}"}
