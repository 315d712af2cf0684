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
from contract.examples import ANSWERS, MESSAGES, PROBLEMS, REQUEST_ID, REQUESTS, TRANSACTION_ID, WEBHOOK_ID
from contract.words import DECLINES, EXAMPLES, MEMBERS, OF_FIELDS, SCENARIOS, VOCABULARIES, table, words_of
from payments import __version__
from payments.api.answers import PROBLEM_TYPE
from payments.api.bodies import MAX_BODY_BYTES, MAX_DEPTH
from payments.api.customer_routes import sync_router
from payments.api.look_up_routes import ListQuery, health_router, lookups_router
from payments.api.routes import app_of, commands_router
from payments.api.webhook_routes import RedeliverRequest, WebhookRequest, webhooks_router
from payments.commands.catalog import COMMANDS
from payments.commands.command import Command
from payments.commands.fields import Request
from payments.commands.on_payment import OnPayment, PaymentRequest
from payments.commands.process import ProcessRequest
from payments.commands.sync import SyncRequest
from payments.domain import return_url
from payments.domain.payment import PAYMENT_NAMES
from payments.domain.scopes import Scope
from payments.domain.text import is_plain, is_visible
from payments.wiring import publisher, service

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"

INTRODUCTION = f"""\
Process, authorize, capture, void, refund and look up payments.

**Amounts** are integers in the currency's minor unit: `1999` with `USD` is 19.99 dollars, with `JPY` 1999 yen. They go up to
999,999,999,999, so keep them in 64 bits.

**You can repeat a request safely** with an `Idempotency-Key`, 1 to 255 visible ASCII characters without a comma, such as a
UUID. The same key and request move the money once. Later requests get the first one's result, with `Idempotent-Replayed: true`.
A key belongs to its caller and its operation. It never expires: it is kept as long as the payment. A refusal (4xx other than 402)
uses no key up; a decline (402) does, so another try needs a new key. An order is paid only once even without a key. Always send a
key with a refund, because only a key tells a repeated refund from a second one, and with a capture or void that names an order,
because the order may have a new payment meanwhile. Without a key, such a request says `retryable: false` after a failure that
leaves its outcome in doubt.

**202** means that the gateway has not answered yet, has not finished, or waits for the customer. The service goes on until it
knows: most often within minutes, within days for a refund that a bank has to finish. `Location` is where you look the payment up,
after `Retry-After` seconds; or wait for its event.

**The customer may have to act** (REQUIRES_ACTION): to confirm the payment with the bank, or to enter the card in Stripe's Payment
Element (a payment without a `payment_token`). Then the 202 has `next_action` for the customer's browser. A replay of the key, and
`POST /api/v1/payments/sync`, give it again, at most once in 2 s for a payment; asked sooner, the 202 says `Retry-After: 2`. When
the browser is back, sync the payment. If the customer does not act within an hour, or you void the payment, it is VOIDED.

**Errors** are problem documents (RFC 9457), `application/problem+json`. Your program should read `code` and `retryable`:
docs/errors.md explains each code. API Gateway answers some errors itself, as `application/json` with a `message` alone: 401
without a valid token, 403 without the scope, 404 for an unknown route, 413 for a body over 10 MB, 429 when throttled, 500 and 503
when a function fails or takes more than 30 s. Where both may answer, the schema has the members of both, and none is required.

**Every answer has the header `Apigw-Requestid`**, the id under which our logs know the request. Problem documents repeat it.

**Limits**: a body has at most {MAX_BODY_BYTES} bytes and {MAX_DEPTH} levels. All callers together make 200 requests a second, 100
at once, unless the deployment says otherwise (`/health`: 5 and 10). Over that, API Gateway answers 429 without `Retry-After`:
wait a second, then twice as long each time.

**Requests are closed, answers are open.** A request with an unknown member or parameter, or a repeated parameter, is refused
(`/health` passes over unknown parameters). In requests, null counts as absent. Answers may get new members, and their members
new values, without notice: ignore what you do not know. For that, members of answers whose values may grow are strings, whose
known values are in `x-extensible-enum`; the schema of that name lists them as an enum, for your constants. docs/versioning.md
says what may change without a new version.

**Scopes**: each operation names the scope that its token needs. `payments/admin` reads the payments of all owners, and sees the
gateway's own decline code where others see `generic_decline`.

**Webhooks** are the events of docs/asyncapi.yaml, each as one JSON document in CloudEvents' structured mode, sent by POST to an
address of yours. They are signed as [Standard Webhooks](https://www.standardwebhooks.com) says, and `webhook-id` is the event's
id. Answer with 2xx within 10 s. What fails is sent again for a day, so an event may come more than once. The events of a payment
come in order.

**Card numbers are never accepted**, in no field, header or path: send a `payment_token`.

## Decline codes

{table(DECLINES, "`decline_code`", "meaning")}

`advice_code` says what to do about it; it is absent when the gateway gives no advice.

{table(VOCABULARIES["AdviceCode"].meanings, "`advice_code`", "what to do")}

## Scenario tokens

The simulated gateway does what the `payment_token` says. With another token, or without one, it approves 95 % of payments. It
stands in every deployment until a real gateway takes its place.

{table(SCENARIOS, "`payment_token`", "what happens")}
"""

SERVERS: list[dict[str, Any]] = [
    {"url": "http://127.0.0.1:8001", "description": "`make run` or `make sam-local` on this machine"},
    {
        "url": "https://{api}.execute-api.{region}.amazonaws.com",
        "description": "A deployment: the stack's output `ApiUrl`, which may also be a domain of your own",
        "variables": {
            "api": {"default": "a1b2c3d4e5", "description": "The id of the API"},
            "region": {"default": "eu-central-1", "description": "The region of the stack"},
        },
    },
]

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
    "description": "Makes the request safe to repeat: the same key and request move the money once. 1 to 255 visible ASCII "
    "characters without a comma, such as a UUID. A key never expires, and belongs to its caller and its operation",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-+\--~]+$"},
    "example": "5b0f7c1e-2f0a-4c86-9d0b-0f4a6f0f6a11",
}

HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Apigw-Requestid": {
        "description": "The id of the request, under which our logs know it. A problem document repeats it as `request_id`",
        "schema": {"type": "string"},
        "example": REQUEST_ID,
    },
    "Idempotent-Replayed": {
        "description": "`true` when this is the result of an earlier request with the same Idempotency-Key; absent otherwise",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Location": {
        "description": "The path at which you can look the payment up, on the same host",
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/api/v1/payments/payment/019c139e-4c00-7a41-9b0f-2d6c31e0a7f1",
    },
    "Retry-After": {
        "description": "Seconds to wait before you ask again",
        "schema": {"type": "integer", "format": "int32", "minimum": 1},
        "example": 5,
    },
}

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "path.payment_id": {
        "description": "The payment's id",
        "schema": {"format": "uuid"},
        "example": "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1",
    },
    "path.webhook_id": {"description": "The webhook's id", "schema": {"format": "uuid"}, "example": WEBHOOK_ID},
    "path.order_id": {
        "description": "Your order, percent-encoded",
        "schema": {"minLength": 1, "maxLength": 64},
        "example": "order-1001",
    },
    "path.transaction_id": {
        "description": "The gateway's id of the charge, percent-encoded",
        "schema": {"minLength": 1, "maxLength": 255},
        "example": TRANSACTION_ID,
    },
    "path.refund_id": {
        "description": "The refund's id",
        "schema": {"format": "uuid"},
        "example": "019c139f-b5d8-7c0e-8f4a-6b1d92c4e035",
    },
    "query.order_id": {
        "description": "Only payments of this order",
        "schema": {"pattern": CONTROL_FREE},
        "example": "order-1001",
    },
    "query.customer_id": {
        "description": "Only payments of this customer",
        "schema": {"pattern": CONTROL_FREE},
        "example": "customer-7",
    },
    "query.payment_method": {"description": "Only payments by this method"},
    "query.currency": {"description": "Only payments in this currency"},
    "query.amount_from": {
        "description": "Only payments of this amount or more, in minor units of any currency, or of `currency`"
    },
    "query.amount_to": {"description": "Only payments of this amount or less, in minor units of any currency, or of `currency`"},
    "query.status": {"description": "Only payments that have this status"},
    "query.created_from": {"description": "Only payments that were requested then or later (RFC 3339 with a zone)"},
    "query.created_to": {"description": "Only payments that were requested before (RFC 3339 with a zone)"},
    "query.limit": {"description": "How many rows a page has at most"},
    "query.cursor": {
        "description": "`next_cursor` of the page before; leave it out for the first page",
        "schema": {"pattern": "^[A-Za-z0-9_-]*$"},
    },
    "query.deep": {"description": "Whether to check the database and the broker too"},
}
"""Additions to FastAPI's parameters. An id in a path that breaks these rules is a 404, like an id that does not exist."""

ANYWHERE = ("card_data_not_accepted", "internal_error")
LOOKUP = (*ANYWHERE, "invalid_request", "unauthenticated", "forbidden", "service_unavailable")
COMMAND = (
    *LOOKUP,
    *("malformed_json", "idempotency_key_invalid", "body_too_large", "unsupported_media_type"),
    *("idempotency_key_in_use", "idempotency_key_reused"),
)
WEBHOOK = (*LOOKUP, "webhook_not_found")
BODY = ("malformed_json", "body_too_large", "unsupported_media_type")
WAITED_FOR = {"idempotency_key_in_use", "order_in_progress", "service_unavailable"}
"""Problems with a Retry-After header."""

SUCCESS = {
    "process": "The payment was captured, or authorized with `capture_method: manual`",
    "capture": "The authorization was captured",
    "void": "The authorization was voided",
    "refund": "The refund succeeded",
}
UNKNOWN = "The outcome is not known yet. Look the payment up at `Location`, after `Retry-After` seconds"

ACT = f"{UNKNOWN}. While the payment is REQUIRES_ACTION, give `next_action` to the customer's browser"

TAGS = {
    "Payments": "Take money: at once, or by an authorization that is captured or voided later",
    "Refunds": "Give captured money back",
    "Look-ups": "Read payments, their refunds and their history. They change nothing",
    "Webhooks": "Have events sent to addresses of yours",
    "Health": "For monitors and load balancers",
}


@dataclass(frozen=True)
class Operation:
    """The description of one operation, beyond its path and parameters."""

    tag: str
    summary: str
    answers: Mapping[int, tuple[type[BaseModel] | None, str]]
    problems: tuple[str, ...]
    scope: Scope | None
    description: str


def _refusals(command: Command[Any]) -> tuple[str, ...]:
    """Return the codes of the refusals that are peculiar to the command."""
    if not isinstance(command, OnPayment):
        return "order_already_paid", "order_in_progress", "not_supported_by_gateway"
    takes_an_amount = "amount" in command.request.model_fields
    refusals = ("payment_not_found", "payment_state_conflict", "not_supported_by_gateway")
    disputed = ["payment_disputed"] if command.returns_refund else []
    return *refusals, *disputed, *(["amount_too_large"] if takes_an_amount else [])


def _command(command: Command[Any]) -> Operation:
    model = schemas.RefundCreated if command.returns_refund else schemas.Payment
    return Operation(
        "Refunds" if command.returns_refund else "Payments",
        f"{command.kind.capitalize()} a payment",
        {
            command.success_status: (model, SUCCESS.get(command.kind, "It succeeded")),
            202: (schemas.PaymentInProgress, ACT) if command.kind == "process" else (model, UNKNOWN),
        },
        (*COMMAND, *_refusals(command), f"{command.noun}_declined"),
        command.scope,
        command.request.__doc__ or "",
    )


def _lookup(summary: str, description: str, model: type[BaseModel], *problems: str) -> Operation:
    return Operation("Look-ups", summary, {200: (model, "Found")}, (*LOOKUP, *problems), Scope.READ, description)


def _webhook(summary: str, description: str, status: int, model: type[BaseModel] | None, what: str, *problems: str) -> Operation:
    return Operation("Webhooks", summary, {status: (model, what)}, (*WEBHOOK, *problems), Scope.WEBHOOKS, description)


BODIES: Mapping[str, type[BaseModel]] = {
    **{kind: command.request for kind, command in COMMANDS.items()},
    "sync": SyncRequest,
    "create_webhook": WebhookRequest,
    "redeliver_webhook": RedeliverRequest,
}
"""The request of each operation that takes a body."""

NEWEST = "With its newest 20 refunds and 20 disputes."
OPERATIONS: Mapping[str, Operation] = {
    **{kind: _command(command) for kind, command in COMMANDS.items()},
    "sync": Operation(
        "Payments",
        "Ask the gateway now",
        {
            200: (schemas.Payment, "The payment as it is after the look at the gateway"),
            202: (
                schemas.PaymentInProgress,
                "The outcome is not known yet. Ask again after `Retry-After` seconds, or wait for the event",
            ),
        },
        (*LOOKUP, *BODY, "payment_not_found"),
        Scope.WRITE,
        "For example when the customer's browser is back. The gateway is asked at most once in 2 s for a payment; within them "
        "the payment is returned as it is, without `next_action`. It needs no Idempotency-Key: it moves no money.",
    ),
    "get_payment": _lookup("A payment by its id", NEWEST, schemas.PaymentWithRefunds, "payment_not_found"),
    "get_order": _lookup(
        "A payment by its order",
        f"The order's payment that is neither FAILED nor VOIDED, else its latest. {NEWEST}",
        schemas.PaymentWithRefunds,
        "payment_not_found",
    ),
    "get_transaction": _lookup("A payment by its transaction", NEWEST, schemas.PaymentWithRefunds, "payment_not_found"),
    "get_refund": _lookup("A refund by its id", "For example one whose outcome was unknown.", schemas.Refund, "refund_not_found"),
    "get_refunds": _lookup("A payment's refunds", "Oldest first, in pages.", schemas.RefundList, "payment_not_found"),
    "get_history": _lookup(
        "A payment's history",
        "Its statuses, later declines and disputes, oldest first, in pages.",
        schemas.History,
        "payment_not_found",
    ),
    "list_payments": _lookup(
        "Payments", "Newest first, in pages, each with its newest 5 refunds and 5 disputes.", schemas.PaymentList
    ),
    "create_webhook": Operation(
        "Webhooks",
        "Register a webhook",
        {201: (schemas.WebhookWithSecret, "Registered; keep the secret, which is not shown again")},
        (*LOOKUP, *BODY, "webhook_conflict"),
        Scope.WEBHOOKS,
        "From now on events are sent to this address of yours.",
    ),
    "list_webhooks": Operation(
        "Webhooks", "Your webhooks", {200: (schemas.WebhookList, "Found")}, LOOKUP, Scope.WEBHOOKS, "Oldest first."
    ),
    "get_webhook": _webhook("A webhook by its id", "With what waits for it, and why it fails.", 200, schemas.Webhook, "Found"),
    "delete_webhook": _webhook("Delete a webhook", "What waits for it is deleted too.", 204, None, "Deleted"),
    "rotate_webhook": _webhook(
        "Give a webhook a new secret",
        "For 24 hours the one before signs too.",
        200,
        schemas.WebhookWithSecret,
        "The secret is new, and is not shown again",
    ),
    "enable_webhook": _webhook("Enable a webhook", "What waits for it is sent at once.", 200, schemas.Webhook, "It is enabled"),
    "redeliver_webhook": _webhook(
        "Send events again", "One, or those of a range of time.", 202, schemas.Redelivery, "They will be sent", *BODY
    ),
    "health": Operation(
        "Health",
        "Whether the service runs",
        {200: (schemas.Health, "All is well"), 503: (schemas.Health, "A check failed; `checks` says which")},
        (*ANYWHERE, "invalid_request"),
        scope=None,
        description="With `deep`, also whether its database and its broker answer.",
    ),
}
"""By FastAPI's operation id."""


def operation_id(id_: str) -> str:
    """Return the documents' name of an operation: no reserved word of a language, as `void` is."""
    first, *others = f"{id_}_payment".split("_") if id_ in COMMANDS or id_ == "sync" else id_.split("_")
    return first + "".join(word.capitalize() for word in others)


def document() -> dict[str, Any]:
    lookups = lookups_router(service), health_router(service, publisher)
    app = app_of(
        commands_router(service, COMMANDS.values()), sync_router(service), *lookups, webhooks_router(service, lambda: False)
    )
    routes = get_openapi(title="Payments on Lambda", version=__version__, description=INTRODUCTION, routes=app.routes)
    routes["info"] |= {
        "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        "contact": {"name": "The maintainers, by an issue in the repository"},
    }
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
        "securitySchemes": {"jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": TOKEN}},
    }
    used = {operation.tag for operation in OPERATIONS.values()}
    tags = [{"name": name, "description": description} for name, description in TAGS.items() if name in used]
    return {**routes, "servers": SERVERS, "tags": tags, "components": components}


TOKEN = "An access token of the deployment's issuer, with the scope that the operation names. `make run` checks no token"


def _enough(scope: Scope | None) -> tuple[Scope, ...]:
    """Return the scopes of which one is enough: the admin scope reads all payments."""
    return () if scope is None else (scope, Scope.ADMIN) if scope is Scope.READ else (scope,)


def _describe(described: dict[str, Any]) -> None:
    """Complete FastAPI's description of an operation."""
    id_ = described["operationId"]
    operation = OPERATIONS[id_]
    scopes = " or ".join(f"`{scope}`" for scope in _enough(operation.scope))
    needs = f"\n\nNeeds the scope {scopes}." if scopes else "\n\nNeeds no token."
    described.update(operationId=operation_id(id_), tags=[operation.tag], summary=operation.summary)
    described["description"] = operation.description + needs
    described["security"] = [{"jwt": [scope.value]} for scope in _enough(operation.scope)]
    for parameter in described.get("parameters", []):
        known = PARAMETERS.get(f"{parameter['in']}.{parameter['name']}", {})
        vocabulary = OF_FIELDS.get(f"{ListQuery.__name__}.{parameter['name']}")
        schema = _without_titles(parameter["schema"])
        default = {} if schema.get("default") is None else {"default": schema["default"]}
        schema = _closed(vocabulary) if vocabulary else _with_formats(_not_null(schema) | default | known.get("schema", {}))
        schema.pop("description", None)  # The parameter has a description.
        parameter.update({**known, "schema": schema})
    if id_ in COMMANDS:
        described["parameters"] = [IDEMPOTENCY_KEY]
    if model := BODIES.get(id_):
        examples = [f"{id_}.{name}" for name in REQUESTS.get(id_, ())]
        content = _content(model.__name__, "application/json", examples)
        described["requestBody"] = {"description": "JSON in UTF-8, not compressed", "required": True, "content": content}
    described["responses"] = _responses(id_, operation)


def _responses(id_: str, operation: Operation) -> dict[str, Any]:
    ours, gateways = _by_status(operation.problems), _gateways(id_, operation)
    responses = {}
    for status in sorted({*operation.answers, *ours, *gateways}):
        codes, said = ours.get(status, []), [] if status not in gateways else [MESSAGES[status]]
        descriptions = [f"`{code}`: {PROBLEMS[code]['title']}" for code in codes]
        descriptions += [f"API Gateway answers: {text}" for text in said]
        headers = ["Apigw-Requestid"]
        messages = [f"message.{status}"] if said else []
        if status in operation.answers:
            model, description = operation.answers[status]
            descriptions.insert(0, description)
            examples = [f"{id_}.{status}.{name}" for name in ANSWERS.get((id_, status), ())]
            content = {}
            if model:
                content = _content(model.__name__ + OR_MESSAGE * bool(messages), "application/json", examples + messages)
        elif codes and messages:  # Generators look at one of the content types alone, so both have the schema that fits both.
            content = _content(f"Problem{OR_MESSAGE}", PROBLEM_TYPE, [f"problem.{code}" for code in codes])
            content |= _content(f"Problem{OR_MESSAGE}", "application/json", messages)
        elif codes:
            content = _content("Problem", PROBLEM_TYPE, [f"problem.{code}" for code in codes])
        else:
            content = _content("Message", "application/json", messages)
        is_unknown = status == 202 and id_ in COMMANDS
        headers += ["Location"] if is_unknown else []
        headers += ["Retry-After"] if is_unknown or (id_, status) == ("sync", 202) or WAITED_FOR & set(codes) else []
        headers += ["Idempotent-Replayed"] if id_ in COMMANDS and (status in operation.answers or status == 402) else []
        described = {"description": "; ".join(descriptions), "headers": _refs("headers", headers), "content": content}
        described = {name: value for name, value in described.items() if value}
        responses[str(status)] = described
    return responses


OR_MESSAGE = "OrMessage"


def _gateways(id_: str, operation: Operation) -> set[int]:
    """Return the statuses that API Gateway answers by itself."""
    return {404, 429, 500, 503} | ({401, 403} if operation.scope else set()) | ({413} if id_ in BODIES else set())


def _by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    statuses: dict[int, list[str]] = {}
    for code in codes:
        statuses.setdefault(PROBLEMS[code]["status"], []).append(code)
    return statuses


def _content(schema: str, media_type: str, examples: Iterable[str]) -> dict[str, Any]:
    names = {name.rpartition(".")[2] if not name.startswith("message.") else name.replace(".", "_"): name for name in examples}
    refs = {short: {"$ref": f"#/components/examples/{name}"} for short, name in names.items()}
    return {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": refs}}


def _refs(kind: str, names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/{kind}/{name}"} for name in names}


def _examples() -> dict[str, Any]:
    values = {f"{id_}.{name}": value for id_, requests in REQUESTS.items() for name, value in requests.items()}
    values |= {f"{id_}.{status}.{name}": value for (id_, status), named in ANSWERS.items() for name, value in named.items()}
    values |= {f"problem.{code}": value for code, value in PROBLEMS.items()}
    values |= {f"message.{status}": {"message": text} for status, text in MESSAGES.items()}
    return {name: {"value": value} for name, value in values.items()}


def _schemas() -> dict[str, Any]:
    answers = [model for operation in OPERATIONS.values() for model, _ in operation.answers.values() if model]
    found = schemas_of(*BODIES.values(), *answers, schemas.Problem, schemas.Message)
    for model in (schemas.Problem, schemas.Health):
        members = found[model.__name__]["properties"] | found["Message"]["properties"]
        text = f"A `{model.__name__}`, or a `Message` of API Gateway. No member is required, because the two have none in common"
        found[model.__name__ + OR_MESSAGE] = {"description": text, "type": "object", "properties": members}
    return dict(sorted(found.items()))


def schemas_of(*models: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schemas of the models, of the models that they refer to, and of their vocabularies, by name.

    Requests are closed, and answers are open.
    """
    modes: list[tuple[type[BaseModel], Literal["validation"]]] = [(model, "validation") for model in dict.fromkeys(models)]
    _, definitions = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    known = {model.__name__: model for model in (*models, *vars(schemas).values()) if isinstance(model, type)}
    found, used = {}, set[str | None]()
    for name, schema in definitions["$defs"].items():
        if issubclass(model := known[name], BaseModel):  # The others are enums, which are in VOCABULARIES.
            found[name] = _with_formats(_completed(model, _without_titles(schema)))
            used |= {words_of(_names(model), field, OF_FIELDS) for field in found[name]["properties"]}
    return found | {name: _vocabulary(name) for name in VOCABULARIES if name in used}


def _names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(base.__name__ for base in model.__mro__)


def _completed(model: type[BaseModel], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with the description of each member, closed for a request and open for an answer."""
    is_request, names = issubclass(model, Request), _names(model)
    if not is_request:
        del schema["additionalProperties"]
    if issubclass(model, PaymentRequest):
        schema |= _exactly_one(*PAYMENT_NAMES)
    for field, value in schema["properties"].items():
        # A request may leave a member out; null is the same, but a generated client need not know. An answer that may leave a
        # member out never holds null.
        member = _not_null(value) if "default" in value else value
        if is_request:
            _say_what_validators_check(field, member, is_new=model is ProcessRequest)
        if vocabulary := words_of(names, field, OF_FIELDS):
            member = _closed(vocabulary) if is_request else _open(vocabulary, can_be_null="anyOf" in member)
        elif "enum" in member and not is_request:
            member = {"type": member["type"], "x-extensible-enum": member["enum"]}
        elif not is_request:
            member.pop("propertyNames", None)
            member = _with_null(member) if "anyOf" in member else member
        example = {"examples": [EXAMPLES[field]]} if is_request and field in EXAMPLES else {}
        words = words_of(names, field, MEMBERS)
        if words and vocabulary and not is_request:
            words += f". `{vocabulary}` has the values that this version knows"
        schema["properties"][field] = member | example | ({"description": words} if words else {})
    return schema


def _exactly_one(first: str, second: str, third: str) -> dict[str, Any]:
    """Return the rule that exactly one of three members is there. Generators would make three models of a `oneOf`."""
    has = {name: {"required": [name]} for name in (first, second, third)}
    has_neither = {"not": {"anyOf": [has[second], has[third]]}}
    rest = {"if": has[second], "then": {"not": has[third]}, "else": has[third]}
    return {"if": has[first], "then": has_neither, "else": rest}


def _vocabulary(name: str) -> dict[str, Any]:
    vocabulary = VOCABULARIES[name]
    meanings = {value: meaning for value, meaning in vocabulary.meanings.items() if meaning}
    text = f"{vocabulary.description}.\n\n{table(meanings, 'value', 'meaning')}" if meanings else f"{vocabulary.description}."
    return {"description": text, "type": "string", "enum": [str(value) for value in vocabulary.meanings]} | _constants(name)


def _constants(name: str) -> dict[str, Any]:
    """Return names for the constants of a vocabulary that shares a value with one before it. In Go, constants share a scope."""
    values = {name: set(map(str, vocabulary.meanings)) for name, vocabulary in VOCABULARIES.items()}
    before = list(VOCABULARIES)[: list(VOCABULARIES).index(name)]
    if not any(values[name] & values[other] for other in before):
        return {}
    prefix = re.findall("[A-Z][a-z]+", name)[0].upper()
    return {"x-enum-varnames": [f"{prefix}_{value}".upper() for value in VOCABULARIES[name].meanings]}


def _closed(vocabulary: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{vocabulary}"}


def _open(vocabulary: str, *, can_be_null: bool) -> dict[str, Any]:
    """Return the schema of a member whose values may grow. Generated clients refuse a value that is not in an `enum`."""
    known = {"type": "string", "x-extensible-enum": [str(value) for value in VOCABULARIES[vocabulary].meanings]}
    return _with_null(known) if can_be_null else known


def _say_what_validators_check(field: str, schema: dict[str, Any], *, is_new: bool) -> None:
    """An id of something new has a stricter form than one that names what is there."""
    if field == "url":
        schema |= {"pattern": "^https://[^#]+$", "format": "uri"}
    elif field == "return_url":
        schema["pattern"] = f"^{return_url.PATTERN}$"
    elif schema.get("type") == "string" and "format" not in schema:
        schema["pattern"] = UNMISTAKABLE if is_new and field in NEW_IDS else IN_ORDER if field in FREE_TEXTS else CONTROL_FREE
    elif schema.get("type") == "object":
        schema["propertyNames"]["pattern"] = schema["additionalProperties"]["pattern"] = IN_ORDER


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an optional value without its default, and without null, which stands for its absence in Python."""
    if "anyOf" in schema:
        (kind,) = [part for part in schema["anyOf"] if part != {"type": "null"}]
        schema = schema | kind
    return {key: value for key, value in schema.items() if key not in ("anyOf", "default")}


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value that may be null. Of an `anyOf`, modelina makes an Object in Java, whatever the value is."""
    kind = _not_null(schema)
    return kind | {"type": [kind["type"], "null"]}


def _with_formats(schema: Any) -> Any:
    """Return the schema with a format for each number. Without it, generators read 5,000,000,000 into 32 bits."""
    if isinstance(schema, list):
        return [_with_formats(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _with_formats(part) for key, part in schema.items()}
    if found.get("type") == "integer":
        found.setdefault("format", "int64" if found.get("maximum", 0) >= 2**31 else "int32")
    elif found.get("type") == "number":
        found.setdefault("format", "double")
    return found


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
