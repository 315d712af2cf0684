"""Time callers whose events are published before and after the answer: `python -m bench.after_answer [--rounds N]`.

Both run in the real Lambda runtime, in turn, payment by payment. The emulator keeps an answer back until every extension is
done, which Lambda does not. So the runtime reaches the emulator through a relay of ours: the caller's wait (`answer`) ends when
the runtime has posted the answer, and the environment is busy (`whole`) until the emulator answers.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from statistics import median, quantiles

import psutil
from rich.console import Console
from rich.table import Table

from bench.cold import Start, limited, starts
from bench.stage import built, cpu_s
from local.template import Function
from tests.lambda_runtime import LambdaRuntime, qualifier_of

KINDS = ("process, direct event", "process, API Gateway event")
SETTINGS = {"before": "Off", "after": "On"}
WARM_UP = 30
POSTED = re.compile(rb"POST /2018-06-01/runtime/invocation/[^/]+/response HTTP.*?\r\ncontent-length: *(\d+)\r\n", re.I | re.S)


class Relay:
    """Stands between a runtime and the emulator's Runtime API. `posted_s` is the moment of the last whole answer."""

    def __init__(self, api_port: int) -> None:
        self._api_port, self.posted_s = api_port, 0.0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            pair = self._server.accept()[0], socket.create_connection(("127.0.0.1", self._api_port))
            for end in pair:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends, watched in ((pair, True), (pair[::-1], False)):
                threading.Thread(target=self._pass, args=(*ends, watched), daemon=True).start()

    def _pass(self, from_: socket.socket, to: socket.socket, watched: bool) -> None:
        rest = 0
        with contextlib.suppress(OSError):  # both ends are closed when the function ends
            while data := from_.recv(1 << 20):
                at_s = time.perf_counter()
                if watched and (posted := POSTED.match(data)):
                    rest = int(posted[1]) - len(data.partition(b"\r\n\r\n")[2])
                    self.posted_s = at_s if rest == 0 else self.posted_s
                elif rest > 0:
                    rest -= len(data)
                    self.posted_s = at_s if rest == 0 else self.posted_s
                to.sendall(data)
        for end in (from_, to):
            end.close()


class Relayed(LambdaRuntime):
    def _variables(self, api_port: int) -> dict[str, str]:
        self.relay = Relay(api_port)
        return super()._variables(api_port) | {"AWS_LAMBDA_RUNTIME_API": self.relay.address}

    @property
    def cpu_s(self) -> float:
        [(emulator, _)] = self._emulators.values()
        return cpu_s(emulator.children(recursive=True))


@dataclasses.dataclass
class Payer:
    """One environment, and what its payments took: the answer and the whole invocation, in milliseconds."""

    start: Start
    runtime: Relayed
    taken: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def pay(self) -> None:
        event = self.start.event()
        # LambdaRuntime.invoke would read the whole log each time, which takes longer and longer.
        url, body = self.runtime._started(qualifier_of(event)), json.dumps(event).encode()
        begun_s = time.perf_counter()
        with urllib.request.urlopen(url, body, timeout=30) as response:  # noqa: S310 - our own URL
            text = response.read()
        ended_s, posted_s = time.perf_counter(), self.runtime.relay.posted_s
        answer = json.loads(text)
        if answer.get("statusCode", answer.get("status")) != 201 or not begun_s < posted_s < ended_s:
            raise RuntimeError(f"not paid: {answer}\n{self.runtime.logs()[-4000:]}")
        self.taken.append(((posted_s - begun_s) * 1000, (ended_s - begun_s) * 1000))


def environment_of(function: Function, given: Mapping[str, str], setting: str, delay_ms: str) -> Relayed:
    return Relayed(function, {**given, "GATEWAY_DELAY_MS": delay_ms, "PUBLISH_AFTER_ANSWER": setting})


def round_of(payers: dict[tuple[str, str], Payer], payments: int) -> dict[tuple[str, str], dict[str, float]]:
    """Pay in turn, so that what disturbs the machine disturbs all alike."""
    before = {name: payer.runtime.cpu_s for name, payer in payers.items()}
    for payer in payers.values():
        payer.taken.clear()
    for number in range(payments):
        for payer in list(payers.values())[:: 1 if number % 2 else -1]:
            payer.pay()
    figures = {}
    for name, payer in payers.items():
        answer, whole = zip(*payer.taken, strict=True)
        figures[name] = {
            "answer, p50 ms": median(answer),
            "answer, p99 ms": quantiles(answer, n=100)[-1],
            "whole, p50 ms": median(whole),
            "CPU ms": (payer.runtime.cpu_s - before[name]) / payments * 1000,
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.after_answer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--payments", type=int, default=100, help="of each environment in a round")
    parser.add_argument("--delay-ms", default="0-0", help="of the gateway")
    parser.add_argument("--cpus", type=float)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(built())
        functions = starts(stage)
        stack.enter_context(limited(given.cpus, full_init=False))
        payers = {}
        for kind in KINDS:
            for name, setting in SETTINGS.items():
                start = functions[kind]
                runtime = environment_of(start.function, start.environment, setting, given.delay_ms)
                payers[kind, name] = Payer(start, stack.enter_context(runtime))
        for payer in payers.values():
            for _ in range(WARM_UP):
                payer.pay()
        rounds = []
        for number in range(given.rounds):
            rounds.append(round_of(payers, given.payments))
            print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        [[waiting]] = stage.query("SELECT count(*) FROM outbox WHERE published_at IS NULL")
        heading = (
            f"{stage.broker}, gateway {given.delay_ms} ms, {psutil.cpu_count()} cores; {waiting} events unpublished at the end"
        )
    figures = list(rounds[0][KINDS[0], "before"])
    table = Table(title=heading)
    for column in ("", *figures):
        table.add_column(column, justify="right" if column else "left")
    for kind in KINDS:
        for name in SETTINGS:
            table.add_row(
                f"{kind}, {name}", *(f"{median(each[kind, name][figure] for each in rounds):.1f}" for figure in figures)
            )
        ratios = {
            figure: sorted(each[kind, "after"][figure] / each[kind, "before"][figure] for each in rounds) for figure in figures
        }
        table.add_row("  ratio", *(f"{median(found):.2f} ({found[0]:.2f}-{found[-1]:.2f})" for found in ratios.values()))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
