"""docs/openapi.json is up to date and valid, and so are its examples."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

import jsonschema
import pytest
import schemathesis
from pydantic import BaseModel

from contract import openapi, schemas
from contract.examples import MESSAGES, PROBLEMS
from contract.openapi import OPERATIONS, operation_id
from contract.words import DECLINES, MEMBERS, OF_FIELDS, SCENARIOS, VOCABULARIES
from payments.api.bodies import validate
from payments.commands.catalog import COMMANDS
from payments.commands.process import ProcessRequest
from payments.domain.declines import ADVICE_CODES, KNOWN_DECLINES
from payments.domain.payment import PaymentStatus
from payments.domain.refund import RefundStatus
from payments.gateway.simulated_scenarios import SCENARIO_TOKENS
from tests.cases import case
from tests.contract.documents import PROBLEM, asyncapi, operations, resolve, validator
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
    names = ("AdviceCode", "DeclineCode", "DisputeOutcome", "ErrorCode", "NextActionType", "RefundOrigin", "RefundStatus")
    constants = {f"#/components/schemas/{name}" for name in names}
    assert components - used == {"#/components/securitySchemes/jwt"} | constants


def _enumerations(node: Any) -> Iterator[list[Any]]:
    for name, part in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from [part] if name in ("enum", "x-extensible-enum") else _enumerations(part)


def test_no_enumeration_has_a_value_twice() -> None:
    found = list(_enumerations(document()))
    assert len(found) > 20
    assert [values for values in found if len(set(values)) < len(values)] == []


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
                        [body] = [body for kind, body in openapi.BODIES.items() if operation_id(kind) == id_]
                        validate(body, value)


def test_every_problem_code_has_an_example_where_it_can_occur() -> None:
    shown = {name for _, _, media_type, content in CONTENTS if media_type == PROBLEM for name in content["examples"]}
    assert shown == PROBLEMS.keys() == set(document()["components"]["schemas"]["ErrorCode"]["enum"])


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
        ("Problem", {"payment_id": None}),
        ("CaptureRequest", {"payment_id": "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1"}),
        ("VoidRequest", {"order_id": "order-1001", "payment_id": "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1"}),
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


@pytest.mark.parametrize("schema", ["CaptureRequest", "RefundRequest", "VoidRequest"])
def test_a_request_on_a_payment_names_it_exactly_once(schema: str) -> None:
    check = validator(document(), {"$ref": f"#/components/schemas/{schema}"})
    names = ("transaction_id", "payment_id", "order_id")
    for bits in itertools.product((False, True), repeat=3):
        request = {name: "x" for name, is_there in zip(names, bits, strict=True) if is_there}
        with case(request):
            assert check.is_valid(request) is (sum(bits) == 1)


def _properties(node: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every member that a schema of the document describes, with its place."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield from ((f"{where}/{name}", schema) for name, schema in node["properties"].items())
        for name, part in node.items():
            yield from () if name in ("examples", "example") else _properties(part, f"{where}/{name}")
    elif isinstance(node, list):
        for number, part in enumerate(node):
            yield from _properties(part, f"{where}/{number}")


@pytest.mark.parametrize("which", [document, asyncapi], ids=["OpenAPI", "AsyncAPI"])
def test_every_member_has_a_description(which: Callable[[], dict[str, Any]]) -> None:
    members = list(_properties(which()))
    assert len(members) > 100
    assert [where for where, schema in members if not schema.get("description")] == []


def test_every_operation_parameter_header_answer_and_schema_has_a_description() -> None:
    described = [(f"{method} {path}", operation) for method, path, operation in operations()]
    for where, operation in tuple(described):
        described += [(f"{where} {parameter['name']}", parameter) for parameter in operation.get("parameters", ())]
        described += [(f"{where} {status}", response) for status, response in operation["responses"].items()]
    for kind in ("schemas", "headers", "securitySchemes"):
        described += [(f"{kind} {name}", each) for name, each in document()["components"][kind].items()]
    assert [where for where, each in described if not each.get("description")] == []


def test_no_description_is_left_over() -> None:
    """Each entry of the words is that of a member, and each vocabulary has its member."""
    models = {model for model in (*vars(schemas).values(), *openapi.BODIES.values()) if isinstance(model, type)}
    fields = {
        f"{base.__name__}.{field.alias or name}"
        for model in models
        if issubclass(model, BaseModel)
        for name, field in model.model_fields.items()
        for base in model.__mro__
    }
    names = fields | {field.partition(".")[2] for field in fields}
    assert MEMBERS.keys() - names == set()
    assert OF_FIELDS.keys() - names == {"ListQuery.status", "ListQuery.payment_method"}


def _schemas_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for name, part in node.items():
            yield from () if name in ("examples", "example") else _schemas_in(part)
    elif isinstance(node, list):
        for part in node:
            yield from _schemas_in(part)


@pytest.mark.parametrize("which", [document, asyncapi], ids=["OpenAPI", "AsyncAPI"])
def test_every_number_has_a_format_that_holds_it(which: Callable[[], dict[str, Any]]) -> None:
    """Without a format, generated Java reads 5,000,000,000 into an int, and gets 705032704."""
    numbers = [schema for schema in _schemas_in(which()) if schema.get("type") in ("integer", "number")]
    assert {schema["format"] for schema in numbers} >= {"int64", "int32"}
    for schema in numbers:
        fits = "int64" if schema.get("maximum", 0) >= 2**31 else "int32"
        assert schema["format"] == ("double" if schema["type"] == "number" else fits)
    amounts = [schema for where, schema in _properties(which()) if "/amount" in where and "/amounts" not in where]
    assert amounts
    assert {(schema["type"], schema["format"]) for schema in amounts} == {("integer", "int64")}


def test_an_optional_member_of_a_request_may_be_left_out_and_has_no_default() -> None:
    """Some generators take a member with a default for one that is always there, and null for another value than its absence."""
    for kind, body in openapi.BODIES.items():
        schema = document()["components"]["schemas"][body.__name__]
        needed = {name for name, field in body.model_fields.items() if field.is_required()}
        assert set(schema.get("required", ())) == needed
        for name, member in schema["properties"].items():
            with case(kind, name):
                assert "default" not in member
                assert "anyOf" not in member
        assert schema["additionalProperties"] is False, "requests are closed"


def _open_parts(schema: Any) -> Iterator[str]:
    for part in _schemas_in(schema):
        if "enum" in part:
            yield f"enum {part['enum']}"
        if part.get("additionalProperties") is False:
            yield "additionalProperties"


def test_answers_are_open_for_new_members_and_new_values() -> None:
    """Generated clients of four languages refuse a value that is not in an `enum`."""
    requests = {body.__name__ for body in openapi.BODIES.values()}
    answers = {
        name: each for name, each in document()["components"]["schemas"].items() if name not in requests | VOCABULARIES.keys()
    }
    assert {name: list(_open_parts(schema)) for name, schema in answers.items() if list(_open_parts(schema))} == {}
    later = {"payment_id": "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1", "status": "DISPUTED", "risk": {"score": 7}}
    payment = document()["components"]["examples"]["process.201.captured"]["value"]
    validator(document(), {"$ref": "#/components/schemas/Payment"}).validate(payment | later)


def test_every_vocabulary_lists_what_the_code_knows() -> None:
    enums = {name: set(document()["components"]["schemas"][name]["enum"]) for name in VOCABULARIES}
    assert enums["DeclineCode"] == KNOWN_DECLINES.keys() == DECLINES.keys()
    assert enums["AdviceCode"] == set(ADVICE_CODES.values())
    assert enums["ErrorCode"] == PROBLEMS.keys()
    assert enums["PaymentStatus"] == set(PaymentStatus)
    assert enums["RefundStatus"] == set(RefundStatus)
    for name, field in (("PaymentMethod", "payment_method"), ("CaptureMethod", "capture_method")):
        assert enums[name] == set(get_args(ProcessRequest.model_fields[field].annotation))


def test_every_enum_of_a_request_has_a_name() -> None:
    """Generators make a type of each enum without a name, such as `ListPaymentsPaymentMethodParameter`."""
    components = document()["components"]["schemas"]
    requests = [components[command.request.__name__] for command in COMMANDS.values()]
    parameters = [parameter["schema"] for _, _, operation in operations() for parameter in operation.get("parameters", ())]
    assert [part["enum"] for schema in (*requests, *parameters) for part in _schemas_in(schema) if "enum" in part] == []


def test_no_two_constants_of_the_enums_have_one_name() -> None:
    """Generated Go has all constants in one scope, and would not compile."""
    schemas_ = document()["components"]["schemas"]
    names = [
        name for vocabulary in VOCABULARIES for name in schemas_[vocabulary].get("x-enum-varnames", schemas_[vocabulary]["enum"])
    ]
    assert len(names) == len({name.upper() for name in names})
    assert schemas_["RefundStatus"]["x-enum-varnames"] == ["REFUND_PENDING", "REFUND_SUCCEEDED", "REFUND_FAILED"]
    # A value that another vocabulary has already would rename all constants of this one, in clients that are generated anew.
    assert {name for name in VOCABULARIES if "x-enum-varnames" in schemas_[name]} == {"RefundStatus"}


def test_the_introduction_has_the_scenario_tokens_and_the_decline_codes() -> None:
    assert SCENARIOS.keys() == SCENARIO_TOKENS
    for word in (*SCENARIO_TOKENS, *KNOWN_DECLINES, *ADVICE_CODES.values()):
        assert f"| `{word}` |" in document()["info"]["description"]


RESERVED = set(
    """
    abstract as assert async await boolean break case catch chan class const continue def default defer del delete do
    double elif else enum except export extends False final finally float for from fun func function global go goto if
    implements import in instanceof int interface is lambda let long map match module native new None nonlocal not null
    object or package pass permits private process protected public raise range record return sealed select short static
    struct super switch this throw throws True try type typealias typeof val var void volatile when while with yield
    """.lower().split()
)


def test_an_operations_name_is_no_reserved_word() -> None:
    """Of Java, TypeScript, Go, Python and Kotlin; `process` is an object that every script of Node.js has."""
    names = [operation["operationId"] for *_, operation in operations()]
    assert sorted(names) == sorted({operation_id(id_) for id_ in OPERATIONS})
    assert {name.lower() for name in names}.isdisjoint(RESERVED)
    assert all(re.fullmatch("[a-z]+([A-Z][a-z]+)*", name) for name in names)


def test_what_api_gateway_answers_by_itself_is_documented_on_each_operation() -> None:
    for method, path, operation in operations():
        with case(method, path):
            expected = (
                {404, 429, 500, 503}
                | ({401, 403} if operation["security"] else set())
                | ({413} if "requestBody" in operation else set())
            )
            for status in expected:
                content = operation["responses"][str(status)]["content"]["application/json"]
                message = {"message": MESSAGES[status]}
                assert message in [resolve(document(), example)["value"] for example in content["examples"].values()]
                validator(document(), content["schema"]).validate(message)


def test_one_schema_fits_all_that_a_status_may_answer() -> None:
    """A generated client reads a status into one model, whatever the content type says."""
    for method, path, operation in operations():
        for status, response in operation["responses"].items():
            with case(method, path, status):
                assert len({content["schema"]["$ref"] for content in response.get("content", {}).values()}) == (status != "204")


def test_each_answer_names_its_headers() -> None:
    for method, path, operation in operations():
        for status, response in operation["responses"].items():
            with case(method, path, status):
                names, is_command = (
                    set(response["headers"]),
                    operation["operationId"] in {operation_id(kind) for kind in COMMANDS},
                )
                assert "Apigw-Requestid" in names
                assert ("Location" in names) is (is_command and status == "202")
                assert ("Idempotent-Replayed" in names) is (is_command and status in ("200", "201", "202", "402"))
                assert status not in ("202", "409") or "Retry-After" in names or not is_command


def test_the_servers_are_this_machine_and_a_deployment() -> None:
    local, deployed = document()["servers"]
    assert local["url"] == "http://127.0.0.1:8001"
    names = set(re.findall(r"\{(\w+)\}", deployed["url"]))
    assert names == deployed["variables"].keys()
    assert all(variable["default"] and variable["description"] for variable in deployed["variables"].values())
