"""The events that localstripe sends by itself, after a check of 3-D Secure, become hints."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import pytest

from payments.gateway.port import GatewayRequest, Hint
from payments.gateway.stripe import StripeGateway
from payments.gateway.stripe_events import hint_of
from tests.gateway.dialects import OfLocalstripe
from tests.gateway.people import AtLocalstripe, made_of_a_card
from tests.gateway.port_suite import Subject, approved, charge_of, declined, waits
from tests.gateway.servers import LocalStripe

pytestmark = pytest.mark.server

LONGEST_WAIT_S = 20


def told_of(request: GatewayRequest, delivered: queue.SimpleQueue[dict[str, Any]]) -> Hint:
    """Wait for what is told of a payment. What other tests paid a moment ago is told here, too."""
    while True:
        hint = hint_of(delivered.get(timeout=LONGEST_WAIT_S))
        if hint.payment_id == request.payment_id:
            return hint


def test_a_passed_check_is_told_and_a_failed_one_is_not(
    localstripe: LocalStripe, delivered: queue.SimpleQueue[dict[str, Any]], stripe_at: Callable[..., StripeGateway]
) -> None:
    """It says nothing of a failed check. What it does not tell is asked for by the payment's name all the same."""
    token = made_of_a_card(localstripe.url)
    people = AtLocalstripe(localstripe.url, token)
    subject = Subject(stripe_at(localstripe.url, http=OfLocalstripe), token, people, people)
    failed, passed = waits(subject), waits(subject)
    people.fails(failed[1])
    people.passes(passed[1])
    hint = told_of(passed[0], delivered)
    assert (hint.type, hint.payment_intent_id) == ("payment_intent.succeeded", passed[1].gateway_id)
    approved(subject.gateway.find(passed[0]))
    declined(subject.gateway.find(failed[0]), "payment_intent_authentication_failure")
    paid_at_once = charge_of(subject)
    approved(subject.gateway.charge(paid_at_once))
    assert told_of(paid_at_once, delivered).type == "payment_intent.succeeded"
