"""Writes docs/openapi.json: FastAPI's routes, with the answers, problems and examples that the shipped code does not carry.

`python -m contract.openapi` writes it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from contract import schemas
from contract.examples import ANSWERS, PROBLEMS, REQUESTS, TRANSACTION_ID, WEBHOOK_ID
from payments import __version__
from payments.api.answers import PROBLEM_TYPE
from payments.api.look_up_routes import health_router, lookups_router
from payments.api.routes import app_of, commands_router
from payments.api.webhook_routes import RedeliverRequest, WebhookRequest, webhooks_router
from payments.commands.catalog import COMMANDS
from payments.commands.command import Command, OnPayment
from payments.commands.fields import PAYMENT_NAMES, PaymentRequest
from payments.commands.process import ProcessRequest
from payments.domain.currencies import MINOR_UNIT_DIGITS
from payments.domain.scopes import Scope
from payments.domain.text import is_plain, is_visible
from payments.wiring import publisher, service

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"

INTRODUCTION = """\
Process, authorize, capture, void, refund and look up payments.

**Amounts** are integers in the currency's minor unit: `1999` with `USD` is 19.99 dollars, with `JPY` 1999 yen.

**You can repeat a request safely** with an `Idempotency-Key`: the same key and request move the money once. Later requests get
the first one's result, with `Idempotent-Replayed: true`. A refusal (4xx other than 402) uses no key up. An order is paid only
once even without a key. Always send a key with a refund, because only a key tells a repeated refund from a second one, and with a
capture or void that names an order, because the order may have a new payment meanwhile. Without a key, such a request says
`retryable: false` after a failure that leaves its outcome in doubt.

**202** means that the gateway has not answered yet. The service repeats the
request for up to 20 hours. Look the payment up, or wait for its event.

**Errors** are problem documents (RFC 9457). Your program should read `code` and `retryable`. API Gateway answers some errors
itself, as `{"message": …}`: 401 without a valid token, 403 without the scope, 404 for an unknown route, 429 when throttled, 500
and 503 when a function fails or takes too long.

**Scopes**: each operation names the scope that its token needs. `payments/admin` reads the payments of all owners, and sees the
gateway's own decline code where others see `generic_decline`.

**Webhooks** are the events of docs/asyncapi.yaml, each as one JSON document in CloudEvents' structured mode, sent by POST to an
address of yours. They are signed as [Standard Webhooks](https://www.standardwebhooks.com) says, and `webhook-id` is the event's
id. Answer with 2xx within 10 s. What fails is sent again for a day, so an event may come more than once. The events of a payment
come in order.

**Card numbers are never accepted**, in no field, header or path: send a `payment_token`.
"""

CONTROLS = "\\u0000-\\u001f\\u007f-\\u009f"
CONTROL_FREE = f"^[^{CONTROLS}]*$"
"""The rule of `Plain` in commands/fields.py as JSON Schema, for which a lone surrogate is no character."""

IN_ORDER = f"^[^{CONTROLS}\\u202a-\\u202e]*$"
"""The rules of `Plain` and `InOrder`."""


def _ranges(characters: Iterable[str]) -> str:
    """Return the characters, in order, as the inside of a character class."""
    found: list[tuple[int, int]] = []
    for code in map(ord, characters):
        first = found.pop()[0] if found and found[-1][1] == code - 1 else code
        found.append((first, code))
    return "".join(f"\\u{first:04x}" + (f"-\\u{last:04x}" if last > first else "") for first, last in found)


_UNSEEN = CONTROLS + _ranges(c for c in map(chr, range(0xA0, 0x10000)) if is_plain(c) and not is_visible(c))
UNMISTAKABLE = f"^[^ \\u3000{_UNSEEN}]([^{_UNSEEN}]*[^ \\u3000{_UNSEEN}])?$"
"""The rule of `NewId`, as far as JSON Schema can say it: without the normal form, and for characters of the first plane."""

NEW_IDS = ("order_id", "customer_id")
FREE_TEXTS = ("description", "reason")

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes the request safe to repeat. Visible ASCII characters without a comma, such as a UUID.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-+\--~]+$"},
    "example": "5b0f7c1e-2f0a-4c86-9d0b-0f4a6f0f6a11",
}

HEADERS = {
    "Idempotent-Replayed": {
        "description": "`true` when this is the result of an earlier request with the same Idempotency-Key",
        "schema": {"const": "true"},
    },
    "Retry-After": {"description": "Seconds to wait before trying again", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
}

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "path.payment_id": {"schema": {"format": "uuid"}, "example": "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1"},
    "path.webhook_id": {"schema": {"format": "uuid"}, "example": WEBHOOK_ID},
    "path.order_id": {"schema": {"minLength": 1, "maxLength": 64}, "example": "order-1001"},
    "path.transaction_id": {"schema": {"minLength": 1, "maxLength": 255}, "example": TRANSACTION_ID},
    "query.order_id": {"schema": {"pattern": CONTROL_FREE}, "example": "order-1001"},
    "query.cursor": {"schema": {"pattern": "^[A-Za-z0-9_-]*$"}},
}
"""Additions to FastAPI's parameters. An id in a path that breaks these rules is a 404, like an id that does not exist."""

ANYWHERE = ("card_data_not_accepted", "internal_error")
LOOKUP = (*ANYWHERE, "unauthenticated", "forbidden", "service_unavailable")
COMMAND = (
    *LOOKUP,
    *("malformed_json", "idempotency_key_invalid", "body_too_large", "unsupported_media_type", "invalid_request"),
    *("idempotency_key_in_use", "idempotency_key_reused"),
)
WEBHOOK = (*LOOKUP, "webhook_not_found")
BODY = ("malformed_json", "body_too_large", "unsupported_media_type", "invalid_request")
WAITED_FOR = {"idempotency_key_in_use", "order_in_progress", "service_unavailable"}
"""Problems with a Retry-After header."""

SUCCESS = {
    "process": "The payment was captured, or authorized with `capture_method: manual`",
    "capture": "The authorization was captured",
    "void": "The authorization was voided",
    "refund": "The refund succeeded",
}
UNKNOWN = "The outcome is unknown yet; look the payment up later"


@dataclass(frozen=True)
class Operation:
    """The description of one operation, beyond its path and parameters."""

    tag: str
    summary: str
    answers: Mapping[int, tuple[type[BaseModel] | None, str]]
    problems: tuple[str, ...]
    scope: Scope | None
    description: str = ""


def _refusals(command: Command[Any]) -> tuple[str, ...]:
    """Return the codes of the refusals that are peculiar to the command."""
    if not isinstance(command, OnPayment):
        return "order_already_paid", "order_in_progress"
    takes_an_amount = "amount" in command.request.model_fields
    return "payment_not_found", "payment_state_conflict", *(["amount_too_large"] if takes_an_amount else [])


def _command(command: Command[Any]) -> Operation:
    model = schemas.RefundCreated if command.returns_refund else schemas.Payment
    return Operation(
        "Refunds" if command.returns_refund else "Payments",
        f"{command.kind.capitalize()} a payment",
        {command.success_status: (model, SUCCESS.get(command.kind, "It succeeded")), 202: (model, UNKNOWN)},
        (*COMMAND, *_refusals(command), f"{command.noun}_declined"),
        command.scope,
        command.request.__doc__ or "",
    )


def _lookup(summary: str, model: type[BaseModel], *problems: str) -> Operation:
    return Operation("Look-ups", summary, {200: (model, "Found")}, (*LOOKUP, *problems), Scope.READ)


def _webhook(summary: str, status: int, model: type[BaseModel] | None, what: str, *problems: str) -> Operation:
    return Operation("Webhooks", summary, {status: (model, what)}, (*WEBHOOK, *problems), Scope.WEBHOOKS)


BODIES: Mapping[str, type[BaseModel]] = {
    **{kind: command.request for kind, command in COMMANDS.items()},
    "create_webhook": WebhookRequest,
    "redeliver_webhook": RedeliverRequest,
}
"""The request of each operation that takes a body."""

OPERATIONS: Mapping[str, Operation] = {
    **{kind: _command(command) for kind, command in COMMANDS.items()},
    "get_payment": _lookup("A payment by its id, with its newest refunds", schemas.PaymentWithRefunds, "payment_not_found"),
    "get_order": _lookup("An order's live payment, else its latest", schemas.PaymentWithRefunds, "payment_not_found"),
    "get_transaction": _lookup("A payment by its transaction", schemas.PaymentWithRefunds, "payment_not_found"),
    "get_refunds": _lookup("A payment's refunds, oldest first", schemas.RefundList, "payment_not_found", "invalid_request"),
    "get_history": _lookup(
        "A payment's statuses and later declines, oldest first", schemas.History, "payment_not_found", "invalid_request"
    ),
    "list_payments": _lookup("Payments, newest first", schemas.PaymentList, "invalid_request"),
    "create_webhook": Operation(
        "Webhooks",
        "Have events sent to an address of yours",
        {201: (schemas.WebhookWithSecret, "Registered; keep the secret, which is not shown again")},
        (*LOOKUP, *BODY, "webhook_conflict"),
        Scope.WEBHOOKS,
    ),
    "list_webhooks": Operation(
        "Webhooks", "Your webhooks, oldest first", {200: (schemas.WebhookList, "Found")}, LOOKUP, Scope.WEBHOOKS
    ),
    "get_webhook": _webhook("A webhook, and how it is", 200, schemas.Webhook, "Found"),
    "delete_webhook": _webhook("Delete a webhook and what waits for it", 204, None, "Deleted"),
    "rotate_webhook": _webhook(
        "Give a webhook a new secret; for 24 hours the one before signs too", 200, schemas.WebhookWithSecret, "The secret is new"
    ),
    "enable_webhook": _webhook("Send to a webhook again, at once", 200, schemas.Webhook, "It is enabled"),
    "redeliver_webhook": _webhook(
        "Send a webhook events again: one, or those of a range", 202, schemas.Redelivery, "They will be sent", *BODY
    ),
    "health": Operation(
        "Health",
        "Whether the service runs; with `deep`, whether its database and broker answer",
        {200: (schemas.Health, "All is well"), 503: (schemas.Health, "A check failed; `checks` says which")},
        (*ANYWHERE, "invalid_request"),
        scope=None,
    ),
}


def document() -> dict[str, Any]:
    lookups = lookups_router(service), health_router(service, publisher)
    app = app_of(commands_router(service, COMMANDS.values()), *lookups, webhooks_router(service, lambda: False))
    routes = get_openapi(title="Payments on Lambda", version=__version__, description=INTRODUCTION, routes=app.routes)
    for path, operations in routes["paths"].items():
        for described in operations.values():
            if names := re.findall(r"\{(\w+)\}", path):  # One endpoint serves three paths, and so does not list its name.
                parts = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
                described.setdefault("parameters", parts)
            _describe(described)
    components = {
        "schemas": _schemas(),
        "examples": _examples(),
        "headers": HEADERS,
        "securitySchemes": {"jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
    }
    tags = [{"name": name} for name in dict.fromkeys(operation.tag for operation in OPERATIONS.values())]
    return {**routes, "tags": tags, "components": components}


def _enough(scope: Scope | None) -> tuple[Scope, ...]:
    """Return the scopes of which one is enough: the admin scope reads all payments."""
    return () if scope is None else (scope, Scope.ADMIN) if scope is Scope.READ else (scope,)


def _describe(described: dict[str, Any]) -> None:
    """Complete FastAPI's description of an operation."""
    id_ = described["operationId"]
    operation = OPERATIONS[id_]
    described.update(tags=[operation.tag], summary=operation.summary)
    if operation.description:
        described["description"] = operation.description
    described["security"] = [{"jwt": [scope.value]} for scope in _enough(operation.scope)]
    for parameter in described.get("parameters", []):
        known = PARAMETERS.get(f"{parameter['in']}.{parameter['name']}", {})
        schema = _not_null(_without_titles(parameter["schema"])) | known.get("schema", {})
        schema.pop("description", None)  # The parameter has the same description.
        parameter.update({**known, "schema": schema})
    if id_ in COMMANDS:
        described["parameters"] = [IDEMPOTENCY_KEY]
    if model := BODIES.get(id_):
        examples = [f"{id_}.{name}" for name in REQUESTS.get(id_, ())]
        described["requestBody"] = {"required": True, "content": _content("application/json", model.__name__, examples)}
    described["responses"] = dict(sorted(_responses(id_, operation).items()))


def _responses(id_: str, operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, (model, description) in operation.answers.items():
        examples = [f"{id_}.{status}.{name}" for name in ANSWERS.get((id_, status), ())]
        content = _content("application/json", model.__name__, examples) if model else {}
        headers = {"Idempotent-Replayed"} if id_ in COMMANDS else set()
        responses[str(status)] = {"description": description, "headers": _refs("headers", headers), "content": content}
    for status, codes in _by_status(operation.problems).items():
        description = "; ".join(f"`{code}`: {PROBLEMS[code]['title']}" for code in codes)
        content = _content(PROBLEM_TYPE, "Problem", [f"problem.{code}" for code in codes])
        if status == 401:
            content |= _content("application/json", "Message", ["no_valid_token"])
        headers = {"Idempotent-Replayed"} if status == 402 else {"Retry-After"} if WAITED_FOR & set(codes) else set()
        responses[str(status)] = {"description": description, "headers": _refs("headers", headers), "content": content}
    return {status: {key: value for key, value in response.items() if value} for status, response in responses.items()}


def _by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    statuses: dict[int, list[str]] = {}
    for code in codes:
        statuses.setdefault(PROBLEMS[code]["status"], []).append(code)
    return statuses


def _content(media_type: str, schema: str, examples: Iterable[str]) -> dict[str, Any]:
    names = {name.rpartition(".")[2]: name for name in examples}
    refs = {short: {"$ref": f"#/components/examples/{name}"} for short, name in names.items()}
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": refs}}


def _refs(kind: str, names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/{kind}/{name}"} for name in names}


def _examples() -> dict[str, Any]:
    values = {f"{id_}.{name}": value for id_, requests in REQUESTS.items() for name, value in requests.items()}
    values |= {f"{id_}.{status}.{name}": value for (id_, status), named in ANSWERS.items() for name, value in named.items()}
    values |= {f"problem.{code}": value for code, value in PROBLEMS.items()}
    values["no_valid_token"] = {"message": "Unauthorized"}
    return {name: {"value": value} for name, value in values.items()}


def _schemas() -> dict[str, Any]:
    requests = list(BODIES.values())
    answers = [model for operation in OPERATIONS.values() for model, _ in operation.answers.values() if model]
    found = schemas_of(*requests, *answers, schemas.Problem)
    for name, schema in found.items():
        properties = schema.get("properties", {})
        for field, value in properties.items():
            if name in {model.__name__ for model in requests}:
                _say_what_validators_check(field, value, is_new=name == ProcessRequest.__name__)
            elif "default" in value:  # An answer leaves out a member that does not apply, so it never holds null.
                properties[field] = _not_null(value)
    for request in requests:
        if issubclass(request, PaymentRequest):
            one_name = [{"required": [name], "properties": {name: {"type": "string"}}} for name in PAYMENT_NAMES]
            found[request.__name__]["oneOf"] = one_name
    found["Problem"]["properties"]["code"]["enum"] = sorted(PROBLEMS)
    found["Message"] = {
        "description": "An error that API Gateway answers by itself",
        "type": "object",
        "properties": {"message": {"type": "string"}},
        "required": ["message"],
    }
    return dict(sorted(found.items()))


def schemas_of(*models: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schemas of the models and of the models that they refer to, by name."""
    modes: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in dict.fromkeys(models)]
    _, definitions = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    return {name: _without_titles(schema) for name, schema in definitions["$defs"].items()}


def _say_what_validators_check(field: str, schema: dict[str, Any], *, is_new: bool) -> None:
    """An id of something new has a stricter form than one that names what is there."""
    pattern = UNMISTAKABLE if is_new and field in NEW_IDS else IN_ORDER if field in FREE_TEXTS else CONTROL_FREE
    for part in (schema, *schema.get("anyOf", ())):
        if field == "currency":
            part["enum"] = sorted(MINOR_UNIT_DIGITS)
        elif field == "url":
            part.update(pattern="^https://[^#]+$", format="uri")
        elif part.get("type") == "string" and not {"enum", "format"} & part.keys():
            part["pattern"] = pattern
            if is_new and field in NEW_IDS:
                part["description"] = (
                    "In Unicode's normal form NFC, without invisible characters and without white space at either end"
                )
        elif part.get("type") == "object":
            part["propertyNames"]["pattern"] = part["additionalProperties"]["pattern"] = IN_ORDER


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an optional value without null, which stands for its absence in Python."""
    if "anyOf" not in schema:
        return schema
    (kind,) = [part for part in schema["anyOf"] if part != {"type": "null"}]
    return {key: value for key, value in (schema | kind).items() if key not in ("anyOf", "default")}


def _without_titles(schema: Any) -> Any:
    """Return the schema without Pydantic's titles, which repeat the names. A property named `title` stays."""
    if isinstance(schema, list):
        return [_without_titles(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_titles(part) for key, part in schema.items() if key != "title" or not isinstance(part, str)}


def text() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text(), encoding="utf-8")
