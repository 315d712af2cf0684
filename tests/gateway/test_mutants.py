"""The suite can fail: each seeded defect is caught by the tests that it names, which pass without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.mutants import MUTANTS, Mutant
from tests.gateway.servers import ROOT

pytestmark = pytest.mark.server

COPIED = ("layers/shared/python", "tests/gateway", "chaos")
LINKED = ("tests/certificates.py", "tests/cases.py", "tests/fakes.py", "tests/domain", "pyproject.toml")


def tree(folder: Path, mutant: Mutant) -> Path:
    """Make a copy of what the tests import, with the defect in it."""
    for part in COPIED:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in LINKED:
        (folder / part).symlink_to(ROOT / part)
    for patch in mutant.patches:
        text = (folder / patch.file).read_text(encoding="utf-8")
        assert text.count(patch.old) == 1, f"found {text.count(patch.old)} times in {patch.file}: {patch.old!r}"
        (folder / patch.file).write_text(text.replace(patch.old, patch.new), encoding="utf-8")
    return folder


def runs(folder: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    # Neither the servers' fixtures nor the plug-ins are needed, and both take seconds to import.
    plugins = ("-p", "no:cacheprovider", "-p", "pytest_timeout", "-p", "tests.gateway.conftest", "--noconftest")
    command = [sys.executable, "-m", "pytest", "-q", "-x", *plugins, "--timeout=8", *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = f"{folder}:{folder / 'layers/shared/python'}"
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_defect_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    done = runs(tree(tmp_path, mutant), mutant.tests)
    assert done.returncode == 1, f"{done.returncode}: {done.stdout[-3000:]}{done.stderr[-1000:]}"
    assert " failed" in done.stdout


def test_the_tests_pass_without_a_defect(tmp_path: Path) -> None:
    folder = tree(tmp_path, Mutant("none", (), ()))
    files = sorted({mutant.tests[0] for mutant in MUTANTS})
    done = runs(folder, tuple(files))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
