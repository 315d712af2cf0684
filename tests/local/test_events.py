"""What `make run` shows of the topic: our events, and that it skipped the others."""

from __future__ import annotations

import contextlib
import json
import threading
from types import SimpleNamespace
from typing import Any

from kafka import KafkaProducer

from local import events
from payments.domain.changes import EVENT_TYPES
from tests.cases import case
from tests.foreign_records import EVENTS, FOREIGN, PAYMENT, REFUSAL, SENDABLE, UNKNOWN_CURRENCY, headers, value
from tests.servers import Broker


def test_a_record_of_another_program_is_skipped_and_the_next_event_is_shown(broker: Broker, own_topic: str) -> None:
    records = [*SENDABLE, UNKNOWN_CURRENCY, (value(), headers(id="last"))]
    with contextlib.closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers)) as producer:
        for message, attributes in records:
            producer.send(own_topic, message, key=b"p", headers=list(attributes)).get(10)
    stop, skipped, lines = threading.Event(), list[None](), list[str]()
    read = events.read(broker.bootstrap_servers, own_topic, stop, from_beginning=True, on_skip=lambda: skipped.append(None))
    for event in read:
        lines.append(event.line())
        if event.event_id == "last":
            stop.set()
    assert len(skipped) >= len(FOREIGN) - 1
    assert len(skipped) + len(lines) == len(records)
    assert "1999 minor units of BGN" in lines[-2]


def test_an_event_is_read_whatever_else_its_record_carries() -> None:
    for name, (message, attributes) in EVENTS.items():
        with case(name):
            assert events._event(SimpleNamespace(value=message, headers=attributes))


def test_every_foreign_record_is_none_of_our_events() -> None:
    for name, (message, attributes) in FOREIGN.items():
        with case(name):
            assert events._event(SimpleNamespace(value=message, headers=attributes)) is None


def test_an_old_order_cannot_reorder_its_line() -> None:
    payment = PAYMENT | {"order_id": "o\u202e1\u200b"}
    event = events._event(SimpleNamespace(value=json.dumps(payment).encode(), headers=headers()))
    assert event is not None
    assert "o\\u202e1\\u200b" in event.line()


def test_the_columns_of_all_types_are_in_line() -> None:
    places = set()
    for type_ in EVENT_TYPES.values():
        event = events._event(SimpleNamespace(value=json.dumps(PAYMENT).encode(), headers=headers(type=type_)))
        assert event is not None
        places.add(event.line().index(str(PAYMENT["payment_id"]), len("00:00:00  ") + len(type_)))
    assert len(places) == 1


def test_a_refusal_is_shown_with_its_order_and_code_and_without_an_amount() -> None:
    cases: dict[str, tuple[dict[str, Any], list[str]]] = {
        "an order": (REFUSAL, ["payment.refused", "o", "process:", "invalid_request"]),
        "nothing that was valid": (
            REFUSAL | {"operation": None, "order_id": None},
            ["payment.refused", "a", "command:", "invalid_request"],
        ),
    }
    for name, (refusal, words) in cases.items():
        with case(name):
            record = SimpleNamespace(value=json.dumps(refusal).encode(), headers=headers(type="payment.refused"))
            event = events._event(record)
            assert event is not None
            assert event.line().split()[1:] == words
