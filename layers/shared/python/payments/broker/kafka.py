"""Events to Kafka: CloudEvents 1.0 in binary mode, keyed by payment so that a payment's events stay in order."""

import logging
import math
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from payments.broker.login import Security
from payments.domain.events import Event, attributes

logger = logging.getLogger(__name__)

PRODUCER_OPTIONS: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    # The producer's thread would take the first message by itself, and cost the others time. So it waits until we have handed all
    # of them over, and `flush` sends them at once, in one request for each broker.
    "linger_ms": 500,
    "batch_size": 512 * 1024,
    "max_block_ms": 1500,
    "request_timeout_ms": 1500,
    "delivery_timeout_ms": 2000,  # After that the relay sends the event.
    "connections_max_idle_ms": 60_000,  # The broker may drop the connection of a function that is frozen for minutes.
    "reconnect_backoff_max_ms": 1000,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
    "api_version": (3, 7),  # The oldest broker that we support. Without it the constructor would go to the network.
}


LONGEST_PAUSE_S = 300.0, 48.0
"""After a failure callers skip the broker: for 3 s at first, then for 12 s, 48 s and so on, up to 300 s. So during an outage only
one caller of an environment in that time waits for 2 s. The relay publishes what they skip. It tries at each run, because nobody
waits for it.

While other partitions acknowledge, the one that failed has a pause of its own, of 48 s at most. The relay skips that partition
too, because it would wait for it with each batch. The pause ends before the relay's next run."""


class KafkaPublisher:
    """The Publisher of this process: one producer, made at the first event, and made again after an error."""

    def __init__(self, bootstrap_servers: Sequence[str], topic: str, security: Security = dict, **options: Any) -> None:
        self._topic, self._security = topic, security
        self._options = PRODUCER_OPTIONS | {"bootstrap_servers": list(bootstrap_servers)} | options
        self._producer: Any = None
        self._pauses: dict[int | None, tuple[float, float]] = {}
        self._is_up = True  # as far as we know: the broker has acknowledged something since the last failure
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
        """Send in the order given, but not to a partition that has a pause. Returns the ids that were acknowledged within
        `timeout_s` seconds. Does not raise."""
        deadline = time.monotonic() + timeout_s
        acknowledged, sent, failures = set[UUID](), list[tuple[UUID, int, Any]](), list[Exception]()
        partitions, failed, alive = list[int](), set[int | None](), set[int | None]()
        try:
            from kafka.partitioner import murmur2

            producer = self._get()
            while not partitions:
                try:
                    partitions = sorted(producer.partitions_for(self._topic))
                    if not partitions:
                        raise LookupError("the topic has no partitions")
                except Exception:
                    if deadline - time.monotonic() < self._options["max_block_ms"] / 1000:
                        raise  # The relay has time for several tries, and a caller for one.
                    time.sleep(0.05)
            resting = {partition for partition in partitions if self._rests(partition)}
            for event in events:
                message = message_of(event)
                # As Kafka's own producers choose it, so that consumers may join our topic with others of the same keys.
                partition = partitions[(murmur2(message["key"]) & 0x7FFFFFFF) % len(partitions)]
                if partition not in resting:
                    try:
                        sent.append((event.event_id, partition, producer.send(self._topic, partition=partition, **message)))
                    except Exception as error:  # One that cannot be sent leaves the others.
                        failures.append(error)
            producer.flush(max(deadline - time.monotonic(), 0.001))
        except Exception as error:
            failures.append(error)
        # We wait for each event by itself: one partition may be without a leader while the others acknowledge.
        for event_id, partition, future in sent:
            try:
                if future.get(timeout=max(deadline - time.monotonic(), 0.001)).offset < 0:
                    # The broker answers that it has the event already, and names no offset. A broker that lost its data may
                    # also answer this, if it confuses us with another producer. So we send the event until it has an offset.
                    from kafka.errors import DuplicateSequenceNumberError

                    raise DuplicateSequenceNumberError
                acknowledged.add(event_id)
                alive |= {partition, None}
            except Exception as error:
                failures.append(error)
                failed.add(partition)
        for acknowledging in alive:
            self._pauses.pop(acknowledging, None)
        if failures:
            # A failed producer may still hold a message and send it late. We drop the producer to keep that time short; a late
            # duplicate has the same event_id.
            logger.warning("the broker did not acknowledge: %s", type(failures[0]).__name__, extra={"events": len(failures)})
            others_are_up = alive or (self._is_up and len(failed) == 1 < len(partitions))
            self.close(failed - alive if others_are_up else (None,))
        self._is_up = bool(alive) or (self._is_up and not failures)
        return acknowledged

    def backs_off(self) -> bool:
        return self._rests(None)

    def _rests(self, partition: int | None) -> bool:
        # The monotonic clock of a function that is frozen between two events may stand still. This one may be set back.
        pause_s, ready_at = self._pauses.get(partition, (0.0, 0.0))
        return 0 < ready_at - time.time() <= pause_s

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

    def close(self, resting: Collection[int | None] = (None,)) -> None:
        """Drop the producer, and begin or lengthen the pause of these partitions; None stands for the whole broker."""
        with self._lock:
            producer, self._producer = self._producer, None
            for partition in resting:
                if not self._rests(partition):  # A warm-up and a publish that fail at the same time are one failure.
                    pause_s, ready_at = self._pauses.get(partition, (0.0, -math.inf))
                    # A failure that comes long after the last one begins anew.
                    pause_s = 3.0 if time.time() > ready_at + 300 else min(4 * pause_s, LONGEST_PAUSE_S[partition is not None])
                    self._pauses[partition] = pause_s, time.time() + pause_s
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
        **{f"ce_{name}": value for name, value in attributes(event).items()},
        "content-type": "application/json",
        # The SDKs of CloudEvents look for the trace context in the first header, and OpenTelemetry in the second.
        "ce_traceparent": event.traceparent,
        "traceparent": event.traceparent,
    }
    return {
        "key": str(event.payment_id).encode(),
        "value": event.data.encode(),
        "headers": [(name, value.encode()) for name, value in headers.items() if value is not None],
    }
