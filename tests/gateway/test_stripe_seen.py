"""What others did at Stripe: a look at a payment, and the events that could not be delivered."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from payments import telemetry
from payments.gateway.port import Hint, Seen, SeenDispute, SeenRefund
from payments.gateway.stripe_events import EVENT_TYPES
from tests.gateway.scripted import Says, says, scripted
from tests.gateway.stripe_says import UNKNOWN, At, breaks, error, intent, page, refund

pytestmark = pytest.mark.server

SECRET_STEP = {"type": "use_stripe_sdk", "use_stripe_sdk": {"stripe_js": "https://hooks.stripe.com/canary"}}

DISPUTE = {
    "object": "dispute",
    "id": "du_1",
    "livemode": False,
    "amount": 1500,
    "currency": "usd",
    "reason": "fraudulent",
    "status": "needs_response",
    "is_charge_refundable": False,
    "evidence_details": {"due_by": 1797500000},
    "created": 1796574226,
}


def looked(stripe_at: At, *script: Says, **how: Any) -> tuple[Seen | None, list[Any]]:
    with scripted(*script) as server:
        seen = stripe_at(server.url, **how).look("pi_1", 5.0)
        assert server.script == []
        return seen, server.received


def test_a_look_reads_the_intent_and_all_pages_of_its_refunds_and_disputes(stripe_at: At) -> None:
    charge = {"id": "ch_1", "payment_method_details": None}
    ours, theirs = refund("succeeded", amount=500), refund("pending", id="re_2", metadata=None, reason="fraudulent", amount=499)
    script = (
        says(200, intent("succeeded", amount_received=1500, latest_charge=charge)),
        page(theirs, has_more=True),
        page(ours),
        page(DISPUTE, has_more=True),
        page(DISPUTE | {"id": "du_0", "status": "won", "is_charge_refundable": True}),
    )
    seen, sent = looked(stripe_at, *script)
    due_by, created_at = datetime.fromtimestamp(1797500000, UTC), datetime.fromtimestamp(1796574226, UTC)
    dispute = SeenDispute(
        gateway_dispute_id="du_1",
        amount_minor=1500,
        currency="USD",
        reason="fraudulent",
        status="needs_response",
        outcome=None,
        due_by=due_by,
        is_refundable=False,
        created_at=created_at,
    )
    assert seen == Seen(
        state="captured",
        transaction_id="ch_1",
        captured_minor=1500,
        currency="USD",
        refunds=[
            SeenRefund(gateway_refund_id="re_2", key=None, amount_minor=499, status="pending", reason="fraudulent"),
            SeenRefund(gateway_refund_id="re_1", key="ref-1", amount_minor=500, status="succeeded"),
        ],
        disputes=[
            dispute,
            replace(dispute, gateway_dispute_id="du_0", status="won", outcome="won", due_by=None, is_refundable=True),
        ],
    )
    of_it = {"payment_intent": "pi_1", "limit": "100"}
    assert [(one.method, one.path, one.parameters) for one in sent] == [
        ("GET", "/v1/payment_intents/pi_1", {"expand[]": "latest_charge"}),
        ("GET", "/v1/refunds", of_it),
        ("GET", "/v1/refunds", of_it | {"starting_after": "re_2"}),
        ("GET", "/v1/disputes", of_it),
        ("GET", "/v1/disputes", of_it | {"starting_after": "du_1"}),
    ]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("requires_payment_method", "open"),
        ("requires_confirmation", "open"),
        ("requires_action", "open"),
        ("processing", "open"),
        ("requires_capture", "authorized"),
        ("canceled", "canceled"),
    ],
)
def test_of_what_is_not_captured_the_intent_says_all(status: str, state: str, stripe_at: At) -> None:
    there = intent(status, latest_charge=None, cancellation_reason="expired" if status == "canceled" else None)
    seen, [_] = looked(stripe_at, says(200, there))
    assert seen is not None
    assert (seen.state, seen.captured_minor, seen.transaction_id) == (state, 0, None)
    assert seen.cancel_reason == ("expired" if status == "canceled" else None)


def test_each_status_of_a_refund_is_one_of_three(stripe_at: At) -> None:
    statuses: dict[Any, str] = {
        None: "pending",
        "pending": "pending",
        "requires_action": "pending",
        "succeeded": "succeeded",
        "failed": "failed",
        "canceled": "failed",
    }
    for status, expected in statuses.items():
        there = refund(status, failure_reason="lost_or_stolen_card" if status == "failed" else None)
        seen, _ = looked(stripe_at, says(200, intent("succeeded")), page(there), page())
        assert seen is not None
        codes: dict[Any, str] = {"failed": "lost_or_stolen_card", "canceled": "processing_error"}
        assert [(one.status, one.failure_code) for one in seen.refunds] == [(expected, codes.get(status))], status


def test_each_end_of_a_dispute_is_one_of_three(stripe_at: At) -> None:
    ends = {"won": "won", "lost": "lost", "warning_closed": "closed", "prevented": "closed"}
    open_ = ("warning_needs_response", "warning_under_review", "needs_response", "under_review", "of_tomorrow")
    for status in (*ends, *open_):
        for due_by in (0, 1797500000):
            there = DISPUTE | {"status": status, "evidence_details": {"due_by": due_by}}
            seen, _ = looked(stripe_at, says(200, intent("succeeded")), page(), page(there))
            assert seen is not None
            [dispute] = seen.disputes
            assert (dispute.status, dispute.outcome) == (status, ends.get(status))
            is_due = due_by and status in ("needs_response", "warning_needs_response")
            assert (dispute.due_by is not None) == bool(is_due), "once the evidence is in, nobody has to hurry"


def test_what_is_seen_is_in_our_units(stripe_at: At) -> None:
    ugx = {"currency": "ugx"}
    there = intent("succeeded", amount_received=500_000, **ugx)
    script = says(200, there), page(refund("succeeded", amount=200_000, **ugx)), page(DISPUTE | {"amount": 300_000} | ugx)
    seen, _ = looked(stripe_at, *script)
    assert seen is not None
    assert (seen.currency, seen.captured_minor) == ("UGX", 5000)
    assert ([one.amount_minor for one in seen.refunds], [one.amount_minor for one in seen.disputes]) == ([2000], [3000])


def test_a_permission_that_the_key_lacks_raises_the_alarm(stripe_at: At, capsys: pytest.CaptureFixture[str]) -> None:
    looked(stripe_at, says(200, intent("succeeded")), page(), says(403, error()))
    with pytest.raises(OSError, match="403"):
        undelivered(stripe_at, says(403, error()))
    telemetry.write_metrics()
    assert capsys.readouterr().out.count('"GatewayRefusesUs":') == 2


UNSEEN: dict[str, tuple[Says, ...]] = {
    **{what: (answer,) for what, (answer, _) in UNKNOWN.items() if what != "a status of tomorrow"},
    "no such intent": (says(404, error(code="resource_missing")),),
    "no refunds": (says(200, intent("succeeded")), says(500, error("api_error"))),
    "no disputes": (says(200, intent("succeeded")), page(), says(403, error())),
    "half a page of refunds": (says(200, intent("succeeded")), breaks),
    "a refund in a status of tomorrow": (says(200, intent("succeeded")), page(refund("reversed")), page()),
    "a fraction": (says(200, intent("succeeded", currency="ugx", amount_received=150)), page(), page()),
    "a currency of tomorrow": (says(200, intent("succeeded", currency="xyz")), page(), page()),
    "an intent of the other mode": (says(200, intent("succeeded", livemode=True)),),
    "a dispute of the other mode": (says(200, intent("succeeded")), page(), page(DISPUTE | {"livemode": True})),
}


@pytest.mark.parametrize("what", UNSEEN)
def test_a_look_that_cannot_see_all_sees_nothing(what: str, stripe_at: At) -> None:
    assert looked(stripe_at, *UNSEEN[what])[0] is None


def event(number: int, **changes: Any) -> dict[str, Any]:
    thing = intent("succeeded", metadata={"payment_id": str(uuid.UUID(int=number))})
    told = {"object": "event", "id": f"evt_{number}", "type": "payment_intent.succeeded", "livemode": False}
    return told | {"created": 1796574226 + number, "data": {"object": thing}} | changes


def undelivered(stripe_at: At, *script: Says, until: datetime | None = None) -> tuple[Sequence[Hint], list[Any]]:
    with scripted(*script) as server:
        told = list(stripe_at(server.url).undelivered(datetime.fromtimestamp(1796574226.9, UTC), 5.0, until))
        assert server.script == []
        return told, server.received


def test_what_was_not_delivered_is_asked_for_by_types_on_all_pages_and_told_newest_first(stripe_at: At) -> None:
    told, sent = undelivered(stripe_at, page(event(3), event(2), has_more=True), page(event(1)))
    assert [(hint.event_id, hint.payment_id) for hint in told] == [(f"evt_{n}", uuid.UUID(int=n)) for n in (3, 2, 1)]
    assert {(one.method, one.path) for one in sent} == {("GET", "/v1/events")}
    for one, last in zip(sent, (None, "evt_2"), strict=True):
        assert [value for name, value in one.pairs if name == "types[]"] == list(EVENT_TYPES)
        asked = {name: value for name, value in one.parameters.items() if name != "types[]"}
        assert asked == {"delivery_success": "false", "created[gte]": "1796574226", "limit": "100"} | (
            {"starting_after": last} if last else {}
        )


def test_a_question_that_goes_on_names_the_second_that_it_has_read_to_and_asks_for_all_of_it(stripe_at: At) -> None:
    _, [sent] = undelivered(stripe_at, page(event(1)), until=datetime.fromtimestamp(1796574227.0, UTC))
    assert (sent.parameters["created[gte]"], sent.parameters["created[lte]"]) == ("1796574226", "1796574227")


def test_what_was_told_before_a_failure_counts(stripe_at: At) -> None:
    with scripted(page(event(3), event(2), has_more=True), says(500, error("api_error"))) as server:
        told = iter(stripe_at(server.url).undelivered(datetime.fromtimestamp(1796574226, UTC), 5.0))
        assert [next(told).event_id, next(told).event_id] == ["evt_3", "evt_2"]
        with pytest.raises(OSError, match="500"):
            next(told)


@pytest.mark.parametrize(
    "script",
    [
        *((answer,) for answer, _ in UNKNOWN.values()),
        (page(event(2), has_more=True), says(500, error("api_error"))),
        (page(event(1, livemode=True)),),
    ],
)
def test_events_that_cannot_be_read_are_an_error_without_their_words(script: tuple[Says, ...], stripe_at: At) -> None:
    with pytest.raises(OSError, match=r"^Stripe|^our") as failed:
        undelivered(stripe_at, *script)
    assert failed.value.__suppress_context__ and failed.value.__cause__ is None


@pytest.mark.parametrize("broken", [{"data": {}}, {"type": "a type\n"}, {"created": "yesterday"}, {"id": None}])
def test_what_is_no_event_does_not_keep_the_others_away(
    broken: dict[str, Any], stripe_at: At, caplog: pytest.LogCaptureFixture
) -> None:
    told, _ = undelivered(stripe_at, page(event(3), event(2, **broken), event(1)))
    assert [hint.event_id for hint in told] == ["evt_3", "evt_1"]
    assert "none" in caplog.text


def test_a_look_and_the_events_hold_no_secret(stripe_at: At, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"client_secret": "pi_1_secret_canary", "next_action": SECRET_STEP, "description": "canary"}
    seen, _ = looked(stripe_at, says(200, intent("requires_action", **secret)), key="sk_test_canary")
    assert seen is not None
    broken, _ = looked(stripe_at, says(200, intent("requires_action", **secret, amount_received="canary")), key="sk_test_canary")
    assert broken is None
    thing = intent("succeeded", **secret)
    told, _ = undelivered(stripe_at, page(event(1, data={"object": thing, "previous_attributes": secret})))
    none, _ = undelivered(stripe_at, page(event(1, type="canary\n", data={"object": thing})))
    assert (none, "canary" in f"{seen!r} {told!r} {caplog.text}") == ([], False)
