"""Every event of events/, in the order of its README, as it is, sent to its function in the real Lambda runtime."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from local.servers import connect
from payments import __version__
from tests.contract import documents
from tests.lambda_runtime import LambdaRuntime
from tests.sample_events import EVENTS, Row, body_of, check, rows
from tests.servers import Broker, Database, Postgres
from tests.topic import messages

ROWS = rows()
NAMES = [row.name for row in ROWS]
BY_NAME = {row.name: row for row in ROWS}
Start = Callable[..., LambdaRuntime]

MEMBERS: dict[str, dict[str, object]] = {
    "process_approved": {"amount": 1999, "order_id": "order-1001"},
    "process_manual": {"amount_captured": 0},
    "process_jpy": {"currency": "JPY", "order_id": "注文-1004"},
    "process_unknown": {"transaction_id": None},
    "capture": {"amount_captured": 9900},
    "void": {"amount_captured": 0},
    "refund_partial": {"amount": 500, "amount_refunded": 500},
    "refund_full": {"amount": 1499, "amount_refunded": 1999},
    "refund_declined": {"payment_status": "CAPTURED"},
    "capture_declined": {"payment_status": "AUTHORIZED"},
    "lookup_by_order": {"order_id": "order-1001", "amount_refunded": 1999},
    "lookup_list": {"has_more": False},
    "lookup_list_of_customer": {"has_more": False},
    "health": {"status": "ok", "version": __version__},
    "health_deep": {"status": "ok"},
    "direct_process": {"order_id": "order-2001"},
    "direct_refund": {"amount": 500},
    "direct_capture": {"order_id": "order-2003", "amount_captured": 12900},
}
"""What the answer's body holds beyond what the table tells, the first time."""


class Stack:
    """The functions on a database and a topic that are empty at first."""

    def __init__(self, start: Start, database: Database, broker: Broker) -> None:
        self.database, self.broker, self.topic = database, broker, broker.new_topic()
        self._start, self._running = start, dict[str, LambdaRuntime]()

    def invoke(self, row: Row, event: Any = None) -> Any:
        if row.function not in self._running:
            # On a busy machine the events take longer than 30 s, and reconcile would be due before its turn.
            variables = {"DATABASE_URL": self.database.service_url, "KAFKA_TOPIC": self.topic, "RETRY_SCHEDULE_S": "3600"}
            if row.function == "gateway_events":
                variables["GATEWAY"] = "simulated"
            if row.function == "webhooks":
                variables["WEBHOOKS_LOCAL"] = "On"  # a test has no name on the internet
            self._running[row.function] = self._start(row.function, variables)
        invocation = self._running[row.function].invoke(row.event if event is None else event)
        assert not invocation.function_error, invocation.payload
        return invocation.payload

    def query(self, sql: str) -> Any:
        with contextlib.closing(connect(self.database.owner_url)) as connection:
            return connection.run(sql)

    def owed(self) -> Counter[str]:
        return Counter(type_ for (type_,) in self.query("SELECT type FROM outbox"))


Sent = dict[str, tuple[Any, Counter[str]]]
"""By the event's name: the answer, and the events that the outbox got with it."""


def send_all(stack: Stack) -> Sent:
    sent = {}
    for row in ROWS:
        before = stack.owed()
        answer = stack.invoke(row)
        sent[row.name] = (answer, stack.owed() - before)
    return sent


@pytest.fixture(scope="module")
def stack(start: Start, postgres: Postgres, broker: Broker) -> Stack:
    return Stack(start, postgres.new_database(), broker)


@pytest.fixture(scope="module")
def first(stack: Stack) -> Sent:
    return send_all(stack)


@pytest.fixture(scope="module")
def settled(stack: Stack, first: Sent) -> int:
    """The number of operations that reconcile has settled when the retries are due."""
    stack.query("UPDATE operations SET next_attempt_at = now() WHERE outcome IS NULL")
    return int(first["reconcile_schedule"][0]["settled"] + stack.invoke(BY_NAME["reconcile_schedule"])["settled"])


@pytest.fixture(scope="module")
def second(stack: Stack, settled: int) -> Sent:
    return send_all(stack)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_event_is_answered_as_the_readme_says(name: str, first: Sent) -> None:
    row, (answer, owed) = BY_NAME[name], first[name]
    check(row, row.answer, answer)
    if name in MEMBERS:
        assert (body_of(answer) if "statusCode" in answer else answer["body"]).items() >= MEMBERS[name].items()
    assert owed == Counter([row.topic] if row.topic else [])


def test_reconcile_settles_the_three_open_outcomes_when_they_are_due(settled: int) -> None:
    assert settled == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_event_is_answered_again_as_the_readme_says(name: str, second: Sent) -> None:
    row, (answer, owed) = BY_NAME[name], second[name]
    check(row, row.again, answer)
    assert owed == Counter(), "it was carried out again"


def test_the_topic_gets_all_events_as_the_document_promises_them(stack: Stack, second: Sent) -> None:
    told = {}
    for message in messages(stack.broker.bootstrap_servers, stack.topic):
        documents.check_message(message.headers, message.value)
        told[message.headers["ce_id"]] = message.headers["ce_type"]
    assert Counter(told.values()) == stack.owed()
    assert stack.owed() == Counter([row.topic for row in ROWS if row.topic] + 2 * ["payment.successful"] + ["payment.refunded"])
    assert second["relay_replay"][0] == {"replayed": len(told), "resume_at": None}


@pytest.mark.parametrize("name", ["lookup_by_id", "lookup_by_transaction", "lookup_history", "lookup_refunds"])
def test_a_look_up_finds_a_payment_by_an_id_that_another_answer_shows(name: str, stack: Stack, first: Sent) -> None:
    shown = body_of(first["lookup_by_order"][0])
    text = json.dumps(BY_NAME[name].event).replace("txn_000000000000000000000000", shown["transaction_id"])
    event = json.loads(text.replace("00000000-0000-0000-0000-000000000000", shown["payment_id"]))
    answer = stack.invoke(BY_NAME[name], event)
    body = body_of(answer)
    documents.check_answer("GET", event["rawPath"], answer["statusCode"], answer["headers"], body)
    if name == "lookup_history":
        assert [entry["to"] for entry in body["data"]][-2:] == ["PARTIALLY_REFUNDED", "REFUNDED"]
    elif name == "lookup_refunds":
        assert body["data"] == shown["refunds"] != []
    else:
        assert body == shown


def test_a_refund_is_found_by_an_id_that_its_payment_shows(stack: Stack, first: Sent) -> None:
    refund = body_of(first["lookup_by_order"][0])["refunds"][0]
    text = json.dumps(BY_NAME["lookup_refund"].event).replace("00000000-0000-0000-0000-000000000000", refund["refund_id"])
    answer = stack.invoke(BY_NAME["lookup_refund"], json.loads(text))
    assert (answer["statusCode"], body_of(answer)) == (200, refund)


def test_the_list_of_a_customer_holds_its_payment(first: Sent) -> None:
    assert [payment["order_id"] for payment in body_of(first["lookup_list_of_customer"][0])["data"]] == ["order-1001"]


def test_the_events_of_webhooks_work_with_an_address_and_an_id_of_yours(stack: Stack, second: Sent) -> None:
    def sent(name: str, of: str = "", address: str = "https://shop.example/") -> Any:
        text = json.dumps(BY_NAME[name].event).replace("00000000-0000-0000-0000-000000000000", of)
        answer = stack.invoke(BY_NAME[name], json.loads(text.replace("https://shop.example/", address)))
        path = BY_NAME[name].event["rawPath"]
        body = body_of(answer) if answer["body"] else None
        documents.check_answer(
            BY_NAME[name].event["requestContext"]["http"]["method"], path, answer["statusCode"], answer["headers"], body
        )
        return answer["statusCode"], body

    status, made = sent("webhook_register", address="http://127.0.0.1:9/")
    assert (status, made["event_types"]) == (201, ["payment.successful", "payment.refunded"])
    webhook = {name: value for name, value in made.items() if name != "secret"}
    assert sent("webhook_list") == (200, {"data": [webhook]})
    assert sent("webhook_by_id", made["webhook_id"]) == (200, webhook)
    status, rotated = sent("webhook_rotate", made["webhook_id"])
    assert (status, rotated["secret"] != made["secret"]) == (200, True)
    assert sent("webhook_enable", made["webhook_id"])[0] == 200
    [[told]] = stack.query(
        "SELECT count(*) FROM outbox JOIN payments USING (payment_id) JOIN webhooks USING (owner) WHERE type = ANY (event_types)"
    )
    assert sent("webhook_redeliver", made["webhook_id"]) == (202, {"events": told, "resume_at": None})
    assert sent("webhook_by_id", made["webhook_id"])[1]["waiting"] == told > 0
    assert sent("webhook_delete", made["webhook_id"]) == (204, None)
    assert sent("webhook_list") == (200, {"data": []})


def test_relay_publishes_what_invocations_left_behind(stack: Stack, second: Sent) -> None:
    row = BY_NAME["process_approved"]
    event = row.event
    del event["headers"]["idempotency-key"]
    event["body"] = json.dumps(json.loads(event["body"]) | {"order_id": str(uuid4())})
    payment_id = body_of(stack.invoke(row, event))["payment_id"]
    while not stack.query(f"SELECT FROM outbox WHERE payment_id = '{payment_id}' AND published_at IS NOT NULL"):
        pass  # Nobody waits for the mark.
    stack.query(f"UPDATE outbox SET published_at = NULL, lease_until = now() WHERE payment_id = '{payment_id}'")
    relayed = stack.invoke(BY_NAME["relay_schedule"])
    assert (relayed["published"], relayed["unpublished"]) == (1, 0)
    assert stack.invoke(BY_NAME["relay_schedule"])["published"] == 0


def test_the_readme_tells_every_event_once() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in EVENTS.glob("*.json"))


def test_every_sample_event_has_a_key_of_its_own() -> None:
    keys = [
        event.get("idempotency_key") or event.get("headers", {}).get("idempotency-key") for event in (row.event for row in ROWS)
    ]
    named = [key for key in keys if key]
    assert len(named) == len(set(named)) > 0
