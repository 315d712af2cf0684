"""Direct invocation by the order service: the fields of a body, plus `operation` and `idempotency_key`, without HTTP around them.

Outcomes (succeeded, declined, unknown) and final refusals return normally. Faults and refusals that waiting may cure raise, so
that Lambda retries the invocation and its on-failure queue receives it. This module does not import FastAPI.
"""

from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from payments import telemetry
from payments.api.answers import record, reply_to, reply_to_error
from payments.api.bodies import check_idempotency_key, check_value, validate
from payments.api.lookups import MAX_ID_CHARACTERS
from payments.commands.catalog import served_by
from payments.commands.command import Command
from payments.commands.fields import digest
from payments.commands.phases import perform, publish_and_mark
from payments.commands.service import Call, Deadline, Service
from payments.commands.settle import PUBLISH_LEASE_S
from payments.domain.card_data import contains_card_number, refuse_card_data
from payments.domain.errors import BodyTooLarge, CardDataNotAccepted, InvalidRequest, MalformedJson, Refused
from payments.domain.events import refusal_event
from payments.domain.text import is_in_order, is_plain
from payments.store import outbox


def invoke(event: Any, context: Any, service: Service, owner: str, function: str) -> dict[str, Any]:
    """Carry out the command in a direct event of the function; without `operation` it is the command of the function's name.

    Returns {"outcome": succeeded | declined | unknown | refused, "status": the HTTP status that it would have, "replayed",
    "body": the payment, the refund or the problem}. Raises Fault, and a refusal that waiting may cure.
    """
    known: tuple[str, ...] = ()
    try:
        command, request, key, traceparent = _read(event, function)
        known = (command.kind, key, request.digest)
        deadline = Deadline.of(context)
        refusal_id = _event_id(owner, known)
        call = Call(owner=owner, deadline=deadline, idempotency_key=key, traceparent=traceparent, refusal_id=refusal_id)
        result = perform(command, request, call, service)
    except Refused as error:
        if known and (earlier := outbox.data_of(service.db, _event_id(owner, known))):
            return _as_before(earlier)
        return _refused(error, event, context, service, owner, function, known)
    # Somebody else may have used the key since, over HTTP. What was told stands.
    if result.replayed and (earlier := outbox.data_of(service.db, refusal_id)):
        return _as_before(earlier)
    record(result)
    reply = reply_to(result, context.aws_request_id)
    return {"outcome": result.outcome.value, "status": reply.status, "replayed": result.replayed, "body": reply.body}


def _refused(
    error: Refused, event: Any, context: Any, service: Service, owner: str, function: str, known: tuple[str, ...]
) -> dict[str, Any]:
    """Leave a trace of a refusal, because nobody reads the answer of an asynchronous invocation.

    A refusal that waiting may cure is raised, so Lambda tries again, and its on-failure queue keeps what stays refused. Any
    other is told as an event, once, and stands: the same request under the same key is not carried out any more, for example
    when Lambda delivers it a second time. Raises Fault when the event cannot be written, so that Lambda tries again.

    `known` is the operation, key and digest of a valid request.
    """
    fields = event if isinstance(event, dict) else {}
    named = {name: fields.get(name) for name in ("operation", "order_id", "payment_id", "transaction_id", "idempotency_key")}
    named |= dict(zip(("operation", "idempotency_key"), known, strict=False))
    # A refused request may hold anything. A value that is no plain text or looks like card data is left out.
    told = {name: value if _is_harmless(value) else None for name, value in named.items()}
    told["operation"] = told["operation"] or (function if fields.get("operation") is None else None)
    telemetry.record_refusal(error.code, **told)
    if error.retryable:
        raise error
    if isinstance(error, CardDataNotAccepted | BodyTooLarge | MalformedJson) or not isinstance(event, dict):
        # The card filter has refused the payload or has not seen it. Nothing may be kept that is made of a card number, not
        # even a digest. Lambda's retries and duplicates have the same request id.
        instead = str(context.aws_request_id)
    else:
        instead = digest({name: value for name, value in event.items() if name != "traceparent"})
    once = known or (told["operation"] or "", told["idempotency_key"] or instead)
    reply = reply_to_error(error, context.aws_request_id)
    refusal = refusal_event(_event_id(owner, once), told | reply.body, service.clock())
    if written := outbox.write(service.db, refusal, PUBLISH_LEASE_S):
        publish_and_mark(written, service)
    return {"outcome": "refused", "status": reply.status, "replayed": False, "body": reply.body}


def _event_id(owner: str, once: tuple[str, ...]) -> UUID:
    return uuid5(NAMESPACE_URL, "\n".join(("urn:payments:refused", owner, *once)))  # None of them holds a control character.


def _as_before(data: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request that was refused for good before, from the event that told it."""
    asked = {"operation", "transaction_id", "idempotency_key"}
    asked |= set() if "payment_status" in data else {"order_id", "payment_id"}  # Else these are the payment's.
    body = {name: value for name, value in data.items() if name not in asked}
    return {"outcome": "refused", "status": body["status"], "replayed": True, "body": body}


def _is_harmless(value: object) -> bool:
    if not isinstance(value, str) or len(value) > MAX_ID_CHARACTERS:
        return False
    return is_plain(value) and is_in_order(value) and not contains_card_number(value)


def _read(event: Any, function: str) -> tuple[Command[Any], Any, str, str]:
    """Return the command, request, idempotency key and trace context of a direct event. Raises Refused."""
    check_value(event)  # A payload has the limits of an HTTP body.
    if not isinstance(event, dict):
        raise InvalidRequest("Send a JSON object.", ("payload", "must be a JSON object"))
    refuse_card_data(event)
    fields = dict(event)
    kind = fields.pop("operation", None)
    kind = function if kind is None else kind
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
    # Without a key, a digest of the validated request stands for it. Lambda's retries and duplicates carry the same request. The
    # request id and the trace context may differ, so they do not count.
    key = f"request-{request.digest}" if key is None else check_idempotency_key(key)
    return command, request, key, telemetry.traceparent_of(trace if isinstance(trace, str) else None)
