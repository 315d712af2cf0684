"""Direct invocation by the order service: the body's fields plus `operation` and `idempotency_key`, no HTTP around them.

Business outcomes (declined, unknown, already paid, refused) return normally; only faults raise, so that Lambda's own retries
and the on-failure queue do their work. FastAPI is not imported on this way.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from payments import telemetry
from payments.api.answers import reply_to, reply_to_error
from payments.api.bodies import check_value
from payments.commands.catalog import COMMANDS
from payments.commands.requests import check_idempotency_key, payload_key, validate
from payments.commands.service import Call, Deadline, Service
from payments.domain.card_data import refuse_card_data
from payments.domain.errors import InvalidRequest, Refused
from payments.domain.operation import Kind


def is_http(event: Any) -> bool:
    """Whether API Gateway sent the event: only its events have a request context with an HTTP request."""
    context = event.get("requestContext") if isinstance(event, dict) else None
    return isinstance(context, dict) and isinstance(context.get("http"), dict)


def invoke(event: Any, context: Any, service: Service, owner: str, kinds: Collection[Kind], default: Kind) -> dict[str, Any]:
    """Carry out the command in a direct event.

    Returns {"outcome": succeeded | declined | unknown | refused, "status": the HTTP status that it would be, "replayed",
    "body": the payment, the refund or the problem}. Raises Fault.
    """
    try:
        kind, request, key, traceparent = _read(event, kinds, default)
        deadline = Deadline.in_s(context.get_remaining_time_in_millis() / 1000)
        call = Call(owner=owner, deadline=deadline, idempotency_key=key, traceparent=traceparent)
        result = COMMANDS[kind].carry_out(request, call, service)
    except Refused as error:
        telemetry.record_refusal(error.code)
        reply = reply_to_error(error, context.aws_request_id)
        return {"outcome": "refused", "status": reply.status, "replayed": False, "body": reply.body}
    telemetry.record_result(result)
    reply = reply_to(result, context.aws_request_id)
    return {"outcome": result.outcome.value, "status": reply.status, "replayed": result.replayed, "body": reply.body}


def _read(event: Any, kinds: Collection[Kind], default: Kind) -> tuple[Kind, Any, str, str]:
    """The kind, request, idempotency key and trace context of a direct event. Raises Refused."""
    check_value(event)  # the limits of an HTTP body hold for a payload too
    if not isinstance(event, dict):
        raise InvalidRequest("The payload must be a JSON object.", errors=[_wrong("payload", "must be a JSON object")])
    refuse_card_data(event)
    fields = dict(event)
    name, key, trace = (
        fields.pop("operation", default.value),
        fields.pop("idempotency_key", None),
        fields.pop("traceparent", None),
    )
    if name not in [kind.value for kind in kinds]:
        allowed = ", ".join(sorted(kind.value for kind in kinds))
        raise InvalidRequest(
            "The function does not know this operation.", errors=[_wrong("operation", f"must be one of {allowed}")]
        )
    kind = Kind(name)
    request = validate(COMMANDS[kind].request, fields)
    if key is None and kind is not Kind.PROCESS:
        # Two equal partial refunds are both legitimate, and only a key tells them from a retry.
        raise InvalidRequest("A direct capture, void or refund needs a key.", errors=[_wrong("idempotency_key", "is missing")])
    if key is not None and not isinstance(key, str):
        raise InvalidRequest("The key must be text.", errors=[_wrong("idempotency_key", "must be a string")])
    key = payload_key(event) if key is None else check_idempotency_key(key)
    return kind, request, key, telemetry.traceparent_of(trace if isinstance(trace, str) else None)


def _wrong(location: str, message: str) -> dict[str, str]:
    return {"location": location, "message": message}
