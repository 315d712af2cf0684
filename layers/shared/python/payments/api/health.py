"""Whether the service can do its work: shallow (it runs) and deep (the books and the broker answer)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from payments.broker.kafka import KafkaPublisher
from payments.store.connection import Database, Statement

BROKER_TIMEOUT_S = 1.5
"""A load balancer gives a health check a few seconds; a broker that needs longer than this is not healthy."""

PING = Statement("SELECT 1")


def deep_checks(db: Database, publisher: KafkaPublisher) -> dict[str, dict[str, Any]]:
    """`{"database": {"ok", "latency_ms"}, "broker": {...}}`; a failed check says in `error` what kind of failure it was."""
    return {
        "database": _check(lambda: db.run(PING())),
        "broker": _check(lambda: publisher.check(BROKER_TIMEOUT_S)),
    }


def _check(ask: Callable[[], object]) -> dict[str, Any]:
    begun = time.monotonic()
    try:
        ask()
    except Exception as error:
        return {"ok": False, "latency_ms": _ms_since(begun), "error": type(error).__name__}
    return {"ok": True, "latency_ms": _ms_since(begun)}


def _ms_since(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 2)
