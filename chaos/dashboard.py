"""Who acts at Stripe besides us: somebody at its dashboard, and the customers' banks.

They do it at Stripe World itself, at moments of their own. What it refuses them, such as a refund of more than is left, does not
matter.
"""

from __future__ import annotations

import asyncio
import urllib.error
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from random import Random
from typing import Any

from tests.gateway.people import AtStripe

Thing = dict[str, Any]
Act = Callable[[], Awaitable[None]]

REFUNDED = 0.15
"""The share of the captured payments of which somebody gives a fifth back."""

CAPTURED, CANCELED = 0.15, 0.1
"""The shares of the authorizations that somebody captures, one half of them in part, and cancels."""

LATEST_S = 3.0
"""The latest that somebody does something about what has happened."""

COURSES = (("wins",), ("loses",), ("accepts",), ("informs", "wins"), ("informs",), ("escalates", "loses"), ("escalates", "wins"))
"""What the courses of disputes are made of. One that is only informed stays open."""


class Dashboard:
    def __init__(self, account: str, seed: str, key: str) -> None:
        """`account` is the base address of Stripe World's account."""
        self._people, self._seed = AtStripe(account, str, key), seed
        self.refunds: set[str] = set()
        """The refunds that nobody asked us for."""
        self.pending: set[str] = set()
        """The refunds, ours too, that are under way."""
        self.count: Counter[str] = Counter()

    async def give_back(self, charge: str, amount: int) -> None:
        if refund := await self._do("refunded", "refunds", charge=charge, amount=amount):
            self.refunds.add(refund["id"])

    async def capture(self, intent_id: str, amount: int) -> None:
        await self._do("captured", f"payment_intents/{intent_id}/capture", amount_to_capture=amount)

    async def cancel(self, intent_id: str) -> None:
        await self._do("canceled", f"payment_intents/{intent_id}/cancel")

    async def cancel_refund(self, refund_id: str) -> None:
        """Let a refund fail that was under way. In Stripe World nothing else ends it."""
        self.pending.discard(refund_id)
        await self._do("refund canceled", f"refunds/{refund_id}/cancel")

    async def end(self, dispute_id: str, step: str) -> None:
        """Take one step of a dispute's course. Evidence of these texts decides it in Stripe's test mode."""
        if step == "accepts":
            await self._do("dispute accepted", f"disputes/{dispute_id}/close")
            return
        texts = {"wins": "winning_evidence", "loses": "losing_evidence", "escalates": "escalate_inquiry_evidence"}
        evidence = {"evidence[uncategorized_text]": texts.get(step, "a letter"), "submit": "true"}
        await self._do(f"dispute {step}", f"disputes/{dispute_id}", **evidence)

    async def cancel_pending(self) -> None:
        """Let all refunds fail that are under way."""
        for refund_id in sorted(self.pending):
            await self.cancel_refund(refund_id)

    def answers(self, event: Thing) -> Iterator[tuple[float, Act]]:
        """Yield what somebody does after this event, each with the pause in seconds before it."""
        random, thing = Random(f"{self._seed}/dashboard/{event['id']}"), event["data"]["object"]
        draw, pause_s, id_ = random.random(), random.uniform(0.0, LATEST_S), thing["id"]
        match event["type"]:
            case "payment_intent.succeeded" if draw < REFUNDED:
                yield pause_s, partial(self.give_back, thing["latest_charge"], max(1, thing["amount_received"] // 5))
            case "payment_intent.amount_capturable_updated" if draw < CAPTURED:
                yield pause_s, partial(self.capture, id_, random.choice((thing["amount"], max(1, thing["amount"] // 2))))
            case "payment_intent.amount_capturable_updated" if draw < CAPTURED + CANCELED:
                yield pause_s, partial(self.cancel, id_)
            case "refund.created" if thing["status"] == "pending":
                yield pause_s, partial(self.cancel_refund, id_)
            case "charge.dispute.created":
                is_inquiry = thing["status"].startswith("warning")
                course = random.choice([one for one in COURSES if is_inquiry or "escalates" not in one])
                for number, step in enumerate(course, start=1):
                    yield pause_s * number, partial(self.end, id_, step)

    async def _do(self, what: str, path: str, **form: Any) -> Thing | None:
        try:
            done = await asyncio.to_thread(self._people.post, path, **form)
        except urllib.error.HTTPError as error:
            with error:
                self.count[f"{what}: refused"] += 1
            return None
        self.count[what] += 1
        return done
