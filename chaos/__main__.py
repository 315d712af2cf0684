"""`python -m chaos run`, `restore` and `mutants`. The exit code is 1 after a violation or a mutant that we did not catch."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from chaos import restore, stale_workers
from chaos.crash_points import KINDS, Sweep
from chaos.defects import MUTANTS, Mutant
from chaos.mutants import controls, try_all
from chaos.outages import OUTAGES
from chaos.run import GATEWAYS, Options, run
from chaos.stripe_world import missing
from chaos.summary import MOST_VIOLATIONS, lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Kill the service at every step; see chaos/__init__.py.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="crash points, then load with faults and outages, then the oracle")
    one.add_argument("--seed", default=str(int(time.time())), help="repeat the plan of the run with this seed")
    one.add_argument("--invocations", type=int, default=Options.invocations, help="size of the load (default: %(default)s)")
    one.add_argument("--minutes", type=float, default=Options.minutes, help="end the load after this time at the latest")
    one.add_argument("--workers", type=int, default=Options.workers, help="invocations at a time (default: %(default)s)")
    one.add_argument("--only", choices=("crash-points", "stale-workers", "load"), help="run only this part")
    one.add_argument(
        "--kinds", nargs="+", default=KINDS, choices=KINDS, metavar="KIND", help=f"crash points of {', '.join(KINDS)}"
    )
    one.add_argument("--no-outages", action="store_true", help="do not kill, freeze or restart servers")
    one.add_argument("--outage", action="append", default=[], metavar="COMMAND", help="add one, such as 'docker restart kafka'")
    one.add_argument("--after-answer", action="store_true", help="publish events after the answer, as PublishAfterAnswer does")
    one.add_argument(
        "--gateway", default=Options.gateway, choices=GATEWAYS, help="what is behind the adapter (default: %(default)s)"
    )
    back = commands.add_parser("restore", help="lose the database, restore it to a moment, follow the page, then the oracle")
    back.add_argument("--seed", default=str(int(time.time())))
    back.add_argument("--stories", type=int, default=restore.Options.stories, help="orders (default: %(default)s)")
    many = commands.add_parser("mutants", help="run against seeded defects; the oracle must catch each of them")
    many.add_argument("--seed", default="1")
    many.add_argument("--like", default="", help="try only the mutants with this text in their name")
    arguments = parser.parse_args()
    if arguments.command == "mutants":
        return mutants(arguments.seed, arguments.like)
    if arguments.command == "restore":
        return lose_and_restore(restore.Options(arguments.seed, arguments.stories))
    if arguments.gateway == "stripe-world" and (why := missing()):
        parser.error(why)
    options = Options(
        seed=arguments.seed,
        invocations=arguments.invocations,
        minutes=arguments.minutes,
        workers=arguments.workers,
        sweep=Sweep(tuple(arguments.kinds)) if arguments.only in (None, "crash-points") else None,
        stale=stale_workers.KINDS if arguments.only in (None, "stale-workers") else (),
        load=arguments.only in (None, "load"),
        outages=() if arguments.no_outages else OUTAGES,
        commands=tuple(arguments.outage),
        after_answer=arguments.after_answer,
        gateway=arguments.gateway,
    )
    outcome = asyncio.run(run(options, report))
    print("\n".join(lines(outcome)))
    return 1 if outcome.violations else 0


def lose_and_restore(options: restore.Options) -> int:
    outcome = asyncio.run(restore.run(options, report))
    for name, value in outcome.facts.items():
        print(f"{name}: {value}")
    print("\n".join([f"violations: {len(outcome.violations)}", *outcome.violations[:MOST_VIOLATIONS]]))
    return 1 if outcome.violations else 0


def mutants(seed: str, like: str) -> int:
    why = missing()

    def can_run(mutant: Mutant) -> bool:
        return not why or mutant.gateway != "stripe-world"

    fitting = [mutant for mutant in MUTANTS if like in mutant.name]
    chosen = [*filter(can_run, fitting)]
    verdicts = try_all(seed, chosen, report)
    innocent = [] if like else try_all(seed, [*filter(can_run, controls())], report)
    if len(chosen) < len(fitting):
        print(f"{len(fitting) - len(chosen)} mutants left out. {why}")
    escaped = [verdict for verdict in verdicts if not verdict.caught_by]
    accused = [verdict for verdict in innocent if verdict.caught_by]
    print(f"{len(verdicts) - len(escaped)} of {len(verdicts)} mutants caught; {len(accused)} of {len(innocent)} controls accused")
    return 1 if escaped or accused else 0


def report(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
