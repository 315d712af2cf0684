"""The witness, eighth part: nothing is told of a customer before he acted, and only the payment's owner gets what he needs.

money.py sees to it that what was given up can no longer be paid.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from chaos.answers import Answer
from chaos.books import Asked
from chaos.evidence import Evidence
from chaos.oracle import UNDECIDED, Life

CANARIES = ("client_secret", "next_action", "_secret_")
"""What holds one of these could be used to act for a customer. The last is in each secret of both gateways."""

READ = (
    "payments",
    "refunds",
    "operations",
    "payment_status_history",
    "outbox",
    "webhook_deliveries",
    "gateway_events",
    "disputes",
)
"""The tables that others than the service read, and a backup has."""

ROOM_S = 0.35
"""An answer that came within this time had enough left to ask the gateway: a command begins with 0.4 s for it at the least."""

PAUSE_S = 2
"""The gateway is asked no more than once in this time for a payment. A replay before that says when to come again."""


def check(evidence: Evidence, lives: dict[str, Life]) -> Iterator[str]:
    asked = {
        life.id: evidence.books.asked[operation["gateway_key"]]
        for life in lives.values()
        for operation in life.operations
        if operation["kind"] == "process" and operation["gateway_key"] in evidence.books.asked
    }
    yield from _not_before(evidence, lives, asked)
    yield from _secrets(evidence.answers)
    for answer in evidence.answers:
        yield from _one_answer(answer, asked)
    yield from _nowhere_else(evidence)


def _not_before(evidence: Evidence, lives: dict[str, Life], asked: dict[str, Asked]) -> Iterator[str]:
    """No answer and no event tells what became of a payment before it was decided at the gateway."""
    for answer in evidence.answers:
        status = (answer.body or {}).get("payment_status") or (answer.body or {}).get("status")
        payment = asked.get((answer.body or {}).get("payment_id", ""))
        if payment and isinstance(status, str) and (early_s := _early_s(payment, status, answer.received_s)) > 0:
            yield f"{answer.label}: shows payment {answer.body['payment_id']} as {status}, {early_s:.2f} s before that was so"  # type: ignore[index]
    taken_s = {one.event_id: one.acknowledged_s - evidence.clock_s for one in evidence.acknowledgements}
    for payment_id, payment in asked.items():
        for row in lives[payment_id].outbox:
            status, at_s = json.loads(row["data"])["status"], taken_s.get(row["event_id"])
            if at_s is not None and (early_s := _early_s(payment, status, at_s)) > 0:
                yield f"payment {payment_id}: event {row['sequence']} ({status}) was out {early_s:.2f} s before that was so"


def _early_s(payment: Asked, status: str, at_s: float) -> float:
    """Return how much too early a status was told, in seconds."""
    if status in UNDECIDED:
        return 0.0
    # Of a payment that was authorized and voided later, the gateway's books of the wait know nothing.
    true_s = payment.canceled_s if status == "VOIDED" and payment.canceled_s is not None else payment.acted_s
    return 0.0 if true_s is None else true_s - at_s


def _one_answer(answer: Answer, asked: dict[str, Asked]) -> Iterator[str]:
    """What the customer needs is in the answers of process and sync over HTTP while the payment waits, and in no other answer."""
    body = answer.body or {}
    action, waits = body.get("next_action"), body.get("status") == "REQUIRES_ACTION" and answer.status == 202
    if action is None:
        payment = asked.get(body.get("payment_id", ""))
        in_time = answer.spared and answer.received_s - answer.sent_s < ROOM_S
        later = answer.replayed and answer.retry_after_s == PAUSE_S
        owed = waits and answer.kind == "process" and not answer.direct and in_time and not later
        if owed and payment and _is_open(payment, answer.received_s):
            yield f"{answer.label}: got {answer.status} without next_action, and the gateway waits for the customer"
    elif not waits or answer.direct or answer.kind not in ("process", "sync"):
        yield f"{answer.label}: got {answer.status} {body.get('status')} with next_action"
    elif not (action.get("client_secret") or action.get("url")) or not action.get("expires_at"):
        yield f"{answer.label}: got a next_action with {sorted(action)} alone"
    if answer.kind == "sync" and answer.status in (200, 202) and (answer.status == 202) != (body["status"] in UNDECIDED):
        yield f"{answer.label}: got {answer.status} for a payment that is {body['status']}"


def _is_open(payment: Asked, at_s: float) -> bool:
    return all(moment_s is None or moment_s > at_s for moment_s in (payment.acted_s, payment.canceled_s))


def _secrets(answers: Iterable[Answer]) -> Iterator[str]:
    """Each payment has one secret, and no two have the same."""
    secrets: defaultdict[str, set[str]] = defaultdict(set)
    payments: defaultdict[str, set[str]] = defaultdict(set)
    for answer in answers:
        if secret := ((answer.body or {}).get("next_action") or {}).get("client_secret"):
            secrets[answer.body["payment_id"]].add(secret)  # type: ignore[index]
            payments[secret].add(answer.body["payment_id"])  # type: ignore[index]
    for payment_id, several in secrets.items():
        if len(several) > 1:
            yield f"payment {payment_id}: its customer got {len(several)} different secrets"
    for several in payments.values():
        if len(several) > 1:
            yield f"payments {sorted(several)}: their customers got the same secret"


def _nowhere_else(evidence: Evidence) -> Iterator[str]:
    for name, texts in _texts(evidence):
        for canary in CANARIES:
            if (count := sum(canary in text for text in texts)) > 0:
                yield f"{count} of {name} hold {canary!r}, which is for the customer alone"


def _texts(evidence: Evidence) -> Iterator[tuple[str, list[str]]]:
    for table in READ:
        rows = (*evidence.tables.get(table, ()), *evidence.while_waiting.get(table, ()))
        yield f"the rows of {table}", [_text(row) for row in rows]
    yield "the messages on the topic", [_text(one.headers) + one.value.decode(errors="replace") for one in evidence.messages]
    yield "the webhooks", [_text(one.headers) + one.body for one in evidence.arrivals]


def _text(value: Any) -> str:
    return json.dumps(value, default=str)
