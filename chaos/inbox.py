"""The witness, seventh part: what the gateway told is in the inbox, came to an outcome, and nobody there is left behind."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.events import Events
from chaos.evidence import Evidence
from chaos.oracle import Life


def check(evidence: Evidence, events: Events, lives: dict[str, Life]) -> Iterator[str]:
    yield from events.failures
    rows = {row["event_id"]: row for row in evidence.tables["gateway_events"]}
    for event_id, label in events.taken.items():
        if event_id not in rows:
            yield f"gateway event {event_id} is not in the inbox, and {label} was answered with 200"
    for event_id in events.unheard(set(rows)):
        yield f"gateway event {event_id} was never heard of"
    for row in rows.values():
        name = f"gateway event {row['event_id']} ({row['type']})"
        if row["outcome"] is None:
            yield f"{name} has no outcome"
        elif row["outcome"] in ("orphan", "later"):
            yield f"{name} came to {row['outcome']}"
        if row["event_id"] not in events.owed and row["door"] != "decline":
            yield f"{name} is in the inbox, and nobody told it"
    adopted = {
        operation["gateway_key"] for life in lives.values() for operation in life.operations if operation["origin"] == "gateway"
    }
    for refund in events.dashboard.refunds:
        if f"gateway-refund-{refund}" not in adopted:
            yield f"the dashboard's refund {refund} is not in the books"
