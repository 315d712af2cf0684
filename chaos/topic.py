"""Read the topic all the time in a separate process, and keep the messages in a file, because the embedded broker forgets them.

outages.py runs `python -m chaos.topic BOOTSTRAP TOPIC FOLDER`. Each line of FOLDER/topic is one message. Whenever the reader has
every message that the broker holds, it writes the time of that poll (seconds since the epoch) to FOLDER/drained. A line on
standard input says that the broker began anew with an empty topic, so offsets start again from 0.

We assign the partitions ourselves, because joining a group takes about 20 s with the embedded broker.
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
"""How soon we notice a restart of the broker. A message ends the wait."""


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
            # After any error we connect again and read from the start. Repeated lines do no harm.
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
            polled_s = time.time()
            for records in consumer.poll(POLL_MS).values():
                for record in records:
                    file.write(_line(incarnation, record))
            file.flush()
            ends = [(consumer.highwater(partition), partition) for partition in partitions]
            if all(end is not None and consumer.position(partition) >= end for end, partition in ends):
                os.pwrite(drained, DRAINED.pack(polled_s), 0)


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
