"""The simulated gateway, whose books are the ledger that its callers write."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chaos import customer
from chaos.books import TOO_LATE, Books, Move
from chaos.events import Events
from chaos.evidence import Call, whole_lines
from chaos.plan import ACTION_WINDOW_S, LOST_REPLY_RATE, SIMULATED_TOKENS, Deed, Tokens
from chaos.provider import EVENT_KINDS, Losable, Outage

LOSES: Mapping[Losable, str] = {"charge": "tok_timeout_then_captured", "refund": "tok_refund_timeout"}

ASKS: Mapping[Deed, str] = {
    "passes": "tok_action_then_captured",
    "fails": "tok_action_then_declined",
    "stays away": "tok_requires_action",
}


class Simulated:
    """It is in the handlers' own process, so there is no connection to it."""

    name = "simulated gateway"
    port: int | None = None
    tokens: Tokens = replace(SIMULATED_TOKENS, asks=ASKS)
    cannot = frozenset({"ended-key", *EVENT_KINDS})
    outages: Mapping[str, Outage] = {}
    faults: Mapping[str, int] = {}
    events: Events | None = None

    def __init__(self, seed: str, ledger: Path) -> None:
        self._ledger = ledger
        self.environment: Mapping[str, str] = {
            "GATEWAY": "simulated",
            "GATEWAY_SUCCESS_RATE": "0.7",
            "GATEWAY_DELAY_MS": "0-20",
            "GATEWAY_SEED": seed,
            "GATEWAY_LOST_REPLY_RATE": str(LOST_REPLY_RATE),
            "ACTION_WINDOW_S": str(ACTION_WINDOW_S),
        }

    def losing(self, action: Losable) -> str:
        return LOSES[action]

    def forget_keys(self) -> None:
        raise NotImplementedError("it remembers every key for ever")

    async def act(self, payment_intent_id: str, deed: Deed) -> None:  # noqa: ARG002  # the payment's token says what comes of it
        await asyncio.to_thread(customer.act, self._ledger, payment_intent_id)

    def books(self, calls: list[Call], ledger: Path) -> Books:  # noqa: ARG002  # the ledger has the verdicts too
        return books(ledger)


def books(ledger: Path) -> Books:
    """Return what the ledger says. The first call of each key is the one that counts."""
    firsts: dict[str, dict[str, Any]] = {}
    for line in whole_lines(ledger):
        if "begun_s" in line:
            firsts.setdefault(line["key"], line)
    waiting = customer.asked(ledger)
    moves, declines = list[Move](), dict[str, str]()
    for key, line in firsts.items():
        payment = waiting.get(line["payment_intent_id"])
        if payment and customer.is_cancel(line):
            if payment.canceled_by is None:
                declines[key] = TOO_LATE
        elif payment and payment.key == key and payment.acted_s is None:
            pass  # nobody has paid it
        elif line["approved"]:
            moves.append(_move(key, line))
            if payment and payment.key == key and payment.canceled_by:
                moves.append(replace(_move(payment.canceled_by, line), action="void"))
        else:
            declines[key] = line["decline_code"]
    still_open = [
        f"the gateway's payment {payment.payment_intent_id} waits for its customer, who can still pay it"
        for payment in waiting.values()
        if payment.is_open
    ]
    return Books(moves, declines, contradictions=still_open, asked={payment.key: payment for payment in waiting.values()})


def _move(key: str, line: dict[str, Any]) -> Move:
    return Move(
        key=key,
        action=line["action"],
        amount=line["amount_minor"],
        currency=line["currency"],
        transaction_id=line["transaction_id"] or line["verdict_transaction_id"],
        captured=line["capture"],
    )
