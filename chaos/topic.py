"""Reads the topic all the time, in a process of its own, and keeps what it saw in a file: the embedded broker forgets.

Run as `python -m chaos.topic BOOTSTRAP TOPIC FOLDER`. Each line of FOLDER/topic is one message. FOLDER/drained is rewritten
whenever the reader has seen all that the broker holds: when it asked, in seconds since the epoch. A line on standard input says
that the broker began anew, with an empty topic, so that offsets start again from 0.

Partitions are assigned by hand, because joining a group takes the embedded broker about 20 s.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

DRAINED = struct.Struct("d")

POLL_MS = 50
"""How soon a restart of the broker is noticed; a message ends the wait."""


def main() -> None:
    bootstrap_servers, topic, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    incarnations = [0]

    def listen() -> None:
        for _ in sys.stdin:
            incarnations[0] += 1
        os._exit(0)  # the harness is gone

    threading.Thread(target=listen, daemon=True).start()
    drained = os.open(folder / "drained", os.O_RDWR | os.O_CREAT, 0o644)
    with (folder / "topic").open("ab") as file:
        while True:
            # Whatever happens to the connection, it is made anew and read from the start; repeated lines do no harm.
            with contextlib.suppress(KafkaError, OSError):
                read(bootstrap_servers, topic, incarnations, file, drained)
            time.sleep(0.05)


def read(bootstrap_servers: str, topic: str, incarnations: list[int], file: BinaryIO, drained: int) -> None:
    """Keep messages until the broker begins anew."""
    incarnation = incarnations[0]
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers.split(","),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=POLL_MS,
        reconnect_backoff_max_ms=200,
    )
    with contextlib.closing(consumer):
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        while partitions and incarnations[0] == incarnation:
            asked_s = time.time()
            for records in consumer.poll(POLL_MS).values():
                for record in records:
                    file.write(_line(incarnation, record))
            file.flush()
            ends = [(consumer.highwater(partition), partition) for partition in partitions]
            if all(end is not None and consumer.position(partition) >= end for end, partition in ends):
                os.pwrite(drained, DRAINED.pack(asked_s), 0)


def _line(incarnation: int, record: Any) -> bytes:
    return (
        json.dumps(
            {
                "incarnation": incarnation,
                "partition": record.partition,
                "offset": record.offset,
                "key": (record.key or b"").decode(errors="replace"),
                "headers": {name: (value or b"").decode(errors="replace") for name, value in record.headers},
                "value": base64.b64encode(record.value or b"").decode(),
            }
        ).encode()
        + b"\n"
    )


if __name__ == "__main__":
    main()
