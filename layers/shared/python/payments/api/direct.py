"""Direct invocation by the order service: the fields of a body, plus `operation` and `idempotency_key`, without HTTP around them.

Outcomes (succeeded, declined, unknown) and final refusals return normally. Faults and refusals that waiting may cure raise, so
that Lambda retries the invocation and its on-failure queue receives it. This module does not import FastAPI.
"""

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from payments import telemetry
from payments.api.answers import record, reply_to, reply_to_error
from payments.api.bodies import check_idempotency_key, check_value, validate
from payments.api.lookups import MAX_ID_CHARACTERS
from payments.commands.catalog import served_by
from payments.commands.claim import digest, request_hash
from payments.commands.command import Command
from payments.commands.fields import Request
from payments.commands.phases import mark, perform, publish
from payments.commands.service import Call, Deadline, Service
from payments.commands.settle import PUBLISH_LEASE_S
from payments.domain.card_data import contains_card_number, refuse_card_data
from payments.domain.errors import CardDataNotAccepted, InvalidRequest, Refused
from payments.domain.events import refusal_event
from payments.domain.text import is_plain
from payments.store import outbox


def invoke(event: Any, context: Any, service: Service, owner: str, function: str) -> dict[str, Any]:
    """Carry out the command in a direct event of the function; without `operation` it is the command of the function's name.

    Returns {"outcome": succeeded | declined | unknown | refused, "status": the HTTP status that it would have, "replayed",
    "body": the payment, the refund or the problem}. Raises Fault, and a refusal that waiting may cure.
    """
    key = None
    try:
        command, request, key, traceparent = _read(event, function)
        deadline = Deadline.in_s(context.get_remaining_time_in_millis() / 1000)
        call = Call(owner=owner, deadline=deadline, idempotency_key=key, traceparent=traceparent)
        result = perform(command, request, call, service)
    except Refused as error:
        told = _told(event, function, key)
        return _refused(error, told, told["idempotency_key"] or _once(error, event, context), context, service, owner)
    record(result)
    reply = reply_to(result, context.aws_request_id)
    return {"outcome": result.outcome.value, "status": reply.status, "replayed": result.replayed, "body": reply.body}


def _refused(
    error: Refused, told: dict[str, str | None], once: str, context: Any, service: Service, owner: str
) -> dict[str, Any]:
    """Leave a trace of a refusal, because nobody reads the answer of an asynchronous invocation.

    A refusal that waiting may cure is raised, so Lambda tries again, and its on-failure queue keeps what stays refused. Any
    other is told as an event, `once`. Raises Fault when the event cannot be written, so that Lambda tries again.
    """
    telemetry.record_refusal(error.code, **told)
    if error.retryable:
        raise error
    reply = reply_to_error(error, context.aws_request_id)
    event_id = uuid5(NAMESPACE_URL, f"urn:payments:refused:{owner}:{told['operation']}:{once}")
    refusal = refusal_event(event_id, told | reply.body, service.clock())
    if outbox.write(service.db, refusal, PUBLISH_LEASE_S):
        mark(publish(refusal, service), service)
    return {"outcome": "refused", "status": reply.status, "replayed": False, "body": reply.body}


def _told(event: Any, function: str, key: str | None) -> dict[str, str | None]:
    """Return what names a refused request: its operation, order and key. A refused request may hold anything, so a value that is
    no plain text or looks like card data is left out.
    """
    fields = event if isinstance(event, dict) else {}
    named = {
        "operation": fields.get("operation", function),
        "order_id": fields.get("order_id"),
        "idempotency_key": key or fields.get("idempotency_key"),
    }
    return {name: value if _is_harmless(value) else None for name, value in named.items()}


def _once(error: Refused, event: Any, context: Any) -> str:
    """Return what stands for the key of a request without one: Lambda's retries and duplicates agree on it."""
    if isinstance(error, CardDataNotAccepted):
        return str(context.aws_request_id)  # Nothing may be kept that is made of a card number, not even a digest.
    return digest({name: value for name, value in event.items() if name != "traceparent"} if isinstance(event, dict) else event)


def _is_harmless(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_ID_CHARACTERS and is_plain(value) and not contains_card_number(value)


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
