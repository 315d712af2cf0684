"""docs/schemas/ is up to date, each schema stands alone, and what is sent to us and by us matches it.

Real outcomes and events are checked where they are made: tests/contract/documents.py compares each with its schema.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from contract import published
from contract.examples import ANSWERS, EVENTS, PROBLEMS
from payments.broker.kafka import message_of
from payments.commands.catalog import COMMANDS
from tests.cases import case
from tests.contract import documents
from tests.sample_events import EVENTS as SAMPLES
from tests.sample_events import rows

DIRECT = {row.name: row for row in rows() if row.name.startswith("direct_")}
KINDS = {name: row.event.get("operation", row.function) for name, row in DIRECT.items()}


def payload_schema(kind: str) -> jsonschema.Draft202012Validator:
    return documents.published(f"urn:payments:schema:direct.{kind}:1")


def outcome_schema(kind: str) -> jsonschema.Draft202012Validator:
    return documents.published(f"urn:payments:schema:direct.{kind}.outcome:1")


def test_the_files_are_up_to_date() -> None:
    written = {file.name: file.read_text(encoding="utf-8") for file in published.FOLDER.iterdir()}
    assert written == published.texts(), "run `make openapi`"


def test_there_is_one_for_each_type_of_event_and_two_for_each_operation() -> None:
    ids = {schema["$id"] for schema in published.documents().values()}
    direct = {f"urn:payments:schema:direct.{kind}{end}:1" for kind in COMMANDS for end in ("", ".outcome")}
    assert ids == direct | {f"urn:payments:schema:{type_}:1" for type_ in EVENTS}


def test_each_is_a_json_schema_that_stands_alone() -> None:
    for name, schema in published.documents().items():
        with case(name):
            jsonschema.Draft202012Validator.check_schema(schema)
            text = json.dumps(schema)
            assert text.count('"$ref"') == text.count('"$ref": "#/$defs/')
            assert all(f'"#/$defs/{one}"' in text for one in schema.get("$defs", ()))


def test_the_names_of_the_schemas_are_those_that_events_carry() -> None:
    for type_, event in EVENTS.items():
        with case(type_):
            message = message_of(event)
            schema = documents.published(dict(message["headers"])["ce_dataschema"].decode())
            schema.validate(json.loads(message["value"]))
            with pytest.raises(jsonschema.ValidationError):
                schema.validate({})


def test_the_sample_payloads_match_the_schema_of_their_operation_unless_the_service_refuses_them() -> None:
    refused = {name for name, row in DIRECT.items() if row.answer.result == "refused"}
    assert refused == {"direct_refund_without_key"}
    invalid = {name for name, row in DIRECT.items() if not payload_schema(KINDS[name]).is_valid(row.event)}
    assert invalid == refused
    assert set(KINDS.values()) == COMMANDS.keys()
    assert {f"{name}.json" for name in DIRECT} == {file.name for file in SAMPLES.glob("direct_*.json")}


@pytest.mark.parametrize(
    ("sample", "wrong"),
    [
        ("direct_process", {"operation": "capture"}),
        ("direct_process", {"amount": "1999"}),
        ("direct_process", {"idempotency_key": ""}),
        ("direct_process", {"idempotency_key": "two words"}),
        ("direct_process", {"tip": 1}),
        ("direct_capture", {"operation": None}),
        ("direct_capture", {"transaction_id": "txn_1"}),
        ("direct_void", {"idempotency_key": 1}),
        ("direct_refund", {"amount": 0}),
    ],
)
def test_a_payload_that_the_service_refuses_does_not_match(sample: str, wrong: dict[str, Any]) -> None:
    event = DIRECT[sample].event
    payload_schema(KINDS[sample]).validate(event)
    assert not payload_schema(KINDS[sample]).is_valid(event | wrong)


def test_a_payload_needs_what_its_operation_needs() -> None:
    for name, without in (("direct_capture", "operation"), ("direct_void", "idempotency_key"), ("direct_process", "amount")):
        with case(name, without):
            assert not payload_schema(KINDS[name]).is_valid({k: v for k, v in DIRECT[name].event.items() if k != without})


def test_an_outcome_has_the_status_and_the_body_of_its_kind() -> None:
    for kind, command in COMMANDS.items():
        done = next(iter(ANSWERS[kind, command.success_status].values()))
        problem = PROBLEMS[f"{command.noun}_declined"]
        good = {"outcome": "succeeded", "status": command.success_status, "replayed": False, "body": done}
        declined = {"outcome": "declined", "status": 402, "replayed": True, "body": problem}
        with case(kind):
            for fine in (
                good,
                declined,
                good | {"outcome": "unknown", "status": 202},
                declined | {"outcome": "refused", "status": 409},
            ):
                outcome_schema(kind).validate(fine)
            for wrong in ({"status": 500}, {"outcome": "failed"}, {"body": problem}, {"replayed": None}, {"outcome": "declined"}):
                assert not outcome_schema(kind).is_valid(good | wrong), wrong


def test_readers_may_meet_members_and_values_that_the_schemas_do_not_name_and_senders_may_not_send_them() -> None:
    """Later releases add members to what we send. A member that we do not know in what is sent to us may be a slip."""
    paid = json.loads(EVENTS["payment.successful"].data)
    documents.published("urn:payments:schema:payment.successful:1").validate(paid | {"installments": 3, "status": "DISPUTED"})
    problem = PROBLEMS["payment_declined"] | {"code": "unheard_of", "hint": "call us"}
    outcome_schema("process").validate({"outcome": "refused", "status": 422, "replayed": False, "body": problem, "trace": "x"})
    assert not payload_schema("process").is_valid(DIRECT["direct_process"].event | {"installments": 3})
