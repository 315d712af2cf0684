"""The witness: compare the gateway's ledger, the tables and the topic. The witness knows the design, not the code.

acknowledged.py checks the answers to the clients, requested.py the clients' requests, refused.py the refusals, and
received.py the webhooks.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from chaos.evidence import Call, Evidence, Message, Row

LEGAL = {
    (None, "PENDING"),
    ("PENDING", "PROCESSING"),
    ("PROCESSING", "AUTHORIZED"),
    ("PROCESSING", "CAPTURED"),
    ("PROCESSING", "FAILED"),
    ("AUTHORIZED", "CAPTURED"),
    ("AUTHORIZED", "VOIDED"),
    ("CAPTURED", "PARTIALLY_REFUNDED"),
    ("CAPTURED", "REFUNDED"),
    ("PARTIALLY_REFUNDED", "PARTIALLY_REFUNDED"),
    ("PARTIALLY_REFUNDED", "REFUNDED"),
}
EVENTS = {
    ("process", "succeeded", "AUTHORIZED"): "payment.authorized",
    ("process", "succeeded", "CAPTURED"): "payment.successful",
    ("process", "declined", "FAILED"): "payment.failed",
    ("capture", "succeeded", "CAPTURED"): "payment.successful",
    ("capture", "declined", "AUTHORIZED"): "payment.capture_failed",
    ("void", "succeeded", "VOIDED"): "payment.voided",
    ("void", "declined", "AUTHORIZED"): "payment.void_failed",
    ("refund", "succeeded", "PARTIALLY_REFUNDED"): "payment.refunded",
    ("refund", "succeeded", "REFUNDED"): "payment.refunded",
    ("refund", "declined", "CAPTURED"): "payment.refund_failed",
    ("refund", "declined", "PARTIALLY_REFUNDED"): "payment.refund_failed",
}
"""The event of each outcome of an operation: (kind, outcome, the payment's status after it). There are no other outcomes."""

REFUSED = "payment.refused"

CONFIDENTIAL = ("lost_card", "stolen_card", "fraudulent")
"""A thief must not learn these, so callers and events say generic_decline."""

ACTIONS = {"process": "charge", "capture": "capture", "void": "void", "refund": "refund"}
BEGINNING = ("PENDING", "PROCESSING")
PAID = ("CAPTURED", "PARTIALLY_REFUNDED", "REFUNDED")


@dataclass(slots=True)
class Life:
    """All that we know of one payment."""

    payment: Row
    history: list[Row] = field(default_factory=list)
    operations: list[Row] = field(default_factory=list)
    refunds: list[Row] = field(default_factory=list)
    outbox: list[Row] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.payment["payment_id"])

    @property
    def settled(self) -> list[Row]:
        """Return the operations that have an outcome, in the order of their outcomes."""
        # A settle that loses to another one of the payment begins anew, so the database's clock shows the order. The
        # environments' clocks differ.
        return sorted((row for row in self.operations if row["outcome"]), key=lambda row: moment(row["settled_at"]))

    @property
    def steps(self) -> list[tuple[Row, Row | None]]:
        """Return the entries of the history, each with the operation whose outcome it is. PENDING and PROCESSING are none's."""
        settled = iter(self.settled)
        return [(entry, None if entry["to_status"] in BEGINNING else next(settled, None)) for entry in self.history]

    @property
    def states(self) -> list[tuple[str, int]]:
        """Return (status, refunded so far) after each entry of the history."""
        refunded, states = 0, []
        for entry, operation in self.steps:
            if operation and (operation["kind"], operation["outcome"]) == ("refund", "succeeded"):
                refunded += operation["amount_minor"]
            states.append((entry["to_status"], refunded))
        return states


def lives_of(evidence: Evidence) -> dict[str, Life]:
    lives = {row["payment_id"]: Life(row) for row in evidence.tables["payments"]}
    for table, part in (
        ("payment_status_history", "history"),
        ("operations", "operations"),
        ("refunds", "refunds"),
        ("outbox", "outbox"),
    ):
        for row in evidence.tables[table]:
            # The outbox also has refusals, which belong to no payment.
            if row["payment_id"] in lives:
                getattr(lives[row["payment_id"]], part).append(row)
    for life in lives.values():
        life.history.sort(key=lambda row: row["version"])
        life.outbox.sort(key=lambda row: row["sequence"])
    for message in evidence.messages:
        if message.key in lives:
            lives[message.key].messages.append(message)
    return lives


def check(evidence: Evidence, lives: dict[str, Life]) -> Iterator[str]:
    """Yield every contradiction, in words."""
    by_key = evidence.calls_by_key()
    acknowledged = {one.event_id for one in evidence.acknowledgements}
    known_keys = {operation["gateway_key"] for operation in evidence.tables["operations"]}
    for key in by_key.keys() - known_keys:
        yield f"the gateway was called with key {key}, which no operation has ({by_key[key][0].call})"
    for key, calls in by_key.items():
        yield from _one_key(key, calls, evidence.frozen)
    for life in lives.values():
        yield from _money(life, by_key)
        yield from _history(life, by_key)
        yield from _events(life, by_key, evidence.lost_with_broker, acknowledged)
        yield from _left_undone(life)
    yield from _orders(lives)
    for table in ("payment_status_history", "operations", "refunds"):
        for payment_id in {row["payment_id"] for row in evidence.tables[table]} - lives.keys():
            yield f"{table} has a row of payment {payment_id}, which does not exist"
    for row in evidence.tables["outbox"]:
        if row["payment_id"] not in lives and row["type"] != REFUSED:
            yield f"the outbox has an event of payment {row['payment_id']}, which does not exist"
    for message in evidence.messages:
        if message.key not in lives and message.headers.get("ce_type") != REFUSED:
            yield f"the topic has an event of payment {message.key}, which does not exist"


def _one_key(key: str, calls: list[Call], frozen: frozenset[str]) -> Iterator[str]:
    if len({call.content for call in calls}) > 1:
        yield f"gateway key {key} was used for different requests: {sorted({str(call.content) for call in calls})}"
    ended = [call for call in calls if call.ended_s is not None and call.call.partition("#")[0] not in frozen]
    ended.sort(key=lambda call: call.begun_s)
    for one, next_one in pairwise(ended):
        if next_one.begun_s < (one.ended_s or 0.0):
            yield f"two workers at one operation at the same time: {one.call} and {next_one.call} under {key}"


def _money(life: Life, by_key: dict[str, list[Call]]) -> Iterator[str]:
    """The ledger and the tables have the same movements of money, and these stay within the payment's bounds."""
    approved: defaultdict[str, list[Call]] = defaultdict(list)
    for operation in life.operations:
        key, outcome = operation["gateway_key"], operation["outcome"]
        calls = by_key.get(key, [])
        moved = bool(calls) and calls[0].approved
        if moved:
            approved[calls[0].action].append(calls[0])
        if calls and calls[0].action != ACTIONS[operation["kind"]]:
            yield f"payment {life.id}: a {operation['kind']} sent the gateway a {calls[0].action}"
        if outcome == "succeeded" and not moved:
            yield f"payment {life.id}: {operation['kind']} {key} succeeded, and the gateway moved nothing"
        if outcome == "declined" and moved:
            yield f"payment {life.id}: {operation['kind']} {key} is declined, and the gateway moved the money"
        if outcome == "declined" and not calls:
            yield f"payment {life.id}: {operation['kind']} {key} is declined, and the gateway was never called"
        if outcome is None and moved:
            yield f"payment {life.id}: the gateway moved the money of {operation['kind']} {key}, which has no outcome"
    payment, status = life.payment, life.payment["status"]
    for action in ("charge", "capture", "void"):
        if len(approved[action]) > 1:
            yield f"payment {life.id}: {len(approved[action])} times {action} at the gateway"
    if approved["capture"] and approved["void"]:
        yield f"payment {life.id}: both captured and voided at the gateway"
    if bool(approved["charge"]) != (status not in ("PENDING", "PROCESSING", "FAILED")):
        yield f"payment {life.id}: is {status}, charges in the ledger: {len(approved['charge'])}"
    if bool(approved["void"]) != (status == "VOIDED"):
        yield f"payment {life.id}: is {status}, voids in the ledger: {len(approved['void'])}"
    taken = sum(call.amount for call in approved["capture"] + [c for c in approved["charge"] if c.capture])
    if taken > sum(call.amount for call in approved["charge"]):
        yield f"payment {life.id}: {taken} taken of {payment['amount_minor']} authorized, by the ledger"
    if taken != payment["captured_minor"] or bool(taken) != (status in PAID):
        yield f"payment {life.id}: is {status}, captured {payment['captured_minor']}, by the ledger {taken}"
    given_back = sum(call.amount for call in approved["refund"])
    if given_back > taken:
        yield f"payment {life.id}: {given_back} refunded of {taken} captured, by the ledger"
    succeeded = sum(refund["amount_minor"] for refund in life.refunds if refund["status"] == "SUCCEEDED")
    if not given_back == payment["refunded_minor"] == succeeded:
        sums = f"{given_back} by the ledger, {payment['refunded_minor']} by the payment, {succeeded} by its refunds"
        yield f"payment {life.id}: refunded {sums}"
    by_refund = {operation["refund_id"] for operation in life.operations}
    for refund in life.refunds:
        if refund["refund_id"] not in by_refund:
            yield f"payment {life.id}: refund {refund['refund_id']} has no operation"


def _history(life: Life, by_key: dict[str, list[Call]]) -> Iterator[str]:
    """The history goes legal ways only, and tells each outcome of an operation once, with its public reason."""
    before, at = None, None
    for entry, operation in life.steps:
        stays = operation is not None and operation["outcome"] == "declined" and entry["to_status"] == before
        if not (stays or (before, entry["to_status"]) in LEGAL) or entry["from_status"] != before:
            yield f"payment {life.id}: went from {before} (recorded as {entry['from_status']}) to {entry['to_status']}"
        code = operation and public_code(operation, by_key)
        if code and code not in entry["reason"]:
            yield f"payment {life.id}: version {entry['version']} says {entry['reason']!r} for a decline with {code}"
        if at is not None and moment(entry["at"]) < at:
            yield f"payment {life.id}: its history goes back in time at version {entry['version']}"
        before, at = entry["to_status"], moment(entry["at"])
    if before != life.payment["status"]:
        yield f"payment {life.id}: is {life.payment['status']}, and its history ends with {before}"
    told = sum(entry["to_status"] not in BEGINNING for entry in life.history)
    if told != len(life.settled):
        yield f"payment {life.id}: has {len(life.settled)} outcomes of operations, its history tells {told}"


def public_code(operation: Row, by_key: dict[str, list[Call]]) -> str | None:
    """Return the code under which a declined operation may be told, from the gateway's ledger."""
    calls = by_key.get(operation["gateway_key"])
    code = calls[0].decline_code if calls and operation["outcome"] == "declined" else None
    return "generic_decline" if code in CONFIDENTIAL else code


def _events(life: Life, by_key: dict[str, list[Call]], lost: frozenset[str], acknowledged: set[str]) -> Iterator[str]:
    """Each outcome of an operation has one event in the outbox and on the topic, in order, with one id and the right content."""
    owed = [
        (entry, state, operation)
        for (entry, operation), state in zip(life.steps, life.states, strict=True)
        if operation is not None
    ]
    rows = {row["event_id"]: row for row in life.outbox}
    if [row["sequence"] for row in life.outbox] != list(range(1, len(owed) + 1)):
        yield f"payment {life.id}: owes {len(owed)} events, the outbox has {[row['sequence'] for row in life.outbox]}"
    for row in life.outbox:
        if row["published_at"] is not None and row["event_id"] not in acknowledged:
            yield f"payment {life.id}: event {row['sequence']} is marked published, but the broker never acknowledged it"
    ids: dict[int, str] = {}
    values: dict[str, Any] = {}
    seen_in_order: list[int] = []
    for message in life.messages:
        headers = message.headers
        event_id, sequence = headers.get("ce_id", ""), int(headers.get("ce_sequence", 0))
        if ids.setdefault(sequence, event_id) != event_id:
            yield f"payment {life.id}: event {sequence} is on the topic as {ids[sequence]} and as {event_id}"
        if event_id not in rows:
            yield f"payment {life.id}: event {sequence} ({event_id}) is on the topic and not in the outbox"
            continue
        if values.setdefault(event_id, _json(message.value)) != _json(message.value):
            yield f"payment {life.id}: event {sequence} has two different values under one id"
        if sequence not in seen_in_order:
            seen_in_order.append(sequence)
        if 1 <= sequence <= len(owed):
            entry, state, operation = owed[sequence - 1]
            yield from _content(life, message, entry, state, operation, public_code(operation, by_key))
    on_time = [sequence for sequence in seen_in_order if ids[sequence] not in lost]
    if on_time != sorted(on_time):
        yield f"payment {life.id}: its events came in the order {seen_in_order}"
    for sequence in range(1, len(owed) + 1):
        if sequence not in ids:
            entry, _, operation = owed[sequence - 1]
            what = f"{operation['kind']} {operation['outcome']}, {entry['to_status']}"
            yield f"payment {life.id}: event {sequence} ({what}) is not on the topic"


def _content(life: Life, message: Message, entry: Row, state: tuple[str, int], operation: Row, code: str | None) -> Iterator[str]:
    data: dict[str, Any] = _json(message.value) or {}
    headers, status = message.headers, entry["to_status"]
    said = (headers.get("ce_subject"), data.get("payment_id"), headers.get("ce_type"), data.get("status"))
    event = EVENTS.get((operation["kind"], operation["outcome"], status), "no event")
    expected = (life.id, life.id, event, status)
    if said != expected:
        yield f"payment {life.id}: event {headers.get('ce_sequence')} says {said}, the history {expected}"
        return
    if data["amount_refunded"] != state[1] or moment(data["updated_at"]) != moment(entry["at"]):
        contents = f"{data['amount_refunded']} refunded at {data['updated_at']}, the tables {state[1]} at {entry['at']}"
        yield f"payment {life.id}: event {headers['ce_sequence']} says {contents}"
    if data["amount_refunded"] + data["amount_refund_pending"] > data["amount_captured"]:
        yield f"payment {life.id}: event {headers['ce_sequence']} has more refunded than captured"
    refund, own = data.get("refund"), operation["kind"] == "refund"
    if own != (refund is not None):
        yield f"payment {life.id}: event {headers['ce_sequence']} of a {operation['kind']} has the refund {refund}"
    if refund is not None:
        told = tuple(refund[name] for name in ("refund_id", "amount", "status", "decline_code"))
        status = "SUCCEEDED" if operation["outcome"] == "succeeded" else "FAILED"
        facts = (operation["refund_id"], operation["amount_minor"], status, code)
        if told != facts:
            yield f"payment {life.id}: event {headers['ce_sequence']} names the refund {told}, and settled was {facts}"
    if data["decline_code"] != (None if own else code):
        yield f"payment {life.id}: event {headers['ce_sequence']} has the decline code {data['decline_code']}, told may be {code}"


def _json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _left_undone(life: Life) -> Iterator[str]:
    if life.payment["status"] in ("PENDING", "PROCESSING"):
        yield f"payment {life.id}: is stuck in {life.payment['status']}"
    if life.payment["refund_reserved_minor"]:
        yield f"payment {life.id}: {life.payment['refund_reserved_minor']} stay reserved for a refund"
    for operation in life.operations:
        if operation["outcome"] is None:
            yield f"payment {life.id}: {operation['kind']} {operation['operation_id']} never got an outcome"
    for refund in life.refunds:
        if refund["status"] == "PENDING":
            yield f"payment {life.id}: refund {refund['refund_id']} is stuck"
    for row in life.outbox:
        if row["published_at"] is None:
            yield f"payment {life.id}: event {row['sequence']} was never published"


def _orders(lives: dict[str, Life]) -> Iterator[str]:
    live: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for life in lives.values():
        if life.payment["status"] not in ("FAILED", "VOIDED"):
            live[life.payment["owner"], life.payment["order_id"]].append(life.id)
    for (owner, order_id), payments in live.items():
        if len(payments) > 1:
            yield f"{owner}'s {order_id} is paid {len(payments)} times: {payments}"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
