"""The witness, second part: the gateway's books and the tables have the same movements of money, each once."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from chaos.books import Books, Move
from chaos.evidence import Call, Evidence, Row
from chaos.oracle import PAID, UNDECIDED, Life

EXPIRE = re.compile("expire-([0-9a-f-]{36})-[0-9]+")
"""The key of a call that cancels what its customer has not paid in time. Each such call has its own."""

ACTIONS = {"process": "charge", "capture": "capture", "void": "void", "refund": "refund"}


def check(evidence: Evidence, lives: dict[str, Life]) -> Iterator[str]:
    by_key, moved = evidence.calls_by_key(), _heard_of(evidence).by_key()
    known_keys = {operation["gateway_key"] for operation in evidence.tables["operations"]}
    expiries: defaultdict[str, list[str]] = defaultdict(list)
    for key in by_key.keys() | moved.keys():
        if (expires := EXPIRE.fullmatch(key)) and (life := lives.get(expires[1])) and life.waited:
            expiries[life.id].append(key)
    known_keys |= {key for keys in expiries.values() for key in keys}
    for key in by_key.keys() - known_keys:
        yield f"the gateway was called with key {key}, which no operation has ({by_key[key][0].call})"
    for key in moved.keys() - known_keys:
        yield f"the gateway has a {moved[key][0].action} under key {key!r}, which no operation has"
    for key, calls in by_key.items():
        yield from _one_key(key, calls, evidence.frozen)
    for life in lives.values():
        if life.given_up:
            yield from _given_up(life, expiries[life.id], moved, evidence.books)
        else:
            yield from _one_payment(life, expiries[life.id], by_key, moved)
    yield from _account(evidence.books, evidence.tables["payments"])
    yield from evidence.books.contradictions


def _heard_of(evidence: Evidence) -> Books:
    """Leave out what others canceled at the gateway before we had heard that it was authorized. Here it may be a decline."""
    declined = {row["gateway_key"] for row in evidence.tables["operations"] if row["outcome"] == "declined"}
    moves = evidence.books.moves
    gone = {move.transaction_id for move in moves if move.key in declined and move.shown == "authorization"}
    gone &= {move.transaction_id for move in moves if move.key.startswith("gateway-void-")}
    return replace(evidence.books, moves=[move for move in moves if move.transaction_id not in gone])


def _one_key(key: str, calls: list[Call], frozen: frozenset[str]) -> Iterator[str]:
    if len({call.content for call in calls}) > 1:
        yield f"gateway key {key} was used for different requests: {sorted({str(call.content) for call in calls})}"
    ended = [call for call in calls if call.ended_s is not None and call.call.partition("#")[0] not in frozen]
    ended.sort(key=lambda call: call.begun_s)
    for one, next_one in pairwise(ended):
        if next_one.begun_s < (one.ended_s or 0.0):
            yield f"two workers at one operation at the same time: {one.call} and {next_one.call} under {key}"


def _given_up(life: Life, expiries: list[str], moves: dict[str, list[Move]], books: Books) -> Iterator[str]:
    """Nobody can pay at the gateway what ended without its customer, and nothing is held of what he may have given."""
    charges = [operation["gateway_key"] for operation in life.operations if operation["kind"] == "process"]
    if not all(key in books.asked and books.asked[key].canceled_by is not None for key in charges):
        yield f"payment {life.id}: is VOIDED, and its customer can still pay it at the gateway"
    keys = [operation["gateway_key"] for operation in life.operations] + expiries
    moved = Counter(move.shown for key in keys for move in moves.get(key, ()))
    if moved and moved != {"authorization": 1, "void": 1}:
        yield f"payment {life.id}: is VOIDED without its customer, and the gateway has {dict(moved)}"


def _one_payment(life: Life, expiries: list[str], by_key: dict[str, list[Call]], moves: dict[str, list[Move]]) -> Iterator[str]:
    """What moved is what the tables have, once, and stays within the payment's bounds."""
    approved: defaultdict[str, list[Move]] = defaultdict(list)
    for move in (move for key in expiries for move in moves.get(key, ())):
        approved[move.action].append(move)
    payment, status = life.payment, life.payment["status"]
    for operation in life.operations:
        key, outcome = operation["gateway_key"], operation["outcome"]
        calls, moved = by_key.get(key, []), moves.get(key, [])
        for move in moved:
            approved[move.action].append(move)
            facts = (move.amount, move.currency, move.transaction_id)
            booked = (operation["amount_minor"], payment["currency"], payment["transaction_id"])
            if facts != booked:
                yield f"payment {life.id}: {operation['kind']} {key} moved {facts} at the gateway, in the tables {booked}"
        if len(moved) > 1:
            yield f"payment {life.id}: {operation['kind']} {key} moved the money {len(moved)} times"
        if actions := {*(call.action for call in calls), *(move.action for move in moved)} - {ACTIONS[operation["kind"]]}:
            yield f"payment {life.id}: a {operation['kind']} sent the gateway a {', '.join(sorted(actions))}"
        if outcome == "succeeded" and not moved:
            yield f"payment {life.id}: {operation['kind']} {key} succeeded, and the gateway moved nothing"
        if outcome == "declined" and moved:
            yield f"payment {life.id}: {operation['kind']} {key} is declined, and the gateway moved the money"
        if outcome == "declined" and not calls and operation["origin"] != "gateway":
            yield f"payment {life.id}: {operation['kind']} {key} is declined, and the gateway was never called"
        if outcome is None and moved:
            yield f"payment {life.id}: the gateway moved the money of {operation['kind']} {key}, which has no outcome"
    for action in ("charge", "capture", "void"):
        if len(approved[action]) > 1:
            yield f"payment {life.id}: {len(approved[action])} times {action} at the gateway"
    if approved["capture"] and approved["void"]:
        yield f"payment {life.id}: both captured and voided at the gateway"
    if bool(approved["charge"]) != (status not in (*UNDECIDED, "FAILED")):
        yield f"payment {life.id}: is {status}, charges at the gateway: {len(approved['charge'])}"
    if bool(approved["void"]) != (status == "VOIDED"):
        yield f"payment {life.id}: is {status}, voids at the gateway: {len(approved['void'])}"
    taken = sum(move.amount for move in approved["capture"] + [one for one in approved["charge"] if one.captured])
    if taken > sum(move.amount for move in approved["charge"]):
        yield f"payment {life.id}: {taken} taken of {payment['amount_minor']} authorized, by the gateway"
    if taken != payment["captured_minor"] or bool(taken) != (status in PAID):
        yield f"payment {life.id}: is {status}, captured {payment['captured_minor']}, by the gateway {taken}"
    given_back = sum(move.amount for move in approved["refund"])
    if given_back > taken:
        yield f"payment {life.id}: {given_back} refunded of {taken} captured, by the gateway"
    succeeded = sum(refund["amount_minor"] for refund in life.refunds if refund["status"] == "SUCCEEDED")
    if not given_back == payment["refunded_minor"] == succeeded:
        sums = f"{given_back} by the gateway, {payment['refunded_minor']} by the payment, {succeeded} by its refunds"
        yield f"payment {life.id}: refunded {sums}"
    by_refund = {operation["refund_id"] for operation in life.operations}
    for refund in life.refunds:
        if refund["refund_id"] not in by_refund:
            yield f"payment {life.id}: refund {refund['refund_id']} has no operation"


def _account(books: Books, payments: list[Row]) -> Iterator[str]:
    """The gateway's account holds what was captured and not refunded."""
    if books.account is None:
        return
    ours: Counter[str] = Counter()
    for payment in payments:
        ours[payment["currency"]] += payment["captured_minor"] - payment["refunded_minor"]
    for currency in sorted(ours.keys() | books.account.keys()):
        if ours[currency] != books.account.get(currency, 0):
            held = books.account.get(currency, 0)
            yield f"the gateway's account holds {held} {currency} of payments, the tables have {ours[currency]}"
