"""The modules that a function has imported after an invocation: a direct one needs no FastAPI, a look-up no Kafka."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.api_client import EVERYTHING, http_event
from tests.lambda_runtime import LambdaRuntime

Start = Callable[..., LambdaRuntime]

HTTP = {"fastapi", "starlette"}
NEVER = {"boto3", "botocore.session", "sqlalchemy", "requests", "yaml", "local", "tests"}
ORDER = {"amount": 1999, "currency": "USD", "payment_method": "paypal", "payment_token": "tok_ok"}
CLAIMS = {"sub": "shop", "scope": EVERYTHING}


def _modules(function: LambdaRuntime, event: object) -> set[str]:
    invocation = function.invoke(event)
    assert not invocation.function_error, invocation.payload
    return set(invocation.payload["modules"])


@pytest.mark.parametrize("name", ["process", "refund"])
def test_a_direct_invocation_does_not_import_fastapi(name: str, start: Start) -> None:
    function = start(name, before="probe")
    directly: dict[str, Any] = {
        "process": ORDER | {"order_id": str(uuid4())},
        "refund": {"transaction_id": "txn_of_nobody", "idempotency_key": "k"},
    }
    after_direct = _modules(function, directly[name])
    assert not after_direct & (HTTP | NEVER)
    after_http = _modules(function, http_event("POST", f"/api/v1/payments/{name}", json.dumps(directly[name]), claims=CLAIMS))
    assert after_http >= HTTP
    assert not after_http & NEVER


@pytest.mark.parametrize("name", ["relay", "reconcile"])
def test_a_scheduled_function_does_not_import_fastapi(name: str, start: Start) -> None:
    assert not _modules(start(name, before="probe"), {}) & (HTTP | NEVER)


def test_the_relay_imports_no_command_and_no_pydantic(start: Start) -> None:
    modules = _modules(start("relay", before="probe"), {})
    assert "payments.scheduled.relay" in modules
    assert not modules & {"pydantic", "payments.commands.catalog", "payments.scheduled.reconcile"}


def test_a_look_up_does_not_import_kafka(start: Start) -> None:
    function = start("lookups", before="probe")
    modules = _modules(function, http_event("GET", "/api/v1/payments", claims=CLAIMS))
    assert modules >= HTTP
    assert not modules & (NEVER | {"kafka"})
    assert "kafka" in _modules(function, http_event("GET", "/health", query="deep=true", claims=None))
