"""The last release's code is in the history. A folder without it, such as an archive of the sources, leaves its tests out."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.migrations.last_release import COMMIT, ROOT

# A clone that another user made, as in a container, is read all the same: nothing of it is carried out by git.
FIND = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "cat-file", "-e", COMMIT]
HAS_HISTORY = bool(shutil.which("git")) and not subprocess.run(FIND, capture_output=True, check=False).returncode

collect_ignore = [] if HAS_HISTORY else ["test_compatibility.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not HAS_HISTORY:
        terminalreporter.write_line(f"tests/migrations/test_compatibility.py did not run: git shows no commit {COMMIT} here")
