"""The consumer on docs/integration/consumer.md reads what the topic may hold. tests/docker runs it against Apache Kafka."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cases import case
from tests.foreign_records import EVENTS, FOREIGN, ODD, PAYMENT, REFUSAL, headers, value
from tests.pages import program


@pytest.fixture
def consumer() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "notification_service"}
    exec(compile(program("notification_service.py"), "notification_service.py", "exec"), names)
    return names


def test_the_consumer_skips_records_that_are_no_events(consumer: dict[str, Any]) -> None:
    for name, (message, attributes) in FOREIGN.items():
        with case(name):
            assert consumer["event_in"](SimpleNamespace(value=message, headers=attributes)) is None


def test_the_consumer_survives_records_that_are_nearly_events(
    consumer: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (message, attributes) in ODD.items():
        with case(name):
            if event := consumer["event_in"](SimpleNamespace(value=message, headers=attributes)):
                consumer["notify"](*event[1:])
                capsys.readouterr().out.encode()


def test_the_consumer_reads_an_event_whatever_else_its_record_carries(consumer: dict[str, Any]) -> None:
    assert consumer["event_in"](SimpleNamespace(value=value(), headers=headers())) == ("e1", "payment.successful", PAYMENT)
    for name, (message, attributes) in EVENTS.items():
        with case(name):
            assert consumer["event_in"](SimpleNamespace(value=message, headers=attributes))


def test_the_consumer_tells_a_refused_invocation_and_a_declined_refund(
    consumer: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    refund = {"refund_id": "r-1", "amount": 500, "decline_code": "card_declined"}
    told = {
        "payment.refused": (REFUSAL, "order o: process was refused, invalid_request: Correct the fields in `errors`.\n"),
        "payment.refund_failed": (PAYMENT | {"refund": refund}, "order o: refund r-1 failed, card_declined\n"),
        "payment.capture_failed": (PAYMENT, ""),
        "payment.of_a_later_release": (PAYMENT, ""),
    }
    for type_, (content, line) in told.items():
        with case(type_):
            read = consumer["event_in"](SimpleNamespace(value=json.dumps(content).encode(), headers=headers(type=type_)))
            assert read == ("e1", type_, content)
            consumer["notify"](*read[1:])
            assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [
        (100, "USD", "1.00 USD"),
        (1999, "JPY", "1999 JPY"),
        (1999, "KWD", "1.999 KWD"),
        (5, "EUR", "0.05 EUR"),
        (999_999_999_999, "USD", "9999999999.99 USD"),
        (100, "BGN", "100 minor units of BGN"),
    ],
)
def test_the_consumer_thanks_for_the_amount_that_people_paid(
    consumer: dict[str, Any], capsys: pytest.CaptureFixture[str], amount_minor: int, currency: str, text: str
) -> None:
    consumer["notify"]("payment.successful", PAYMENT | {"amount_captured": amount_minor, "currency": currency})
    assert capsys.readouterr().out == f"order o: thank you for {text}\n"
