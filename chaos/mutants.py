"""Run the harness against each seeded defect. If the harness misses one, the harness has a hole."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from chaos.defects import MUTANTS, Mutant
from chaos.environments import REPO
from chaos.run import Options, Report, run

COPIED = ("functions", "layers", "migrations")


class PatchFailed(Exception):
    """The tree has changed: it does not contain the patch's old text exactly once."""


@dataclass(frozen=True, slots=True)
class Verdict:
    mutant: str
    caught_by: str
    """The first violation with the mutant's sign; empty if there was none."""
    others: int
    """The number of violations without the sign."""
    took_s: float

    def __str__(self) -> str:
        return f"{self.mutant:<52} {self.took_s:>4.0f} s  {self.caught_by or 'nothing found'} ({self.others} others)"


@contextmanager
def tree(mutant: Mutant) -> Iterator[Path]:
    """Make a copy of the tree under test with the defect in it. Raises PatchFailed."""
    with tempfile.TemporaryDirectory(prefix="payments-mutant-") as name:
        root = Path(name)
        for part in COPIED:
            shutil.copytree(REPO / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        for patch in mutant.patches:
            path = root / patch.file
            text = path.read_text()
            if text.count(patch.old) != 1:
                raise PatchFailed(f"{mutant.name}: found {text.count(patch.old)} times in {patch.file}: {patch.old!r}")
            path.write_text(text.replace(patch.old, patch.new))
        yield root


def try_all(seed: str, mutants: Sequence[Mutant], report: Report) -> list[Verdict]:
    """Try the mutants in turn. First check that all patches fit."""
    for mutant in mutants:
        with tree(mutant):
            pass
    return [_try(seed, mutant, report) for mutant in mutants]


def _silent(_: str) -> None:
    """Report nothing: a mutant's run reports only its verdict."""


def controls() -> tuple[Mutant, ...]:
    """Return a mutant without a defect for each way in which we run the mutants. The harness must find nothing in them."""
    ways = []
    for mutant in MUTANTS:
        if mutant.how not in ways:
            ways.append(mutant.how)
    return tuple(Mutant(f"control {number}", "", (), how) for number, how in enumerate(ways, start=1))


def _try(seed: str, mutant: Mutant, report: Report) -> Verdict:
    begun_s = time.monotonic()
    with tree(mutant) as root:
        outcome = asyncio.run(run(replace(Options(seed), root=root, **mutant.how), _silent))
    shutil.rmtree(outcome.folder, ignore_errors=True)
    signs = [violation for violation in outcome.violations if mutant.sign in violation]
    others = len(outcome.violations) - len(signs)
    verdict = Verdict(mutant.name, signs[0] if signs else "", others, time.monotonic() - begun_s)
    report(str(verdict))
    return verdict
