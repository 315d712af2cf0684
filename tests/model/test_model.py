"""The protocol's model with few invocations. `python -m model.check` searches it in full, which takes minutes."""

import importlib
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from model.check import MODELS, MUTANTS, ToolMissing, Verdict, tools, verify
from model.mutants import DoesNotApply, Mutant

PAGE = Path(__file__).parent.parent.parent / "docs" / "protocol.md"
TEXTS = {scene: path.read_text() for scene, path in MODELS.items()}
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def what_is_missing() -> str:
    try:
        tools()
    except ToolMissing as missing:
        return str(missing)
    return ""


needs_spin = pytest.mark.skipif(what_is_missing() != "", reason=what_is_missing())


SCENES = [
    ("ORDER", "invariants", 2, "-O2"),
    ("REFUNDS", "invariants", 2, "-O2"),
    ("ORDER", "progress", 1, "-O0"),
    ("CUSTOMER", "invariants", 0, "-O0"),
    ("LAPSE", "invariants", 1, "-O0"),
]
DEFECTS = [BY_NAME["refund_guarded_in_python"], BY_NAME["failed_before_the_cancel"]]


@pytest.fixture(scope="module")
def verdicts() -> Iterator[dict[str, Future[Verdict]]]:
    """Return the verdict on each scene and defect, by name. The searches run at the same time, each in its own process."""
    with ThreadPoolExecutor(len(SCENES) + len(DEFECTS)) as pool:
        scenes = {
            f"{scene} {search}": pool.submit(verify, TEXTS[scene], scene, search, bound, attempts=2, optimization=optimization)
            for scene, search, bound, optimization in SCENES
        }
        defects = {
            one.name: pool.submit(verify, one.applied_to(TEXTS[one.scene]), one.scene, one.search, one.bound, optimization="-O0")
            for one in DEFECTS
        }
        yield scenes | defects


@pytest.mark.server
@needs_spin
@pytest.mark.parametrize("scene", [f"{scene} {search}" for scene, search, *_ in SCENES])
def test_every_run_of_two_workers_keeps_the_invariants(scene: str, verdicts: dict[str, Future[Verdict]]) -> None:
    verdict = verdicts[scene].result()
    assert verdict.broken is None, "\n".join([verdict.broken, *verdict.run])
    assert verdict.states > 1_000


@pytest.mark.server
@needs_spin
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_breaks_an_invariant(defect: Mutant, verdicts: dict[str, Future[Verdict]]) -> None:
    verdict = verdicts[defect.name].result()
    assert verdict.broken == defect.breaks
    assert len(verdict.run) > 10


@pytest.mark.parametrize("name", BY_NAME)
def test_every_mutant_still_applies(name: str) -> None:
    text = TEXTS[BY_NAME[name].scene]
    assert BY_NAME[name].applied_to(text) != text


def test_a_mutant_of_a_line_that_is_gone_is_refused() -> None:
    with pytest.raises(DoesNotApply):
        Mutant(name="m", scene="ORDER", what="", changes=(("no such line", ""),), breaks=None).applied_to(TEXTS["ORDER"])


def test_the_page_names_code_that_is_there() -> None:
    """`module.name` on the page stands for a module of `payments` and a name in it."""
    names = set(re.findall(r"`([\w.]+)\.(\w+)`", PAGE.read_text(encoding="utf-8")))
    assert len(names) > 10
    for module, name in names:
        assert hasattr(importlib.import_module(f"payments.{module}"), name), f"payments.{module}.{name}"


def test_the_page_names_every_mutant() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) >= BY_NAME.keys()
