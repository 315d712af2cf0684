"""The witness, eighth part: the books have each dispute as the gateway has it, and its events tell the way there."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from chaos.books import Dispute, Disputed
from chaos.evidence import Evidence
from chaos.oracle import DISPUTES, Life

Told = tuple[str, dict[str, Any]]
"""An event's type, and what it says of the dispute."""

OPENED, CLOSED = DISPUTES


def check(evidence: Evidence, lives: Mapping[str, Life], is_told: Callable[[str], bool] = lambda _: True) -> Iterator[str]:
    """Yield what contradicts. A dispute of which nobody tells may be missing: `is_told` says of an id whether somebody does."""
    rows = {row["gateway_dispute_id"]: row for row in evidence.tables["disputes"]}
    known = {dispute.dispute_id: dispute for dispute in evidence.books.disputes}
    told: defaultdict[str, list[Told]] = defaultdict(list)
    for life in lives.values():
        for event in life.outbox:
            if event["type"] in DISPUTES:
                said = json.loads(event["data"])["dispute"]
                told[said["gateway_dispute_id"]].append((event["type"], said))
    for id_ in rows.keys() | told.keys():
        if id_ not in known:
            yield f"dispute {id_} is in the books, and the bank has none"
    for id_, dispute in known.items():
        if row := rows.get(id_):
            booked = Disputed(row["amount_minor"], row["currency"], row["reason"], row["status"], row["is_refundable"])
            has = (dispute.said[-1], dispute.outcome)
            if (booked, row["outcome"]) != has:
                yield f"dispute {id_} is {(booked, row['outcome'])} in the books, the bank has {has}"
            if (charge := lives[row["payment_id"]].payment["transaction_id"]) != dispute.transaction_id:
                yield f"dispute {id_} is of {dispute.transaction_id}, in the books of {charge}"
            yield from _told(dispute, told[id_])
        elif is_told(id_):
            yield f"the bank's dispute {id_} is not in the books"
    yield from _refused(evidence, lives, known)


def _told(dispute: Dispute, told: list[Told]) -> Iterator[str]:
    """It opens, may change, and ends once. Each event says something new, and the bank has said all of it in this order."""
    name, types = f"dispute {dispute.dispute_id}", [kind for kind, _ in told]
    ends = [CLOSED] if dispute.outcome else []
    if types[:1] != [OPENED] or types != [OPENED] * (len(types) - len(ends)) + ends:
        yield f"{name} has the outcome {dispute.outcome}, and is told by {types}"
    for (_, before), (_, after) in pairwise(told):
        if {**before, "updated_at": None} == {**after, "updated_at": None}:
            yield f"{name} is told twice as {after['status']}, {after['outcome']}"
    left = iter(dispute.said)
    at = next(left, None)
    for kind, one in told:
        if one["outcome"] != (dispute.outcome if kind == CLOSED else None):
            yield f"{name} is told by {kind} with the outcome {one['outcome']}"
        said = Disputed(one["amount"], one["currency"], one["reason"], one["status"], one["is_refundable"])
        while at is not None and at != said:
            at = next(left, None)
    if at != dispute.said[-1]:
        words = [said["status"] for _, said in told]
        yield f"{name} is told as {words}, and the bank has said {[one.status for one in dispute.said]}"


def _refused(evidence: Evidence, lives: Mapping[str, Life], known: Mapping[str, Dispute]) -> Iterator[str]:
    """A refund is refused because of a dispute only while there is one that bars it."""
    barred = {dispute.transaction_id for dispute in known.values() if not all(one.is_refundable for one in dispute.said)}
    for answer in evidence.answers:
        life = lives.get((answer.body or {}).get("payment_id", ""))
        if answer.code == "payment_disputed" and (life is None or life.payment["transaction_id"] not in barred):
            yield f"{answer.label}: was refused because of a dispute, and no dispute bars refunds of {life and life.id}"
