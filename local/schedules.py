"""Invoke the functions on the template's schedules as EventBridge does, but 60 times as often."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from local.pool import Pool
from local.template import ACCOUNT_ID, REGION, Schedule

# A minute on AWS is a second here, so that a developer can watch relay and reconcile. An idle tick costs next to nothing.
SPEEDUP = 60


async def tick(schedule: Schedule, pool: Pool) -> None:
    """Invoke the function for ever. Ticks never overlap: a slow one delays the next."""
    while True:
        await pool.invoke(json.loads(schedule.input) if schedule.input else scheduled_event(schedule))
        await asyncio.sleep(schedule.interval_s / SPEEDUP)


def scheduled_event(schedule: Schedule) -> dict[str, Any]:
    """Return the event that EventBridge sends when the template gives no input."""
    place = f"events:{REGION}:{ACCOUNT_ID}:rule" if schedule.is_rule else f"scheduler:{REGION}:{ACCOUNT_ID}:schedule/default"
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events" if schedule.is_rule else "aws.scheduler",
        "account": ACCOUNT_ID,
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "region": REGION,
        "resources": [f"arn:aws:{place}/{schedule.name}"],
        "detail": {} if schedule.is_rule else "{}",
    }
