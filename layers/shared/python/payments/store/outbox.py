"""The outbox: write an event that no settle writes, and mark events that Kafka has acknowledged. The backlog is in backlog.py.

It is a chain of tables, see migration 009. A statement on `outbox` reads and marks the events of earlier weeks too.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from payments.domain.events import Event
from payments.store.connection import Database, Statement
from payments.store.rows import columns

EVENT_COLUMNS = columns([field.name for field in fields(Event)], "outbox")

# The primary key holds for one table of the chain, and the event may be in an earlier one.
WRITE = Statement("""
    INSERT INTO outbox (event_id, payment_id, sequence, type, data, traceparent, created_at, lease_until)
    SELECT :event_id::uuid, :payment_id, :sequence, :type, :data, :traceparent, now(),
           now() + make_interval(secs => :publish_lease_s)
    WHERE NOT EXISTS (SELECT FROM outbox WHERE event_id = :event_id)
    ON CONFLICT (event_id) DO NOTHING RETURNING created_at
""")
DATA = Statement("SELECT data FROM outbox WHERE event_id = :event_id")

# In normal life nothing waits, and PostgreSQL's statistics say so. After an outage it therefore takes every index of waiting
# events for empty, and may read all of it for each row. Only the search for heads may use such an index, in its order. The other
# conditions are written so that they fit none, and find their rows by event_id or by (payment_id, sequence).
UNPUBLISHED = "COALESCE(published_at, 'infinity') = 'infinity'"

# Nobody waits until the mark is on the disk: a server that crashes loses it, and the relay sends the event once more, with the
# same id. A proxy would pin the connection if it saw the setting, which ends with the transaction. It sees into no function.
MARK_PUBLISHED = Statement(f"""-- mark_published
    UPDATE outbox SET published_at = now() FROM (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
    WHERE event_id = ANY(:ids::uuid[]) AND {UNPUBLISHED}
""")

MARK_PINNING_NOTHING = Statement(f"UPDATE outbox SET published_at = now() WHERE event_id = ANY(:ids::uuid[]) AND {UNPUBLISHED}")


def write(db: Database, event: Event, publish_lease_s: float) -> Event | None:
    """Write an event that no settle writes, and return it as stored. Returns None when the outbox has its id already, so that it
    is told once."""
    rows = db.run(WRITE(event, publish_lease_s=publish_lease_s))[0]
    return replace(event, created_at=rows[0][0]) if rows else None


def data_of(db: Database, event_id: UUID) -> dict[str, Any] | None:
    """Return the value of an event, or None when there is none. A published event is kept for some days."""
    rows = db.run(DATA(event_id=event_id))[0]
    return json.loads(rows[0][0]) if rows else None


def mark_published(db: Database, event_ids: Collection[UUID], failed: Callable[[], None] | None = None) -> None:
    """Note that Kafka has acknowledged the events. With `failed` it does not wait for the answer."""
    if ids := list(event_ids):
        mark = replace(MARK_PUBLISHED(ids=ids), instead=lambda: [MARK_PINNING_NOTHING(ids=ids)])
        db.send_without_waiting(mark, failed) if failed else db.run(mark)
