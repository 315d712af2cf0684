"""The publisher that we ship, with a record of the broker's acknowledgements. A mark without one is always an error."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from payments.broker.port import Publisher
from payments.domain.events import Event


class RecordingPublisher:
    def __init__(self, shipped: Publisher, record: Path) -> None:
        """`record` gets a line for each batch: the acknowledged event_ids, and the times before and after the call."""
        self._shipped = shipped
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def warm_up(self) -> None:
        self._shipped.warm_up()

    def backs_off(self) -> bool:
        return self._shipped.backs_off()

    def publish(self, events: Sequence[Event], timeout_s: float) -> set[UUID]:
        sent_s = time.time()
        acknowledged = self._shipped.publish(events, timeout_s)
        line = {"event_ids": sorted(map(str, acknowledged)), "sent_s": sent_s, "acknowledged_s": time.time()}
        os.write(self._record, b"\n" + json.dumps(line).encode() + b"\n")  # a kill may tear the line, as in gateway.py
        return acknowledged
