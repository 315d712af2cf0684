from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaProducer

from payments_cli import tail
from tests import foreign_records
from tests.cases import case
from tests.cli.terminal import Payments, new_order
from tests.foreign_records import EVENTS, SENDABLE, UNKNOWN_CURRENCY
from tests.servers import Broker


@contextlib.contextmanager
def tailing(payments: Payments, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start `payments tail` and wait until it has its position in the topic."""
    process = payments.start("tail", *options)
    try:
        assert process.stderr
        said = [process.stderr.readline(), process.stderr.readline()]
        assert "Ctrl-C to end" in said[1], said
        yield process
    finally:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def test_events_are_shown_as_they_happen_until_ctrl_c(payments: Payments) -> None:
    payments.charged()
    order = new_order()
    with tailing(payments, "--order", order) as tail:
        payments.charged(order=order)
        assert [word in next_line(tail) for word in ["successful  "]] == [True]
        payments.json("refund", order, "5 USD")
        refunded = next_line(tail)
        assert all(words in refunded for words in ("refunded", "5.00 USD", "PARTIALLY_REFUNDED", order))
        tail.send_signal(signal.SIGINT)
        assert (tail.wait(10), *tail.communicate()) == (0, "", "")


def test_json_events_are_cloud_events(payments: Payments) -> None:
    with tailing(payments, "--json", "--limit", "1") as tail:
        payment = payments.charged()
        event = json.loads(next_line(tail))
        assert tail.wait(10) == 0
    data = event.pop("data")
    assert (data["payment_id"], data["status"]) == (payment["payment_id"], "CAPTURED")
    expected = {"specversion": "1.0", "type": "payment.successful", "subject": payment["payment_id"], "sequence": "0000000001"}
    expected["dataschema"] = "urn:payments:schema:payment.successful:1"
    assert event | expected == event and event["duplicate"] is False and event["datacontenttype"] == "application/json"
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", event["traceparent"])


def test_the_trace_context_is_found_in_old_messages_and_in_new_ones() -> None:
    old = [*foreign_records.headers(), ("traceparent", b"00-a")]
    for headers in (old, [*old, ("ce_traceparent", b"00-a")], [*foreign_records.headers(), ("ce_traceparent", b"00-a")]):
        event = tail._event(SimpleNamespace(value=foreign_records.value(), headers=headers))
        assert event is not None
        assert event["traceparent"] == "00-a"


def test_events_of_the_past_are_filtered(payments: Payments) -> None:
    payment, other = payments.charged("--manual"), payments.charged()
    payments.json("capture", payment["order_id"])
    payments.json("refund", payment["order_id"])

    def types(*options: str) -> list[str]:
        return [event["type"] for event in payments("tail", "--from-beginning", "--json", *options).lines]

    whole_life = ["payment.authorized", "payment.successful", "payment.refunded"]
    assert types("--payment", payment["payment_id"], "--limit", "3") == whole_life
    assert types("--payment", payment["transaction_id"], "--limit", "3") == whole_life
    assert types("--order", other["order_id"], "--limit", "1") == ["payment.successful"]
    two = ("--type", "refunded", "--type", "authorized", "--limit", "2")
    assert types("--order", payment["order_id"], *two) == [whole_life[0], whole_life[2]]


@pytest.fixture
def elsewhere(data_dir: Path) -> Broker:
    run: dict[str, Any] = json.loads((data_dir / "run.json").read_text())
    return Broker(run["kafka_bootstrap_servers"])


def test_a_duplicate_is_marked_and_what_is_no_event_is_passed_over(payments: Payments, elsewhere: Broker) -> None:
    topic = elsewhere.new_topic()
    value = {"payment_id": "p", "order_id": "o", "status": "CAPTURED", "amount": 1999, "currency": "USD"}
    headers = {
        "ce_specversion": "1.0",
        "ce_id": "e1",
        "ce_type": "payment.successful",
        "ce_time": "2026-01-31T12:00:00Z",
        "ce_subject": "p",
    }
    event = json.dumps(value).encode(), [(name, text.encode()) for name, text in headers.items()]
    last = event[0], [("ce_id", b"e2"), *(header for header in event[1] if header[0] != "ce_id")]
    with contextlib.closing(KafkaProducer(bootstrap_servers=elsewhere.bootstrap_servers)) as producer:
        for message, attributes in (event, *SENDABLE, event, last):
            producer.send(topic, message, key=b"p", headers=list(attributes)).get(10)
    there = ("tail", "--bootstrap-servers", elsewhere.bootstrap_servers, "--topic", topic, "--from-beginning", "--limit", "3")
    seen = payments(*there, "--json")
    assert [(line["id"], line["duplicate"]) for line in seen.lines] == [("e1", False), ("e1", True), ("e2", False)]
    assert seen.err.count("Skipped a record") == len(SENDABLE)
    assert f"{len(SENDABLE)} so far" in seen.err
    shown = payments(*there).out.splitlines()
    assert [line.endswith("duplicate") for line in shown] == [False, True, False]
    assert shown[0].split() == ["12:00:00", "successful", "19.99", "USD", "CAPTURED", "p", "o"]


def test_a_refusal_is_shown_with_its_code_and_its_order(payments: Payments, elsewhere: Broker) -> None:
    topic = elsewhere.new_topic()
    refusals: list[tuple[Any, list[tuple[str, bytes]]]] = []
    for number, value in enumerate(
        [
            {"order_id": "o-1", "code": "order_already_paid", "detail": "no", "operation": "process", "payment_id": None},
            {"order_id": None, "code": "idempotency_key_reused", "idempotency_key": "k", "payment_id": "p"},
            {"order_id": "\x1b[2J", "code": "invalid_request", "unheard_of": [{}]},
            {"order_id": "no code"},
            {"order_id": 7, "code": "invalid_request"},
            ["invalid_request"],
        ]
    ):
        headers = {"ce_id": f"r{number}", "ce_type": "payment.refused", "ce_time": "2026-01-31T12:00:00Z"}
        refusals.append((value, [(name, text.encode()) for name, text in headers.items()]))
    with contextlib.closing(KafkaProducer(bootstrap_servers=elsewhere.bootstrap_servers)) as producer:
        for value, attributes in [*refusals[3:], *refusals[:3]]:
            producer.send(topic, json.dumps(value).encode(), key=b"p", headers=attributes).get(10)
    there = ("tail", "--bootstrap-servers", elsewhere.bootstrap_servers, "--topic", topic, "--from-beginning")
    shown = payments(*there, "--type", "refused", "--limit", "3")
    assert [line.split() for line in shown.out.splitlines()] == [
        ["12:00:00", "refused", "order_already_paid", "o-1"],
        ["12:00:00", "refused", "idempotency_key_reused", "no", "order"],
        ["12:00:00", "refused", "invalid_request", "\\x1b[2J"],
    ]
    assert shown.err.count("Skipped a record") == 3
    assert payments(*there, "--order", "o-1", "--limit", "1", "--json").json["data"] == refusals[0][0]
    assert payments(*there, "--payment", "p", "--limit", "1", "--json").json["data"] == refusals[1][0]


def test_lines_of_all_types_line_up(payments: Payments, elsewhere: Broker) -> None:
    topic = elsewhere.new_topic()
    with contextlib.closing(KafkaProducer(bootstrap_servers=elsewhere.bootstrap_servers)) as producer:
        for name in ("capture_failed", "refund_failed", "void_failed", "successful"):
            headers = list(foreign_records.headers(type=f"payment.{name}", id=name))
            producer.send(topic, foreign_records.value(), key=b"p", headers=headers).get(10)
    there = ("tail", "--bootstrap-servers", elsewhere.bootstrap_servers, "--topic", topic, "--from-beginning", "--limit", "4")
    lines = payments(*there).out.splitlines()
    assert (len(lines), len({line.index("19.99 USD") for line in lines})) == (4, 1)
    assert "capture_failed" in payments(*there[:-1], "1", "--type", "capture_failed").out


def test_a_currency_that_is_no_longer_listed_is_shown_in_minor_units(payments: Payments, elsewhere: Broker) -> None:
    topic = elsewhere.new_topic()
    with contextlib.closing(KafkaProducer(bootstrap_servers=elsewhere.bootstrap_servers)) as producer:
        producer.send(topic, UNKNOWN_CURRENCY[0], key=b"p", headers=list(UNKNOWN_CURRENCY[1])).get(10)
    there = ("tail", "--bootstrap-servers", elsewhere.bootstrap_servers, "--topic", topic, "--from-beginning", "--limit", "1")
    assert "1999 minor units of BGN" in payments(*there).out


def test_options_of_the_consumer_come_from_a_file(payments: Payments, tmp_path: Path) -> None:
    def told(options: str) -> tuple[int, str]:
        file = tmp_path / "kafka.toml"
        file.write_text(options)
        done = payments("tail", "--kafka-config", str(file), "--json")
        return done.exit_code, done.err

    assert told("not TOML")[0] == 2
    code, said = told("no_such_option = 1")
    assert (code, "no_such_option" in said) == (2, True)
    code, said = told("security_protocol = 'SSL'\nssl_cafile = '/no/such/file.pem'\nbootstrap_timeout_ms = 500")
    assert (code, "No such file" in said) == (5, True)
    login = "security_protocol = 'SASL_PLAINTEXT'\nsasl_mechanism = 'PLAIN'\nsasl_plain_username = 'me'\n"
    code, said = told(login + "sasl_plain_password = 's3cret'\nbootstrap_timeout_ms = 500")
    assert (code, "s3cret" in said) == (5, False), "this broker has no users"


def test_waiting_for_kafka_ends_with_ctrl_c_too(payments: Payments, tmp_path: Path) -> None:
    file = tmp_path / "kafka.toml"
    file.write_text("security_protocol = 'SSL'")  # this broker has no TLS
    tail = payments.start("tail", "--kafka-config", str(file))
    assert tail.stderr and "Connecting to Kafka" in tail.stderr.readline()
    tail.send_signal(signal.SIGINT)
    assert (tail.wait(10), *tail.communicate()) == (0, "", "")


def test_without_a_service_tail_asks_where_kafka_is(payments_alone: Payments) -> None:
    done = payments_alone("tail")
    assert (done.exit_code, "PAYMENTS_KAFKA" in done.err) == (2, True)


def test_tail_ends_when_its_reader_has_gone_or_the_disk_is_full(payments: Payments, elsewhere: Broker) -> None:
    topic = elsewhere.new_topic()
    with contextlib.closing(KafkaProducer(bootstrap_servers=elsewhere.bootstrap_servers)) as producer:
        producer.send(topic, foreign_records.value(), key=b"p", headers=list(foreign_records.headers())).get(10)
    there = f"payments tail --bootstrap-servers {elsewhere.bootstrap_servers} --topic {topic} --from-beginning"
    gone = payments.shell(there + " | true; exit ${PIPESTATUS[0]}")
    assert (gone.exit_code, "Traceback" in gone.err) == (141, False)
    full = payments.shell(there + " --json >/dev/full")
    assert (full.exit_code, full.problem["code"]) == (7, "output_failed")


def test_an_event_is_read_whatever_else_its_record_carries() -> None:
    for name, (message, attributes) in EVENTS.items():
        with case(name):
            assert tail._event(SimpleNamespace(value=message, headers=attributes))
