"""Outcomes that a person looked up at the gateway."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from local.servers import connect
from payments.by_hand import settle_by_hand
from payments.domain.operation import Kind, Outcome, RefundStatus
from payments.domain.payment import PaymentStatus
from tests.flows.fakes import approve, lose_reply
from tests.flows.shop import Shop
from tests.servers import Database

IDS = {"transaction_id": "txn_of_the_gateway", "payment_intent_id": "pi_of_the_gateway"}


def operation_of(database: Database, payment_id: UUID, kind: Kind) -> str:
    with contextlib.closing(connect(database.owner_url)) as connection:
        sql = "SELECT operation_id FROM operations WHERE payment_id = :payment_id AND kind = :kind AND outcome IS NULL"
        rows = connection.run(sql, payment_id=str(payment_id), kind=kind.value)
    return str(rows[0][0])


def reply_of(database: Database, operation_id: str) -> Any:
    with contextlib.closing(connect(database.owner_url)) as connection:
        return connection.run("SELECT reply FROM operations WHERE operation_id = :id", id=operation_id)[0][0]


def a_day_later(shop: Shop) -> Shop:
    clock = shop.service.clock
    return shop.with_(clock=lambda: clock() + timedelta(hours=25))


OUTCOMES: dict[str, tuple[dict[str, str], PaymentStatus]] = {
    "captured": ({"outcome": "succeeded", **IDS}, PaymentStatus.CAPTURED),
    "declined": ({"outcome": "declined", "decline_code": "card_declined"}, PaymentStatus.FAILED),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_a_payment_gets_the_outcome_and_owes_its_event(shop: Shop, database: Database, case: str) -> None:
    told, status = OUTCOMES[case]
    shop.gateway.answer = lose_reply
    payment = shop.process().payment
    operation_id = operation_of(database, payment.payment_id, Kind.PROCESS)
    settled = settle_by_hand(a_day_later(shop).service, {"operation_id": operation_id, "by": "kim", **told})
    assert (settled.payment.status, settled.replayed) == (status, False)
    assert reply_of(database, operation_id)["raw"] == {"by_hand": "kim"}
    with contextlib.closing(connect(database.owner_url)) as connection:
        sql = "SELECT data::jsonb ->> 'status' FROM outbox WHERE payment_id = :id"
        assert connection.run(sql, id=str(payment.payment_id)) == [[status.value]]
    again = settle_by_hand(shop.service, {"operation_id": operation_id, "by": "kim", **OUTCOMES["declined"][0]})
    assert (again.payment.status, again.replayed) == (status, True), "an outcome stands"


def test_a_declined_refund_frees_what_it_had_reserved(shop: Shop, database: Database) -> None:
    payment = shop.captured()
    shop.gateway.answer = lose_reply
    shop.refund(payment.transaction_id, amount=1500)
    shop.gateway.answer = approve
    operation_id = operation_of(database, payment.payment_id, Kind.REFUND)
    told = {"operation_id": operation_id, "by": "kim", "outcome": "declined", "decline_code": "generic_decline"}
    settled = settle_by_hand(a_day_later(shop).service, told)
    assert settled.refund and settled.refund.status is RefundStatus.FAILED
    assert shop.refund(payment.transaction_id, amount=1999).outcome is Outcome.SUCCEEDED


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "no such operation": ({"operation_id": "019c0000-0000-7000-8000-000000000000"}, "no such operation"),
    "nobody": ({"by": ""}, "who looked"),
    "no ids": ({"transaction_id": ""}, "must be the gateway's"),
    "no outcome": ({"outcome": "unknown"}, "outcome must be"),
    "no code": ({"outcome": "declined"}, "decline_code of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_says_too_little_is_refused_and_changes_nothing(shop: Shop, database: Database, case: str) -> None:
    difference, reason = REFUSED[case]
    shop.gateway.answer = lose_reply
    payment = shop.process().payment
    operation_id = operation_of(database, payment.payment_id, Kind.PROCESS)
    told = {"operation_id": operation_id, "by": "kim", "outcome": "succeeded", **IDS} | difference
    with pytest.raises(ValueError, match=reason):
        settle_by_hand(a_day_later(shop).service, told)
    assert operation_of(database, payment.payment_id, Kind.PROCESS) == operation_id


def test_an_operation_that_reconcile_still_asks_about_is_left_to_it(shop: Shop, database: Database) -> None:
    shop.gateway.answer = lose_reply
    payment = shop.process().payment
    told = {"operation_id": operation_of(database, payment.payment_id, Kind.PROCESS), "by": "kim", "outcome": "succeeded", **IDS}
    with pytest.raises(ValueError, match="still asked"):
        settle_by_hand(shop.service, told)
