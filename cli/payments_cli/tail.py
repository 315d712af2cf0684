"""Events from Kafka, live. No consumer group: nothing is committed, so nobody else's reading is disturbed."""

import heapq
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

from payments_cli.api import Exit, Failed

POLL_MS = 500  # how soon Ctrl-C is noticed; an event itself ends the wait
REMEMBERED_IDS = 100_000  # a duplicate follows its original within minutes, and this many ids are a few megabytes
ATTRIBUTES, FIELDS = {"id", "type", "time", "subject"}, {"payment_id", "order_id", "status", "amount", "currency"}
OPTIONS: dict[str, Any] = {
    "bootstrap_timeout_ms": 5000,  # kafka-python's own is 30 s: too long to find out that an address is wrong
    "reconnect_backoff_max_ms": 1000,  # a restarted broker is found within a second
    "auto_offset_reset": "earliest",  # a topic that was made anew is read from its beginning
    "allow_auto_create_topics": False,
    "enable_auto_commit": False,
    "metrics_enabled": False,
}


def events(
    bootstrap_servers: str, topic: str, options: dict[str, Any], *, from_beginning: bool, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """CloudEvents in their JSON form, for ever; `duplicate` is true for an id that was seen before. Raises Failed.

    A payment's events come in order. `say` takes a line for the person who waits; what is sent after it heard of Ctrl-C
    is seen.
    """
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaConfigurationError, KafkaError

    reason = _Reason()
    logging.basicConfig(handlers=[reason])  # kafka-python's log says why it cannot connect, its exceptions do not
    say(f"Connecting to Kafka at {bootstrap_servers}.")  # with TLS to a port that has none, kafka-python waits for ever
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
            detail = f"{bootstrap_servers} has no topic {topic}, or does not show it to you."
            raise Failed({"title": "There is no such topic", "detail": detail, "code": "topic_not_found"}, Exit.REFUSED)
        consumer.assign(partitions)
        if from_beginning:
            consumer.seek_to_beginning(*partitions)
        else:
            consumer.seek_to_end(*partitions)
        for partition in partitions:
            consumer.position(partition)  # asks the broker now, so that nothing that is sent after the next line is missed
        say(f"Events of the topic {topic}. Ctrl-C ends.")
        seen: dict[str, None] = {}
        while True:
            batches = consumer.poll(POLL_MS).values()
            for record in heapq.merge(*batches, key=lambda record: record.timestamp):  # each partition stays in its order
                event = _event(record)
                if event:
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
    """Keeps the first error of the log, and the log from being printed in the midst of the events."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR and not self.text:
            self.text = record.getMessage()


def _event(record: Any) -> dict[str, Any] | None:
    """The message as a CloudEvent; None for one that is no payment event, which anybody may put on a topic."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    attributes = {name.removeprefix("ce_"): value for name, value in headers.items() if name.startswith("ce_")}
    try:
        data = json.loads(record.value)
    except (ValueError, TypeError):
        return None
    if not (attributes.keys() >= ATTRIBUTES and isinstance(data, dict) and data.keys() >= FIELDS):
        return None
    traceparent = {"traceparent": headers["traceparent"]} if "traceparent" in headers else {}
    return attributes | traceparent | {"datacontenttype": headers.get("content-type"), "data": data}
