"""What reaches the topic. Read without a consumer group: joining one takes the embedded broker about 20 s."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from payments.domain.money import format_amount

BOOTSTRAP_TIMEOUT_MS = 3000  # a broker on this machine or near it answers in a tenth of that; reading tries again anyway
POLL_MS = 200  # how soon a stop is noticed; an event itself ends the wait


@dataclass(frozen=True)
class Event:
    type: str
    sequence: int
    event_id: str
    payment: dict[str, Any]  # the event's value; for a refund with `refund` in it

    def line(self) -> str:
        """Time, type, payment, order, amount, status, number of the event within its payment."""
        payment = self.payment
        money = payment.get("refund") or payment
        amount_minor = payment["amount_captured"] if self.type == "payment.successful" else money["amount"]
        return (
            f"{datetime.now().astimezone():%H:%M:%S}  {self.type:<18}  {payment['payment_id']}  {payment['order_id']:<16}  "
            f"{format_amount(amount_minor, money['currency']):>14}  {payment['status']:<18}  #{self.sequence}"
        )


def read(
    bootstrap_servers: str,
    topic: str,
    stop: threading.Event,
    *,
    from_beginning: bool,
    on_ready: Callable[[], None] = lambda: None,
    restarts: Callable[[], int] = lambda: 0,
) -> Iterator[Event]:
    """Every event of the topic until `stop` is set. `restarts` tells when the broker began anew, with an empty topic."""
    while not stop.is_set():
        seen_restarts = restarts()
        with contextlib.suppress(KafkaError), contextlib.closing(_consumer(bootstrap_servers)) as consumer:
            partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
            consumer.assign(partitions)
            if not from_beginning:
                consumer.seek_to_end(*partitions)
            for partition in partitions:
                consumer.position(partition)  # asks the broker now, so that nothing sent after on_ready is missed
            on_ready()
            while partitions and not stop.is_set() and restarts() == seen_restarts:
                for records in consumer.poll(POLL_MS).values():
                    yield from filter(None, map(_event, records))
        from_beginning = from_beginning or restarts() != seen_restarts
        stop.wait(POLL_MS / 1000)


def has_topic(bootstrap_servers: str, topic: str) -> bool:
    with contextlib.suppress(KafkaError), contextlib.closing(_consumer(bootstrap_servers)) as consumer:
        return bool(consumer.partitions_for_topic(topic))
    return False


def _consumer(bootstrap_servers: str) -> Any:
    return KafkaConsumer(
        bootstrap_servers=bootstrap_servers.split(","),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
        reconnect_backoff_max_ms=1000,  # a restarted broker is found within a second
    )


def _event(record: Any) -> Event | None:
    """The event that a record carries, or None for what somebody else wrote to the topic."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return Event(headers["ce_type"], int(headers["ce_sequence"]), headers["ce_id"], json.loads(record.value))
    return None
