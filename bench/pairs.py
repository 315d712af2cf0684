"""What a payment costs in other checkouts and in the peer, in turn on the same servers: `python -m bench.pairs [CHECKOUT ...]`.

Each round pays by every row, and the next round begins with another one, so that the machine's other work falls on all of them.
CPU is the kernel's count (schedstat) for the thread that carries the payment, for the other threads of its process, and for
PostgreSQL. A ratio is the median of the rounds' own. This checkout migrates the servers, so the others must bear its schema.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import psutil

from bench.payments import Measured, in_rounds, p50, peer
from bench.stage import REPOSITORY, Stage, built
from bench.workers import Worker
from chaos.servers import processes_of

FIGURES = ("main_ms", "others_ms", "postgres_ms", "cpu_ms", "p50_ms")


def spent_ms(tasks: Sequence[Path]) -> float:
    """Return the milliseconds of CPU that threads have used so far, from their folders in /proc."""
    total = 0.0
    for task in tasks:
        with contextlib.suppress(OSError):  # It has ended.
            total += int((task / "schedstat").read_text().split()[0]) / 1e6
    return total


def tasks_of(pid: int) -> tuple[list[Path], list[Path]]:
    """Return the main thread and the others of a process."""
    every = list(Path(f"/proc/{pid}/task").iterdir())
    return [task for task in every if task.name == str(pid)], [task for task in every if task.name != str(pid)]


def row(stage: Stage, worker: Worker, pid: int, payments: int) -> Callable[[], Measured]:
    def measured() -> Measured:
        postgres = [Path(f"/proc/{process.pid}") for process in processes_of(stage.postgres)]
        groups = [*tasks_of(pid), postgres]
        before = [spent_ms(group) for group in groups]
        taken = worker.round(payments=payments).milliseconds
        # The worker pays once more than it counts.
        main, others, database = ((spent_ms(group) - was) / (payments + 1) for group, was in zip(groups, before, strict=True))
        return {
            "main_ms": main,
            "others_ms": others,
            "postgres_ms": database,
            "cpu_ms": main + others + database,
            "p50_ms": p50(taken),
        }

    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("checkouts", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--payments", type=int, default=100)
    parser.add_argument("--kinds", default="direct,api")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(built())
        url, processes = stack.enter_context(peer(stage, 1, 1))
        rows: dict[str, Callable[[], Measured]] = {}
        client = Worker("http", {}, url)
        stack.callback(client.stop)
        rows["peer"] = row(stage, client, processes[0].pid, given.payments)
        for kind in given.kinds.split(","):
            for checkout in (*given.checkouts, REPOSITORY):
                worker = Worker(kind, stage.environment, checkout=checkout)
                stack.callback(worker.stop)
                name = "this tree" if checkout == REPOSITORY else checkout.name
                rows[f"{kind}, {name}"] = row(stage, worker, worker.pid, given.payments)
        psutil.cpu_percent()
        rounds = in_rounds(rows, given.rounds)
        busy = psutil.cpu_percent()
    print(f"{given.rounds} rounds of {given.payments} payments; the processors were busy {busy:.0f} % of the time")
    print(f"{'':<30}" + "".join(f"{figure:>12}" for figure in FIGURES))
    for name in rows:
        values = [median(round_[name][figure] for round_ in rounds) for figure in FIGURES]
        print(f"{name:<30}" + "".join(f"{value:>12.3f}" for value in values))
    for name in rows:
        kind, _, whose = name.partition(", ")
        others = ["peer"] + [other for other in rows if other != name and other.startswith(f"{kind}, ")] * (whose == "this tree")
        for other in others if name != "peer" else []:
            ratios = []
            for figure in FIGURES:
                pairs = [round_[name][figure] / round_[other][figure] for round_ in rounds if round_[other][figure]]
                ratios.append(median(pairs) if pairs and figure != "others_ms" else float("nan"))
            print(f"{name + ' / ' + other:<45}" + "  ".join(f"{f[:-3]} {r:.2f}" for f, r in zip(FIGURES, ratios, strict=True)))


if __name__ == "__main__":
    main()
