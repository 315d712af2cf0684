"""PUBLISH_AFTER_ANSWER in the real Lambda runtime: the function answers, then an internal extension publishes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from local.servers import connect
from tests.api_client import EVERYTHING, http_event
from tests.lambda_runtime import LambdaRuntime
from tests.servers import Broker, Database
from tests.topic import messages

Start = Callable[..., LambdaRuntime]

ON = {"PUBLISH_AFTER_ANSWER": "On"}
REGISTERED = "Internal agent after-answer"
ANSWERED = "INVOKE RTDONE"
"""The emulator writes this when the runtime has posted its answer and asks for the next event. It keeps the caller waiting until
the extension asks for it too, which Lambda does not."""
NOBODY_LISTENS = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}
NOT_PUBLISHED = "the broker did not acknowledge"


def _order() -> dict[str, Any]:
    return {"order_id": str(uuid4()), "amount": 1999, "currency": "USD", "payment_method": "paypal", "payment_token": "tok_ok"}


def _paid(function: LambdaRuntime) -> tuple[str, str]:
    """Pay by direct invocation. Return the payment and what was logged."""
    invocation = function.invoke(_order())
    assert not invocation.function_error, invocation.payload
    assert invocation.payload["outcome"] == "succeeded"
    return invocation.payload["body"]["payment_id"], invocation.logs


def _is_marked(database: Database, payment_id: str) -> bool:
    with contextlib.closing(connect(database.owner_url)) as connection:
        rows = connection.run("SELECT published_at IS NOT NULL FROM outbox WHERE payment_id = CAST(:id AS uuid)", id=payment_id)
    assert len(rows) == 1
    return bool(rows[0][0])


@pytest.mark.parametrize(("setting", "waits"), [({}, True), (ON, False)])
def test_the_answer_waits_for_the_broker_unless_events_are_published_after_it(
    setting: dict[str, str], waits: bool, start: Start, runtime_database: Database
) -> None:
    payment_id, logs = _paid(start("process", NOBODY_LISTENS | setting))
    assert (REGISTERED not in logs) is waits
    assert (logs.index(NOT_PUBLISHED) < logs.index(ANSWERED)) is waits, logs
    assert not _is_marked(runtime_database, payment_id)


def test_each_invocation_publishes_and_marks_its_event_before_the_next_one_begins(
    start: Start, runtime_database: Database, broker: Broker, runtime_topic: str
) -> None:
    function = start("process", ON)
    payments = []
    for _ in range(3):
        payment_id, _ = _paid(function)
        while not _is_marked(runtime_database, payment_id):  # It was sent, and nobody waited for the database.
            pass
        payments.append(payment_id)
    told = [message.key for message in messages(broker.bootstrap_servers, runtime_topic) if message.key in payments]
    assert sorted(told) == sorted(payments)


def test_an_invocation_that_raises_or_moves_no_money_does_not_hold_the_extension_up(start: Start) -> None:
    function = start("process", ON)
    for _ in range(2):
        failed = function.invoke(_order(), "live")
        assert failed.payload["errorType"] == "InvocationFailed", failed.payload
    refused = function.invoke(http_event("POST", "/api/v1/payments/process", {}, claims={"sub": "s", "scope": EVERYTHING}))
    assert refused.payload["statusCode"] == 422
    paid = function.invoke(http_event("POST", "/api/v1/payments/process", _order(), claims={"sub": "s", "scope": EVERYTHING}))
    assert paid.payload["statusCode"] == 201


def test_without_an_extension_the_answer_waits_for_the_broker(start: Start, runtime_database: Database) -> None:
    function = start("process", ON, before="late")
    payment_id, logs = _paid(function)
    assert "Lambda took no extension (403)" in logs
    assert _is_marked(runtime_database, payment_id)
    assert _is_marked(runtime_database, _paid(function)[0])
