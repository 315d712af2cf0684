"""docs/asyncapi.yaml is up to date, its examples are valid, and the events that the service sends match it."""

from __future__ import annotations

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import jsonschema
import pydantic
import pytest

from contract import asyncapi
from contract.examples import EVENTS
from payments.api import direct
from payments.broker.kafka import KafkaPublisher, message_of
from payments.commands.service import Deadline, Service
from payments.domain.changes import EVENT_TYPES
from payments.scheduled.reconcile import reconcile
from payments.scheduled.relay import relay
from tests.api_client import Api, Context, order
from tests.contract import documents
from tests.servers import Broker, Database
from tests.shop import Books
from tests.topic import Message, messages

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MESSAGES: dict[str, Any] = documents.asyncapi()["components"]["messages"]


def test_the_document_is_up_to_date() -> None:
    assert asyncapi.DOCUMENT.read_text(encoding="utf-8") == asyncapi.text(), "run `make openapi`"


def test_it_documents_every_type_of_event_on_the_topic() -> None:
    types = {*EVENT_TYPES.values(), "payment.refused"}
    assert {message["name"] for message in MESSAGES.values()} == types
    (channel,) = documents.asyncapi()["channels"].values()
    (operation,) = documents.asyncapi()["operations"].values()
    on_the_channel = {documents.resolve(documents.asyncapi(), message)["name"] for message in channel["messages"].values()}
    sent = {documents.resolve(documents.asyncapi(), message)["name"] for message in operation["messages"]}
    assert on_the_channel == sent == types


@pytest.mark.parametrize("name", MESSAGES)
def test_its_examples_are_valid(name: str) -> None:
    for example in MESSAGES[name]["examples"]:
        documents.check_message(example["headers"], example["payload"])
        subject = example["headers"]["ce_id"] if name == "PaymentRefused" else example["payload"]["payment_id"]
        assert example["headers"]["ce_subject"] == subject


@pytest.mark.parametrize("name", MESSAGES)
def test_its_schemas_refuse_what_is_never_sent(name: str) -> None:
    (example,) = MESSAGES[name]["examples"]
    headers, payload = example["headers"], example["payload"]
    for wrong in (
        {"ce_sequence": "0000000000"},
        {"ce_sequence": "1"},
        {"ce_specversion": "0.3"},
        {"ce_id": "1"},
        {"content-type": "text/plain"},
        {"ce_dataschema": "urn:payments:schema:payment.unheard_of:1"},
        {"ce_traceparent": "x"},
        {"traceparent": "x"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            documents.check_message(headers | wrong, payload)
    for missing in ("ce_id", "ce_source", "ce_subject", "ce_time", "ce_dataschema"):
        with pytest.raises(jsonschema.ValidationError):
            documents.check_message({key: value for key, value in headers.items() if key != missing}, payload)
    for wrong_value in ({"amount": "1999"}, {"payment_token": "tok_ok"}, {"status": "PAID"}):
        with pytest.raises((jsonschema.ValidationError, pydantic.ValidationError)):
            documents.check_message(headers, payload | wrong_value)


@pytest.mark.parametrize("name", MESSAGES)
def test_its_schemas_are_open_for_what_a_later_version_says(name: str) -> None:
    (example,) = MESSAGES[name]["examples"]
    later = {"risk": {"score": 7}, "decline_code": "a_new_code", "payment_status": "DISPUTED"}
    later |= {} if name == "PaymentRefused" else {"status": "DISPUTED"}
    documents.validator(documents.asyncapi(), MESSAGES[name]["payload"]).validate(example["payload"] | later)


def test_sequences_are_in_order_as_text_too() -> None:
    """CloudEvents' extension of this name compares texts. The largest number is the largest that the outbox's column holds."""
    event = next(iter(EVENTS.values()))
    numbers = [*range(1, 25), 99, 100, 999_999_999, 1_000_000_000, 2**31 - 1]
    texts = [dict(message_of(replace(event, sequence=number))["headers"])["ce_sequence"].decode() for number in numbers]
    assert texts == sorted(texts)
    assert [int(text) for text in texts] == numbers
    assert all(re.fullmatch(asyncapi.HEADERS["ce_sequence"]["pattern"], text) for text in texts)


@pytest.fixture
def own_publisher(broker: Broker, own_topic: str) -> Iterator[KafkaPublisher]:
    publisher = KafkaPublisher([broker.bootstrap_servers], own_topic)
    yield publisher
    publisher.close()


def test_what_is_really_produced_is_what_it_says(
    make_service: Callable[..., Service], own_publisher: KafkaPublisher, own_database: Database, broker: Broker, own_topic: str
) -> None:
    service = make_service(publisher=own_publisher, url=own_database.service_url)
    api = Api(service)
    traced = {"traceparent": TRACE}
    paid = api.post("process", order(description="Zwei Hefte ✓", metadata={"k": "v"}), headers=traced).body
    for amount in (500, 1499):
        api.post("refund", {"transaction_id": paid["transaction_id"], "amount": amount, "reason": "returned"}, headers=traced)
    api.post("process", order(payment_token="tok_insufficient_funds"))
    held = api.authorize()
    api.post("capture", {"transaction_id": held["transaction_id"], "amount": 1000})
    api.post("void", {"transaction_id": api.authorize()["transaction_id"]})
    for command, token in (("capture", "tok_capture_declined"), ("void", "tok_void_declined")):
        assert api.post(command, {"payment_id": api.authorize(token)["payment_id"]}).status == 402
    assert api.post("refund", {"payment_id": api.pay("tok_refund_declined")["payment_id"]}).status == 402
    refused = direct.invoke(order(currency="usd"), Context(), service, "order-service", "process")
    api.post("process", order(payment_token="tok_timeout_then_captured"))
    expiring = Api(
        make_service(publisher=own_publisher, url=own_database.service_url, capture_window=timedelta(seconds=-1))
    ).authorize()
    Books(own_database.owner_url).make_due()
    reconciled = reconcile(service, Deadline.in_s(60))
    relay(service, Deadline.in_s(60))

    by_payment: dict[str, list[Message]] = defaultdict(list)
    for message in messages(broker.bootstrap_servers, own_topic):
        documents.check_message(message.headers, message.value)
        by_payment[message.key].append(message)
    assert (reconciled.settled, reconciled.expired) == (1, 1)
    types = [tuple(message.headers["ce_type"] for message in each) for each in by_payment.values()]
    assert sorted(types) == [
        ("payment.authorized", "payment.capture_failed"),
        ("payment.authorized", "payment.successful"),
        ("payment.authorized", "payment.void_failed"),
        ("payment.authorized", "payment.voided"),
        ("payment.authorized", "payment.voided"),
        ("payment.failed",),
        ("payment.refused",),
        ("payment.successful",),
        ("payment.successful", "payment.refund_failed"),
        ("payment.successful", "payment.refunded", "payment.refunded"),
    ]
    [(event_id, [refusal])] = [(key, each) for key, each in by_payment.items() if "refused" in each[0].headers["ce_type"]]
    assert event_id == refusal.headers["ce_id"] == refusal.headers["ce_subject"]
    assert refusal.value.items() >= refused["body"].items()
    del by_payment[event_id]
    for payment_id, each in by_payment.items():
        assert [message.headers["ce_sequence"] for message in each] == [f"{number:010}" for number in range(1, len(each) + 1)]
        for message in each:
            assert message.headers["ce_subject"] == message.value["payment_id"] == payment_id
            # The first is the database's clock and the second the function's, which are one here.
            times = (datetime.fromisoformat(text) for text in (message.headers["ce_time"], message.value["updated_at"]))
            assert abs(operator.sub(*times)) < timedelta(seconds=60)
            assert UUID(message.headers["ce_id"]).version == 7
    ids = [message.headers["ce_id"] for each in by_payment.values() for message in each]
    assert len(set(ids)) == len(ids) == 17

    first, second, third = by_payment[paid["payment_id"]]
    assert first.value == paid
    assert [message.value["refund"]["amount"] for message in (second, third)] == [500, 1499]
    assert [message.value["status"] for message in (second, third)] == ["PARTIALLY_REFUNDED", "REFUNDED"]
    traces = {message.headers[name] for message in (first, second, third) for name in ("ce_traceparent", "traceparent")}
    assert traces == {TRACE}
    of_itself = by_payment[expiring["payment_id"]][1]
    assert not of_itself.headers.keys() & {"ce_traceparent", "traceparent"}, "no caller voided it"
