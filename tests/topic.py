"""Reads the messages that reached the topic."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition


@dataclass(frozen=True)
class Message:
    key: str
    headers: dict[str, str]
    text: str
    partition: int

    @property
    def value(self) -> Any:
        return json.loads(self.text)


def messages(bootstrap_servers: str, topic: str) -> Iterator[Message]:
    """Yield every message that is on the topic now, those of a payment in order. We use no consumer group, because joining one
    takes seconds."""
    with contextlib.closing(KafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)) as consumer:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning()
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for records in consumer.poll(200).values():
                for record in records:
                    headers = {name: value.decode() for name, value in record.headers}
                    yield Message(record.key.decode(), headers, record.value.decode(), record.partition)
