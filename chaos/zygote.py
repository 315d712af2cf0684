"""The warm parent: import the real handlers once, and fork a child, a Lambda environment, whenever the harness commands it.

environments.py runs `python -m chaos.zygote OPTIONS` with the layer and the functions of the tree under test on its path. No
connection outlives a fork: the child connects to database and broker at first use. The zygote reaps a child only at the harness's
command, so a pid that the harness signals never belongs to another process.

A child handles one event at a time, as in Lambda, until somebody kills it or closes its channel.
  in:  {"event", "label", "remaining_s", "trap"}, one JSON value a line
  out: {"result"} or {"error", "message"}; with `after_answer` an empty line follows when the event is published and marked
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import hashlib
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from mmap import mmap
from pathlib import Path
from random import Random
from typing import Any, NoReturn
from uuid import UUID

from kafka import KafkaProducer

from chaos.answers import http_event
from chaos.crash import Crash, Where

FUNCTIONS = ("process", "refund", "lookups", "relay", "reconcile", "courier", "gateway_events")

CLOCKS_DIFFER_S = 1.0
"""The largest difference between two environments' clocks. NTP does much better. A payment's history must not go back in time
even so."""

FORK, REAP = b"F", b"R"
NUMBER_BYTES = 4
COMMAND_BYTES = 2 + NUMBER_BYTES


@dataclasses.dataclass(frozen=True)
class Options:
    control_fd: int
    folder: str
    """The folder for the slots, the log, the gateway's calls and the broker's acknowledgements."""
    seed: str
    database_port: int
    receiver_port: int | None
    """Where webhooks are sent, if the run has any."""
    gateway_port: int | None
    """Where the gateway is, if it is not in the process."""
    after_answer: bool
    """Whether events are published after the answer, as PublishAfterAnswer does it in Lambda."""


class Context:
    """The part of the Lambda context that the handlers use."""

    function_name, function_version, memory_limit_in_mb = "chaos", "$LATEST", 512

    def __init__(self, request_id: str, remaining_s: float, event: Any) -> None:
        # API Gateway invokes one alias, the order service another.
        alias = "live" if "requestContext" in event else "direct"
        self.invoked_function_arn = f"arn:aws:lambda:local:000000000000:function:chaos:{alias}"
        self.aws_request_id = request_id
        self._end_s = time.monotonic() + remaining_s

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._end_s - time.monotonic()) * 1000))


class Ids:
    """UUIDs in the shape of version 7. They depend only on the seed and the invocation's label, so a replay has the same ones."""

    def __init__(self, seed: str) -> None:
        self._seed, self.label = seed, ""
        self._drawn: Iterator[int] = iter(())

    def begin(self, label: str) -> None:
        self.label, self._drawn = label, iter(range(1_000_000))

    def __call__(self) -> UUID:
        digest = hashlib.sha256(f"{self._seed}/{self.label}/{next(self._drawn)}".encode()).digest()
        value = int.from_bytes(digest[:16], "big")
        return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def main() -> None:
    options = Options(**json.loads(sys.argv[1]))
    # The logger keeps the stream that it finds at import. Metrics go to the standard output of the moment, so we drop them.
    sys.stdout = sys.stderr = (Path(options.folder) / "handlers.log").open("a", buffering=1)  # open until the process ends
    handlers, ids, gateway_of, waiting = warm(options)
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    with (Path(options.folder) / "slots").open("r+b") as file:
        memory = mmap(file.fileno(), 0)
    control = socket.socket(fileno=options.control_fd)
    gc.collect()
    gc.freeze()  # the collector would touch, and so copy, every page that a child shares with this process
    children: set[int] = set()
    try:
        # The loop ends when the harness hangs up or dies.
        while (received := socket.recv_fds(control, COMMAND_BYTES, 1))[0]:
            command, descriptors = received[:2]
            number = int.from_bytes(command[2:], "big")
            if command[:1] == REAP:
                os.waitpid(number, 0)
                children.discard(number)
                control.sendall(command)
                continue
            pid = os.fork()
            if pid == 0:
                control.close()
                if FUNCTIONS[command[1]] in ("relay", "reconcile"):
                    os.environ["DATABASE_ROLE"] = "payments_scheduled"  # as template.yaml says
                ports: dict[int | None, Where] = {options.database_port: "database", options.receiver_port: "receiver"}
                crash = Crash(memory, number, ports | {options.gateway_port: "gateway"})
                gateway_of(crash)
                after_answer = waiting if options.after_answer else None
                serve(socket.socket(fileno=descriptors[0]), handlers[FUNCTIONS[command[1]]], crash, ids, after_answer)
            os.close(descriptors[0])
            children.add(pid)
            control.sendall(pid.to_bytes(NUMBER_BYTES, "big"))
    except ConnectionError:
        pass
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)  # SIGKILL also ends a frozen child


def warm(options: Options) -> tuple[dict[str, Callable[[Any, Any], Any]], Ids, Callable[[Crash], None], list[Callable[[], None]]]:
    """Import the handlers, on a service whose calls of the gateway are recorded and whose ids follow the seed. The list gets the
    work that follows an answer."""
    from chaos.gateway import LedgerGateway, RecordedGateway
    from chaos.publisher import RecordingPublisher
    from payments import wiring
    from payments.scheduled import courier

    ids, shipped = Ids(options.seed), wiring.service.__wrapped__
    crashes: list[Crash] = []
    waiting: list[Callable[[], None]] = []

    @functools.cache
    def service() -> Any:
        parts = shipped()
        recorded = RecordedGateway if options.gateway_port else LedgerGateway
        gateway = recorded(parts.gateway, Path(options.folder) / "ledger", crashes[0], lambda: ids.label)
        publisher = RecordingPublisher(parts.publisher, Path(options.folder) / "acknowledged")
        behind = timedelta(seconds=Random(f"{options.seed}/clock/{os.getpid()}").uniform(-CLOCKS_DIFFER_S, CLOCKS_DIFFER_S) / 2)
        parts = dataclasses.replace(parts, gateway=gateway, publisher=publisher)
        if options.after_answer:
            parts = dataclasses.replace(parts, later=waiting.append)
        return dataclasses.replace(parts, new_id=ids, clock=lambda: datetime.now(UTC) - behind)

    wiring.service = service
    # The shipped run looks for new events until its minute is over. Here it ends when nothing is due.
    courier.courier = functools.partial(courier.courier, poll_s=None)
    modules = {name: importlib.import_module(f"functions.{name}.handler") for name in FUNCTIONS}
    handlers = {name: module.lambda_handler for name, module in modules.items()}
    _first_requests(handlers)
    return handlers, ids, crashes.append, waiting


def _first_requests(handlers: dict[str, Callable[[Any, Any], Any]]) -> None:
    """Let FastAPI and kafka-python do the work of their first use, which takes 25 ms, once for all children.

    The service refuses requests without an owner before it connects. We close the producer before a fork.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for name, method, path in (("process", "POST", "/process"), ("refund", "POST", "/refund"), ("lookups", "GET", "/order/x")):
        event = http_event(method, path, "", "warm", {})
        del event["requestContext"]["authorizer"]
        assert handlers[name](event, Context("warm", 1.0, event))["statusCode"] == HTTPStatus.UNAUTHORIZED
    loop.close()
    producer = KafkaProducer(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"].split(","), api_version=(3, 7))
    producer.partitions_for(os.environ["KAFKA_TOPIC"])
    producer.close()


def serve(
    channel: socket.socket,
    handler: Callable[[Any, Any], Any],
    crash: Crash,
    ids: Ids,
    after_answer: list[Callable[[], None]] | None,
) -> NoReturn:
    try:
        asyncio.set_event_loop(asyncio.new_event_loop())
        crash.install()
        relays = handler.__module__ == "functions.relay.handler"
        for line in channel.makefile("rb"):
            invocation = json.loads(line)
            ids.begin(invocation["label"])
            crash.begin(invocation["trap"], relays=relays)
            answer = json.dumps(_answer(handler, invocation)).encode() + b"\n"
            # The connection to the caller breaks only when the environment dies.
            breaks = invocation["trap"] is not None and invocation["trap"]["act"] in ("kill", "stop")
            trap = crash.reach("reply") if breaks else None
            if after_answer is None:
                crash.end()  # kafka-python's thread may still write, and must not spring the trap after the answer
            channel.sendall(answer)
            crash.passed(trap)
            if after_answer is not None:
                while after_answer:
                    after_answer.pop(0)()
                crash.end()
                channel.sendall(b"\n")
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _answer(handler: Callable[[Any, Any], Any], invocation: dict[str, Any]) -> dict[str, Any]:
    try:
        event = invocation["event"]
        return {"result": handler(event, Context(invocation["label"], invocation["remaining_s"], event))}
    except Exception as error:
        traceback.print_exc()
        return {"error": type(error).__name__, "message": str(error)}


if __name__ == "__main__":
    main()
