"""Checks real answers and messages against docs/openapi.json, docs/asyncapi.yaml and docs/schemas/, with jsonschema.

Answers are also checked with the pydantic models, which know formats better.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from contract import asyncapi as events
from contract import schemas
from contract.openapi import OPERATIONS, operation_id

ANSWERS = {operation_id(id_): operation.answers for id_, operation in OPERATIONS.items()}

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROBLEM = "application/problem+json"

FORMATS = FormatChecker()


@FORMATS.checks("date-time", raises=ValueError)
def _is_rfc3339(value: object) -> bool:
    return not isinstance(value, str) or (value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None)


@cache
def openapi() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
    return document


@cache
def asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))
    return document


@cache
def published(uri: str) -> Draft202012Validator:
    """Return a validator of the schema of this name. Nothing but its file is at hand."""
    file = DOCS / "schemas" / f"{uri.removeprefix('urn:payments:schema:').replace(':', '.')}.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    assert schema["$id"] == uri
    return Draft202012Validator(schema, registry=Registry(), format_checker=FORMATS)


def validator(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Draft202012Validator:
    """Return a validator of a schema whose references point into the document."""
    resource: Resource[Any] = DRAFT202012.create_resource(document)
    absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
    return Draft202012Validator(absolute, registry=Registry().with_resource("urn:document", resource), format_checker=FORMATS)


def resolve(document: Mapping[str, Any], node: Any) -> Any:
    """Return the node, or the target of its reference."""
    while isinstance(node, dict) and "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of every operation."""
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _pattern(path: str) -> str:
    """API Gateway decodes paths, so an order id may hold slashes. No other route lies below it."""
    return re.sub(r"\{\w+\}", "[^/]+", re.sub(r"\{(order|transaction)_id\}", ".+", path))


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """Return the operation of a request, None when there is none."""
    for known_method, known_path, operation in operations():
        if known_method == method and re.fullmatch(_pattern(known_path), path, re.DOTALL):
            return operation
    return None


def check_answer(method: str, path: str, status: int, headers: Mapping[str, str], body: Any) -> None:
    """Fail unless the document promises this answer: its status, its content type, its body and its headers."""
    operation = operation_of(method, path)
    if operation is None:
        assert (status, body) == (404, {"message": "Not Found"})
        return
    assert str(status) in operation["responses"], f"{method} {path} answers {status}, which is not documented: {body}"
    response = operation["responses"][str(status)]
    if "content" not in response:
        assert body is None
        return
    media_type = headers["content-type"]
    assert media_type in response["content"], f"{media_type} is not documented for {status}"
    validator(openapi(), response["content"][media_type]["schema"]).validate(body)
    for name in ("idempotent-replayed", "retry-after", "location"):
        documented = name.title() in response["headers"]
        assert documented or name not in headers, f"{name} is not documented for {status}"
    if media_type == PROBLEM:
        schemas.Problem.model_validate(body)
        assert body["status"] == status
        assert body["code"] in response["content"][PROBLEM]["examples"], f"{body['code']} is not documented for {method} {path}"
    else:
        model, _ = ANSWERS[operation["operationId"]][status]
        assert model
        model.model_validate(body)


def check_direct_answer(kind: str, answer: Mapping[str, Any]) -> None:
    """Fail unless a direct invocation's answer is that of HTTP in the envelope of direct invocations."""
    assert answer.keys() == {"outcome", "status", "replayed", "body"}
    assert answer["outcome"] in {"succeeded", "declined", "unknown", "refused"}
    headers = {"content-type": PROBLEM if answer["status"] >= 400 else "application/json"}
    check_answer("POST", f"/api/v1/payments/{kind}", answer["status"], headers, answer["body"])
    published(f"urn:payments:schema:direct.{kind}.outcome:1").validate(answer)


def check_message(headers: Mapping[str, str], value: Any) -> None:
    """Fail unless the document promises this message of the topic."""
    named = {message["name"]: message for message in asyncapi()["components"]["messages"].values()}
    message = named[headers["ce_type"]]
    validator(asyncapi(), message["headers"]).validate(headers)
    validator(asyncapi(), message["payload"]).validate(value)
    events.MODELS.get(headers["ce_type"], schemas.Payment).model_validate(value)
    assert headers.keys() <= message["headers"]["properties"].keys()
    published(headers["ce_dataschema"]).validate(value)
