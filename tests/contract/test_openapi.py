"""docs/openapi.json is up to date and valid, and so are its examples."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis

from contract import openapi
from contract.examples import PROBLEMS
from payments.api.bodies import validate
from tests.cases import case
from tests.contract.documents import PROBLEM, operations, resolve, validator
from tests.contract.documents import openapi as document


def test_the_document_is_up_to_date() -> None:
    assert openapi.DOCUMENT.read_text(encoding="utf-8") == openapi.text(), "run `make openapi`"


def test_the_document_is_valid_openapi() -> None:
    assert document()["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(copy.deepcopy(document())).validate()


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
        for part in node.values():
            yield from _references(part)
    elif isinstance(node, list):
        for part in node:
            yield from _references(part)


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    used = set(_references(document()))
    for reference in used:
        assert resolve(document(), {"$ref": reference}), reference
    components = {f"#/components/{kind}/{name}" for kind, named in document()["components"].items() for name in named}
    assert components - used == {"#/components/securitySchemes/jwt"}


def test_every_schema_is_a_json_schema() -> None:
    for name, schema in document()["components"]["schemas"].items():
        with case(name):
            jsonschema.Draft202012Validator.check_schema(schema)


def _contents() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield operation id, status or "request", media type, and the schema with its examples."""
    for _, _, operation in operations():
        places = {"request": operation.get("requestBody", {})} | operation["responses"]
        for place, described in places.items():
            for media_type, content in described.get("content", {}).items():
                yield operation["operationId"], place, media_type, content


CONTENTS = list(_contents())


@pytest.mark.parametrize("id_", [operation["operationId"] for *_, operation in operations()])
def test_there_are_examples_and_they_are_valid(id_: str) -> None:
    for place, media_type, content in [each[1:] for each in CONTENTS if each[0] == id_]:
        with case(place, media_type):
            assert content["examples"]
            check = validator(document(), content["schema"])
            for name, example in content["examples"].items():
                with case(name):
                    value = resolve(document(), example)["value"]
                    check.validate(value)
                    if media_type == PROBLEM:
                        assert (value["code"], str(value["status"])) == (name, place)
                    if place == "request":
                        validate(openapi.BODIES[id_], value)


def test_every_problem_code_has_an_example_where_it_can_occur() -> None:
    shown = {name for _, _, media_type, content in CONTENTS if media_type == PROBLEM for name in content["examples"]}
    assert shown == PROBLEMS.keys() == set(document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"])


def test_every_parameters_example_is_valid() -> None:
    parameters = [parameter for _, _, operation in operations() for parameter in operation.get("parameters", [])]
    assert {parameter["in"] for parameter in parameters} == {"path", "query", "header"}
    for parameter in parameters:
        if "example" in parameter:
            validator(document(), parameter["schema"]).validate(parameter["example"])


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ("ProcessRequest", {"amount": 0}),
        ("ProcessRequest", {"amount": 10**12}),
        ("ProcessRequest", {"amount": 19.99}),
        ("ProcessRequest", {"amount": "1999"}),
        ("ProcessRequest", {"currency": "XXX"}),
        ("ProcessRequest", {"order_id": ""}),
        ("ProcessRequest", {"order_id": "a\nb"}),
        ("ProcessRequest", {"order_id": "a\0"}),
        ("ProcessRequest", {"metadata": {"k": 1}}),
        ("ProcessRequest", {"metadata": {"a\nb": "v"}}),
        ("ProcessRequest", {"metadata": {"k" * 41: "v"}}),
        ("ProcessRequest", {"tip": 1}),
        ("RefundRequest", {"amount": 0}),
        ("CaptureRequest", {"amount": -1}),
        ("VoidRequest", {"reason": ""}),
        ("Payment", {"created_at": "yesterday"}),
        ("Payment", {"payment_id": "1"}),
        ("Payment", {"owner": "shop"}),
        ("Problem", {"code": "no_such_code"}),
        ("Problem", {"payment_id": None}),
    ],
)
def test_what_the_service_refuses_or_never_says_is_against_the_schema(schema: str, wrong: dict[str, Any]) -> None:
    examples = document()["components"]["examples"]
    good = {
        "ProcessRequest": examples["process.automatic"],
        "RefundRequest": examples["refund.part"],
        "CaptureRequest": examples["capture.part"],
        "VoidRequest": examples["void.void"],
        "Payment": examples["process.201.captured"],
        "Problem": examples["problem.payment_declined"],
    }[schema]["value"]
    check = validator(document(), {"$ref": f"#/components/schemas/{schema}"})
    check.validate(good)
    with pytest.raises(jsonschema.ValidationError):
        check.validate(good | wrong)
