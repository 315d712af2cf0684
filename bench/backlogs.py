"""How fast one run works off backlogs of growing size: `python -m bench.backlogs [--rounds N]`.

The relay sends what an outage of the broker left, and reconcile settles what an outage of the gateway left. A rate that stays the
same while the backlog grows says that nothing is quadratic. The plots go to docs/. The plain peer has neither: what its broker or
its gateway loses is lost.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

from matplotlib import pyplot as plt

from bench import drain, unknown
from bench.payments import Measured, facts_of, in_rounds, write
from bench.scale import draw, finish
from bench.stage import REPOSITORY, Stage, built

EVENTS, OPERATIONS = (5_000, 20_000, 80_000), (1_000, 4_000, 16_000)
LEAST_EVENTS_PER_S, LEAST_OPERATIONS_PER_S = 5_000, 200
"""What one run has to do, so that an hour's outage is worked off in minutes and hours."""


def sent(stage: Stage, events: int) -> Measured:
    drain.write_backlog(stage, events)
    measured = drain.run_relay(REPOSITORY, stage, dead=False)
    return {"per_s": measured["events"] / measured["s"]}


def settled(stage: Stage, operations: int) -> Measured:
    unknown.write_backlog(stage, operations)
    measured = unknown.run_reconcile(stage)
    return {"per_s": measured["settled"] / measured["s"]}


def plot(
    title: str, unit: str, least: float, sizes: Sequence[int], rounds: list[dict[str, Measured]], facts: dict[str, str]
) -> None:
    figure, axes = plt.subplots(figsize=(8, 5))
    values = [[round_[f"{size:,}"]["per_s"] for round_ in rounds] for size in sizes]
    draw(axes, sizes, values, "one run (lowest, median and highest)")
    axes.axhline(least, linestyle="--", color="gray", label=f"the least that it has to do: {least:,.0f} a second")
    axes.set(xscale="log", xticks=sizes, xticklabels=[f"{size:,}" for size in sizes], ylim=(0, None))
    axes.minorticks_off()
    axes.set_xlabel(f"{unit} that wait")
    axes.set_ylabel(f"{unit} a second")
    finish(figure, axes, title, facts, len(rounds), f"backlog-{unit}")


def grow(
    title: str,
    unit: str,
    least: float,
    sizes: Sequence[int],
    write_sample: Callable[[Stage], None],
    work: Callable[[Stage, int], Measured],
    number_of_rounds: int,
) -> None:
    """Measure `work` on backlogs of the sizes, each round all of them, and draw the plot."""
    with built() as stage:
        facts = facts_of(stage)
        write_sample(stage)
        rounds = in_rounds({f"{size:,}": partial(work, stage, size) for size in sizes}, number_of_rounds)
    write(f"backlog-{unit}", facts, rounds)
    plot(title, unit, least, sizes, rounds, facts)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.backlogs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    title = "The relay after an outage of the broker"
    grow(title, "events", LEAST_EVENTS_PER_S, EVENTS, drain.write_sample, sent, given.rounds)
    title = f"Reconcile after an outage of the gateway, whose calls take {unknown.DELAY_MS} ms"
    grow(title, "operations", LEAST_OPERATIONS_PER_S, OPERATIONS, unknown.write_sample, settled, given.rounds)


if __name__ == "__main__":
    main()
