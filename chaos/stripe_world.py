"""Stripe World, a copy of Stripe that others wrote (tests/gateway/servers.py), in place of the simulated gateway."""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.error
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path

from chaos import stripe_books
from chaos.books import Books
from chaos.events import KEY, SECRET, Events
from chaos.evidence import Call
from chaos.plan import ACTION_WINDOW_S, OFF_SESSION, Deed, Tokens
from chaos.provider import Losable, Outage
from chaos.stripe_front import PENDING, Front, in_front_of
from payments.gateway.port import ActionRequired, NextAction
from tests.gateway.people import AtStripe
from tests.gateway.servers import StripeWorld, Witness

ACCOUNT = "chaos"

OUTAGE_S = 3.0
"""Longer than a command waits for the gateway."""

VISA, DISPUTED = "tok_visa", "tok_visa_createDispute"

TOKENS = Tokens(
    good=VISA,
    weights={
        VISA: 55,
        "tok_mastercard": 8,
        "tok_visa_chargeDeclined": 4,
        "tok_visa_chargeDeclinedInsufficientFunds": 6,
        "tok_visa_chargeDeclinedStolenCard": 4,
        "tok_visa_chargeDeclinedVelocityLimitExceeded": 3,
        "tok_chargeDeclinedExpiredCard": 3,
        OFF_SESSION: 5,
        DISPUTED: 6,
        "tok_visa_createDisputeInquiry": 6,
        PENDING: 6,
    },
    no_refund=DISPUTED,
    asks=dict.fromkeys(("passes", "fails", "stays away"), OFF_SESSION),
)
"""Stripe's test tokens. Of each the adapter makes a payment method first, which is a request of its own.

A bank disputes in Stripe World when the money is taken, and at no other time."""

ENDS: Mapping[Losable, str] = {"charge": "/payment_intents", "refund": "/refunds"}


class Stripe:
    name = "Stripe World"
    tokens = TOKENS
    # Only a person at Stripe's dashboard could make it refuse a capture or a void of ours.
    cannot = frozenset({"capture-declined", "void-declined", "capture-behind-void"})

    def __init__(self, world: StripeWorld, front: Front, events: Events) -> None:
        self._world, self._front = world, front
        self.events: Events | None = events
        front.events = events
        self._acted_s: dict[str, float] = {}
        self._people = AtStripe(world.account(ACCOUNT), str, KEY)
        self.port: int | None = front.port
        self.faults: Mapping[str, int] = front.count
        self.outages: Mapping[str, Outage] = {"gateway away": self._be_away, "gateway frozen": self._freeze}
        self.environment: Mapping[str, str] = {
            "GATEWAY": "stripe",
            "ACTION_WINDOW_S": str(ACTION_WINDOW_S),
            "STRIPE_API_KEY": KEY,
            "STRIPE_WEBHOOK_SECRETS": SECRET,
            "STRIPE_API_BASE": world.account(ACCOUNT).replace(str(world.port), str(front.port)),
        }

    def losing(self, action: Losable) -> str:
        self._front.losing = ENDS[action]
        return VISA

    async def act(self, payment_intent_id: str, deed: Deed) -> None:
        await asyncio.to_thread(self._acts, payment_intent_id, deed)

    def _acts(self, payment_intent_id: str, deed: Deed) -> None:
        """Act as tests/gateway/people.py says. After a cancel Stripe World refuses, and so it does to who was declined."""
        begun_s = time.monotonic()
        asked = ActionRequired(payment_intent_id, payment_intent_id, None, NextAction("stripe_js"), {})
        try:
            if deed == "passes":
                self._people.enters(asked, VISA)
            else:
                self._people.fails(asked)
            self._acted_s[payment_intent_id] = begun_s
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.BAD_REQUEST:  # they have closed it
                raise

    def forget_keys(self) -> None:
        self._front.forgot += 1

    def books(self, calls: list[Call], ledger: Path) -> Books:  # noqa: ARG002  # its books are its own
        assert self.events
        known = Witness.reads(self._world.account(ACCOUNT))
        return stripe_books.books(known, self._front.refusals, self.events.dashboard.refunds, self._acted_s)

    def _be_away(self) -> None:
        self._front.away = True
        time.sleep(OUTAGE_S)
        self._front.away = False

    def _freeze(self) -> None:
        self._front.frozen = True
        time.sleep(OUTAGE_S)
        self._front.frozen = False


def missing() -> str | None:
    """Return why it cannot run here."""
    return StripeWorld.missing() or Witness.missing()


@contextlib.asynccontextmanager
async def stripe_world(seed: str) -> AsyncIterator[Stripe]:
    with StripeWorld() as world:
        async with in_front_of(world.port, seed) as front:
            events = Events(world.account(ACCOUNT), seed)
            try:
                yield Stripe(world, front, events)
            finally:
                events.close()
