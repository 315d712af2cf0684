"""docs/schemas/: JSON Schemas that stand alone, for the data of each type of event, and for direct invocations and outcomes.

`python -m contract.published` writes them. They are what docs/asyncapi.yaml and docs/openapi.json say, under names of their own
(docs/adr/029-names-of-schemas.md). A file is named after the end of its `$id`, with a point in the place of the colon.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contract import asyncapi, openapi
from payments.commands.catalog import COMMANDS
from payments.commands.command import Command

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"
NAMES = "urn:payments:schema:"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

OPERATION = "What the function shall do"
KEY = (
    "Makes the invocation safe to repeat: the same key and payload move the money once. Make one for each intention, and send it "
    "with every repetition"
)
KEY_OF_PROCESS = f"{KEY}. Without it, one is derived from the payload, without its traceparent"


def documents() -> dict[str, dict[str, Any]]:
    """Return the schemas by the names of their files."""
    found = [*_events(), *_direct()]
    return {f"{schema['$id'].removeprefix(NAMES).replace(':', '.')}.json": schema for schema in found}


def _events() -> Iterator[dict[str, Any]]:
    described = asyncapi.document()
    components = described["components"]
    for title, message in components["messages"].items():
        uri = message["headers"]["properties"]["ce_dataschema"]["const"]
        named = message["payload"]["$ref"].rpartition("/")[2]
        yield _standing_alone(uri, title, message["summary"], _open(components["schemas"][named]), _open(components["schemas"]))


def _direct() -> Iterator[dict[str, Any]]:
    components = openapi.document()["components"]["schemas"]
    for command in COMMANDS.values():
        name = command.kind.capitalize()
        function = f"{command.function.capitalize()}Function"
        yield _standing_alone(
            f"{NAMES}direct.{command.kind}:1",
            f"{name}Invocation",
            f"{command.request.__doc__ or ''} The payload of a direct invocation of {function}.",
            _payload(command, components[command.request.__name__]),
            components,
        )
        yield _standing_alone(
            f"{NAMES}direct.{command.kind}.outcome:1",
            f"{name}Outcome",
            "What the function returns. A fault, or a refusal that waiting may cure, is an error of the function instead",
            _outcome(command),
            _open(components),
        )


def _payload(command: Command[Any], request: Mapping[str, Any]) -> dict[str, Any]:
    is_default = command.kind == command.function
    key: Any = openapi.IDEMPOTENCY_KEY["schema"]
    own = {
        "operation": {"const": command.kind, "description": OPERATION + (", and what it does without it" if is_default else "")},
        "idempotency_key": key | {"description": KEY if command.needs_key else KEY_OF_PROCESS},
        "traceparent": {
            "type": "string",
            "description": "W3C trace context. Events carry it on; one that is not valid is ignored",
        },
    }
    needed = ([] if is_default else ["operation"]) + (["idempotency_key"] if command.needs_key else [])
    return {**request, "properties": request["properties"] | own, "required": [*request.get("required", ()), *needed]}


def _outcome(command: Command[Any]) -> dict[str, Any]:
    model, _ = openapi.OPERATIONS[command.kind].answers[202]
    assert model, "a command has an answer"
    answer = {"$ref": f"#/components/schemas/{model.__name__}"}
    problem = {"$ref": "#/components/schemas/Problem"}
    cases: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        ("succeeded", "The gateway carried the command out", {"const": command.success_status}, answer),
        ("unknown", "The gateway's answer is missing; an event will tell the outcome", {"const": 202}, answer),
        ("declined", "The gateway declined the command", {"const": 402}, problem),
        ("refused", "Nothing was done, and nothing will be", {"minimum": 400, "maximum": 499}, problem),
    ]
    return {
        "type": "object",
        "properties": {
            "outcome": {"enum": [case[0] for case in cases]},
            "status": {"type": "integer", "description": "The status that the answer would have over HTTP"},
            "replayed": {"type": "boolean", "description": "Whether it is the result of an earlier request under the same key"},
            "body": {"type": "object", "description": "As over HTTP: the payment, the refund, or the problem"},
        },
        "required": ["outcome", "status", "replayed", "body"],
        "oneOf": [
            {"description": description, "properties": {"outcome": {"const": outcome}, "status": status, "body": body}}
            for outcome, description, status, body in cases
        ],
    }


def _standing_alone(
    uri: str, title: str, description: str, schema: Mapping[str, Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the schema with all that it refers to."""
    needed, unread = dict[str, Any](), [schema]
    while unread:
        for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(unread.pop())):
            if name not in needed:
                needed[name] = components[name]
                unread.append(components[name])
    head = {"$schema": DIALECT, "$id": uri, "title": title, "description": description}
    whole = head | {name: value for name, value in schema.items() if name not in head}
    whole |= {"$defs": dict(sorted(needed.items()))} if needed else {}
    moved: dict[str, Any] = json.loads(json.dumps(whole).replace('"#/components/schemas/', '"#/$defs/'))
    return moved


def _open(schema: Any) -> Any:
    """Return the schema for readers. Later releases add members, and values where a member has one of several."""
    if isinstance(schema, list):
        return [_open(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: _open(value) for name, value in schema.items() if name not in ("additionalProperties", "enum", "const")}
    if "const" in schema or "enum" in schema:
        kept["examples"] = schema.get("enum", [schema.get("const")])
    if others := schema.get("additionalProperties"):
        kept["additionalProperties"] = _open(others)
    return kept


def texts() -> dict[str, str]:
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in documents().items()}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*.json"):
        file.unlink()
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
