"""Direct invocation by the order service: the fields of a body, plus `operation` and `idempotency_key`, without HTTP around them.

Business outcomes (declined, unknown, already paid, refused) return normally. Only faults raise, so that Lambda retries the
invocation and its on-failure queue receives it. This module does not import FastAPI.
"""

from __future__ import annotations

from typing import Any

from payments import telemetry
from payments.api.answers import record, reply_to, reply_to_error
from payments.api.bodies import check_idempotency_key, check_value, validate
from payments.commands.catalog import served_by
from payments.commands.claim import request_hash
from payments.commands.command import Command
from payments.commands.fields import Request
from payments.commands.phases import perform
from payments.commands.service import Call, Deadline, Service
from payments.domain.card_data import refuse_card_data
from payments.domain.errors import InvalidRequest, Refused


def invoke(event: Any, context: Any, service: Service, owner: str, function: str) -> dict[str, Any]:
    """Carry out the command in a direct event of the function; without `operation` it is the command of the function's name.

    Returns {"outcome": succeeded | declined | unknown | refused, "status": the HTTP status that it would have, "replayed",
    "body": the payment, the refund or the problem}. Raises Fault.
    """
    try:
        command, request, key, traceparent = _read(event, function)
        deadline = Deadline.in_s(context.get_remaining_time_in_millis() / 1000)
        call = Call(owner=owner, deadline=deadline, idempotency_key=key, traceparent=traceparent)
        result = perform(command, request, call, service)
    except Refused as error:
        telemetry.record_refusal(error.code)
        reply = reply_to_error(error, context.aws_request_id)
        return {"outcome": "refused", "status": reply.status, "replayed": False, "body": reply.body}
    record(result)
    reply = reply_to(result, context.aws_request_id)
    return {"outcome": result.outcome.value, "status": reply.status, "replayed": result.replayed, "body": reply.body}


def _read(event: Any, function: str) -> tuple[Command[Any], Any, str, str]:
    """Return the command, request, idempotency key and trace context of a direct event. Raises Refused."""
    check_value(event)  # A payload has the limits of an HTTP body.
    if not isinstance(event, dict):
        raise InvalidRequest("Send a JSON object.", ("payload", "must be a JSON object"))
    refuse_card_data(event)
    fields = dict(event)
    kind = fields.pop("operation", function)
    key, trace = fields.pop("idempotency_key", None), fields.pop("traceparent", None)
    commands = served_by(function)
    if not isinstance(kind, str) or kind not in commands:
        message = f"must be one of {', '.join(sorted(commands))}"
        raise InvalidRequest("The function does not have this operation.", ("operation", message))
    command = commands[kind]
    request = validate(command.request, fields)
    if key is None and command.needs_key:
        # Two equal partial refunds are both legitimate, and only a key tells a second one from a retry.
        raise InvalidRequest("Send an idempotency_key with this operation.", ("idempotency_key", "is missing"))
    if key is not None and not isinstance(key, str):
        raise InvalidRequest("Correct the idempotency_key.", ("idempotency_key", "must be a string"))
    key = derived_key(request) if key is None else check_idempotency_key(key)
    return command, request, key, telemetry.traceparent_of(trace if isinstance(trace, str) else None)


def derived_key(request: Request) -> str:
    """Return the idempotency key of a direct invocation that brings none: a digest of the validated request.

    Lambda's retries and duplicates carry the same request. The request id and the trace context may differ, so they do not count.
    """
    return f"request-{request_hash(request)}"
