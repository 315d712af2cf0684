"""Check the protocol's model exhaustively with Spin, then show that the check can fail.

    python -m model.check                 check all scenes and all mutants: a quarter of an hour and 3 GB
    python -m model.check lost_update     check the named scenes and mutants, and print each run that breaks an invariant

You need `spin` and a C compiler. The exit code is 1 if an invariant does not hold, if the check misses a mutant, or if a tool is
missing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model import gateway_mutants, mutants

MUTANTS = (*mutants.MUTANTS, *gateway_mutants.MUTANTS)

PAYMENTS = Path(__file__).with_name("payments.pml")
GATEWAY = Path(__file__).with_name("gateway.pml")

SCENES = (
    ("ORDER", "invariants", 3),
    ("AUTHORIZATION", "invariants", 3),
    ("REFUNDS", "invariants", 3),
    ("NO_KEY", "invariants", 3),
    ("LIFE", "invariants", 3),
    ("ORDER", "progress", 2),
    ("AUTHORIZATION", "progress", 2),
    ("REFUNDS", "progress", 2),
    ("LIFE", "progress", 3),
    ("CUSTOMER", "invariants", 2),
    ("LAPSE", "invariants", 4),
    ("OUTSIDE", "invariants", 2),
    ("EARLY", "invariants", 3),
    ("DISPUTE", "invariants", 2),
)
"""The searches: a scene, the kind of search, and its bound. In payments.pml that is how often clients invoke the workers, in
gateway.pml how many mishaps a run has. One more would take three times the memory. LIFE needs three to reach its refund."""

MODELS = dict.fromkeys(("ORDER", "AUTHORIZATION", "REFUNDS", "NO_KEY", "LIFE"), PAYMENTS)
MODELS |= dict.fromkeys(("CUSTOMER", "LAPSE", "OUTSIDE", "EARLY", "DISPUTE"), GATEWAY)
"""The model that has the scene."""

MEMORY_MIB = 4000
"""A search gives up at this size, so that it does not take all of the machine's memory."""

STEPS = 100_000
"""How deep a search may go. The longest run has some hundred steps. If the limit were too low, the search would fail."""

SEARCHES = {
    "invariants": (("-DSAFETY",), ()),
    "shortest": (("-DSAFETY", "-DBFS"), ()),
    "progress": (("-DNP",), ("-l",)),
}
"""Options to compile and to call Spin's verifier. "invariants" and "shortest" look for a broken assertion or a stuck process:
in any run, or in the shortest. "progress" looks for an endless run without a fault. Spin keeps every state whole: no
bitstate hashing, no partial-order reduction."""

PROCESSES = {
    PAYMENTS: ("init", "worker 1", "worker 2", "reconcile", "relay", "quiet"),
    GATEWAY: ("init", "worker 1", "worker 2", "doors", "others", "quiet"),
}
"""The processes' names, in the order in which `init` runs them."""


class ToolMissing(Exception):
    """Spin or a C compiler is missing. The message says how to install it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The broken invariant, or None; the run that breaks it; and the search's cost. `depth` is the depth of that run, or else of
    the longest run."""

    broken: str | None
    run: list[str]
    depth: int
    states: int
    memory_mib: float
    seconds: float


def tools() -> tuple[str, str]:
    """Return the paths of spin and of the C compiler. Raises ToolMissing."""
    spin, compiler = shutil.which("spin"), shutil.which("cc")
    if spin is None:
        raise ToolMissing("spin is not installed; on Debian and Ubuntu: apt-get install spin, on macOS: brew install spin")
    if compiler is None:
        raise ToolMissing("no C compiler (cc) is installed; on Debian and Ubuntu: apt-get install gcc libc6-dev")
    return spin, compiler


def verify(model: str, scene: str, search: str, bound: int, attempts: int = 3, optimization: str = "-O2") -> Verdict:
    """Search all states of a scene. A search of less than a second takes less time than its optimization (-O0 leaves it out).

    `bound` is that of SCENES; `attempts` is for payments.pml alone.

    Raises ToolMissing, and CalledProcessError or RuntimeError if the search did not end.
    """
    spin, compiler = tools()
    compiled_with, called_with = SEARCHES[search]
    defines = [f"-D{scene}", f"-DSENDS={bound}", f"-DMISHAPS={bound}", f"-DATTEMPTS={attempts}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "m.pml").write_text(model)

        def run(*command: str | Path) -> str:
            return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

        run(spin, *defines, "-a", "m.pml")
        run(
            compiler,
            optimization,
            "-w",
            "-DCOLLAPSE",
            "-DNOREDUCE",
            f"-DMEMLIM={MEMORY_MIB}",
            *compiled_with,
            "-o",
            "pan",
            "pan.c",
        )
        report = run(folder / "pan", "-n", f"-m{STEPS}", *called_with)
        found = re.search(r"pan:1: (.+) \(at depth (\d+)\)", report)
        if not found and ("errors: 0" not in report or "Search not completed" in report or "too small" in report):
            raise RuntimeError(f"the search did not end:\n{report}")
        trail = run(spin, *defines, "-t", "-p", "m.pml") if found else ""
    return Verdict(
        broken=_invariant(found[1], trail, model) if found else None,
        run=_steps(trail, model, PROCESSES[MODELS[scene]]),
        depth=int(found[2] if found else _number(r"depth reached (\d+)", report)),
        states=int(_number(r"(\S+) states, stored", report)),
        memory_mib=_number(r"(\S+)\s+total actual memory usage", report),
        seconds=_number(r"elapsed time (\S+) seconds", report),
    )


def _number(pattern: str, report: str) -> float:
    found = re.search(pattern, report)
    if not found:
        raise RuntimeError(f"Spin's report lacks {pattern!r}; its format has changed:\n{report}")
    return float(found[1])


def _invariant(error: str, trail: str, model: str) -> str:
    """Return the invariant's name: the comment after the assertion that ends the run."""
    if failed := re.search(r"m\.pml:(\d+), Error: assertion violated", trail):
        name = re.search(r"/\* ([^*]+) \*/$", model.splitlines()[int(failed[1]) - 1])
        return name[1] if name else f"the assertion in line {failed[1]}"
    return "nobody goes round in circles" if "non-progress" in error else "nobody is stuck"


def _steps(trail: str, model: str, processes: Sequence[str]) -> list[str]:
    """Return the run's steps: the process and the model's line."""
    lines, steps = model.splitlines(), list[str]()
    taken, _, _ = trail.partition("#processes:")  # the final state of each process follows
    for process, line in re.findall(r"^\s*\d+:\tproc\s+(\d+) \(.*?\) m\.pml:(\d+)", taken, re.MULTILINE):
        step = f"{processes[int(process)]:<10} {int(line):>4}  {lines[int(line) - 1].strip()}"
        if process != "0" and steps[-1:] != [step]:
            steps.append(step)
    return steps


def main(names: Sequence[str]) -> int:
    texts = {scene: path.read_text() for scene, path in MODELS.items()}
    unexpected = 0
    if unknown := set(names) - {scene for scene, _, _ in SCENES} - {mutant.name for mutant in MUTANTS}:
        sys.exit(f"no such scene or mutant: {', '.join(sorted(unknown))}")

    def report(name: str, scene: str, search: str, verdict: Verdict, expected: bool) -> None:
        took = f"{verdict.states:>10,} {verdict.memory_mib:>6,.0f} MiB {verdict.seconds:>6.1f} s"
        result = f"broken after {verdict.depth:>3} steps: {verdict.broken}" if verdict.broken else "all invariants hold"
        mark = "" if expected else "   <- NOT AS EXPECTED"
        print(f"{name:<32} {scene:<13} {search:<10} {took}  {result}{mark}", flush=True)
        if verdict.broken and (names or not expected):
            print(*(f"    {step}" for step in verdict.run), sep="\n")

    print(f"{'':<32} {'scene':<13} {'search':<10} {'states':>10} {'memory':>10} {'time':>8}  result")
    for scene, search, bound in SCENES:
        if not names or scene in names:
            verdict = verify(texts[scene], scene, search, bound)
            unexpected += verdict.broken is not None
            report("the protocol", scene, search, verdict, verdict.broken is None)
    for mutant in MUTANTS:
        if not names or mutant.name in names:
            verdict = verify(mutant.applied_to(texts[mutant.scene]), mutant.scene, mutant.search, mutant.bound)
            expected = verdict.broken == mutant.breaks
            unexpected += not expected
            report(mutant.name, mutant.scene, mutant.search, verdict, expected)
    print(f"{unexpected} not as expected" if unexpected else "all as expected")
    return 1 if unexpected else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ToolMissing as missing:
        sys.exit(str(missing))
