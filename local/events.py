"""Read the topic. We join no consumer group, because joining one takes about 20 s with the embedded broker."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from payments.domain.changes import EVENT_TYPES
from payments.domain.money import MAX_AMOUNT_MINOR, format_amount
from payments.domain.text import is_plain

BOOTSTRAP_TIMEOUT_MS = 3000  # a broker on this machine or near it answers in a tenth of that, and read() tries again anyway
POLL_MS = 200  # how soon we notice a stop; an event ends the wait at once
WIDEST = max(map(len, EVENT_TYPES.values()))
REFUSED = "payment.refused"  # tells of a direct invocation, and of no payment


@dataclass(frozen=True)
class Event:
    type: str
    sequence: int
    event_id: str
    payment: dict[str, Any]  # the event's value; an event of a refund has `refund` in it, and that of a refusal is a problem

    @property
    def money(self) -> tuple[int, str]:
        """The amount that moved, in minor units, and its currency."""
        money = self.payment.get("refund") or self.payment
        return self.payment["amount_captured"] if self.type == "payment.successful" else money["amount"], money["currency"]

    def line(self) -> str:
        """Return one line: time, type, payment, order, amount, status, and the event's number within its payment. A refusal has
        no payment and shows its command and code. What nobody would see, or what reorders the line, is escaped."""
        line = self.unsafe_line()
        return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)

    def unsafe_line(self) -> str:
        payment, begin = self.payment, f"{datetime.now().astimezone():%H:%M:%S}  {self.type:<{WIDEST}}"
        if self.type == REFUSED:
            what = f"{payment['operation'] or 'a command'}: {payment['code']}"
            return f"{begin}  {'':36}  {payment['order_id'] or '':<16}  {what}"
        return (
            f"{begin}  {payment['payment_id']}  {payment['order_id']:<16}  "
            f"{format_amount(*self.money):>14}  {payment['status']:<18}  #{self.sequence}"
        )


def read(
    bootstrap_servers: str,
    topic: str,
    stop: threading.Event,
    *,
    from_beginning: bool,
    on_ready: Callable[[], None] = lambda: None,
    restarts: Callable[[], int] = lambda: 0,
    on_skip: Callable[[], None] = lambda: None,
) -> Iterator[Event]:
    """Yield every event of the topic until `stop` is set. `on_skip` is called for each record that is no event of ours.

    `restarts` counts the broker's restarts. After a restart the topic is empty, and we read it from its beginning.
    """
    while not stop.is_set():
        seen_restarts = restarts()
        with contextlib.suppress(KafkaError), contextlib.closing(_consumer(bootstrap_servers)) as consumer:
            partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
            consumer.assign(partitions)
            if not from_beginning:
                consumer.seek_to_end(*partitions)
            for partition in partitions:
                consumer.position(partition)  # fetches the offset now, so that we miss no event after on_ready
            on_ready()
            while partitions and not stop.is_set() and restarts() == seen_restarts:
                polled = consumer.poll(POLL_MS)
                for records in polled.values():
                    for record in records:
                        if event := _event(record):
                            yield event
                        else:
                            on_skip()
                if polled:  # what comes meanwhile is fetched at once: a fetch for each event would hold up the front beside us
                    stop.wait(POLL_MS / 1000)
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
        reconnect_backoff_max_ms=1000,  # we find a restarted broker within a second
    )


def _event(record: Any) -> Event | None:
    """Return the record's event, or None if another program wrote the record, or something damaged it."""
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError, RecursionError):
        headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        event = Event(headers["ce_type"], int(headers["ce_sequence"]), headers["ce_id"], json.loads(record.value))
        if event.type == REFUSED:
            amount_minor, *texts = 0, *(event.payment[name] or "" for name in ("operation", "order_id", "code"))
        else:
            amount_minor, *texts = *event.money, *(event.payment[name] for name in ("payment_id", "order_id", "status"))
        is_payment = type(amount_minor) is int and 0 <= amount_minor <= MAX_AMOUNT_MINOR
        if is_payment and all(isinstance(text, str) for text in texts) and is_plain(event.unsafe_line()):
            return event
    return None
