"""Scheduled: send webhooks the events that are owed to them."""

from dataclasses import asdict
from functools import cache
from typing import Any

from payments import telemetry, wiring
from payments.commands.service import Deadline
from payments.scheduled.courier import courier
from payments.webhooks.post import Post


@cache
def post() -> Post:
    return Post(is_local=wiring.settings().webhooks_local)


@telemetry.instrumented
def lambda_handler(event: Any, context: Any) -> dict[str, int]:
    done = courier(wiring.service(), post(), Deadline.of(context))
    counts = {"WebhooksDelivered": done.delivered, "WebhookAttemptsFailed": done.failed, "WebhooksGivenUp": done.given_up}
    counts |= {"WebhooksDisabled": done.disabled}
    telemetry.count_all(counts)
    return asdict(done)
