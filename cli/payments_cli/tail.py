"""Read events from Kafka, live. We join no consumer group and commit nothing, so we disturb no other consumer."""

import heapq
import json
import logging
import re
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any

from payments_cli.errors import Exit, Failed

POLL_MS = 500  # how soon we notice Ctrl-C; an event ends the wait at once
REMEMBERED_IDS = 100_000  # a duplicate follows its original within minutes, and so many ids take a few megabytes
ATTRIBUTES, FIELDS = {"id", "type", "time", "subject"}, {"payment_id", "order_id", "status", "amount", "currency"}
REFUSED = "payment.refused"
MAX_AMOUNT = 999_999_999_999  # the service's
CONTROLS = re.compile("[\0-\x1f\x7f-\x9f]")
OPTIONS: dict[str, Any] = {
    "bootstrap_timeout_ms": 5000,  # kafka-python's default is 30 s, which is a long wait after a wrong address
    "reconnect_backoff_max_ms": 1000,  # we find a restarted broker within a second
    "auto_offset_reset": "earliest",  # if somebody created the topic anew, we read it from its beginning
    "allow_auto_create_topics": False,
    "enable_auto_commit": False,
    "metrics_enabled": False,
}


def events(
    bootstrap_servers: str, topic: str, options: dict[str, Any], *, from_beginning: bool, say: Callable[[str], object]
) -> Generator[dict[str, Any]]:
    """Yield CloudEvents in their JSON form, for ever. `duplicate` is true if an earlier event had the same id. Raises Failed.

    A payment's events come in order. `say` shows a line to the person who waits. After the line that names Ctrl-C, we miss no
    event.
    """
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaConfigurationError, KafkaError

    reason = _Reason()
    logging.basicConfig(handlers=[reason])  # kafka-python logs why it cannot connect; its exceptions do not say it
    say(f"Connecting to Kafka at {bootstrap_servers}.")  # kafka-python waits for ever if it uses TLS and the port does not
    try:
        consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers.split(","), **OPTIONS | options)
    except (KafkaConfigurationError, AssertionError, ValueError, TypeError, OSError) as error:
        problem = {"title": "Kafka's options are wrong", "detail": str(error) or repr(error), "code": "kafka_options"}
        raise Failed(problem, Exit.USAGE) from None
    except KafkaError as error:
        problem = {
            "title": "Kafka cannot be reached",
            "detail": f"{bootstrap_servers}: {reason.text or error}",
            "code": "unreachable",
        }
        raise Failed(problem, Exit.UNAVAILABLE) from None
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        if not partitions:
            detail = f"{bootstrap_servers} has no topic {topic}, or you may not see it."
            raise Failed({"title": "There is no such topic", "detail": detail, "code": "topic_not_found"}, Exit.REFUSED)
        consumer.assign(partitions)
        if from_beginning:
            consumer.seek_to_beginning(*partitions)
        else:
            consumer.seek_to_end(*partitions)
        for partition in partitions:
            consumer.position(partition)  # fetches the offset now, so that we miss no event after the next line
        say(f"Events of the topic {topic}. Press Ctrl-C to end.")
        seen: dict[str, None] = {}
        skipped = 0
        while True:
            batches = consumer.poll(POLL_MS).values()
            for record in heapq.merge(*batches, key=lambda record: record.timestamp):  # keeps the order of each partition
                event = _event(record)
                if event is None:
                    skipped += 1
                    say(f"Skipped a record that is no payment event, {skipped} so far.")
                else:
                    event["duplicate"] = event["id"] in seen
                    seen[event["id"]] = None
                    if len(seen) > REMEMBERED_IDS:
                        del seen[next(iter(seen))]
                    yield event
    except KafkaError as error:
        problem = {"title": "Kafka does not answer", "detail": str(error) or repr(error), "code": "unreachable"}
        raise Failed(problem, Exit.UNAVAILABLE) from None
    finally:
        consumer.close()


class _Reason(logging.Handler):
    """Keeps the first error of the log. No line of the log is printed between the events."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR and not self.text:
            self.text = record.getMessage()


def _event(record: Any) -> dict[str, Any] | None:
    """Return the message as a CloudEvent, or None if it is no event of ours: other programs may write to the topic."""
    try:
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        attributes = {name.removeprefix("ce_"): value for name, value in headers.items() if name.startswith("ce_")}
        data = json.loads(record.value)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()  # fails for half a character and for NaN
        year = datetime.fromisoformat(attributes["time"]).year
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
    if not (isinstance(data, dict) and 1970 <= year <= 9998):
        return None
    # Messages of 0.1.0 have this header alone, and newer ones the same text as an attribute too.
    traceparent = {"traceparent": headers["traceparent"]} if "traceparent" in headers else {}
    event = traceparent | attributes | {"datacontenttype": headers.get("content-type"), "data": data}
    if attributes.get("type") == REFUSED:  # there may be no payment behind it
        told = isinstance(data.get("code"), str) and isinstance(data.get("order_id"), str | None)
        return event if told and "id" in attributes else None
    if not (attributes.keys() >= ATTRIBUTES and data.keys() >= FIELDS):
        return None
    refund = data.get("refund", {"amount": 0, "currency": ""})
    numbers = [data["amount"], data.get("amount_captured", 0), refund.get("amount") if isinstance(refund, dict) else None]
    texts = [data[name] for name in FIELDS - {"amount"}] + [refund.get("currency") if isinstance(refund, dict) else None]
    if not all(type(number) is int and 0 <= number <= MAX_AMOUNT for number in numbers):
        return None
    # A terminal acts on control characters.
    if not all(isinstance(text, str) and not CONTROLS.search(text) for text in (*texts, attributes["type"])):
        return None
    return event
