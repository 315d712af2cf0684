"""Ticks every schedule of the template as EventBridge would, on a clock that runs faster."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from local.pool import Pool
from local.template import ACCOUNT_ID, REGION, Schedule

# A minute of AWS takes a second here, so that relay and reconcile can be watched; an idle tick costs next to nothing.
SPEEDUP = 60


async def tick(schedule: Schedule, pool: Pool) -> None:
    """Invoke the function for ever. A tick that takes longer delays the next one: they never overlap."""
    while True:
        await pool.invoke(json.loads(schedule.input) if schedule.input else scheduled_event(schedule))
        await asyncio.sleep(schedule.interval_s / SPEEDUP)


def scheduled_event(schedule: Schedule) -> dict[str, Any]:
    """What EventBridge sends when the template gives no input of its own."""
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
