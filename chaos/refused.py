"""The witness, fifth part: a refusal is true, and a direct invocation that was refused for good is told on the topic, once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chaos.answers import Answer
from chaos.evidence import Evidence, Row
from chaos.oracle import REFUSED, UNDECIDED, Life, moment

UNDOABLE = (*UNDECIDED, "AUTHORIZED")
"""A payment with one of these statuses may still get another one. From all others no way leads to what a command needs."""

NAMELESS = ("payment_not_found", "idempotency_key_reused")
"""These refusals know no payment, and so no order, unless the request names it."""

CLOCKS_S = 0.1
"""The wall clock may have been corrected a little since the operation."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A delivery that was refused, by its answer or by its event. `body` is the problem document, if we know it."""

    name: str
    source: Answer
    body: dict[str, Any]

    @property
    def for_good(self) -> bool:
        return not self.body.get("retryable")

    @property
    def permanent(self) -> bool:
        """Whether no change of a payment can ever allow the request: it names one payment, which is beyond it."""
        if self.source.kind == "process" or "order_id" in self.source.sent_body or not self.for_good:
            return False
        beyond = self.body["code"] == "payment_state_conflict" and self.body.get("payment_status") not in UNDOABLE
        return beyond or self.body["code"] == "amount_too_large"


def check(evidence: Evidence, lives: dict[str, Life]) -> Iterator[str]:
    deliveries: dict[str, Answer] = {}
    for answer in evidence.answers:
        # A frozen delivery has two records: its caller hung up, and the thawed worker's answer came later.
        if answer.kind != "look-up" and (answer.label not in deliveries or answer.status is not None):
            deliveries[answer.label] = answer
    told = [row for row in evidence.tables["outbox"] if row["type"] == REFUSED]
    yield from _told(told, deliveries, evidence)
    yield from _heard(told, deliveries)
    refusals = [
        Refusal(f"{answer.label}: got {answer.status} {answer.code}", answer, answer.body)
        for answer in deliveries.values()
        if answer.refused and answer.body
    ]
    for row in told:
        data = json.loads(row["data"])
        if data["request_id"] in deliveries:
            refusals.append(Refusal(f"refusal {row['event_id']}: tells {data['code']}", deliveries[data["request_id"]], data))
    yield from _true(refusals, evidence, lives)


def _told(told: list[Row], deliveries: dict[str, Answer], evidence: Evidence) -> Iterator[str]:
    """Each refusal that is told is a client's, once for its key, on the topic under one id, and what the client heard."""
    acknowledged = {one.event_id for one in evidence.acknowledgements}
    times: Counter[tuple[str, str, str]] = Counter()
    rows = {}
    for row in told:
        name, data = f"refusal {row['event_id']}", json.loads(row["data"])
        rows[row["event_id"]] = data
        if (row["payment_id"], row["sequence"]) != (row["event_id"], 1):
            yield f"{name}: is number {row['sequence']} of {row['payment_id']}, and should stand alone"
        if row["published_at"] is None:
            yield f"{name}: was never published"
        elif row["event_id"] not in acknowledged:
            yield f"{name}: is marked published, but the broker never acknowledged it"
        source = deliveries.get(data["request_id"])
        if source is None or not source.direct:
            yield f"{name}: tells a refusal of {data['request_id']}, which no direct client sent"
            continue
        # A slip and what corrects it are two requests under one key.
        times[source.kind, data["idempotency_key"] or source.request, json.dumps(source.sent_body, sort_keys=True)] += 1
        derived = source.key is None and (data["idempotency_key"] or "request-").startswith("request-")
        if data["operation"] != source.kind or not (derived or data["idempotency_key"] == source.key):
            said = f"{data['operation']} {data['idempotency_key']}"
            yield f"{name}: tells of {said}, and {source.label} is {source.kind} {source.key}"
        if data["retryable"]:
            yield f"{name}: tells {data['code']} of {source.label} as final, and waiting may cure it"
        # 503: the refusal was written, and the answer to that was lost.
        if source.status not in (None, 503) and not data.items() >= (source.body or {}).items():
            yield f"{name}: tells {data['code']}, and {source.label} got {source.status} {source.code}"
        if data["order_id"] != f"order-{source.request.partition('.')[0]}" and data["code"] not in NAMELESS:
            yield f"{name}: names the order {data['order_id']}, and {source.label} is about another one"
    for (kind, key, _), count in times.items():
        if count > 1:
            yield f"the {kind} with key {key} is told {count} times as refused"
    seen = set()
    for message in evidence.messages:
        if message.headers.get("ce_type") != REFUSED:
            continue
        event_id = message.headers.get("ce_id", "")
        seen.add(event_id)
        if event_id not in rows:
            yield f"refusal {event_id} is on the topic and not in the outbox"
        elif json.loads(message.value) != rows[event_id]:
            yield f"refusal {event_id} has another value on the topic than in the outbox"
        number = message.headers.get("ce_sequence")
        if (message.key, message.headers.get("ce_subject"), number) != (event_id, event_id, "0000000001"):
            yield f"refusal {event_id} is on the topic as number {number} of {message.key}"
    for event_id in rows.keys() - seen:
        yield f"refusal {event_id} is not on the topic"


def _heard(told: list[Row], deliveries: dict[str, Answer]) -> Iterator[str]:
    """A direct invocation is raised while waiting may cure its refusal. When not, it is told."""
    keys, requests = set(), set()
    for row in told:
        data = json.loads(row["data"])
        keys.add((data["operation"], data["idempotency_key"]))
        if source := deliveries.get(data["request_id"]):
            requests.add(source.request)
    for answer in deliveries.values():
        if not answer.direct or answer.end != "answered" or answer.status in (200, 201, 202, 402):
            continue
        if not answer.refused_for_good:
            yield f"{answer.label}: returned {answer.status} {answer.code} instead of raising it, and waiting may cure it"
        elif (answer.kind, answer.key) not in keys and answer.request not in requests:
            yield f"{answer.label}: was refused for good with {answer.code}, which is not told"


def _true(refusals: list[Refusal], evidence: Evidence, lives: dict[str, Life]) -> Iterator[str]:
    """No refusal contradicts what was done, and none is for good that an operation in flight might have lifted."""
    begun_s = {key: min(call.begun_s for call in calls) for key, calls in evidence.calls_by_key().items()}
    bodies = {(answer.kind, answer.traceparent): answer.sent_body for answer in evidence.answers if answer.sent_body}
    by_key = {(row["owner"], row["kind"], row["idempotency_key"]): row for row in evidence.tables["operations"]}
    by_trace = {(row["kind"], row["traceparent"]): row for row in evidence.tables["operations"]}
    labels = {answer.label for answer in evidence.answers}
    for refusal in refusals:
        source, body = refusal.source, refusal.body
        if source.direct:
            own = by_trace.get((source.kind, source.traceparent))
        else:
            own = by_key.get((source.owner, source.kind, source.key)) if source.key else None
        # The key may belong to another request: the client had made a slip.
        if own is not None and bodies.get((own["kind"], own["traceparent"])) == source.sent_body:
            what = f"{own['kind']} {own['operation_id']}"
            if begun_s.get(own["gateway_key"], float("inf")) < source.sent_s:
                yield f"{refusal.name}, and its {what} had begun before it was sent"
            elif refusal.permanent:
                yield f"{refusal.name} for good, and its {what} was carried out"
            elif source.kind == "process" and body.get("payment_id") == own["payment_id"]:
                yield f"{refusal.name} because of its own payment {own['payment_id']}"
        life = lives.get(body.get("payment_id", ""))
        # What an earlier delivery was refused with stands, and is the answer to later ones. That refusal is looked at by itself.
        is_repeated = body.get("request_id") != source.label and body.get("request_id") in labels
        if refusal.for_good and life is not None and not is_repeated:
            yield from _final(refusal, life, evidence.clock_s, begun_s)
        if body["code"] == "payment_not_found":
            yield f"{refusal.name}, and the client had seen the payment"


def _final(refusal: Refusal, life: Life, clock_s: float, begun_s: dict[str, float]) -> Iterator[str]:
    """The refusal of a command on this payment is for good, so nothing that was in flight could have changed it."""
    source, body = refusal.source, refusal.body
    status, asked = body.get("payment_status"), source.sent_body.get("amount", 1)
    if body["code"] == "amount_too_large" and source.kind == "refund":
        left = life.payment["captured_minor"] - life.payment["refunded_minor"]
        if asked <= left:
            yield f"{refusal.name} for good, and {left} of payment {life.id} are left at last"
    if status in UNDECIDED or (status == "AUTHORIZED" and source.kind in ("capture", "void")):
        if body["code"] == "payment_state_conflict":
            yield f"{refusal.name} for good, and payment {life.id} was still {status}"
    elif status == "AUTHORIZED" and body["code"] in ("payment_state_conflict", "order_already_paid"):
        for operation in life.operations:
            # We do not know when a killed worker read what its event tells.
            answered_s = float("inf") if source.status is None else source.received_s + CLOCKS_S
            ended_s = moment(operation["settled_at"]).timestamp() - clock_s if operation["settled_at"] else float("inf")
            known_s = begun_s.get(operation["gateway_key"], float("inf"))
            if operation["kind"] in ("capture", "void") and known_s < source.sent_s and answered_s < ended_s:
                yield f"{refusal.name} for good, and a {operation['kind']} of payment {life.id} was in flight all the time"
