"""What the local front costs a payment: `python -m bench.front --rounds N --payments N`.

The same function is called with an event in a process of its own and over `make run`'s port, by one caller. The difference is the
front's: HTTP, the event, and the way to a worker and back. Each round measures every row once and begins with another. A figure
is the median of the rounds, and a ratio the median of the rounds' own. On a machine that does other work, the processor's time
is quieter than the clock's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from functools import partial
from statistics import median

import psutil
from rich.console import Console
from rich.table import Table

from bench.payments import Measured, in_rounds, make_run, p50, p99, peer
from bench.stage import Stage, built, cpu_s
from bench.workers import Worker

EVENT, PORT, PEER = "API Gateway event in process", "over make run's port", "peer over HTTP"
RATIOS = ((PORT, PEER), (PORT, EVENT), (EVENT, PEER))


class Run:
    """The processes of `make run`."""

    def __init__(self, stage: Stage) -> None:
        self._front = psutil.Process(json.loads((stage.folder / "run/run.json").read_text())["pid"])
        self._workers = [
            child
            for child in self._front.children()
            if child.cmdline()[-1].startswith("handler.") and child.environ()["AWS_LAMBDA_FUNCTION_NAME"] == "ProcessFunction"
        ]

    def cpu_s(self) -> tuple[float, float, float]:
        """Return the CPU seconds of the front so far, of its event loop alone, and of the workers of the function."""
        # The other threads follow the topic for the terminal, and supervise the servers.
        loop = next(thread for thread in self._front.threads() if thread.id == self._front.pid)
        return sum(self._front.cpu_times()[:2]), loop.user_time + loop.system_time, cpu_s(self._workers)


def measured(name: str, worker: Worker, run: Run, payments: int) -> Measured:
    before = run.cpu_s()
    round_ = worker.round(payments=payments)
    times = {"p50_ms": p50(round_.milliseconds), "p99_ms": p99(round_.milliseconds)}
    paid = payments + 1  # a worker begins a round with one that it does not time
    if name == EVENT:
        return times | {"function_cpu_ms": round_.cpu_s / paid * 1000}
    if name == PORT:
        spent = [(after - earlier) / paid * 1000 for earlier, after in zip(before, run.cpu_s(), strict=True)]
        return times | dict(zip(("front_cpu_ms", "loop_cpu_ms", "function_cpu_ms"), spent, strict=True))
    return times


def report(rounds: list[dict[str, Measured]]) -> None:
    figures = ("p50_ms", "p99_ms", "front_cpu_ms", "loop_cpu_ms", "function_cpu_ms")
    table = Table("", *figures)
    for name, first in rounds[0].items():
        table.add_row(
            name, *(f"{median(one[name][figure] for one in rounds):.2f}" if figure in first else "" for figure in figures)
        )
    own = [one[PORT]["p50_ms"] - one[EVENT]["p50_ms"] for one in rounds]
    table.add_row("the front's own cost", f"{median(own):.2f}")
    ratios = Table("p50", "ratio", "lowest", "highest")
    for ours, other in RATIOS:
        found = [one[ours]["p50_ms"] / one[other]["p50_ms"] for one in rounds]
        ratios.add_row(f"{ours} / {other}", *(f"{figure:.2f}" for figure in (median(found), min(found), max(found))))
    console = Console(width=130)
    console.print(table, ratios)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.front", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--payments", type=int, default=300, help="of each row in a round")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(built())
        plain, _ = stack.enter_context(peer(stage, 1, 1))
        port = stack.enter_context(make_run(stage))
        workers = {EVENT: Worker("api", stage.environment), PORT: Worker("http", {}, port), PEER: Worker("http", {}, plain)}
        for worker in workers.values():
            stack.callback(worker.stop)
        run = Run(stage)
        rows = {name: partial(measured, name, worker, run, given.payments) for name, worker in workers.items()}
        report(in_rounds(rows, given.rounds))


if __name__ == "__main__":
    main()
