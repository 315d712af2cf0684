"""Scheduled: publish the events that wait in the outbox.

`{"replay": {"from": …, "to": …}}` sends a range of published events again, with the same ids.
"""

from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

from payments import telemetry, wiring
from payments.commands.service import Deadline
from payments.domain.errors import InvalidRequest
from payments.domain.times import rfc3339
from payments.scheduled.relay import relay, replay


@telemetry.instrumented
def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    deadline = Deadline.of(context)
    if isinstance(event, dict) and "replay" in event:
        start, end = _moment(event, "from"), _moment(event, "to")
        sent, resume_at = replay(wiring.service(), deadline, start, end)
        return {"replayed": sent, "resume_at": rfc3339(resume_at)}
    relayed = relay(wiring.service(), deadline)
    telemetry.count_all({"EventsRelayed": relayed.published, "OutboxUnpublished": relayed.unpublished})
    telemetry.count("OutboxLag", relayed.lag_s, "Seconds")
    return asdict(relayed) | {"lag_s": round(relayed.lag_s, 3)}


def _moment(event: dict[str, Any], name: str) -> datetime:
    with suppress(KeyError, TypeError, ValueError):
        moment = datetime.fromisoformat(event["replay"][name])
        if moment.tzinfo is not None:
            return moment
    raise InvalidRequest(f"replay.{name} must be an RFC 3339 time such as 2026-01-31T12:00:00Z")
