"""The witness, sixth part: every event of a payment reaches its owner's webhook, signed, in order, and as it is on the topic."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import defaultdict
from collections.abc import Iterator

from chaos.evidence import Arrival, Evidence, Message, Row
from chaos.oracle import Life

TOLERANCE_S = 300
"""The age at which the libraries of Standard Webhooks refuse a signature."""


def check(evidence: Evidence, lives: dict[str, Life]) -> Iterator[str]:
    webhooks = {row["owner"]: row for row in evidence.tables["webhooks"]}
    owed = {
        row["event_id"]: (row, life.payment["owner"])
        for life in lives.values()
        for row in life.outbox
        if life.payment["owner"] in webhooks
    }
    on_topic: dict[str, Message] = {}
    for message in evidence.messages:
        on_topic.setdefault(message.headers.get("ce_id", ""), message)
    taken: defaultdict[str, set[int]] = defaultdict(set)
    for arrival in evidence.arrivals:
        event_id = arrival.headers.get("webhook-id", "")
        row, owner = owed.get(event_id, ({}, None))
        if owner is None or owner != arrival.owner:
            yield f"event {event_id} came to the webhook of {arrival.owner}, whose outbox does not have it"
            continue
        yield from _signature(arrival, webhooks[owner]["secret"])
        yield from _content(arrival, row, on_topic.get(event_id))
        name, before = f"payment {row['payment_id']}: event {row['sequence']}", taken[row["payment_id"]]
        if missing := sorted(set(range(1, row["sequence"])) - before):
            yield f"{name} came to the webhook of {owner} before {missing}"
        if arrival.taken:
            before.add(row["sequence"])
    for row, owner in owed.values():
        if row["sequence"] not in taken[row["payment_id"]]:
            yield f"payment {row['payment_id']}: event {row['sequence']} never reached the webhook of {owner}"
    for row in webhooks.values():
        if row["disabled_at"] is not None:
            yield f"the webhook of {row['owner']} was disabled: {row['disabled_reason']}"
    for row in evidence.tables["webhook_deliveries"]:
        yield f"payment {row['payment_id']}: event {row['sequence']} is still owed to a webhook: {row['last_error']}"


def _signature(arrival: Arrival, secret: str) -> Iterator[str]:
    """The receiver's own check: HMAC-SHA256 of id, time and body."""
    event_id, at_s = arrival.headers["webhook-id"], arrival.headers.get("webhook-timestamp", "")
    signed = f"{event_id}.{at_s}.{arrival.body}".encode()
    mac = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256)
    if f"v1,{base64.b64encode(mac).decode()}" not in arrival.headers.get("webhook-signature", "").split():
        yield f"event {event_id} came to the webhook of {arrival.owner} with a wrong signature"
    elif not at_s.isdigit() or abs(arrival.at_s - int(at_s)) > TOLERANCE_S:
        yield f"event {event_id} came to the webhook of {arrival.owner} with the time {at_s}"


def _content(arrival: Arrival, row: Row, message: Message | None) -> Iterator[str]:
    """The event has the attributes and the data of the topic. What the topic lacks, the oracle says elsewhere."""
    name = f"event {row['event_id']} came to the webhook of {arrival.owner}"
    try:
        event = json.loads(arrival.body)
    except ValueError:
        yield f"{name} as a text that is not JSON"
        return
    told = tuple(event.get(attribute) for attribute in ("id", "subject", "type"))
    if told != (row["event_id"], row["payment_id"], row["type"]):
        yield f"{name} as {told}"
    if message is None:
        return
    attributes = {name.removeprefix("ce_"): value for name, value in message.headers.items() if name.startswith("ce_")}
    differing = sorted(name for name, value in attributes.items() if event.get(name) != value)
    if event.get("data") != json.loads(message.value):
        differing.append("data")
    if differing:
        yield f"{name} with another {', '.join(differing)} than on the topic"
