"""An event of Stripe's becomes a hint, which holds ids and nothing of what the event says."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from payments.gateway.port import Hint
from payments.gateway.stripe_events import EVENT_TYPES, hint_of
from tests.cases import case

OURS = uuid.UUID("0190a8d0-0000-7000-8000-000000000007")


def event(thing: Any, **changes: Any) -> dict[str, Any]:
    return {"id": "evt_1", "type": "payment_intent.succeeded", "created": 1796574226, "data": {"object": thing}} | changes


def ids(thing: dict[str, Any]) -> tuple[str | None, uuid.UUID | None]:
    hint = hint_of(event(thing))
    return hint.payment_intent_id, hint.payment_id


def test_a_hint_has_the_ids_of_the_payment_whatever_kind_of_thing_the_event_is_about() -> None:
    metadata = {"payment_id": str(OURS), "order_id": "order-1", "gateway_key": "pay-1"}
    assert ids({"object": "payment_intent", "id": "pi_1", "metadata": metadata}) == ("pi_1", OURS)
    for kind in ("charge", "refund", "dispute"):
        with case(kind):
            assert ids({"object": kind, "id": "x_1", "payment_intent": "pi_1", "metadata": metadata}) == ("pi_1", OURS)


def test_what_others_made_has_no_id_of_ours() -> None:
    for metadata in (None, {}, {"payment_id": "17"}, {"payment_id": 17}, {"payment_id": ""}):
        with case(metadata):
            assert ids({"object": "refund", "id": "re_1", "payment_intent": "pi_1", "metadata": metadata}) == ("pi_1", None)
    assert ids({"object": "charge", "id": "ch_1", "payment_intent": None, "metadata": {}}) == (None, None)
    assert ids({"object": "customer", "id": "cus_1"}) == (None, None)


def test_a_hint_says_which_event_and_when_and_nothing_of_its_payload() -> None:
    thing = {"object": "payment_intent", "id": "pi_1", "client_secret": "pi_1_secret_canary", "status": "canary", "amount": 4711}
    hint = hint_of(event(thing, livemode=False, request={"id": "req_canary"}))
    moment = datetime.fromtimestamp(1796574226, UTC)
    expected = Hint(
        event_id="evt_1", type="payment_intent.succeeded", created_at=moment, payment_intent_id="pi_1", payment_id=None
    )
    assert hint == expected
    assert "canary" not in repr(hint) and "4711" not in repr(hint)


NO_EVENTS: tuple[Any, ...] = (
    {},
    [],
    "evt_1",
    {"id": "evt_1"},
    event(None),
    event("pi_1"),
    event([]),
    event({"object": "payment_intent", "id": 7}),
    event({"object": "payment_intent", "id": "pi_1\x00"}),
    event({"object": "charge", "payment_intent": {"id": "pi_1"}}),
    event({"object": "charge", "payment_intent": "p" * 256}),
    event({"object": "charge", "metadata": "payment_id"}),
    event({}, id=None),
    event({}, id=""),
    event({}, id="evt_1\n"),
    event({}, type=["payment_intent.succeeded"]),
    event({}, created="today"),
    event({}, created=None),
    event({}, created=10**30),
    event({}, created=float("nan")),
    event({}, data=None),
)


def test_what_is_no_event_is_refused_without_a_word_of_it() -> None:
    for number, said in enumerate(NO_EVENTS):
        with case((number, said)), pytest.raises(ValueError, match=r"^it is no event of Stripe.s$") as refused:
            hint_of(said)
        assert refused.value.__cause__ is None and refused.value.__suppress_context__


def test_stripe_takes_the_list_of_types_in_one_question() -> None:
    assert len(set(EVENT_TYPES)) == len(EVENT_TYPES) <= 20
