"""`make sdks`: the CloudEvents SDKs of PyPI, npm and Maven read the events that the real service sends to its topic.

Starts the service of `make run` with servers of its own, causes events of every kind that a caller can cause, and has a program
in each language read them with that language's Kafka client and SDK, as a member of a consumer group. The attributes and the data
must be those of the messages on the topic, the data must match the schema that `dataschema` names, and the trace context must be
where the SDK's extension for distributed tracing looks for it. Node, npm, a JDK and Maven must be installed.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
from jsonschema import Draft202012Validator
from kafka import KafkaConsumer, TopicPartition

from contract.clients.service import running

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent
SCHEMAS = REPOSITORY / "docs" / "schemas"
BUILD = REPOSITORY / "build" / "sdks"
SETTLE_S, READ_S = 60, 120

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
WITHOUT_A_COMMAND = 3
"""The events of a payment that are of no command: that it waits for its customer, and its dispute."""
UNTRACED = {"payment.refused", "payment.disputed", "payment.dispute_closed"}
"""No request of ours with a trace context has caused these."""
LARGE = 5_000_000_000  # more than 32 bits hold

Event = dict[str, Any]


class Wrong(Exception):
    """An SDK read something else than what was sent, or could not be run."""


def main() -> int:
    programs = prepare()
    with running(sys.executable) as facts:
        number = cause_events(facts["url"])
        sent = sent_to(facts["kafka_bootstrap_servers"], facts["topic"], number)
        say(f"{len(sent)} events of {len({event['type'] for event in sent.values()})} types are on the topic.")
        arguments = [facts["kafka_bootstrap_servers"], facts["topic"], str(len(sent))]
        readers = {
            name: subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
            for name, command in programs.items()
        }
        try:
            for name, program in readers.items():
                output, _ = program.communicate(timeout=READ_S)
                if program.returncode != 0:
                    raise Wrong(f"{name} ended with status {program.returncode}")
                compare(name, sent, [json.loads(line) for line in output.splitlines()])
                say(f"{name} read them all: attributes, data and trace context.")
        finally:
            for program in readers.values():
                program.kill()
                program.wait()
    return 0


def cause_events(url: str) -> int:
    """Cause events of every type. Returns their number."""
    commands = 0

    def post(command: str, **body: Any) -> Any:
        nonlocal commands
        commands += 1
        key = f"{command}-{body['order_id']}"
        return send(f"{url}/api/v1/payments/{command}", body, {"traceparent": TRACE, "Idempotency-Key": key})

    def pay(order_id: str, scenario: str = "ok", **more: Any) -> Any:
        usual = {"amount": 1999, "currency": "USD", "payment_method": "credit_card", "payment_token": f"tok_{scenario}"}
        return post("process", order_id=order_id, **usual | more)

    pay("large", amount=LARGE, description="Zwei Hefte ✓ 注文", metadata={"channel": "web"})
    post("refund", order_id="large", amount=LARGE - 1)
    pay("declined", "insufficient_funds")
    for order_id, scenario, command in (
        ("captured", "ok", "capture"),
        ("voided", "ok", "void"),
        ("not-captured", "capture_declined", "capture"),
        ("not-voided", "void_declined", "void"),
    ):
        pay(order_id, scenario, capture_method="manual")
        post(command, order_id=order_id)
    pay("not-refunded", "refund_declined")
    post("refund", order_id="not-refunded")
    pay("unknown", "timeout_then_captured")
    # The page of the simulated gateway, where the customer approves, and then disputes the payment at the bank and loses.
    page = pay("acted", "requires_action")["next_action"]["url"]
    for action in ("approve", "dispute", "lost"):
        httpx2.post(page, data={"action": action}, timeout=35, follow_redirects=True).raise_for_status()
    refused = send(f"{url}/2015-03-31/functions/process:direct/invocations", {"order_id": "refused", "amount": "19.99"})
    if refused["outcome"] != "refused":
        raise Wrong(f"the wrong invocation was answered {refused}")
    return commands + 1 + WITHOUT_A_COMMAND


def send(url: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    answer = httpx2.request("GET" if body is None else "POST", url, json=body, headers=headers, timeout=35)
    if answer.status_code not in (200, 201, 202, 402):
        raise Wrong(f"{url} answered {answer.status_code}: {answer.text}")
    return answer.json()


def sent_to(bootstrap_servers: str, topic: str, number: int) -> dict[str, Event]:
    """Wait for so many events on the topic. Returns the attributes as the headers have them, and the data, by the events' ids."""
    found, deadline = dict[str, Event](), time.monotonic() + SETTLE_S
    with contextlib.closing(KafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)) as consumer:
        consumer.assign([TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)])
        consumer.seek_to_beginning()
        while len(found) < number:
            for record in itertools.chain.from_iterable(consumer.poll(200).values()):
                headers = {name: value.decode() for name, value in record.headers}
                event: Event = {name.removeprefix("ce_"): headers[name] for name in headers if name.startswith("ce_")}
                event |= {"datacontenttype": headers["content-type"], "data": json.loads(record.value)}
                check(event, headers.get("traceparent"))
                found[event["id"]] = event
            if time.monotonic() > deadline:
                raise Wrong(f"{number} events were expected, and the topic has {len(found)}")
    missing = {file.name.removesuffix(".1.json") for file in SCHEMAS.glob("payment.*.json")} - {
        event["type"] for event in found.values()
    }
    if missing:
        raise Wrong(f"the topic has no {', '.join(missing)}")
    return found


def check(event: Event, traceparent: str | None) -> None:
    """Fail unless the data matches the schema that the event names, and the trace context is the caller's."""
    file = SCHEMAS / f"{event['dataschema'].removeprefix('urn:payments:schema:').replace(':', '.')}.json"
    Draft202012Validator(json.loads(file.read_text(encoding="utf-8"))).validate(event["data"])
    expected = None if event["type"] in UNTRACED else TRACE
    if not event.get("traceparent") == traceparent == expected:
        raise Wrong(f"the trace context of {event} is not {expected}")


def prepare() -> dict[str, list[str]]:
    """Install the SDKs and compile what has to be compiled. Returns the command of each reader."""
    python = REPOSITORY / ".venv-sdks" / "bin" / "python"
    for name in ("npm", "java"):
        shutil.copytree(SOURCES / name, BUILD / name, dirs_exist_ok=True)
    install(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], BUILD / "npm")
    install(["mvn", "--batch-mode", "--quiet", "-Dstyle.color=never", "compile", "dependency:copy-dependencies"], BUILD / "java")
    classes = [BUILD / "java" / "target" / name for name in ("classes", "dependency/*")]
    return {
        "cloudevents of PyPI": [str(python), str(SOURCES / "python" / "read.py")],
        "cloudevents of npm": ["node", str(BUILD / "npm" / "read.mjs")],
        "io.cloudevents:cloudevents-kafka of Maven": ["java", "-cp", os.pathsep.join(map(str, classes)), "Read"],
    }


def install(command: list[str], folder: Path) -> None:
    if not shutil.which(command[0]):
        raise Wrong(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=folder, check=False)
    if done.returncode != 0:
        raise Wrong(f"`{' '.join(command)}` ended with status {done.returncode}")


def compare(name: str, sent: dict[str, Event], read: list[Event]) -> None:
    if sorted(event["id"] for event in read) != sorted(sent):
        raise Wrong(f"{name} did not read every event once: {[event['id'] for event in read]}")
    for event in read:
        expected = sent[event["id"]]
        # An SDK makes a date of the time. JavaScript's has no microseconds.
        times = [datetime.fromisoformat(each["time"]) for each in (event, expected)]
        rest = [{key: value for key, value in each.items() if key != "time" and value is not None} for each in (event, expected)]
        if rest[0] != rest[1] or abs((times[0] - times[1]).total_seconds()) >= 0.001:
            raise Wrong(f"{name} read\n{event}\nin the place of\n{expected}")


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Wrong as error:
        sys.exit(f"sdks: {error}")
