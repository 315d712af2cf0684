"""How the service grows: `python -m bench.scale [--rounds N] [--seconds S] [--rows N]`.

Payments a second from 1 to 16 environments, and the peer with as many callers beside them; then one caller's times on a
table of 20 thousand payments and on one of 2 million. The plots go to docs/.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import matplotlib as mpl
import psutil

from bench.fill import fill
from bench.payments import ENVIRONMENTS, Measured, facts_of, in_rounds, p50, p99, peer, write
from bench.stage import REPOSITORY, Stage, built
from bench.workers import Worker

mpl.use("Agg")
from matplotlib import pyplot as plt

AT_ONCE = (1, 2, 4, 8, 16)
SMALL_ROWS = 20_000
PAYMENTS = 500
"""In one round by one caller. Five of them are slower than the p99."""

Rounds = list[dict[str, Measured]]


def by_environments(stage: Stage, stack: contextlib.ExitStack, seconds: int) -> dict[str, Callable[[], Measured]]:
    """Return what measures payments a second: ours for each number of environments, the peer for as many callers."""
    url, _ = stack.enter_context(peer(stage, psutil.cpu_count() or 1, ENVIRONMENTS))
    crowd = [Worker("crowd", {}, url)]
    ours = [Worker("api", stage.environment | {"DATABASE_URL": stage.pooler_url}) for _ in range(ENVIRONMENTS)]
    for worker in (*crowd, *ours):
        stack.callback(worker.stop)

    def rate(workers: list[Worker], callers: int) -> Measured:
        for worker in workers:
            worker.begin(seconds=seconds, callers=callers)
        return {"payments_per_s": sum(len(worker.end().milliseconds) for worker in workers) / seconds}

    rows: dict[str, Callable[[], Measured]] = {}
    for number in AT_ONCE:
        rows[f"ours, {number}"] = partial(rate, ours[:number], 1)
        rows[f"peer, {number}"] = partial(rate, crowd, number)
    return rows


def by_rows(stage: Stage, stack: contextlib.ExitStack, sizes: tuple[int, int]) -> dict[str, Callable[[], Measured]]:
    """Return what measures one caller's payments on a table of each size, all in the same server."""
    rows: dict[str, Callable[[], Measured]] = {}
    for size in sizes:
        owners, services = stage.another_database(f"with_{size}")
        fill(owners, size)
        worker = Worker("direct", stage.environment | {"DATABASE_URL": services})
        stack.callback(worker.stop)
        rows[f"{size:,} payments"] = partial(_times, worker)
    return rows


def _times(worker: Worker) -> Measured:
    taken = worker.round(payments=PAYMENTS).milliseconds
    return {"p50_ms": p50(taken), "p99_ms": p99(taken)}


def plot_environments(rounds: Rounds, facts: dict[str, str]) -> None:
    figure, axes = plt.subplots(figsize=(8, 5))
    for who, name in (
        ("ours", "this service: keys, outbox, event acknowledged before the answer"),
        ("peer", "the plain peer, without guarantees"),
    ):
        values = [[round_[f"{who}, {number}"]["payments_per_s"] for round_ in rounds] for number in AT_ONCE]
        draw(axes, AT_ONCE, values, name)
    axes.set(xscale="log", xticks=AT_ONCE, xticklabels=AT_ONCE, ylim=(0, None))
    axes.set_xlabel("environments of the function (callers of the peer) at once")
    axes.set_ylabel("captured payments a second")
    finish(
        figure, axes, "Payments a second on two cores, PostgreSQL and broker included", facts, len(rounds), "scale-environments"
    )


def plot_rows(rounds: Rounds, facts: dict[str, str]) -> None:
    figure, axes = plt.subplots(figsize=(8, 5))
    sizes = list(rounds[0])
    for offset, figure_name in ((-0.2, "p50_ms"), (0.2, "p99_ms")):
        values = [median(round_[size][figure_name] for round_ in rounds) for size in sizes]
        bars = axes.bar([place + offset for place in range(len(sizes))], values, 0.36, label=figure_name.removesuffix("_ms"))
        axes.bar_label(bars, fmt="%.1f")
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlabel("already in the table")
    axes.set_ylabel("milliseconds from direct event to return")
    finish(figure, axes, "One caller's payment on a small and on a large table", facts, len(rounds), "scale-rows")


def draw(axes: plt.Axes, places: Sequence[int], values: Sequence[Sequence[float]], label: str) -> None:
    """Draw the median of the rounds at each place, with the lowest and the highest."""
    middle = [median(each) for each in values]
    below = [m - min(each) for m, each in zip(middle, values, strict=True)]
    above = [max(each) - m for m, each in zip(middle, values, strict=True)]
    axes.errorbar(places, middle, yerr=[below, above], marker="o", capsize=3, label=label)


def finish(figure: plt.Figure, axes: plt.Axes, title: str, facts: dict[str, str], rounds: int, name: str) -> None:
    """Save the plot in docs/, with what was measured where."""
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    told = f"{facts['machine']}; {facts['versions']}; commit {facts['commit']}, {facts['at'][:10]}; median of {rounds} rounds"
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.text(0.01, 0.01, told, fontsize=6)
    figure.savefig(REPOSITORY / f"docs/{name}.png", dpi=120)
    print(f"drawn docs/{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each round of many callers")
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the large table")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(built())
        facts = facts_of(stage)
        rounds = in_rounds(by_environments(stage, stack, given.seconds), given.rounds)
        write("environments", facts, rounds)
        plot_environments(rounds, facts)
        rounds = in_rounds(by_rows(stage, stack, (SMALL_ROWS, given.rows)), given.rounds)
        write("rows", facts, rounds)
        plot_rows(rounds, facts)
    for name in ("p50_ms", "p99_ms"):
        ratios = [small_large[1][name] / small_large[0][name] for small_large in (list(round_.values()) for round_ in rounds)]
        print(f"{name} on the large table against the small one: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
