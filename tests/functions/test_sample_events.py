"""Every event of events/, sent to its function in the real Lambda runtime."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from local.servers import connect
from payments import __version__
from tests.contract import documents
from tests.lambda_runtime import LambdaRuntime
from tests.servers import Database

EVENTS = Path(__file__).resolve().parents[2] / "events"
Functions = Callable[[str], LambdaRuntime]


def _event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))


def _about(name: str, payment: dict[str, Any]) -> Any:
    """Return the event with the ids of a real payment instead of the placeholders."""
    text = (EVENTS / f"{name}.json").read_text(encoding="utf-8")
    text = text.replace("txn_replace_me", payment["transaction_id"])
    return json.loads(text.replace("019c0000-0000-7000-8000-000000000000", payment["payment_id"]))


def _pay(functions: Functions, token: str = "tok_ok", capture_method: str = "automatic") -> Any:
    """Pay a new order over HTTP."""
    event = _event("process_approved")
    del event["headers"]["idempotency-key"]
    amount = {"automatic": 1999, "manual": 12900}[capture_method]
    changed = {"order_id": str(uuid4()), "amount": amount, "payment_token": token, "capture_method": capture_method}
    event["body"] = json.dumps(json.loads(event["body"]) | changed)
    return json.loads(functions("process").invoke(event).payload["body"])


def _pay_directly(functions: Functions, capture_method: str = "automatic") -> Any:
    event = _event("direct_process") | {"order_id": str(uuid4()), "capture_method": capture_method}
    return functions("process").invoke(event).payload["body"]


Payment = Callable[[Functions], Any]
paid: Payment = _pay
held: Payment = lambda functions: _pay(functions, capture_method="manual")  # noqa: E731
will_lose_the_reply: Payment = lambda functions: _pay(functions, "tok_refund_timeout")  # noqa: E731
directly_paid: Payment = _pay_directly
directly_held: Payment = lambda functions: _pay_directly(functions, "manual")  # noqa: E731


@dataclass(frozen=True)
class Http:
    function: str
    status: int
    members: dict[str, object] = field(default_factory=dict)
    """Members that the answer's body must have."""
    about: Payment | None = None


@dataclass(frozen=True)
class Direct:
    function: str
    kind: str
    outcome: str
    status: int
    members: dict[str, object] = field(default_factory=dict)
    about: Payment | None = None


@dataclass(frozen=True)
class Scheduled:
    function: str
    members: set[str]


CASES: dict[str, Http | Direct | Scheduled] = {
    "process_approved": Http("process", 201, {"status": "CAPTURED", "amount": 1999, "order_id": "order-1001"}),
    "process_declined": Http("process", 402, {"code": "payment_declined", "decline_code": "insufficient_funds"}),
    "process_manual": Http("process", 201, {"status": "AUTHORIZED", "amount_captured": 0}),
    "process_jpy": Http("process", 201, {"status": "CAPTURED", "currency": "JPY", "order_id": "注文-1004"}),
    "process_unknown": Http("process", 202, {"status": "PROCESSING", "transaction_id": None}),
    "process_invalid": Http("process", 422, {"code": "invalid_request"}),
    "process_card_number": Http("process", 422, {"code": "card_data_not_accepted"}),
    "capture": Http("process", 200, {"status": "CAPTURED", "amount_captured": 9900}, held),
    "void": Http("process", 200, {"status": "VOIDED", "amount_captured": 0}, held),
    "refund_full": Http("refund", 201, {"status": "SUCCEEDED", "amount": 1999, "payment_status": "REFUNDED"}, paid),
    "refund_partial": Http("refund", 201, {"amount": 500, "payment_status": "PARTIALLY_REFUNDED"}, paid),
    "refund_unknown": Http("refund", 202, {"status": "PENDING", "payment_status": "CAPTURED"}, will_lose_the_reply),
    "lookup_by_id": Http("lookups", 200, {"status": "CAPTURED", "refunds": []}, paid),
    "lookup_by_order": Http("lookups", 200, {"order_id": "order-1001"}),
    "lookup_by_transaction": Http("lookups", 200, {"status": "CAPTURED"}, paid),
    "lookup_history": Http("lookups", 200, {}, paid),
    "lookup_list": Http("lookups", 200, {"has_more": False}),
    "health": Http("lookups", 200, {"status": "ok", "version": __version__}),
    "health_deep": Http("lookups", 200, {"status": "ok"}),
    "direct_process": Direct("process", "process", "succeeded", 201, {"status": "CAPTURED", "order_id": "order-2001"}),
    "direct_process_declined": Direct("process", "process", "declined", 402, {"decline_code": "generic_decline"}),
    "direct_capture": Direct("process", "capture", "succeeded", 200, {"status": "CAPTURED"}, directly_held),
    "direct_void": Direct("process", "void", "succeeded", 200, {"status": "VOIDED"}, directly_held),
    "direct_refund": Direct("refund", "refund", "succeeded", 201, {"amount": 500}, directly_paid),
    "direct_refund_without_key": Direct("refund", "refund", "refused", 422, {"code": "invalid_request"}, directly_paid),
    "relay_schedule": Scheduled("relay", {"published", "unpublished", "lag_s"}),
    "relay_replay": Scheduled("relay", {"replayed", "resume_at"}),
    "reconcile_schedule": Scheduled("reconcile", {"settled", "unknown", "expired", "exhausted", "oldest_unknown_s"}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_sample_event_is_answered_as_the_readme_says(name: str, functions: Functions) -> None:
    case = CASES[name]
    if name == "lookup_by_order":
        functions("process").invoke(_event("process_approved"))
    about = None if isinstance(case, Scheduled) else case.about
    event = _about(name, about(functions)) if about else _event(name)
    invocation = functions(case.function).invoke(event)
    assert not invocation.function_error, invocation.payload
    answer = invocation.payload
    match case:
        case Http():
            http = event["requestContext"]["http"]
            body = json.loads(answer["body"])
            documents.check_answer(http["method"], http["path"], answer["statusCode"], answer["headers"], body)
            assert (answer["statusCode"], body | case.members) == (case.status, body)
        case Direct():
            documents.check_direct_answer(case.kind, answer)
            assert (answer["outcome"], answer["status"]) == (case.outcome, case.status)
            assert answer["body"] | case.members == answer["body"]
        case Scheduled():
            assert answer.keys() == case.members


WITH_A_PLACEHOLDER = [name for name, case in CASES.items() if not isinstance(case, Scheduled) and case.about]


@pytest.mark.parametrize("name", WITH_A_PLACEHOLDER)
def test_an_event_whose_payment_is_missing_is_answered_clearly(name: str, functions: Functions) -> None:
    answer = functions(CASES[name].function).invoke(_event(name)).payload
    body = json.loads(answer["body"]) if "statusCode" in answer else answer["body"]
    assert body["code"] == ("payment_not_found" if name != "direct_refund_without_key" else "invalid_request")


def test_an_approved_payment_is_answered_again_and_not_made_again(functions: Functions) -> None:
    first, again = (functions("process").invoke(_event("process_approved")).payload for _ in range(2))
    assert again["headers"]["idempotent-replayed"] == "true"
    assert json.loads(first["body"])["payment_id"] == json.loads(again["body"])["payment_id"]


def test_reconcile_finds_out_what_became_of_the_unknown_payment(functions: Functions, runtime_database: Database) -> None:
    unknown = json.loads(functions("process").invoke(_event("process_unknown")).payload["body"])
    _run(runtime_database, "UPDATE operations SET next_attempt_at = now() WHERE outcome IS NULL")
    assert functions("reconcile").invoke(_event("reconcile_schedule")).payload["settled"] >= 1
    event = _about("lookup_by_id", unknown | {"transaction_id": ""})
    found = json.loads(functions("lookups").invoke(event).payload["body"])
    assert found["status"] == "CAPTURED"


def test_relay_publishes_what_invocations_left_behind(functions: Functions, runtime_database: Database) -> None:
    payment = _pay(functions)
    _run(
        runtime_database,
        "UPDATE outbox SET published_at = NULL, lease_until = now() WHERE payment_id = :id",
        id=payment["payment_id"],
    )
    relayed = functions("relay").invoke(_event("relay_schedule")).payload
    assert (relayed["published"], relayed["unpublished"]) == (1, 0)
    assert functions("relay").invoke(_event("relay_schedule")).payload["published"] == 0
    replayed = functions("relay").invoke(_event("relay_replay")).payload
    assert replayed["replayed"] >= 1
    assert replayed["resume_at"] is None


def _run(database: Database, sql: str, **values: object) -> None:
    with contextlib.closing(connect(database.owner_url)) as connection:
        connection.run(sql, **values)


def test_the_readme_tells_every_event_and_its_function() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+)Function \|", (EVENTS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: function.lower() for name, function in rows} == {name: case.function for name, case in CASES.items()}
    assert {path.stem for path in EVENTS.glob("*.json")} == CASES.keys()
