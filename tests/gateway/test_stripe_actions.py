"""A customer who has to act: what we make of an intent that waits for him, and who gets its secret."""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from typing import Any

import pytest

from payments.domain.declines import KNOWN_DECLINES
from payments.gateway.port import ActionRequired, Approved, Declined, GatewayRequest, NextAction, Pending, Reply, Unknown
from tests.gateway.scripted import Says, says, scripted
from tests.gateway.stripe_says import CANCELED, DECLINE, STILL_OPEN, At, ask, error, intent, page, request

pytestmark = pytest.mark.server

SECRET_STEP = {"type": "use_stripe_sdk", "use_stripe_sdk": {"stripe_js": "https://hooks.stripe.com/canary"}}
REDIRECT_STEP = {
    "type": "redirect_to_url",
    "redirect_to_url": {"url": "https://hooks.stripe.com/3ds/1", "return_url": "https://s"},
}


def waiting(stripe_at: At, asked: GatewayRequest, found: dict[str, Any], *, find: bool = False) -> NextAction:
    """Return what the customer needs. One request is sent, so nothing is canceled."""
    reply, [_] = ask(stripe_at, asked, says(200, found), find=find)
    assert isinstance(reply, ActionRequired), reply
    assert (reply.gateway_id, reply.payment_intent_id) == ("pi_1", "pi_1")
    assert reply.raw == {"gateway": "stripe", "http_status": 200, "id": "pi_1", "status": found["status"]}
    return reply.next_action


def test_off_session_and_where_the_customer_comes_back_to_are_sent_with_a_token_alone(stripe_at: At) -> None:
    def sent(**fields: Any) -> dict[str, str]:
        [one] = ask(stripe_at, request(**fields), says(200, intent("succeeded")))[1]
        named = ("payment_method", "confirm", "off_session", "return_url")
        return {name: value for name, value in one.parameters.items() if name in named}

    card = {"payment_method": "pm_1", "confirm": "true"}
    assert sent() == card
    assert sent(off_session=True) == card | {"off_session": "true"}
    assert sent(return_url="https://shop.example/back?order=1&x=ü") == card | {
        "return_url": "https://shop.example/back?order=1&x=ü"
    }
    assert sent(payment_token=None, return_url="https://shop.example/back") == {}, "Stripe takes it with `confirm` alone"


def test_a_charge_without_a_token_is_an_intent_that_the_customer_confirms(stripe_at: At) -> None:
    asked = request(payment_token=None, capture=False)
    reply, [sent] = ask(stripe_at, asked, says(200, intent("requires_payment_method", latest_charge=None)))
    assert sent.parameters == {
        "amount": "1999",
        "currency": "usd",
        "payment_method_types[]": "card",
        "capture_method": "manual",
        "expand[]": "latest_charge",
        "metadata[payment_id]": str(uuid.UUID(int=7)),
        "metadata[order_id]": "order-1",
        "metadata[gateway_key]": "pay-1",
    }
    assert sent.headers["idempotency-key"] == "pay-1"
    assert isinstance(reply, ActionRequired) and reply.transaction_id is None
    assert reply.next_action == NextAction("stripe_js", client_secret="pi_1_secret_x")


@pytest.mark.parametrize("find", [False, True])
def test_the_customer_gets_a_secret_or_a_page(find: bool, stripe_at: At) -> None:
    asked = request(gateway_id="pi_1" if find else None)
    secret, page_of_stripe = (
        NextAction("stripe_js", client_secret="pi_1_secret_x"),
        NextAction("redirect", url="https://hooks.stripe.com/3ds/1"),
    )
    assert waiting(stripe_at, asked, intent("requires_action", next_action=SECRET_STEP), find=find) == secret
    assert waiting(stripe_at, asked, intent("requires_action", next_action=REDIRECT_STEP), find=find) == page_of_stripe
    assert waiting(stripe_at, asked, intent("requires_action", next_action=None), find=find) == secret


@pytest.mark.parametrize("status", ["requires_payment_method", "requires_confirmation", "requires_action"])
def test_a_payment_element_goes_on_with_the_secret_whatever_was_tried_in_it(status: str, stripe_at: At) -> None:
    tried = intent(status, next_action=REDIRECT_STEP, last_payment_error=DECLINE | {"type": "card_error"})
    action = waiting(stripe_at, request(payment_token=None, gateway_id="pi_1"), tried, find=True)
    assert action == NextAction("stripe_js", client_secret="pi_1_secret_x")


def test_a_customer_who_fails_the_check_is_declined_after_the_intent_is_canceled(stripe_at: At) -> None:
    failed = {"code": "payment_intent_authentication_failure", "type": "invalid_request_error", "message": "about tok_secret"}
    asked = request(gateway_id="pi_1")
    open_ = intent("requires_payment_method", last_payment_error=failed)
    reply, [looked, cancel] = ask(stripe_at, asked, says(200, open_), CANCELED, find=True)
    assert (looked.method, looked.path) == ("GET", "/v1/payment_intents/pi_1")
    assert (cancel.method, cancel.path) == ("POST", "/v1/payment_intents/pi_1/cancel")
    assert isinstance(reply, Declined) and reply.decline_code == "payment_intent_authentication_failure"
    assert reply.message == KNOWN_DECLINES["payment_intent_authentication_failure"]
    # We were killed between the cancel and the settle.
    again, _ = ask(stripe_at, asked, says(200, intent("canceled", last_payment_error=failed)), find=True)
    assert isinstance(again, Declined) and again.decline_code == reply.decline_code


@pytest.mark.parametrize("what", STILL_OPEN)
def test_a_late_decline_whose_intent_may_still_be_open_is_unknown(what: str, stripe_at: At) -> None:
    answer = STILL_OPEN[what]
    open_ = says(200, intent("requires_payment_method", last_payment_error=DECLINE | {"type": "card_error"}))
    with scripted(open_, answer, answer) as server:
        reply = stripe_at(server.url).find(request(gateway_id="pi_1"))
    assert isinstance(reply, Unknown) and not reply.key_is_spent


def test_a_late_decline_that_was_paid_before_it_could_be_canceled_is_approved(stripe_at: At) -> None:
    open_ = says(200, intent("requires_payment_method", last_payment_error=DECLINE | {"type": "card_error"}))
    refused = says(400, error(code="payment_intent_unexpected_state", payment_intent=intent("succeeded")))
    reply, _ = ask(stripe_at, request(gateway_id="pi_1"), open_, refused, find=True)
    assert isinstance(reply, Approved) and reply.amount_minor == 1999


@pytest.mark.parametrize("token", ["pm_1", None])
def test_what_became_of_a_payment_that_waited_is_found_by_its_name(token: str | None, stripe_at: At) -> None:
    def found(thing: dict[str, Any], **fields: Any) -> Reply:
        asked = request(payment_token=token, gateway_id="pi_1", asked_at=(), **fields)
        reply, [sent] = ask(stripe_at, asked, says(200, thing), find=True)
        assert sent.path == "/v1/payment_intents/pi_1"
        return reply

    assert isinstance(found(intent("succeeded")), Approved)
    held = found(intent("requires_capture"), capture=False)
    assert isinstance(held, Approved) and held.amount_minor == 1999
    assert isinstance(found(intent("processing")), Pending)
    gone = found(intent("canceled", latest_charge=None, cancellation_reason="abandoned"))
    assert isinstance(gone, Declined) and gone.decline_code == "payment_canceled"
    assert (gone.payment_intent_id, gone.raw["cancellation_reason"]) == ("pi_1", "abandoned")


def test_a_canceled_payment_that_any_card_could_have_paid_was_given_up_whatever_the_last_card_did(stripe_at: At) -> None:
    """Its customer may try another card after a decline, so we cancel no such intent because of one: somebody gave it up."""
    tried = intent("canceled", last_payment_error=DECLINE | {"type": "card_error"}, cancellation_reason="requested_by_customer")
    asked = request(payment_token=None, gateway_id="pi_1")
    reply, _ = ask(stripe_at, asked, says(200, tried), find=True)
    assert isinstance(reply, Declined) and reply.decline_code == "payment_canceled"
    assert reply.raw["cancellation_reason"] == "requested_by_customer"
    reply, _ = ask(stripe_at, replace(asked, payment_token="pm_1"), says(200, tried), find=True)
    assert isinstance(reply, Declined) and reply.decline_code == "do_not_honor", "with a token, we cancel it after a decline"


def test_a_payment_that_never_waited_and_is_canceled_is_a_plain_decline(stripe_at: At) -> None:
    reply, _ = ask(stripe_at, request(), page(intent("canceled")), find=True)
    assert isinstance(reply, Declined) and reply.decline_code == "processing_error"


def test_a_void_of_a_payment_that_nobody_has_paid_names_no_charge(stripe_at: At) -> None:
    reply, [sent] = ask(stripe_at, request("void", transaction_id=None), says(200, intent("canceled", latest_charge=None)))
    assert (sent.path, sent.parameters) == ("/v1/payment_intents/pi_1/cancel", {})
    assert isinstance(reply, Approved)
    assert (reply.transaction_id, reply.payment_intent_id, reply.amount_minor) == ("", "pi_1", 1999)
    faster = error(code="payment_intent_unexpected_state", payment_intent=intent("succeeded"))
    reply, _ = ask(stripe_at, request("void", transaction_id=None), says(400, faster))
    assert isinstance(reply, Declined) and reply.decline_code == "payment_intent_unexpected_state"


def test_money_that_moved_has_a_charge(stripe_at: At) -> None:
    reply, _ = ask(stripe_at, request(), says(200, intent("succeeded", latest_charge=None)))
    assert isinstance(reply, Unknown)


ACTIONS: dict[str, Says] = {
    "a secret": says(200, intent("requires_action", client_secret="pi_1_secret_canary", next_action=SECRET_STEP)),
    "a page": says(
        200,
        intent(
            "requires_action",
            client_secret="pi_1_secret_canary",
            next_action={"type": "redirect_to_url", "redirect_to_url": {"url": "https://hooks.stripe.com/canary"}},
        ),
    ),
    "a page without an address": says(
        200,
        intent("requires_action", client_secret="pi_1_secret_canary", next_action=REDIRECT_STEP | {"redirect_to_url": "canary"}),
    ),
    "a decline": says(402, error("card_error", payment_intent=intent("requires_action", client_secret="pi_1_secret_canary"))),
    "a refused address": says(400, error(code="url_invalid", message="Not a valid URL: https://shop.example/canary")),
}


@pytest.mark.parametrize("what", ACTIONS)
def test_no_secret_of_the_customers_is_told_to_anybody_else(what: str, stripe_at: At, caplog: pytest.LogCaptureFixture) -> None:
    """What only its owner gets is in `next_action`, and in no repr, log, exception or row."""
    caplog.set_level(logging.DEBUG)
    asked = request(return_url="https://shop.example/canary", payment_token="pm_canary")
    for find in (False, True):
        reply, _ = ask(
            stripe_at, replace(asked, gateway_id="pi_1" if find else None), ACTIONS[what], key="sk_test_canary", find=find
        )
        assert "canary" not in f"{reply!r} {reply} {getattr(reply, 'raw', {})} {asked!r}"
    assert "canary" not in caplog.text
