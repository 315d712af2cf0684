"""Each adapter passes the cases of the port's suite in front of each server, but for the gaps that are listed here."""

from __future__ import annotations

import os
import uuid

import pytest

from payments.gateway.simulated import SimulatedGateway
from payments.stripe_settings import API
from tests.gateway.dialects import OfLocalstripe, OfStripeWorld
from tests.gateway.people import AtLocalstripe, AtStripe, Nobody, made_of_a_card
from tests.gateway.port_suite import CASES, Subject
from tests.gateway.servers import LocalStripe, StripeWorld

TEST_KEY = os.environ.get("STRIPE_API_KEY", "")
"""Of a Stripe account in test mode. `make contract` asks for it, and everybody else's tests leave Stripe alone."""

NO_STATE = "it keeps no state"
NO_CUSTOMER = NO_STATE + ", so no customer can change it"
SIMULATED_GAPS = {
    "a card that does not exist is declined": "every other token follows the rates",
    "a disputed charge is not refunded": "it has no disputes",
    "a key with other parameters is spent": NO_STATE + ", but for a token that shows it",
    "a capture or void that was not done is declined when it cannot come any more": NO_STATE,
    "an authorization ends once": NO_STATE,
    "an authorization is captured in part": NO_STATE + ", so it refunds more than was captured",
    "more than is left is not refunded": NO_STATE,
    "what never came is not found": NO_STATE + ", so it finds everything",
    "a customer who passes has paid": NO_CUSTOMER,
    "a customer who fails is declined and can no longer pay": NO_CUSTOMER,
    "a card that is declined after its owner has passed is closed": NO_CUSTOMER,
    "a customer who does not come is given up by a void": NO_CUSTOMER,
    "a customer who is faster than the void has paid": NO_CUSTOMER,
    "a payment that is canceled there while it waits is a cancel": NO_CUSTOMER,
    "a customer without a token enters a card": NO_CUSTOMER,
    "a customer without a token tries another card after a decline": NO_CUSTOMER,
    "a customer without a token is checked too": NO_CUSTOMER,
    "a look sees where a payment stands": NO_STATE,
    "a look sees what others captured and canceled": NO_STATE,
    "a part that was never captured is no refund": NO_STATE,
    "a look sees each refund and whose it is": NO_STATE,
    "what was captured stays when some of it is refunded": NO_STATE,
    "a refund that others canceled is seen failed": NO_STATE,
    "a look sees a dispute and its end": NO_STATE,
    "what the gateway does not know cannot be looked at": NO_STATE,
    "what could not be delivered is told newest first": NO_STATE,
}

NO_KEYS = "it ignores idempotency keys"
NO_LIMIT = "it refunds more than is left"
NO_MOMENTS = "its list of intents takes no moments"
NO_DISPUTES = "it has no disputes"
LOCALSTRIPE_GAPS = {
    "a card that does not exist is declined": "its errors have no code",
    "a charge is found by the moments of its calls": NO_MOMENTS,
    "a declined charge is found declined": NO_MOMENTS,
    "a customer without a token tries another card after a decline": "its intent keeps the charge that failed",
    "a disputed charge is not refunded": NO_DISPUTES,
    "a key gets its answer again": NO_KEYS,
    "a key of a payment that waits begins no second one": NO_KEYS,
    "a key that was declined stays declined": "its declines have no reason, and it knows no card without funds",
    "a key with other parameters is spent": NO_KEYS,
    "a refund that takes days is pending and found by its name": "its refunds succeed at once",
    "an authorization ends once": "its refusals carry no intent",
    "an authorization is captured in part": NO_LIMIT,
    "more than is left is not refunded": NO_LIMIT,
    "a look sees a dispute and its end": NO_DISPUTES,
    "a part that was never captured is no refund": "it does as Stripe's versions before 2025-03-31.basil, and makes one of it",
    "a payment that waits is found by the moments of its calls": NO_MOMENTS,
    "a refund that others canceled is seen failed": "its refunds succeed at once",
    "what could not be delivered is told newest first": "it keeps no events that can be read",
    "what was captured stays when some of it is refunded": "its intents do not say what they have received",
}

NO_BROWSER = "its check needs a browser, so the customer pays with another card"
STRIPE_WORLD_GAPS = {"a card that is declined after its owner has passed is closed": NO_BROWSER}
STRIPE_GAPS = {
    "a card that is declined after its owner has passed is closed": NO_BROWSER,
    "a look sees a dispute and its end": "it decides seconds later",
    "what could not be delivered is told newest first": "it has no endpoint to deliver to",
}

TOKENS_OF_STRIPE = {
    "good": "tok_visa",
    "without funds": "tok_visa_chargeDeclinedInsufficientFunds",
    "needs its owner": "tok_threeDSecure2Required",
    "needs its owner and declines": "tok_threeDSecureRequiredChargeDeclined",
    "refunded in days": "tok_pendingRefund",
    "disputed": "tok_createDispute",
}


def _simulated(request: pytest.FixtureRequest) -> Subject:
    tokens = {"good": "tok_ok", "without funds": "tok_insufficient_funds", "refunded in days": "tok_refund_pending"}
    tokens["needs its owner"] = "tok_requires_action"
    gateway = SimulatedGateway(success_rate=1, delay_ms=(0, 0))
    return Subject(gateway, lambda token: tokens.get(token, "tok_ok"), Nobody(), Nobody(), SIMULATED_GAPS)


def _stripe_world(request: pytest.FixtureRequest) -> Subject:
    world: StripeWorld = request.getfixturevalue("stripe_world")
    base = world.account(uuid.uuid4().hex)
    token = made_of_a_card(base)
    people = AtStripe(base, token)
    return Subject(request.getfixturevalue("stripe_at")(base, http=OfStripeWorld), token, people, people, STRIPE_WORLD_GAPS)


def _localstripe(request: pytest.FixtureRequest) -> Subject:
    server: LocalStripe = request.getfixturevalue("localstripe")
    gateway = request.getfixturevalue("stripe_at")(server.url, http=OfLocalstripe)
    token = made_of_a_card(server.url)
    people = AtLocalstripe(server.url, token)
    return Subject(gateway, token, people, people, LOCALSTRIPE_GAPS)


def _stripe(request: pytest.FixtureRequest) -> Subject:
    people = AtStripe(API, TOKENS_OF_STRIPE.__getitem__, TEST_KEY)
    return Subject(request.getfixturevalue("stripe_at")(API, key=TEST_KEY), people.token, people, people, STRIPE_GAPS)


SUBJECTS = {"simulated": _simulated, "Stripe World": _stripe_world, "localstripe": _localstripe}
if TEST_KEY.startswith(("sk_test_", "rk_test_")):
    SUBJECTS["Stripe"] = _stripe


@pytest.mark.server
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_port(subject: str, case: str, request: pytest.FixtureRequest) -> None:
    subject_ = SUBJECTS[subject](request)
    if case not in subject_.gaps:
        CASES[case](subject_)
        return
    with pytest.raises(AssertionError):
        CASES[case](subject_)


def test_each_gap_is_a_case() -> None:
    for gaps in (SIMULATED_GAPS, STRIPE_WORLD_GAPS, LOCALSTRIPE_GAPS, STRIPE_GAPS):
        assert set(gaps) <= set(CASES)
