"""Stripe tells of an event, by its webhook or through EventBridge: keep it, answer, and then look at what it is about."""

from functools import partial
from typing import Any

from payments import telemetry, wiring
from payments.api.callers import is_http
from payments.api.gateway_events import from_eventbridge, from_webhook
from payments.commands.service import Deadline, Service
from payments.gateway.port import Hint
from payments.scheduled.gateway_events import handle
from payments.store import gateway_events
from payments.store.gateway_events import Door


@telemetry.instrumented
def gateway_event(event: Any, context: Any) -> dict[str, Any]:
    is_webhook, deadline = is_http(event, context), Deadline.of(context)
    if wiring.settings().stripe is None:
        return {"statusCode": 404, "body": '{"message":"Not Found"}'} if is_webhook else {"outcome": "refused"}

    def keep(door: Door, hint: Hint) -> None:
        service = wiring.service()
        gateway_events.insert(service.db, service.gateway.name, door, [hint])
        service.later(partial(look, service, hint.event_id))

    def look(service: Service, event_id: str) -> None:
        try:
            handle(service, deadline, event_id=event_id)
        except Exception:
            telemetry.logger.exception("reconcile's next run handles the gateway event")
        telemetry.write_metrics()

    if is_webhook:
        return from_webhook(event, wiring.webhook_secrets(), partial(keep, Door.WEBHOOK))
    return from_eventbridge(event, partial(keep, Door.EVENTBRIDGE))


lambda_handler = wiring.after_answer.extended(gateway_event)
