"""Health: shallow (the service runs) and deep (the database and the broker answer)."""

import logging
import time
from collections.abc import Callable
from typing import Any

from payments.broker.kafka import KafkaPublisher
from payments.store.connection import PING, Database

logger = logging.getLogger(__name__)

BROKER_TIMEOUT_S = 1.5
"""A load balancer waits a few seconds for a health check. A broker that takes longer than this is not healthy."""


def deep_checks(db: Database, publisher: KafkaPublisher) -> dict[str, dict[str, Any]]:
    """Return `{"database": {"ok", "latency_ms"}, "broker": {...}}`. A failed check has an `error`; our log says why it failed."""
    return {
        "database": _check("database", lambda: db.run(PING())),
        "broker": _check("broker", lambda: publisher.check(BROKER_TIMEOUT_S)),
    }


def _check(part: str, probe: Callable[[], object]) -> dict[str, Any]:
    begun, failure = time.monotonic(), {}
    try:
        probe()
    except Exception as error:  # Whatever it raises, the part does not work.
        logger.warning("the %s is unavailable: %s", part, type(error).__name__)
        failure = {"error": "unavailable"}
    return {"ok": not failure, "latency_ms": round((time.monotonic() - begun) * 1000, 2)} | failure
