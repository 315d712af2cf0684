"""Every outcome of a command is an event, an entry in the history and in the look-up, however it was found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from payments.api import lookups
from payments.api.callers import Caller
from payments.commands.look import Look, look_at
from payments.commands.service import Deadline
from payments.domain.events import Event
from payments.domain.operation import Outcome
from payments.domain.payment import Payment
from payments.domain.scopes import Scope
from payments.gateway.port import Declined, GatewayRequest, Reply, Seen, SeenRefund
from payments.scheduled.by_hand import settle_by_hand
from tests.fakes import Dashboard, acknowledge, approve, lose_reply, refuse
from tests.shop import Books, Shop


def steal(action: str, request: GatewayRequest) -> Reply:
    """Decline because the card is stolen, which callers must not learn."""
    return Declined("stolen_card", "The card was reported stolen.", None, None, {})


BEFORE: dict[str, Callable[[Shop], Payment]] = {"capture": Shop.authorized, "void": Shop.authorized, "refund": Shop.captured}


def at_once(shop: Shop, books: Books, kind: str, key: str | None, payment: Payment) -> None:
    shop.gateway.answer = steal
    assert getattr(shop, kind)(payment.transaction_id, key).outcome is Outcome.DECLINED


def found_later(shop: Shop, books: Books, kind: str, key: str | None, payment: Payment) -> None:
    shop.gateway.answer = lose_reply
    assert getattr(shop, kind)(payment.transaction_id, key).outcome is Outcome.UNKNOWN
    assert shop.hears_later(steal, books).settled == 1


def settled_by_hand(shop: Shop, books: Books, kind: str, key: str | None, payment: Payment) -> None:
    shop.gateway.answer = lose_reply
    getattr(shop, kind)(payment.transaction_id, key)
    books.query("UPDATE operations SET next_attempt_at = NULL, lease_until = now() WHERE outcome IS NULL")
    [operation] = [row for row in books.operations(payment.payment_id) if row["outcome"] is None]
    found = {"operation_id": operation["operation_id"], "attempt": 1, "by": "kim"}
    settled = settle_by_hand(shop.service, found | {"outcome": "declined", "decline_code": "stolen_card"})
    assert settled.outcome is Outcome.DECLINED
    books.end_event_leases()
    assert shop.relay().published == 1


WAYS = [at_once, found_later, settled_by_hand]


def seen(shop: Shop, payment_id: UUID, scopes: set[str] = {Scope.READ}) -> dict[str, Any]:  # noqa: B006
    payment, refunds, *_ = lookups.find(shop.service, Caller(shop.owner, frozenset(scopes)), "payment_id", str(payment_id))
    return {"decline_code": payment.decline_code, "refunds": [refund.decline_code for refund in refunds]}


def in_sequence(events: list[Event]) -> bool:
    return [event.sequence for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BEFORE)
def test_a_decline_that_leaves_the_status_alone_is_told(
    lone_shop: Shop, lone_books: Books, kind: str, way: Callable[..., None], key: str | None
) -> None:
    before = BEFORE[kind](lone_shop)
    way(lone_shop, lone_books, kind, key, before)
    status = before.status.value
    first, event = lone_shop.publisher.published
    assert (event.type, event.payment_id) == (f"payment.{kind}_failed", before.payment_id)
    assert in_sequence([first, event])
    assert (json.loads(event.data)["status"], json.loads(event.data)["amount_refund_pending"]) == (status, 0)
    declined = json.loads(event.data)["refund"] if kind == "refund" else json.loads(event.data)
    assert declined["decline_code"] == "generic_decline"
    assert "stolen" not in event.data
    history = lone_books.history(before.payment_id)
    assert history[-1] == (status, status, f"{kind} declined: generic_decline")
    kept = seen(lone_shop, before.payment_id)
    assert kept == {"decline_code": None if kind == "refund" else "stolen_card", "refunds": ["stolen_card"] * (kind == "refund")}
    # The payment goes on from there, and its events are numbered on.
    lone_shop.gateway.answer = approve
    assert getattr(lone_shop, kind)(before.transaction_id).outcome is Outcome.SUCCEEDED
    assert in_sequence(lone_shop.publisher.published)
    assert seen(lone_shop, before.payment_id)["decline_code"] is None


@pytest.mark.parametrize("kind", BEFORE)
def test_the_relay_tells_a_decline_that_the_broker_did_not_take(lone_shop: Shop, lone_books: Books, kind: str) -> None:
    before = BEFORE[kind](lone_shop)
    lone_shop.publisher.acknowledges = refuse
    at_once(lone_shop, lone_books, kind, None, before)
    lone_shop.publisher.acknowledges = acknowledge
    lone_books.end_event_leases()
    assert lone_shop.relay().published == 1
    assert lone_shop.publisher.published[-1].type == f"payment.{kind}_failed"


def test_each_void_of_an_expired_authorization_that_is_declined_is_told(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.authorized()
    lone_books.query("UPDATE payments SET capture_before = now() - interval '1 second'")
    lone_shop.gateway.answer = steal
    for _ in range(2):
        assert lone_shop.reconcile().expired == 0
        lone_books.query("UPDATE operations SET settled_at = settled_at - interval '61 minutes' WHERE kind = 'void'")
    assert [event.type for event in lone_shop.publisher.published[1:]] == ["payment.void_failed"] * 2
    assert in_sequence(lone_shop.publisher.published)
    assert lone_books.history(payment.payment_id)[-1] == ("AUTHORIZED", "AUTHORIZED", "void declined: generic_decline")
    assert all(event.traceparent is None for event in lone_shop.publisher.published[1:]), "no caller asked for it"


def test_refunds_that_overlap_are_told_each(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.captured()
    lone_shop.gateway.answer = lose_reply
    refunds = [lone_shop.refund(payment.transaction_id, amount=500).refund for _ in range(3)]
    assert lone_shop.hears_later(steal, lone_books).settled == 3
    lone_books.end_event_leases()
    lone_shop.relay()
    told = [json.loads(event.data)["refund"]["refund_id"] for event in lone_shop.publisher.published[1:]]
    assert sorted(told) == sorted(str(refund.refund_id) for refund in refunds if refund)
    assert in_sequence(lone_shop.publisher.published)


REFUND = SeenRefund(gateway_refund_id="re_1", key=None, amount_minor=500, status="succeeded")
BY_ITSELF: dict[str, tuple[Callable[[Shop], Payment], Seen]] = {
    "payment.refunded": (
        Shop.captured,
        Seen(state="captured", transaction_id="t", captured_minor=1999, currency="USD", refunds=[REFUND]),
    ),
    "payment.successful": (Shop.authorized, Seen(state="captured", transaction_id="t", captured_minor=900, currency="USD")),
    "payment.voided": (Shop.authorized, Seen(state="canceled", transaction_id="t", captured_minor=0, currency="USD")),
}


@pytest.mark.parametrize("acknowledges", [acknowledge, refuse])
@pytest.mark.parametrize("told", BY_ITSELF)
def test_what_the_gateway_did_by_itself_is_told(
    lone_shop: Shop, lone_books: Books, told: str, acknowledges: Callable[[Event], bool]
) -> None:
    do, shown = BY_ITSELF[told]
    before = do(lone_shop)
    lone_shop.publisher.acknowledges = acknowledges
    looked = look_at(lone_shop.with_(gateway=Dashboard(seen=shown)).service, before, Deadline.in_s(20))
    assert looked is Look.SETTLED
    lone_shop.publisher.acknowledges = acknowledge
    lone_shop.wait_for_mark()
    lone_books.end_event_leases()
    assert lone_shop.relay().published == (acknowledges is refuse), "what the broker did not take"
    first, event = lone_shop.publisher.published
    assert (event.type, event.payment_id) == (told, before.payment_id)
    assert in_sequence([first, event])
    status = json.loads(event.data)["status"]
    assert lone_books.history(before.payment_id)[-1][:2] == (before.status.value, status)
    assert lone_books.payment(before.payment_id)["status"] == status
