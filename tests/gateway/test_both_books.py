"""The service's own books, and those of a copy of Stripe: after a customer had to act, and after others acted there.

Of a customer no event tells here: reconcile asks by the payment's name. What others did comes with the events that were not
delivered.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from payments.commands.command import Result
from payments.commands.service import Deadline
from payments.domain.operation import Outcome
from payments.domain.payment import PaymentStatus
from payments.gateway.port import ActionRequired, Gateway
from payments.gateway.stripe import StripeGateway
from payments.scheduled.gateway_events import handle, pull
from tests.gateway.dialects import OfLocalstripe, OfStripeWorld
from tests.gateway.people import AtLocalstripe, AtStripe, made_of_a_card
from tests.gateway.servers import LocalStripe, StripeWorld
from tests.shop import Books, Shop

pytestmark = pytest.mark.server

S = PaymentStatus


@dataclass(frozen=True)
class Till:
    """A shop whose payments a copy of Stripe takes, with the people there."""

    shop: Shop
    books: Books
    gateway: Gateway
    people: AtStripe

    def pays(self, card: str | None = "needs its owner", **fields: Any) -> Result:
        token = {"payment_token": self.people.token(card)} if card else {}
        result = self.shop.process(**token, **fields)
        assert result.payment.status is S.REQUIRES_ACTION and result.next_action is not None
        return result

    def reconciled(self) -> None:
        self.books.make_due()
        self.shop.reconcile()

    def status(self, result: Result) -> str:
        return str(self.books.payment(result.payment.payment_id)["status"])

    def there(self, result: Result) -> str:
        seen = self.gateway.look(str(result.payment.payment_intent_id), 10.0)
        assert seen is not None
        return seen.state

    def told(self, result: Result) -> list[str]:
        return [row["type"] for row in self.books.outbox(result.payment.payment_id)]

    def declines(self, result: Result) -> list[str | None]:
        return [(row["reply"] or {}).get("decline_code") for row in self.books.operations(result.payment.payment_id)]


def action_of(result: Result) -> ActionRequired:
    """What the customer's browser got."""
    intent = result.payment.payment_intent_id
    assert intent is not None and result.next_action is not None
    return ActionRequired(intent, intent, None, result.next_action, {})


@pytest.fixture(params=["Stripe World", "localstripe"])
def till(request: pytest.FixtureRequest, lone_shop: Shop, lone_books: Books, stripe_at: Callable[..., StripeGateway]) -> Till:
    if request.param == "localstripe":
        server: LocalStripe = request.getfixturevalue("localstripe")
        gateway = stripe_at(server.url, http=OfLocalstripe)
        people: AtStripe = AtLocalstripe(server.url, made_of_a_card(server.url))
    else:
        world: StripeWorld = request.getfixturevalue("stripe_world")
        base = world.account(uuid.uuid4().hex)
        gateway, people = stripe_at(base, http=OfStripeWorld), AtStripe(base, made_of_a_card(base))
    return Till(lone_shop.with_(gateway=gateway), lone_books, gateway, people)


@pytest.mark.parametrize(
    ("capture_method", "status", "event"),
    [("automatic", "CAPTURED", "payment.successful"), ("manual", "AUTHORIZED", "payment.authorized")],
)
def test_a_customer_who_passes_has_paid(capture_method: str, status: str, event: str, till: Till) -> None:
    waits = till.pays(capture_method=capture_method)
    till.reconciled()
    assert till.status(waits) == "REQUIRES_ACTION"
    till.people.passes(action_of(waits))
    till.reconciled()
    assert (till.status(waits), till.there(waits)) == (status, status.lower())
    assert till.told(waits) == ["payment.requires_action", event]


def test_a_customer_who_fails_is_declined_here_after_the_intent_is_canceled_there(till: Till) -> None:
    waits = till.pays()
    till.people.fails(action_of(waits))
    till.reconciled()
    assert (till.status(waits), till.there(waits)) == ("FAILED", "canceled")
    assert till.told(waits) == ["payment.requires_action", "payment.failed"]
    assert till.declines(waits)[0] in ("authentication_required", "payment_intent_authentication_failure")


@pytest.mark.parametrize("card", ["needs its owner", None])
def test_a_customer_who_does_not_come_is_canceled_there_and_then_here(card: str | None, till: Till) -> None:
    waits = till.pays(card)
    till.books.query(
        "UPDATE operations SET reply = reply || jsonb_build_object('action_expires_at', now()) WHERE outcome IS NULL"
    )
    till.reconciled()
    assert (till.status(waits), till.there(waits), till.declines(waits)) == ("VOIDED", "canceled", ["action_expired"])
    assert till.told(waits) == ["payment.requires_action", "payment.voided"]


@pytest.mark.parametrize("card", ["needs its owner", None])
def test_a_shop_gives_a_customer_up_by_a_void(card: str | None, till: Till) -> None:
    waits = till.pays(card)
    voided = till.shop.perform("void", {"payment_id": str(waits.payment.payment_id)}, None)
    assert voided.payment.status is S.VOIDED
    assert (till.there(waits), till.declines(waits)) == ("canceled", ["payment_canceled", None])
    till.reconciled()
    assert till.told(waits) == ["payment.requires_action", "payment.voided"]


def test_a_customer_who_is_faster_than_the_void_has_paid(till: Till) -> None:
    waits = till.pays()
    till.people.passes(action_of(waits))
    till.shop.perform("void", {"payment_id": str(waits.payment.payment_id)}, None)
    till.reconciled()
    assert (till.status(waits), till.there(waits)) == ("CAPTURED", "captured")
    assert till.told(waits)[-1] == "payment.successful"


def test_a_payment_that_somebody_cancels_there_is_voided_here(till: Till) -> None:
    waits = till.pays()
    till.people.cancels(action_of(waits).payment_intent_id)
    till.reconciled()
    assert (till.status(waits), till.declines(waits)) == ("VOIDED", ["payment_canceled"])


def test_a_customer_without_a_token_enters_a_card(till: Till) -> None:
    waits = till.pays(None)
    till.people.enters(action_of(waits), "good")
    till.reconciled()
    assert (till.status(waits), till.there(waits)) == ("CAPTURED", "captured")


def test_a_card_that_needs_its_owner_is_declined_at_once_off_session(till: Till) -> None:
    result = till.shop.process(payment_token=till.people.token("needs its owner"), off_session=True)
    assert (result.payment.status, result.decline_code, till.there(result)) == (S.FAILED, "authentication_required", "canceled")


def test_no_row_holds_what_the_customers_browser_got(till: Till) -> None:
    for waits in (till.pays(), till.pays(None)):
        till.reconciled()
        secret = action_of(waits).next_action.client_secret
        assert secret
        for table in ("payments", "operations", "outbox", "payment_status_history"):
            assert secret not in str(till.books.query(f"SELECT row_to_json(t)::text FROM {table} t")), table


# What others did.


@pytest.fixture
def world(request: pytest.FixtureRequest, lone_shop: Shop, lone_books: Books, stripe_at: Callable[..., StripeGateway]) -> Till:
    server: StripeWorld = request.getfixturevalue("stripe_world")
    base = server.account(uuid.uuid4().hex)
    gateway, people = stripe_at(base, http=OfStripeWorld), AtStripe(base, made_of_a_card(base))
    return Till(lone_shop.with_(gateway=gateway), lone_books, gateway, people)


def hears(till: Till) -> dict[str, int]:
    """Pull the events that were not delivered, and handle them. Return how many had which outcome."""
    pull(till.shop.service)
    return dict(handle(till.shop.service, Deadline.in_s(50)))


def paid(till: Till, card: str = "good", **fields: Any) -> Result:
    result = till.shop.process(payment_token=till.people.token(card), **fields)
    assert result.payment.status in (S.CAPTURED, S.AUTHORIZED)
    return result


def test_what_others_did_comes_into_the_books_with_its_events(world: Till) -> None:
    refunded, canceled, captured = paid(world), *(paid(world, capture_method="manual") for _ in range(2))
    intents = [str(result.payment.payment_intent_id) for result in (refunded, canceled, captured)]
    ours = world.shop.refund(refunded.payment.transaction_id, amount=300)
    assert ours.payment.status is S.PARTIALLY_REFUNDED
    world.people.refunds(intents[0], 500)
    world.people.cancels(intents[1])
    world.people.captures(intents[2], 1200)
    world.people.post("payment_intents", amount=1999, currency="usd")
    outcomes = hears(world)
    assert set(outcomes) <= {"settled", "nothing_new", "foreign"} and outcomes["settled"]
    rows = [world.books.payment(result.payment.payment_id) for result in (refunded, canceled, captured)]
    assert [(row["status"], row["captured_minor"], row["refunded_minor"]) for row in rows] == [
        ("PARTIALLY_REFUNDED", 1999, 800),
        ("VOIDED", 0, 0),
        ("CAPTURED", 1200, 0),
    ]
    refunds = world.books.refunds(refunded.payment.payment_id)
    assert [(row["amount_minor"], row["status"], row["origin"]) for row in refunds] == [
        (300, "SUCCEEDED", "service"),
        (500, "SUCCEEDED", "gateway"),
    ]
    before = [row["version"] for row in rows]
    hears(world)
    assert [world.books.payment(row["payment_id"])["version"] for row in rows] == before


def test_a_capture_that_finds_less_captured_there_is_declined_and_theirs_comes_into_the_books(world: Till) -> None:
    held = paid(world, capture_method="manual")
    world.people.captures(str(held.payment.payment_intent_id), 1200)
    assert world.shop.capture(held.payment.transaction_id).outcome is Outcome.DECLINED
    assert hears(world)["settled"]
    row = world.books.payment(held.payment.payment_id)
    assert (row["status"], row["captured_minor"]) == ("CAPTURED", 1200)
    assert world.told(held) == ["payment.authorized", "payment.capture_failed", "payment.successful"]


def test_a_dispute_and_its_end_come_into_the_books(world: Till) -> None:
    disputed = paid(world, "disputed")
    assert hears(world)["settled"]

    def dispute() -> dict[str, Any]:
        [row] = world.books.record("SELECT * FROM disputes")
        return row

    assert (dispute()["amount_minor"], dispute()["outcome"], dispute()["is_refundable"]) == (1999, None, False)
    world.people.wins(dispute()["gateway_dispute_id"])
    hears(world)
    assert (dispute()["outcome"], dispute()["is_refundable"]) == ("won", True)
    assert world.told(disputed) == ["payment.successful", "payment.disputed", "payment.dispute_closed"]
