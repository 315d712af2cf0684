"""What we make of each thing that Stripe can say. docs/gateways.md has the table.

The port's suite shows those that a copy of Stripe says by itself. A scripted server says the others here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from payments.gateway.port import Alarm, Approved, Declined, Pending, Reply, Unknown
from payments.gateway.stripe import API_VERSION, CLOCKS_S, StripeGateway
from payments.gateway.stripe_http import StripeHttp
from payments.settings_error import SettingsError
from tests.gateway.scripted import says, scripted
from tests.gateway.stripe_says import (
    CANCELED,
    DECLINE,
    KEYS,
    LONG_AGO,
    NOW,
    STILL_OPEN,
    UNKNOWN,
    At,
    ask,
    breaks,
    error,
    intent,
    page,
    refund,
    request,
)

pytestmark = pytest.mark.server


def test_a_charge_is_one_request_that_names_us(stripe_at: At) -> None:
    reply, [sent] = ask(stripe_at, request(), says(200, intent("succeeded"), Request_Id="req_1"))
    assert (sent.method, sent.path) == ("POST", "/v1/payment_intents")
    assert sent.parameters == {
        "amount": "1999",
        "currency": "usd",
        "payment_method": "pm_1",
        "payment_method_types[]": "card",
        "capture_method": "automatic",
        "confirm": "true",
        "expand[]": "latest_charge",
        "metadata[payment_id]": str(uuid.UUID(int=7)),
        "metadata[order_id]": "order-1",
        "metadata[gateway_key]": "pay-1",
    }
    assert sent.headers["authorization"] == "Bearer sk_test_x"
    assert sent.headers["idempotency-key"] == "pay-1"
    assert sent.headers["stripe-version"] == API_VERSION
    raw = {"gateway": "stripe", "http_status": 200, "request_id": "req_1", "id": "pi_1", "status": "succeeded"}
    assert reply == Approved("ch_1", "pi_1", 1999, "USD", raw)


def test_no_parameter_depends_on_the_attempt(stripe_at: At) -> None:
    charges: tuple[dict[str, Any], ...] = (
        {},
        {"off_session": True},
        {"return_url": "https://shop.example/back"},
        {"payment_token": None},
    )
    asked = [("process", fields, intent("succeeded")) for fields in charges]
    for kind, fields, thing in [*asked, ("capture", {}, intent("succeeded")), ("refund", {}, refund("succeeded"))]:
        attempts = [request(kind, attempt=number, timeout_s=5 + number, **fields) for number in (1, 2)]
        sent = [ask(stripe_at, attempt, says(200, thing))[1][0] for attempt in attempts]
        assert sent[0].parameters == sent[1].parameters
        assert sent[0].headers["idempotency-key"] == sent[1].headers["idempotency-key"] == KEYS[kind]


def test_a_legacy_token_becomes_a_payment_method_under_a_key_of_its_own(stripe_at: At) -> None:
    made = says(200, {"object": "payment_method", "id": "pm_9", "livemode": False})
    reply, [first, second] = ask(stripe_at, request(payment_token="tok_9"), made, says(200, intent("succeeded")))
    assert isinstance(reply, Approved)
    assert first.parameters == {"type": "card", "card[token]": "tok_9"}
    assert (first.headers["idempotency-key"], second.parameters["payment_method"]) == ("pay-1-method", "pm_9")
    reply, _ = ask(stripe_at, request(payment_token="tok_9"), says(400, error(code="token_already_used")))
    assert isinstance(reply, Declined) and reply.decline_code == "token_already_used"


def test_an_authorization_says_until_when_it_can_be_captured(stripe_at: At) -> None:
    charge = {"id": "ch_1", "payment_method_details": {"card": {"capture_before": 1796574226}}}
    held = says(200, intent("requires_capture", latest_charge=charge))
    reply, [sent] = ask(stripe_at, request(capture=False), held)
    assert isinstance(reply, Approved) and reply.amount_minor == 1999
    assert reply.capture_before == datetime.fromtimestamp(1796574226, UTC)
    assert sent.parameters["capture_method"] == "manual"


def test_we_report_what_stripe_moved_and_not_what_we_asked_for(stripe_at: At) -> None:
    reply, _ = ask(stripe_at, request(), says(200, intent("succeeded", amount_received=1998, currency="eur")))
    assert isinstance(reply, Approved) and (reply.amount_minor, reply.currency) == (1998, "EUR")
    # A hold is no charge, and a charge is no hold: nothing of what was asked for has moved.
    for capture, status in ((True, "requires_capture"), (False, "succeeded")):
        reply, _ = ask(stripe_at, request(capture=capture), says(200, intent(status)))
        assert isinstance(reply, Approved) and reply.amount_minor == 0
    # Unless the dashboard may have captured it since our first call.
    captured = intent("succeeded", amount_received=500)
    reply, _ = ask(stripe_at, request(capture=False, attempt=2), says(200, captured))
    assert isinstance(reply, Approved) and reply.amount_minor == 1999
    fraction = intent("succeeded", amount_received=150, currency="ugx")
    reply, _ = ask(stripe_at, request(currency="UGX", amount_minor=1), says(200, fraction))
    assert isinstance(reply, Unknown) and reply.alarm == Alarm.AMOUNT_MISMATCH


def test_amounts_are_sent_in_stripes_units(stripe_at: At) -> None:
    ugx = intent("succeeded", amount_received=500_000, currency="ugx")
    reply, [sent] = ask(stripe_at, request(currency="UGX", amount_minor=5000), says(200, ugx))
    assert sent.parameters["amount"] == "500000"
    assert isinstance(reply, Approved) and reply.amount_minor == 5000
    _, [sent] = ask(stripe_at, request("capture", currency="UGX", amount_minor=5000), says(200, ugx))
    assert sent.parameters == {"amount_to_capture": "500000"}
    mga = refund("succeeded", amount=15, currency="mga")
    reply, [sent] = ask(stripe_at, request("refund", currency="MGA", amount_minor=1500), says(200, mga))
    assert sent.parameters["amount"] == "15"
    assert isinstance(reply, Approved) and reply.amount_minor == 1500


# Declines.


def test_a_decline_is_returned_after_its_intent_is_canceled(stripe_at: At) -> None:
    declined = says(402, error("card_error", payment_intent=intent("requires_payment_method"), **DECLINE))
    reply, [_, cancel] = ask(stripe_at, request(), declined, CANCELED)
    assert (cancel.method, cancel.path) == ("POST", "/v1/payment_intents/pi_1/cancel")
    assert "idempotency-key" not in cancel.headers, "a remembered 500 would keep the intent open"
    assert isinstance(reply, Declined)
    assert (reply.decline_code, reply.advice_code, reply.message) == ("do_not_honor", "try_again_later", "Ask your bank.")
    assert (reply.transaction_id, reply.payment_intent_id) == ("ch_1", "pi_1")


@pytest.mark.parametrize("what", STILL_OPEN)
def test_a_decline_whose_intent_may_still_be_open_is_unknown(what: str, stripe_at: At) -> None:
    answer = STILL_OPEN[what]
    declined = says(402, error("card_error", payment_intent=intent("requires_payment_method"), **DECLINE))
    with scripted(declined, answer, answer) as server:
        reply = stripe_at(server.url).charge(request())
    assert isinstance(reply, Unknown) and not reply.key_is_spent


def test_a_decline_is_returned_again_though_its_intent_was_canceled_before(stripe_at: At) -> None:
    declined = says(
        402, error("card_error", payment_intent=intent("requires_payment_method"), **DECLINE), Idempotent_Replayed="true"
    )
    refused = says(400, error(code="payment_intent_unexpected_state", payment_intent=intent("canceled")))
    reply, _ = ask(stripe_at, request(attempt=2), declined, refused)
    assert isinstance(reply, Declined) and reply.decline_code == "do_not_honor"


def test_an_intent_that_was_paid_before_it_could_be_canceled_is_approved(stripe_at: At) -> None:
    declined = says(402, error("card_error", payment_intent=intent("requires_payment_method"), **DECLINE))
    refused = says(400, error(code="payment_intent_unexpected_state", payment_intent=intent("succeeded")))
    reply, _ = ask(stripe_at, request(), declined, refused)
    assert isinstance(reply, Approved) and reply.amount_minor == 1999


@pytest.mark.parametrize("status", ["requires_payment_method", "requires_confirmation", "requires_action"])
def test_an_intent_that_still_needs_something_is_canceled_and_declined(status: str, stripe_at: At) -> None:
    unpaid = intent(status, last_payment_error=DECLINE | {"type": "card_error"} if status == "requires_payment_method" else None)
    asked = request(off_session=status == "requires_action")
    reply, [_, cancel] = ask(stripe_at, asked, says(200, unpaid), CANCELED)
    codes = {"requires_payment_method": "do_not_honor", "requires_confirmation": "processing_error"}
    assert isinstance(reply, Declined) and reply.decline_code == codes.get(status, "authentication_required")
    assert cancel.path.endswith("/cancel")


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"code": "card_declined", "decline_code": "generic_decline"}, "card_declined"),
        ({"code": "card_declined", "decline_code": "stolen_card"}, "stolen_card"),
        ({"code": "expired_card"}, "expired_card"),
        ({"code": "incorrect_cvc", "decline_code": "incorrect_cvc"}, "incorrect_cvc"),
        ({}, "card_error"),
    ],
)
def test_the_code_of_a_decline_is_the_banks_reason_if_there_is_one(members: dict[str, str], code: str, stripe_at: At) -> None:
    reply, _ = ask(stripe_at, request(), says(402, error("card_error", **members)))
    assert isinstance(reply, Declined) and reply.decline_code == code


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("kind", KEYS)
def test_a_request_that_stripe_does_not_take_is_a_decline_with_its_code(status: int, kind: str, stripe_at: At) -> None:
    reply, _ = ask(stripe_at, request(kind), says(status, error(code="amount_too_small")))
    assert isinstance(reply, Declined) and reply.decline_code == "amount_too_small"
    assert "tok_secret" not in repr(reply), "Stripe's words repeat parameters"


@pytest.mark.parametrize("kind", KEYS)
def test_a_refusal_of_a_repeated_request_counts_once_stripe_has_looked_at_the_key(kind: str, stripe_at: At) -> None:
    """Stripe checks parameters, version and the like before it begins, and remembers no such refusal under the key. The call
    before may have moved the money: since then a deployment has changed what we send."""
    refused = error(code="parameter_unknown")
    reply, _ = ask(stripe_at, request(kind, attempt=2), says(400, refused))
    assert isinstance(reply, Unknown) and not reply.key_is_spent
    reply, _ = ask(stripe_at, request(kind, attempt=2), says(400, refused, Idempotent_Replayed="true"))
    assert isinstance(reply, Declined) and reply.raw["replayed"] is True
    card = request("process", attempt=2, payment_token="tok_1")
    reply, _ = ask(stripe_at, card, says(400, refused))
    assert isinstance(reply, Unknown)


# Pending.


def test_what_stripe_has_not_finished_is_pending_under_its_name(stripe_at: At) -> None:
    for kind, thing in {
        "process": intent("processing"),
        "capture": intent("processing"),
        "void": intent("processing"),
        "refund": refund("pending"),
    }.items():
        for find in (False, True):
            asked = request(kind, gateway_id=thing["id"] if find else None)
            reply, _ = ask(stripe_at, asked, says(200, thing), find=find)
            assert isinstance(reply, Pending) and reply.gateway_id == thing["id"], (kind, find)
    for status in ("requires_action", None):  # Stripe documents that it may be null
        reply, _ = ask(stripe_at, request("refund"), says(200, refund("pending") | {"status": status}))
        assert isinstance(reply, Pending) and reply.gateway_id == "re_1", status


def test_a_refund_that_fails_is_a_decline(stripe_at: At) -> None:
    failed = says(200, refund("failed", failure_reason="expired_or_canceled_card"))
    reply, [sent] = ask(stripe_at, request("refund", gateway_id="re_1"), failed, find=True)
    assert isinstance(reply, Declined) and reply.decline_code == "expired_or_canceled_card"
    assert sent.path == "/v1/refunds/re_1"
    reply, _ = ask(stripe_at, request("refund"), says(200, refund("canceled")))
    assert isinstance(reply, Declined) and reply.decline_code == "processing_error"


# What the intent decides.


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("capture", "succeeded", Approved),
        ("capture", "processing", Pending),
        ("capture", "canceled", Declined),
        ("capture", "requires_capture", Declined),
        ("capture", "requires_payment_method", Declined),
        ("void", "canceled", Approved),
        ("void", "processing", Pending),
        ("void", "succeeded", Declined),
        ("void", "requires_capture", Declined),
    ],
)
def test_an_unexpected_state_is_decided_by_the_intent(kind: str, status: str, expected: type[Reply], stripe_at: At) -> None:
    refused = says(400, error(code="payment_intent_unexpected_state", payment_intent=intent(status)))
    reply, _ = ask(stripe_at, request(kind), refused)
    assert isinstance(reply, expected)
    if isinstance(reply, Declined):
        assert reply.decline_code == "payment_intent_unexpected_state"
    if isinstance(reply, Approved):
        assert reply.amount_minor == 1999


@pytest.mark.parametrize("find", [False, True])
def test_a_capture_by_somebody_else_of_another_amount_declines_ours(find: bool, stripe_at: At) -> None:
    """What is captured once stays so. Had ours done it, Stripe would have our amount."""
    theirs = intent("succeeded", amount_received=1200)
    answer = says(200, theirs) if find else says(400, error(code="payment_intent_unexpected_state", payment_intent=theirs))
    reply, _ = ask(stripe_at, request("capture", attempt=2), answer, find=find)
    assert isinstance(reply, Declined) and reply.decline_code == "payment_intent_unexpected_state"


# Unknown.


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("what", UNKNOWN)
def test_all_else_is_unknown(what: str, kind: str, stripe_at: At) -> None:
    answer, how = UNKNOWN[what]
    reply, _ = ask(stripe_at, request(kind), answer)
    assert isinstance(reply, Unknown), reply
    assert reply == Unknown(reply.reason, **how)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("what", [*UNKNOWN, "not found"])
def test_a_question_without_an_answer_is_unknown(what: str, kind: str, stripe_at: At) -> None:
    answer, how = UNKNOWN.get(what, (says(404, error(code="resource_missing")), {}))
    for gateway_id in (None, "pi_1" if kind != "refund" else "re_1"):
        reply, _ = ask(stripe_at, request(kind, gateway_id=gateway_id), answer, find=True)
        assert isinstance(reply, Unknown), reply
        assert reply.alarm == how.get("alarm")
        assert reply.wait_s == how.get("wait_s")


@pytest.mark.parametrize("is_live", [False, True])
def test_an_answer_of_the_other_mode_is_unknown_and_an_alarm(is_live: bool, stripe_at: At) -> None:
    other = {"livemode": not is_live}
    carried = error("card_error", payment_intent=intent("requires_payment_method", **other), **DECLINE)
    for reply, _ in (
        ask(stripe_at, request(), says(200, intent("succeeded", **other)), is_live=is_live),
        ask(stripe_at, request(), says(402, carried), is_live=is_live),
        ask(stripe_at, request("void"), says(200, intent("canceled", **other)), is_live=is_live),
        ask(stripe_at, request(), page(intent("succeeded", **other)), find=True, is_live=is_live),
    ):
        assert isinstance(reply, Unknown) and reply.alarm == Alarm.REFUSES_US
    reply, _ = ask(stripe_at, request(), says(200, intent("succeeded", livemode=is_live)), is_live=is_live)
    assert isinstance(reply, Approved)


@pytest.mark.parametrize("key", ["sk_test_x\n", "sk_test_ü", "sk_test_x\r\nX: y"])
def test_a_key_that_is_no_header_is_not_sent(key: str, stripe_at: At) -> None:
    reply, sent = ask(stripe_at, request(), key=key)
    assert isinstance(reply, Unknown) and reply.alarm == Alarm.REFUSES_US
    assert sent == []


# What became of it.


def test_a_charge_is_looked_for_around_each_call_on_all_pages(stripe_at: At) -> None:
    others = [intent("succeeded", id=f"pi_{number}", metadata={"gateway_key": "pay-2"}) for number in (5, 4)]
    mine = intent("succeeded", id="pi_3")
    asked = request(asked_at=[NOW - timedelta(hours=1), NOW])
    script = (page(), page(*others, has_more=True), page(intent("canceled", metadata={}), mine))
    reply, sent = ask(stripe_at, asked, *script, find=True)
    assert isinstance(reply, Approved) and reply.payment_intent_id == "pi_3"
    assert {one.path for one in sent} == {"/v1/payment_intents"} and {one.method for one in sent} == {"GET"}
    moments = [int(moment.timestamp()) for moment in asked.asked_at]
    assert [int(one.parameters["created[gte]"]) for one in sent] == [moment - CLOCKS_S for moment in (*moments, moments[1])]
    assert [int(one.parameters["created[lte]"]) for one in sent] == [moment + 5 + CLOCKS_S for moment in (*moments, moments[1])]
    assert [one.parameters.get("starting_after") for one in sent] == [None, None, "pi_4"]


def test_calls_that_were_close_to_each_other_are_looked_for_by_one_question(stripe_at: At) -> None:
    """A shop may have us try again every two seconds, for as long as an outage lasts."""
    often = [NOW - timedelta(hours=2), *(NOW - timedelta(seconds=2 * number) for number in reversed(range(900)))]
    reply, sent = ask(stripe_at, request(asked_at=often), page(), page(intent("succeeded")), find=True)
    assert isinstance(reply, Approved)
    first, second = (
        (int(one.parameters["created[gte]"]) + CLOCKS_S, int(one.parameters["created[lte]"]) - 5 - CLOCKS_S) for one in sent
    )
    assert first == (int(often[0].timestamp()),) * 2
    assert second == (int(often[1].timestamp()), int(NOW.timestamp()))


def test_a_charge_that_was_found_unconfirmed_is_canceled_and_declined(stripe_at: At) -> None:
    for status in ("requires_confirmation", "requires_payment_method", "requires_action"):
        reply, [_, cancel] = ask(stripe_at, request(off_session=True), page(intent(status)), CANCELED, find=True)
        assert isinstance(reply, Declined)
        assert cancel.path == "/v1/payment_intents/pi_1/cancel"


def test_a_refund_is_looked_for_among_those_of_its_intent(stripe_at: At) -> None:
    other = refund("succeeded", id="re_2", metadata={"gateway_key": "ref-2"})
    reply, sent = ask(stripe_at, request("refund"), page(other, has_more=True), page(refund("succeeded")), find=True)
    assert isinstance(reply, Approved) and reply.refund_id == "re_1"
    assert [one.parameters for one in sent] == [
        {"payment_intent": "pi_1", "limit": "100"},
        {"payment_intent": "pi_1", "limit": "100", "starting_after": "re_2"},
    ]


def test_what_stripe_calls_nullable_may_be_null(stripe_at: At) -> None:
    """Of another's refund, and of our own charge. An operation would stay unknown for ever."""
    other = refund("succeeded", id="re_2", metadata=None)
    reply, _ = ask(stripe_at, request("refund"), page(other, refund("succeeded")), find=True)
    assert isinstance(reply, Approved) and reply.refund_id == "re_1"
    for details in (None, {"card": None}):
        charge = {"id": "ch_1", "payment_method_details": details}
        reply, _ = ask(stripe_at, request(), says(200, intent("succeeded", latest_charge=charge)))
        assert isinstance(reply, Approved) and reply.capture_before is None


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("capture", "succeeded", Approved),
        ("capture", "canceled", Declined),
        ("capture", "requires_capture", Declined),
        ("void", "canceled", Approved),
        ("void", "succeeded", Declined),
        ("void", "requires_capture", Declined),
    ],
)
def test_a_capture_or_void_is_looked_up_by_its_intent(kind: str, status: str, expected: type[Reply], stripe_at: At) -> None:
    asked = request(kind, asked_at=[LONG_AGO])
    reply, [sent] = ask(stripe_at, asked, says(200, intent(status)), find=True)
    assert (sent.method, sent.path) == ("GET", "/v1/payment_intents/pi_1")
    assert isinstance(reply, expected)


@pytest.mark.parametrize("asked_at", [[], [LONG_AGO, NOW]])
def test_what_stripe_may_be_at_work_on_is_not_declined(asked_at: list[datetime], stripe_at: At) -> None:
    for kind in ("capture", "void"):
        reply, _ = ask(stripe_at, request(kind, asked_at=asked_at), says(200, intent("requires_capture")), find=True)
        assert isinstance(reply, Unknown)


def test_a_question_moves_no_money(stripe_at: At) -> None:
    """It sends no POST but the cancel of what nobody can finish, and no key."""
    things = {"process": page(intent("succeeded")), "refund": page(refund("succeeded"))}
    for kind in KEYS:
        _, sent = ask(stripe_at, request(kind), things.get(kind, says(200, intent("processing"))), find=True)
        assert all(one.method == "GET" and "idempotency-key" not in one.headers for one in sent)


# Secrets.


def test_no_secret_leaves_the_adapter(stripe_at: At, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"key": "sk_test_canary", "token": "tok_canary", "client_secret": "pi_1_secret_canary"}
    method = says(200, {"object": "payment_method", "id": "pm_canary", "livemode": False})
    words: dict[str, Any] = {"message": "No such token: tok_canary", "payment_method": {"id": "pm_canary"}, "charge": "ch_1"}
    script = {
        "approved": says(200, intent("succeeded", client_secret=secret["client_secret"])),
        "declined": says(402, error("card_error", **words | {"code": "x"})),
        "refused": says(400, error(**words)),
        "not JSON": says(200, b"pi_1_secret_canary"),
        "broken": breaks,
        "odd": says(200, {"object": "payment_intent", "client_secret": secret["client_secret"]}),
        "refuses us": says(401, error(message="Invalid API Key provided: sk_test_canary")),
    }
    for what, answer in script.items():
        reply, _ = ask(stripe_at, request(payment_token="tok_canary"), method, answer, key="sk_test_canary")
        told = repr(reply) + json.dumps(getattr(reply, "raw", {}))
        if what != "declined":  # Stripe's words for a card's decline are for its owner, and go to the caller
            assert "canary" not in told, what
    assert "canary" not in caplog.text


def test_paypal_is_refused_and_cards_are_taken(stripe_at: At) -> None:
    gateway = stripe_at("http://127.0.0.1:1")
    assert (gateway.refuses("paypal", 1000, "USD") or ("",))[0] == "payment_method"
    for method in ("credit_card", "debit_card", "stripe"):
        assert gateway.refuses(method, 1000, "USD") is None
        assert gateway.refuses(method, 1000, "USD", has_token=False) is None
    assert (gateway.refuses("stripe", 49, "USD") or ("",))[0] == "amount"
    assert gateway.refuses("stripe", 49, "USD", is_part=True) is None


def test_a_key_ends_before_stripe_forgets_it(stripe_at: At) -> None:
    gateway = stripe_at("http://127.0.0.1:1")
    assert gateway.name == "stripe"
    for kind in KEYS:
        assert 3600 <= gateway.key_lifetime_s(kind) < 24 * 3600 - 600


def test_a_key_that_was_rotated_is_read_again_and_the_request_repeated() -> None:
    keys = ["sk_test_old", "sk_test_new"]
    answers = says(401, error()), says(200, intent("succeeded"))
    with scripted(*answers) as server, contextlib.closing(StripeHttp(server.url)) as http:
        gateway = StripeGateway(lambda: keys[0], is_live=False, refused=lambda: keys.remove("sk_test_old"), http=http)
        assert isinstance(gateway.charge(request()), Approved)
    assert [asked.headers["authorization"] for asked in server.received] == ["Bearer sk_test_old", "Bearer sk_test_new"]
    assert len({asked.headers["idempotency-key"] for asked in server.received}) == 1


def test_a_key_that_stays_the_same_is_refused_once() -> None:
    with scripted(says(401, error())) as server, contextlib.closing(StripeHttp(server.url)) as http:
        reply = StripeGateway(lambda: "sk_test_old", is_live=False, http=http).charge(request())
    assert isinstance(reply, Unknown)
    assert (reply.alarm, len(server.received)) == (Alarm.REFUSES_US, 1)


@pytest.mark.parametrize("failure", [ConnectionError("Secrets Manager"), SettingsError("GATEWAY_LIVE is Off")])
def test_a_key_that_cannot_be_read_is_an_alarm_and_no_outcome(failure: Exception) -> None:
    def unreadable() -> str:
        raise failure

    reply = StripeGateway(unreadable, is_live=False, base="http://127.0.0.1:9").charge(request())
    assert isinstance(reply, Unknown)
    assert reply.alarm is Alarm.REFUSES_US
