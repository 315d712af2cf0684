"""The witness: compare the tables with each other and with the topic. The witness knows the design, not the code.

money.py checks the gateway's books, acknowledged.py the answers to the clients, requested.py the clients' requests,
refused.py the refusals, received.py the webhooks, inbox.py what the gateway told, disputed.py the disputes, and waited.py the
customers who act.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chaos.books import Books
from chaos.evidence import Evidence, Message, Row

LEGAL = {
    (None, "PENDING"),
    ("PENDING", "PROCESSING"),
    ("PROCESSING", "AUTHORIZED"),
    ("PROCESSING", "CAPTURED"),
    ("PROCESSING", "FAILED"),
    ("PROCESSING", "REQUIRES_ACTION"),
    ("REQUIRES_ACTION", "AUTHORIZED"),
    ("REQUIRES_ACTION", "CAPTURED"),
    ("REQUIRES_ACTION", "FAILED"),
    ("REQUIRES_ACTION", "VOIDED"),
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
    ("process", "declined", "VOIDED"): "payment.voided",
    ("capture", "succeeded", "CAPTURED"): "payment.successful",
    ("capture", "declined", "AUTHORIZED"): "payment.capture_failed",
    ("void", "succeeded", "VOIDED"): "payment.voided",
    ("void", "declined", "AUTHORIZED"): "payment.void_failed",
    ("void", "declined", "REQUIRES_ACTION"): "payment.void_failed",
    ("refund", "succeeded", "PARTIALLY_REFUNDED"): "payment.refunded",
    ("refund", "succeeded", "REFUNDED"): "payment.refunded",
    ("refund", "declined", "CAPTURED"): "payment.refund_failed",
    ("refund", "declined", "PARTIALLY_REFUNDED"): "payment.refund_failed",
}
"""The event of each outcome of an operation: (kind, outcome, the payment's status after it). There are no other outcomes."""

DISPUTES = ("payment.disputed", "payment.dispute_closed")
"""These events tell of a dispute, which the gateway leads: they are no operation's, and the payment stays as it is."""

ASKED = "payment.requires_action"
"""It tells that the gateway asks the customer, which is no outcome of an operation."""

REFUSED = "payment.refused"

UNKNOWN = ("card_velocity_exceeded",)
"""Codes that are none of ours."""

CONFIDENTIAL = ("lost_card", "stolen_card", "fraudulent", *UNKNOWN)
"""Callers and events say generic_decline for these: a thief must not learn the first three."""

BEGINNING = ("PENDING", "PROCESSING")
UNDECIDED = (*BEGINNING, "REQUIRES_ACTION")
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
    def waited(self) -> bool:
        """Whether the gateway asked its customer to act."""
        return any(map(asks, self.history))

    @property
    def given_up(self) -> bool:
        """Whether it ended without its customer: his time was over, or the shop voided it."""
        return any((entry["from_status"], entry["to_status"]) == ("REQUIRES_ACTION", "VOIDED") for entry in self.history)

    @property
    def settled(self) -> list[Row]:
        """Return the operations whose outcome is told, in the order of their outcomes. A void that gives a payment up ends its
        process operation, too, and one event tells of both."""
        # A settle that loses to another one of the payment begins anew, so the database's clock shows the order. The
        # environments' clocks differ.
        ended = [row for row in self.operations if row["outcome"]]
        if any((row["kind"], row["outcome"]) == ("void", "succeeded") for row in ended):
            ended = [row for row in ended if (row["kind"], row["outcome"]) != ("process", "declined")]
        return sorted(ended, key=lambda row: moment(row["settled_at"]))

    @property
    def steps(self) -> list[tuple[Row, Row | None]]:
        """Return the entries of the history, each with the operation whose outcome it is.

        PENDING, PROCESSING, the wait for the customer and what is told of a dispute are none's.
        """
        settled = iter(self.settled)
        is_told = dict(zip((entry["version"] for entry in self.told), (row["type"] for row in self.outbox), strict=False))
        no_outcome = {entry["version"] for entry in self.history if entry["to_status"] in BEGINNING or asks(entry)}
        no_outcome |= {version for version, kind in is_told.items() if kind in DISPUTES}
        return [(entry, None if entry["version"] in no_outcome else next(settled, None)) for entry in self.history]

    @property
    def told(self) -> list[Row]:
        """Return the entries of the history that have an event each."""
        return [entry for entry in self.history if entry["to_status"] not in BEGINNING]

    @property
    def states(self) -> list[tuple[str, int]]:
        """Return (status, refunded so far) after each entry of the history."""
        refunded, states = 0, []
        for entry, operation in self.steps:
            if operation and (operation["kind"], operation["outcome"]) == ("refund", "succeeded"):
                refunded += operation["amount_minor"]
            states.append((entry["to_status"], refunded))
        return states


def asks(entry: Row) -> bool:
    """Whether this entry of the history says that the gateway asks the customer."""
    return (entry["from_status"], entry["to_status"]) == ("PROCESSING", "REQUIRES_ACTION")


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
        # The operation of a refund that others made has succeeded, also if it had failed when we saw it. To us that is a decline.
        failed = {row["refund_id"] for row in life.refunds if (row["origin"], row["status"]) == ("gateway", "FAILED")}
        life.operations = [row | {"outcome": "declined"} if row["refund_id"] in failed else row for row in life.operations]
    for message in evidence.messages:
        if message.key in lives:
            lives[message.key].messages.append(message)
    return lives


def check(evidence: Evidence, lives: dict[str, Life]) -> Iterator[str]:
    """Yield every contradiction, in words."""
    acknowledged = {one.event_id for one in evidence.acknowledgements}
    for life in lives.values():
        yield from _history(life, evidence.books)
        yield from _events(life, evidence.books, evidence.lost_with_broker, acknowledged)
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


def _history(life: Life, books: Books) -> Iterator[str]:
    """The history goes legal ways only, and tells each outcome of an operation once, with its public reason."""
    before, at = None, None
    for entry, operation in life.steps:
        declined = operation is not None and operation["outcome"] == "declined"
        stays = entry["to_status"] == before and (declined or (operation is None and before not in BEGINNING))
        if not (stays or (before, entry["to_status"]) in LEGAL) or entry["from_status"] != before:
            yield f"payment {life.id}: went from {before} (recorded as {entry['from_status']}) to {entry['to_status']}"
        code = codes_told(entry, operation, books)[0]
        if code and code not in entry["reason"] and entry["to_status"] != "VOIDED":  # Words say why it is VOIDED.
            yield f"payment {life.id}: version {entry['version']} says {entry['reason']!r} for a decline with {code}"
        if at is not None and moment(entry["at"]) < at:
            yield f"payment {life.id}: its history goes back in time at version {entry['version']}"
        before, at = entry["to_status"], moment(entry["at"])
    if before != life.payment["status"]:
        yield f"payment {life.id}: is {life.payment['status']}, and its history ends with {before}"
    others = sum(row["type"] in DISPUTES for row in life.outbox) + sum(map(asks, life.history))
    if len(life.told) != len(life.settled) + others:
        told = len(life.told) - others
        yield f"payment {life.id}: has {len(life.settled)} outcomes of operations, its history tells {told}"


def public_code(operation: Row, books: Books) -> str | None:
    """Return the code under which a declined operation may be told, from the gateway's books."""
    code = books.declines.get(operation["gateway_key"]) if operation["outcome"] == "declined" else None
    return "generic_decline" if code in CONFIDENTIAL else code


def codes_of_given_up(operation: Row, books: Books) -> tuple[str, ...]:
    """Return the codes under which a payment that ended without its customer may be told. It was declined by nobody: the
    customer's time was over, if that is why it was canceled at the gateway, or it was given up."""
    asked = books.asked.get(operation["gateway_key"])
    is_expired = asked is not None and (asked.canceled_by or "").startswith("expire-")
    return ("payment_canceled", *(("action_expired",) if is_expired else ()))


def codes_told(entry: Row, operation: Row | None, books: Books) -> tuple[str | None, ...]:
    """Return the codes of which this entry and its event may tell one. A void that succeeded tells none."""
    if operation is not None and operation["outcome"] == "declined" and entry["to_status"] == "VOIDED":
        return codes_of_given_up(operation, books)
    return (public_code(operation, books) if operation else None,)


def _events(life: Life, books: Books, lost: frozenset[str], acknowledged: set[str]) -> Iterator[str]:
    """Each outcome of an operation has one event in the outbox and on the topic, in order, with one id and the right content."""
    owed = [
        (entry, state, operation)
        for (entry, operation), state in zip(life.steps, life.states, strict=True)
        if entry["to_status"] not in BEGINNING
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
            yield from _content(life, message, entry, state, operation, codes_told(entry, operation, books))
    on_time = [sequence for sequence in seen_in_order if ids[sequence] not in lost]
    if on_time != sorted(on_time):
        yield f"payment {life.id}: its events came in the order {seen_in_order}"
    for sequence in range(1, len(owed) + 1):
        if sequence not in ids:
            entry, _, operation = owed[sequence - 1]
            what = f"{operation['kind']} {operation['outcome']}, {entry['to_status']}" if operation else "of no operation"
            yield f"payment {life.id}: event {sequence} ({what}) is not on the topic"


def _content(
    life: Life, message: Message, entry: Row, state: tuple[str, int], operation: Row | None, codes: tuple[str | None, ...]
) -> Iterator[str]:
    data: dict[str, Any] = _json(message.value) or {}
    headers, status = message.headers, entry["to_status"]
    said = (headers.get("ce_subject"), data.get("payment_id"), headers.get("ce_type"), data.get("status"))
    own_type = ASKED if asks(entry) else life.outbox[int(headers["ce_sequence"]) - 1]["type"]  # of a dispute
    event = EVENTS.get((operation["kind"], operation["outcome"], status), "no event") if operation else own_type
    expected = (life.id, life.id, event, status)
    if said != expected:
        yield f"payment {life.id}: event {headers.get('ce_sequence')} says {said}, the history {expected}"
        return
    if data["amount_refunded"] != state[1] or moment(data["updated_at"]) != moment(entry["at"]):
        contents = f"{data['amount_refunded']} refunded at {data['updated_at']}, the tables {state[1]} at {entry['at']}"
        yield f"payment {life.id}: event {headers['ce_sequence']} says {contents}"
    if data["amount_refunded"] + data["amount_refund_pending"] > data["amount_captured"]:
        yield f"payment {life.id}: event {headers['ce_sequence']} has more refunded than captured"
    refund, own = data.get("refund"), operation is not None and operation["kind"] == "refund"
    if own != (refund is not None):
        kind = operation["kind"] if operation else own_type
        yield f"payment {life.id}: event {headers['ce_sequence']} of a {kind} has the refund {refund}"
    if refund is not None and operation is not None:
        told = tuple(refund[name] for name in ("refund_id", "amount", "status", "decline_code"))
        status = "SUCCEEDED" if operation["outcome"] == "succeeded" else "FAILED"
        facts = (operation["refund_id"], operation["amount_minor"], status, codes[0])
        if told != facts:
            yield f"payment {life.id}: event {headers['ce_sequence']} names the refund {told}, and settled was {facts}"
    if data["decline_code"] not in ((None,) if own else codes):
        says = f"has the decline code {data['decline_code']}, told may be {codes}"
        yield f"payment {life.id}: event {headers['ce_sequence']} {says}"


def _json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _left_undone(life: Life) -> Iterator[str]:
    if life.payment["status"] in UNDECIDED:
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
