"""localstripe posts its own webhooks, which it signs itself, to the route of `make run`; and without them the service finds out.

Its bytes and its signature come as they are. It tells that a customer has paid, or that the bank declined him after the check. Of
a failed check and of a customer who stays away it says nothing.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.servers import connect
from payments.gateway.port import ActionRequired, NextAction
from payments.gateway.stripe_events import EVENT_TYPES, hint_of
from tests.gateway.dialects import OfLocalstripe, spoken
from tests.gateway.people import AtLocalstripe, made_of_a_card
from tests.gateway.servers import LocalStripe, ask
from tests.local.test_customer_acts import Shop
from tests.local.test_run import REPOSITORY, Run

pytestmark = pytest.mark.server

ROUTE = "/api/v1/gateways/stripe/events"
SECRET = "whsec_localstripe"
WEBHOOK = uuid.uuid4().hex

MAKE_DUE = "UPDATE operations SET lease_until = now(), next_attempt_at = now() WHERE outcome IS NULL AND payment_id = :id"
TIME_IS_UP = (
    "UPDATE operations SET reply = reply || jsonb_build_object('action_expires_at', now())"
    " WHERE outcome IS NULL AND payment_id = :id"
)
INBOX = "SELECT type, door, outcome FROM gateway_events WHERE payment_intent_id = :intent"


@dataclass(frozen=True)
class Stack:
    """A shop in front of `make run`, whose payments localstripe takes. No operation is due by itself."""

    shop: Shop
    localstripe: LocalStripe
    customer: AtLocalstripe

    def webhooks(self, secret: str, *, on: bool = True) -> None:
        webhook = {"url": self.shop.url + ROUTE, "secret": secret, "events": list(EVENT_TYPES) if on else []}
        ask("POST", f"{self.localstripe.url}/_config/webhooks/{WEBHOOK}", json.dumps(webhook).encode())

    def waits(self, card: str = "needs its owner") -> tuple[dict[str, Any], ActionRequired]:
        status, payment = self.shop.pays(payment_token=self.customer.token(card))
        assert (status, payment["status"]) == (202, "REQUIRES_ACTION")
        secret, intent = payment["next_action"]["client_secret"], payment["payment_intent_id"]
        return payment, ActionRequired(intent, intent, None, NextAction("stripe_js", secret), {})

    def reconcile(self) -> None:
        """Invoke the function, which otherwise runs once a minute."""
        url = f"{self.shop.url}/2015-03-31/functions/reconcile/invocations"
        urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=60).close()

    def is_over(self, payment: dict[str, Any]) -> None:
        """Let the customer's time be up, and reconcile see it."""
        for statement in (TIME_IS_UP, MAKE_DUE):
            self.query(statement, id=payment["payment_id"])
        self.reconcile()

    def inbox(self, payment: dict[str, Any]) -> list[list[Any]]:
        return self.query(INBOX, intent=payment["payment_intent_id"])

    def told(self, payment: dict[str, Any]) -> list[list[Any]]:
        """Return the inbox once all of it has an outcome."""
        until = time.monotonic() + 90
        while not (rows := self.inbox(payment)) or any(outcome is None for *_, outcome in rows):
            assert time.monotonic() < until, rows
            time.sleep(0.1)
        return rows

    def query(self, sql: str, **values: str) -> list[list[Any]]:
        with contextlib.closing(connect(self.shop.database_url)) as books:
            rows: list[list[Any]] = books.run(sql, **values)
            return rows


@pytest.fixture(scope="module")
def stack(servers_folder: Path, localstripe: LocalStripe) -> Iterator[Stack]:
    with spoken(OfLocalstripe(localstripe.url)) as base:
        variables = {"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": base, "STRIPE_WEBHOOK_SECRETS": SECRET}
        run = Run(REPOSITORY / "template.yaml", servers_folder / "localstripe", RETRY_SCHEDULE_S="3600", **variables)
        try:
            run.until("Ready in")
            made = Stack(Shop(run), localstripe, AtLocalstripe(localstripe.url, made_of_a_card(localstripe.url)))
            made.webhooks(SECRET)  # so that localstripe tells our route first
            yield made
            made.webhooks(SECRET, on=False)
        finally:
            run.end(signal.SIGTERM)


def test_a_customer_who_passes_has_paid_and_its_own_signed_webhook_says_so(stack: Stack) -> None:
    stack.webhooks(SECRET)
    payment, action = stack.waits()
    stack.customer.passes(action)
    stack.shop.becomes(payment, "CAPTURED")
    assert stack.told(payment) == [["payment_intent.succeeded", "webhook", "settled"]]


def test_a_card_that_is_declined_after_the_check_is_told_by_its_own_signed_webhook(stack: Stack) -> None:
    stack.webhooks(SECRET)
    payment, action = stack.waits("needs its owner and declines")
    stack.customer.passes(action)
    stack.shop.becomes(payment, "FAILED")
    assert stack.told(payment) == [["payment_intent.payment_failed", "webhook", "settled"]]


@pytest.mark.parametrize("how", ["on", "off", "signed with a secret that is none of ours"])
@pytest.mark.parametrize("does", ["passes", "fails", "stays away"])
def test_what_no_webhook_says_is_found_out_by_a_sync_or_when_the_customers_time_is_up(
    does: str, how: str, stack: Stack, delivered: queue.SimpleQueue[dict[str, Any]]
) -> None:
    stack.webhooks(SECRET if how == "on" else "whsec_of_nobody", on=how != "off")
    payment, action = stack.waits()
    match does:
        case "passes":
            stack.customer.passes(action)
        case "fails":
            stack.customer.fails(action)
    _, later = stack.waits()
    stack.customer.passes(later)
    # localstripe tells our route of an event first. So all is told by now that is told of the payment.
    awaited = {later.gateway_id} | ({action.gateway_id} if does == "passes" else set())
    while awaited:
        awaited.discard(hint_of(delivered.get(timeout=30)).payment_intent_id or "")
    if (does, how) == ("passes", "on"):
        assert stack.told(payment) == [["payment_intent.succeeded", "webhook", "settled"]]
        return
    assert stack.inbox(payment) == []
    stack.shop.becomes(payment, "REQUIRES_ACTION")
    if does == "stays away":
        stack.is_over(payment)
        ended = stack.shop.becomes(payment, "VOIDED")
    else:
        ended = stack.shop.synced(payment)
    assert (ended["status"], ended["decline_code"]) == {
        "passes": ("CAPTURED", None),
        "fails": ("FAILED", "payment_intent_authentication_failure"),
        "stays away": ("VOIDED", "action_expired"),
    }[does]
