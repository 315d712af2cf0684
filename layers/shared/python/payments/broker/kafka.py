"""Events to Kafka: CloudEvents 1.0 in binary mode, keyed by payment so that a payment's events stay in order."""

import json
import logging
import math
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from payments.broker.login import Security
from payments.domain.events import Event, rfc3339

logger = logging.getLogger(__name__)

SOURCE = "urn:payments:service"

PRODUCER_OPTIONS: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": 0,  # A caller waits for the acknowledgement, so the producer must not wait for more messages.
    "max_block_ms": 1500,
    "request_timeout_ms": 1500,
    "delivery_timeout_ms": 2000,  # After that the relay sends the event.
    "connections_max_idle_ms": 60_000,  # The broker may drop the connection of a function that is frozen for minutes.
    "reconnect_backoff_max_ms": 1000,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
    "api_version": (3, 7),  # The oldest broker that we support. Without it the constructor would go to the network.
}


LONGEST_PAUSE_S = (24.0, 300.0)
"""After a batch without any acknowledgement callers leave the broker alone: at first for 3 s, and for four times as long each
time, so that an outage costs a caller in a while 2 s. What they leave is the work of the relay, which tries at each run, because
no one waits for it. An acknowledgement does not begin anew, because one partition of several may be dead; it bounds the next
pause by the shorter of the two, because the others are up. Only a failure that comes long after the last one begins anew."""


class KafkaPublisher:
    """The Publisher of this process: one producer, made at the first event, and made again after an error."""

    def __init__(self, bootstrap_servers: Sequence[str], topic: str, security: Security = dict, **options: Any) -> None:
        self._topic, self._security = topic, security
        self._options = PRODUCER_OPTIONS | {"bootstrap_servers": list(bootstrap_servers)} | options
        self._producer: Any = None
        self._pause_s, self._ready_at, self._is_up = 0.0, -math.inf, False
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Import kafka-python, connect and fetch the topic's metadata in a thread, while the gateway works."""
        if self._producer is None and not self.backs_off():
            threading.Thread(target=self._warm_up, name="kafka-warm-up", daemon=True).start()

    def _warm_up(self) -> None:
        try:
            self._get().partitions_for(self._topic)
        except Exception as error:
            logger.info("the broker could not be reached while warming up: %s", type(error).__name__)
            self.close()

    def publish(self, events: Sequence[Event], timeout_s: float) -> set[UUID]:
        """Send in the order given. Returns the ids that were acknowledged within `timeout_s` seconds. Does not raise."""
        deadline = time.monotonic() + timeout_s
        acknowledged, sent, failures = set[UUID](), list[tuple[UUID, Any]](), list[Exception]()
        for event in events:
            if time.monotonic() > deadline:
                break  # A partition without a leader holds up each send for max_block_ms.
            try:
                sent.append((event.event_id, self._get().send(self._topic, **message_of(event))))
            except Exception as error:
                failures.append(error)
        # We wait for each event by itself: one partition may be without a leader while the others acknowledge.
        for event_id, future in sent:
            try:
                if future.get(timeout=max(deadline - time.monotonic(), 0.001)).offset < 0:
                    # The broker answers that it has the event already, and names no offset. A broker that lost its data may
                    # also answer this, if it confuses us with another producer. So we send the event until it has an offset.
                    from kafka.errors import DuplicateSequenceNumberError

                    raise DuplicateSequenceNumberError
                acknowledged.add(event_id)
            except Exception as error:
                failures.append(error)
        if failures:
            # A failed producer may still hold a message and send it late. We drop the producer to keep that time short; a late
            # duplicate has the same event_id.
            logger.warning("the broker did not acknowledge: %s", type(failures[0]).__name__, extra={"events": len(failures)})
            self.close(back_off=not acknowledged)
        self._is_up = self._is_up or bool(acknowledged)
        return acknowledged

    def backs_off(self) -> bool:
        # The monotonic clock of a function that is frozen between two events may stand still. This one may be set back.
        return self._producer is None and 0 < self._ready_at - time.time() <= self._pause_s

    def check(self, timeout_s: float) -> None:
        """Request the topic's metadata. Raises when no answer comes in time or the topic is missing."""
        try:
            producer = self._get()
            producer.partitions_for(self._topic)  # The first call also connects.
            future = producer._metadata.request_update()
            producer._sender.wakeup()
            answered = threading.Event()
            future.add_both(lambda *_: answered.set())
            if not answered.wait(timeout_s) or future.failed():
                raise TimeoutError("the broker does not answer")
        except Exception:
            self.close()
            raise

    def close(self, *, back_off: bool = True) -> None:
        with self._lock:
            producer, self._producer = self._producer, None
            # A warm-up and a publish that fail at the same time are one failure.
            if back_off and not self.backs_off():
                anew, longest_s = time.time() > self._ready_at + LONGEST_PAUSE_S[1], LONGEST_PAUSE_S[not self._is_up]
                self._pause_s, self._is_up = 3.0 if anew else min(4 * self._pause_s, longest_s), False
                self._ready_at = time.time() + self._pause_s
        if producer is not None:
            producer._sender.force_close()  # close() would first wait for messages that cannot be delivered.

    def _get(self) -> Any:
        with self._lock:
            if self._producer is None:
                from kafka import KafkaProducer  # The import takes 145 ms, which a look-up does not pay.

                self._producer = KafkaProducer(**self._options | self._security())
            return self._producer


def message_of(event: Event) -> dict[str, Any]:
    """Return the arguments of the producer's `send`: key, value and headers of an event (CloudEvents 1.0, Kafka binary mode)."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(event.event_id),
        "ce_source": SOURCE,
        "ce_type": event.type,
        "ce_time": rfc3339(event.created_at),
        "ce_subject": str(event.payment_id),
        # CloudEvents compares sequences as text, and the outbox's column has at most ten digits.
        "ce_sequence": f"{event.sequence:010}",
        "content-type": "application/json",
        "traceparent": event.traceparent,
    }
    return {
        "key": str(event.payment_id).encode(),
        "value": json.dumps(event.data, ensure_ascii=False).encode(),
        "headers": [(name, value.encode()) for name, value in headers.items() if value is not None],
    }
