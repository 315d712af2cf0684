"""Stripe's books, as Stripe's own package reads them: intents, charges, refunds, disputes, the account's balance, and the events.

A capture and a void leave no metadata. The events name the idempotency key of the request that they come from; what has no key,
somebody did at the dashboard. All amounts are in minor units, which are Stripe's own in the currencies that the harness uses.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.books import Asked, Books, Dispute, Disputed, Move

OURS = "gateway_key"
"""The name in the metadata."""

AGAIN = "~"
"""What stripe_front.py puts behind a key that Stripe is to take for a new one."""

OUTCOMES = {"won": "won", "lost": "lost", "warning_closed": "closed", "prevented": "closed"}
"""What the end of a dispute is by its status, if it is one."""

NOBODY: Mapping[str, float] = {}

Thing = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Stripe's answer to a request under `key` was an error."""

    key: str
    path: str
    form: Mapping[str, str]
    error: Thing

    def found_done(self, intent: Thing, action: str, amount: int | None = None) -> bool:
        """Return whether it is a capture or cancel that came too late: of all, or else of this amount."""
        ended = self.error.get("payment_intent") or {}
        is_same = amount is None or self.form.get("amount_to_capture") == str(amount)
        return self.path.endswith(f"/{intent['id']}/{action}") and ended.get("status") == intent["status"] and is_same


def books(
    known: Mapping[str, Any],
    refusals: Sequence[Refusal] = (),
    of_dashboard: Container[str] = (),
    acted_s: Mapping[str, float] = NOBODY,
) -> Books:
    """`known` is what tests/gateway/witness.py reads. `refusals` are in their order.

    `of_dashboard` are the refunds that somebody made at the dashboard. They have no key; in our books they get one of this form.
    `acted_s` has the moment at which each customer began to act, by intent.
    """
    intents = {intent["id"]: intent for intent in known["payment_intents"]}
    keys = {
        (event["type"], event["data"]["object"]["id"]): (event["request"]["idempotency_key"] or "").partition(AGAIN)[0]
        for event in known["events"]
    }
    return Books(
        moves=[*_charges(known["charges"], intents, keys, refusals), *_refunds(known["refunds"], of_dashboard)],
        declines=_declines(intents, known["refunds"], refusals),
        account=_account(known),
        contradictions=[*_contradictions(known, intents)],
        disputes=[*_disputes(known["disputes"], known["events"])],
        asked=_asked(known["events"], intents, keys, acted_s),
    )


def _asked(
    events: list[Thing], intents: Mapping[str, Thing], keys: Mapping[tuple[str, str], str], acted_s: Mapping[str, float]
) -> dict[str, Asked]:
    asked = {event["data"]["object"]["id"] for event in events if event["type"] == "payment_intent.requires_action"}
    canceled = {name: keys.get(("payment_intent.canceled", name), "") for name in asked if intents[name]["status"] == "canceled"}
    return {intents[name]["metadata"].get(OURS, ""): Asked(name, acted_s.get(name), canceled.get(name)) for name in asked}


def _charges(
    charges: list[Thing], intents: Mapping[str, Thing], keys: Mapping[tuple[str, str], str], refusals: Sequence[Refusal]
) -> Iterator[Move]:
    for charge in charges:
        if charge["status"] != "succeeded":
            continue
        intent, currency = intents[charge["payment_intent"]], charge["currency"].upper()
        at_once = intent["capture_method"] != "manual"
        yield Move(intent["metadata"].get(OURS, ""), "charge", charge["amount"], currency, charge["id"], at_once)
        # A call that finds it done at the dashboard, with its own amount, has what it asked for. Else it is theirs in the books.
        if charge["captured"] and not at_once:
            amount = charge["amount_captured"]
            late = (one.key for one in refusals if one.found_done(intent, "capture", amount))
            key = keys.get(("charge.captured", charge["id"])) or next(late, f"gateway-capture-{intent['id']}")
            yield Move(key, "capture", amount, currency, charge["id"])
        if intent["status"] == "canceled":
            late = (one.key for one in refusals if one.found_done(intent, "cancel"))
            key = keys.get(("payment_intent.canceled", intent["id"])) or next(late, f"gateway-void-{intent['id']}")
            yield Move(key, "void", charge["amount"], currency, charge["id"])


def _refunds(refunds: list[Thing], of_dashboard: Container[str]) -> Iterator[Move]:
    for refund in refunds:
        if refund["status"] == "succeeded":
            yield Move(
                _refund_key(refund, of_dashboard), "refund", refund["amount"], refund["currency"].upper(), refund["charge"]
            )


def _refund_key(refund: Thing, of_dashboard: Container[str] | None = None) -> str:
    """Return the refund's key. With `of_dashboard` it is "" for one that neither we nor they made."""
    is_theirs = of_dashboard is None or refund["id"] in of_dashboard
    key: str = refund["metadata"].get(OURS, f"gateway-refund-{refund['id']}" if is_theirs else "")
    return key


def _declines(intents: Mapping[str, Thing], refunds: list[Thing], refusals: Sequence[Refusal]) -> dict[str, str]:
    """Return the code of each key that Stripe has declined: what it has answered, and what its books say.

    A refund that comes after the dashboard's may find all given back (`charge_already_refunded`), or less than it asks for, which
    has a type and no code. What was canceled has no reason.
    """
    declines = {one.key: _code(one.error) for one in refusals}
    for refund in refunds:
        if refund["status"] in ("failed", "canceled"):
            declines[_refund_key(refund)] = refund.get("failure_reason") or "processing_error"
    for intent in intents.values():
        key = intent["metadata"].get(OURS, "")
        if intent["last_payment_error"]:
            declines[key] = _code(intent["last_payment_error"])
        elif intent["status"] == "canceled":  # by somebody else, before we had heard that it was authorized
            declines.setdefault(key, "processing_error")
    return declines


def _code(error: Thing) -> str:
    bank = error.get("decline_code")
    return str(error.get("code") or error["type"] if bank in (None, "generic_decline") else bank)


def _disputes(disputes: list[Thing], events: list[Thing]) -> Iterator[Dispute]:
    """The events, newest first, have what was said before; the list has what is said now."""
    said: defaultdict[str, list[Disputed]] = defaultdict(list)
    for event in reversed(events):
        if event["type"].startswith("charge.dispute."):
            said[event["data"]["object"]["id"]].append(_disputed(event["data"]["object"]))
    for dispute in disputes:
        all_said = [*said[dispute["id"]], _disputed(dispute)]
        yield Dispute(dispute["id"], dispute["charge"], all_said, OUTCOMES.get(dispute["status"]))


def _disputed(dispute: Thing) -> Disputed:
    amount, currency = dispute["amount"], dispute["currency"].upper()
    return Disputed(amount, currency, dispute["reason"], dispute["status"], dispute["is_charge_refundable"])


def _account(known: Mapping[str, Any]) -> dict[str, int]:
    """Return the balance, with the fees and the disputed payments put back."""
    account: Counter[str] = Counter()
    for part in ("available", "pending"):
        for entry in known["balance"][part]:
            account[entry["currency"].upper()] += entry["amount"]
    for entry in known["balance_transactions"]:
        account[entry["currency"].upper()] += entry["fee"] - (entry["amount"] if entry["type"] == "adjustment" else 0)
    return dict(account)  # asdict makes nothing sensible of a Counter


def _contradictions(known: Mapping[str, Any], intents: Mapping[str, Thing]) -> Iterator[str]:
    taken: Counter[str] = Counter()
    given_back: Counter[str] = Counter()
    booked: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in known["balance_transactions"]:
        booked[entry["type"]][entry["currency"]] += entry["amount"]
    for refund in known["refunds"]:
        if refund["status"] == "succeeded":
            given_back[refund["charge"]] += refund["amount"]
            booked["refunds"][refund["currency"]] -= refund["amount"]
    for charge in known["charges"]:
        taken[charge["payment_intent"]] += charge["amount_captured"]
        booked["charges"][charge["currency"]] += charge["amount_captured"]
        if charge["amount_refunded"] != given_back[charge["id"]]:
            sums = f"{charge['amount_refunded']} refunded, and refunds of {given_back[charge['id']]}"
            yield f"the gateway's charge {charge['id']} has {sums}"
    for intent in intents.values():
        if intent["status"] not in ("succeeded", "canceled", "requires_capture"):
            yield f"the gateway's intent {intent['id']} is {intent['status']}: whoever has its secret can still pay it"
        if intent["amount_received"] != taken[intent["id"]]:
            sums = f"{intent['amount_received']} received, and charges of {taken[intent['id']]}"
            yield f"the gateway's intent {intent['id']} has {sums}"
    for name, entries in (("charge", "charges"), ("refund", "refunds")):
        if +booked[name] != +booked[entries] or -booked[name] != -booked[entries]:
            yield f"the gateway's balance has {entries} of {dict(booked[name])}, its list {dict(booked[entries])}"
