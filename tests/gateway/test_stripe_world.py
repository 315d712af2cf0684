"""What Stripe World's books say after our calls, as Stripe's own package reads them."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from payments.gateway.port import Alarm, Approved, Declined, GatewayRequest, Reply, SeenDispute, Unknown
from payments.gateway.stripe import StripeGateway
from payments.gateway.stripe_events import EVENT_TYPES
from tests.gateway.dialects import OfStripeWorld
from tests.gateway.people import AtStripe
from tests.gateway.port_suite import AMOUNT, Subject, approved, charge_of, declined, later_call, waits
from tests.gateway.servers import StripeWorld, Toxiproxy, Witness, ask

pytestmark = pytest.mark.server

TOKENS = {
    "good": "tok_visa",
    "without funds": "tok_visa_chargeDeclinedInsufficientFunds",
    "needs its owner": "tok_threeDSecure2Required",
}


@pytest.fixture
def account(stripe_world: StripeWorld) -> str:
    """The base address of an account that nobody has used."""
    if why := Witness.missing():
        pytest.skip(why)
    return stripe_world.account(uuid.uuid4().hex)


@pytest.fixture
def subject(account: str, stripe_at: Callable[..., StripeGateway]) -> Subject:
    return subject_at(stripe_at(account, http=OfStripeWorld), account)


def subject_at(gateway: StripeGateway, account: str) -> Subject:
    people = AtStripe(account, TOKENS.__getitem__)
    return Subject(gateway, TOKENS.__getitem__, people, people)


def ask_as_others(account: str, path: str, **parameters: Any) -> dict[str, Any]:
    return AtStripe(account, TOKENS.__getitem__).post(path, **parameters)


def created(account: str, **parameters: Any) -> dict[str, Any]:
    """Create an intent that is not confirmed, as a call that Stripe broke off might have left it."""
    form = {"amount": AMOUNT, "currency": "usd", "payment_method_types[]": "card"}
    return ask_as_others(account, "payment_intents", **form | parameters)


def test_each_operation_moves_its_money_once_however_often_it_is_asked_for(subject: Subject, account: str) -> None:
    gateway = subject.gateway
    request = charge_of(subject, capture=False)
    replies = [approved(gateway.charge(replace(request, attempt=number))) for number in (1, 2, 3)]
    capture = later_call("capture", request, replies[0], 3000)
    refund = later_call("refund", request, replies[0], 1000)
    for _ in range(3):
        approved(gateway.capture(capture), 3000)
        approved(gateway.refund(refund), 1000)
        approved(gateway.find(refund), 1000)
        approved(gateway.find(capture), 3000)
    known = Witness.reads(account)
    [intent], [charge], [refunded] = known["payment_intents"], known["charges"], known["refunds"]
    assert (intent["status"], intent["amount_received"], intent["amount_capturable"]) == ("succeeded", 3000, 0)
    assert (charge["amount_captured"], charge["amount_refunded"]) == (3000, 1000)
    assert refunded["amount"] == 1000
    for thing, key in ((intent, request.key), (refunded, refund.key)):
        ids = {"payment_id": str(request.payment_id), "order_id": request.order_id, "gateway_key": key}
        assert thing["metadata"] == ids


def test_no_declined_intent_can_be_paid_by_anybody(subject: Subject, account: str) -> None:
    declined(subject.gateway.charge(charge_of(subject, "without funds")))
    declined(subject.gateway.charge(charge_of(subject, "needs its owner", off_session=True)))
    asked, action = waits(subject)
    subject.customer.fails(action)
    declined(subject.gateway.find(asked))
    intents = Witness.reads(account)["payment_intents"]
    assert [intent["status"] for intent in intents] == ["canceled"] * 3
    for intent in intents:  # whoever has its secret tries another card
        confirm = f"{account}/v1/payment_intents/{intent['id']}/confirm"
        card = {"type": "card", "card[token]": "tok_visa"}
        key = {"Authorization": "Bearer sk_test_x"}
        method = json.loads(ask("POST", f"{account}/v1/payment_methods", urlencode(card).encode(), **key))["id"]
        with pytest.raises(OSError, match="400"):
            ask("POST", confirm, urlencode({"payment_method": method}).encode(), **key)


def test_an_unconfirmed_intent_is_found_canceled_and_declined(subject: Subject, account: str) -> None:
    request = charge_of(subject)
    intent = created(account, **{"metadata[gateway_key]": request.key})
    reply = declined(subject.gateway.find(request))
    assert reply.payment_intent_id == intent["id"]
    assert [one["status"] for one in Witness.reads(account)["payment_intents"]] == ["canceled"]


def test_an_intent_is_found_behind_a_hundred_others_of_the_same_minute(subject: Subject, account: str) -> None:
    request = charge_of(subject)
    charged = approved(subject.gateway.charge(request))
    for _ in range(105):
        created(account)
    found = approved(subject.gateway.find(request))
    assert found.payment_intent_id == charged.payment_intent_id


def test_a_look_and_the_events_name_each_thing_that_stripes_package_reads(subject: Subject, account: str) -> None:
    """Two payments of ours, and one that somebody else made. Of its list of events Stripe World tells us all."""
    gateway, since = subject.gateway, datetime.now(UTC) - timedelta(seconds=1)
    request = charge_of(subject)
    charged = approved(gateway.charge(request))
    approved(gateway.refund(later_call("refund", request, charged, 700)), 700)
    ask_as_others(account, "refunds", payment_intent=charged.payment_intent_id, amount=500, reason="requested_by_customer")
    asked, action = waits(subject)
    subject.outside.cancels(action.payment_intent_id)
    card = {"payment_method": _method(account), "confirm": "true"}
    foreign = ask_as_others(account, "payment_intents", amount=AMOUNT, currency="usd", **card)
    known = Witness.reads(account)

    seen = gateway.look(charged.payment_intent_id, 10.0)
    assert seen is not None
    assert [(refund.gateway_refund_id, refund.amount_minor, refund.reason) for refund in seen.refunds] == [
        (refund["id"], refund["amount"], refund["reason"]) for refund in known["refunds"]
    ]
    assert [refund.key is None for refund in seen.refunds] == [True, False]

    told = {hint.event_id: hint for hint in gateway.undelivered(since, 10.0)}
    wanted = {event["id"]: event for event in known["events"] if event["type"] in EVENT_TYPES}
    assert set(told) == set(wanted)
    payments = {charged.payment_intent_id: request.payment_id, action.payment_intent_id: asked.payment_id, foreign["id"]: None}
    assert {hint.payment_intent_id for hint in told.values()} == set(payments)
    for event_id, hint in told.items():
        thing = wanted[event_id]["data"]["object"]
        assert hint.payment_intent_id == (thing["id"] if thing["object"] == "payment_intent" else thing["payment_intent"])
        by_others = thing["object"] == "refund" and thing["amount"] == 500
        assert hint.payment_id == (None if by_others else payments[hint.payment_intent_id or ""])


@pytest.mark.parametrize(
    ("token", "evidence", "expected"),
    [
        ("tok_visa_createDisputeInquiry", None, ("warning_needs_response", None, True)),
        ("tok_visa_createDisputeInquiry", "escalate_inquiry_evidence", ("needs_response", None, False)),
        ("tok_visa_createDispute", "a letter", ("under_review", None, False)),
        ("tok_visa_createDispute", "losing_evidence", ("lost", "lost", False)),
        ("tok_visa_createDispute", "winning_evidence", ("won", "won", True)),
    ],
)
def test_a_dispute_is_seen_as_it_goes_on(
    token: str, evidence: str | None, expected: tuple[str, str | None, bool], subject: Subject, account: str
) -> None:
    charged = approved(subject.gateway.charge(replace(charge_of(subject), payment_token=token)))

    def disputes() -> list[SeenDispute]:
        seen = subject.gateway.look(charged.payment_intent_id, 10.0)
        assert seen is not None
        return list(seen.disputes)

    [dispute] = disputes()
    if evidence:
        form = {"evidence[uncategorized_text]": evidence, "submit": "true"}
        ask_as_others(account, f"disputes/{dispute.gateway_dispute_id}", **form)
    [dispute] = disputes()
    assert (dispute.status, dispute.outcome, dispute.is_refundable) == expected


def test_amounts_arrive_in_stripes_units(subject: Subject, account: str) -> None:
    expected = {"UGX": (5000, 500_000), "ISK": (5000, 500_000), "MGA": (5000, 50), "JPY": (5000, 5000), "KWD": (5000, 5000)}
    for currency, (amount_minor, _) in expected.items():
        request = charge_of(subject, currency=currency)
        charged = subject.gateway.charge(request)
        assert isinstance(charged, Approved), charged
        refunded = subject.gateway.refund(later_call("refund", request, charged))
        for reply in (charged, refunded):
            assert isinstance(reply, Approved) and (reply.amount_minor, reply.currency) == (amount_minor, currency)
    known = Witness.reads(account)
    for name in ("charges", "refunds"):
        assert {one["currency"].upper(): one["amount"] for one in known[name]} == {
            currency: amount for currency, (_, amount) in expected.items()
        }


def test_a_live_account_behind_a_test_key_is_an_alarm(stripe_world: StripeWorld, stripe_at: Callable[..., StripeGateway]) -> None:
    name = uuid.uuid4().hex
    stripe_world.reset(name, startup={"livemode": True})
    subject = subject_at(stripe_at(stripe_world.account(name)), stripe_world.account(name))
    reply = subject.gateway.charge(charge_of(subject))
    assert isinstance(reply, Unknown) and reply.alarm == Alarm.REFUSES_US
    live = subject_at(stripe_at(stripe_world.account(name), is_live=True), stripe_world.account(name))
    approved(live.gateway.charge(charge_of(live)))


# A network that loses answers.

TOXICS: dict[str, dict[str, int]] = {
    "latency": {"latency": 3000},
    "timeout": {"timeout": 0},
    "reset_peer": {"timeout": 0},
    "bandwidth": {"rate": 1},
    "slicer": {"average_size": 10, "size_variation": 1, "delay": 50_000},
    "limit_data": {"bytes": 100},
}
VERBS = {"process": "charge", "capture": "capture", "void": "void", "refund": "refund"}


def spoiled(subject: Subject, proxy: Toxiproxy, port: int, kind: str, request: GatewayRequest) -> Reply:
    """Lose the answer to the request, look for what became of it, and repeat it, as reconcile does."""
    call = getattr(subject.gateway, VERBS[request.kind])
    proxy.poison(port, kind, "downstream", **TOXICS[kind])
    try:
        lost = call(replace(request, timeout_s=0.5))
    finally:
        proxy.heal(port, kind)
    assert isinstance(lost, Unknown) and not lost.key_is_spent and lost.alarm is None, lost
    found = subject.gateway.find(request)
    repeated: Reply = call(replace(request, attempt=2))
    assert isinstance(found, Approved) and isinstance(repeated, Approved), (found, repeated)
    assert replace(found, raw={}, capture_before=None) == replace(repeated, raw={}, capture_before=None)
    return repeated


@pytest.mark.parametrize("kind", TOXICS)
def test_an_answer_that_is_lost_moves_no_money_twice(
    kind: str, stripe_world: StripeWorld, toxiproxy: Toxiproxy, account: str, stripe_at: Callable[..., StripeGateway]
) -> None:
    port = toxiproxy.between(stripe_world.port)
    subject = subject_at(stripe_at(account.replace(str(stripe_world.port), str(port))), account)
    # Payment methods are made before, so that it is the charge whose answer is lost.
    methods = [_method(account) for _ in range(2)]
    captured, released = (replace(charge_of(subject, capture=False), payment_token=method) for method in methods)
    charged = approved(spoiled(subject, toxiproxy, port, kind, captured))
    approved(spoiled(subject, toxiproxy, port, kind, later_call("capture", captured, charged)))
    approved(spoiled(subject, toxiproxy, port, kind, later_call("refund", captured, charged)))
    held = approved(subject.gateway.charge(released))
    approved(spoiled(subject, toxiproxy, port, kind, later_call("void", released, held)))
    known = Witness.reads(account)
    assert Counter(intent["status"] for intent in known["payment_intents"]) == {"succeeded": 1, "canceled": 1}
    assert sum(charge["amount_captured"] for charge in known["charges"]) == AMOUNT
    assert [refund["amount"] for refund in known["refunds"]] == [AMOUNT]
    assert len(known["charges"]) == 2


def _method(account: str) -> str:
    card = urlencode({"type": "card", "card[token]": "tok_visa"}).encode()
    return str(json.loads(ask("POST", f"{account}/v1/payment_methods", card, Authorization="Bearer sk_test_x"))["id"])


def test_a_request_that_never_arrives_is_not_found_and_is_carried_out_when_repeated(
    stripe_world: StripeWorld, toxiproxy: Toxiproxy, account: str, stripe_at: Callable[..., StripeGateway]
) -> None:
    port = toxiproxy.between(stripe_world.port)
    subject = subject_at(stripe_at(account.replace(str(stripe_world.port), str(port))), account)
    request = replace(charge_of(subject), payment_token=_method(account), asked_at=[datetime.now(UTC)])
    toxiproxy.poison(port, "timeout", "upstream", timeout=0)
    assert isinstance(subject.gateway.charge(replace(request, timeout_s=0.5)), Unknown)
    toxiproxy.heal(port, "timeout")
    reply = subject.gateway.find(request)
    assert isinstance(reply, Unknown) and not isinstance(reply, Declined)
    approved(subject.gateway.charge(replace(request, attempt=2)))
    assert len(Witness.reads(account)["charges"]) == 1
