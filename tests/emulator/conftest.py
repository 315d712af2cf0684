"""The emulator, once for all tests of this folder, and the stacks that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.emulator.sets import SETS, own_servers
from tests.emulator.stacks import PYTHON, Emulator, Stack, transformed


@pytest.fixture(scope="session")
def emulator(servers_folder: Path) -> Iterator[Emulator]:
    if not PYTHON.exists():
        pytest.skip("LocalStack is in .venv-emulator, which `make emulate` sets up")
    folder = servers_folder / "emulator"
    folder.mkdir()
    running = Emulator(folder)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def given(emulator: Emulator) -> dict[str, dict[str, str]]:
    """The parameter sets, with the ids of what they bring along."""
    return {name: parameters | own_servers(emulator, parameters) for name, parameters in SETS.items()}


@pytest.fixture(scope="session")
def stack(emulator: Emulator, given: dict[str, dict[str, str]]) -> Callable[[str], Stack]:
    """`stack(name)` is the stack with this parameter set, made once. Its tests read it and change nothing."""
    made: dict[str, Stack] = {}

    def with_set(name: str) -> Stack:
        if name not in made:
            made[name] = emulator.deploy(name, transformed(given[name]), given[name])
        return made[name]

    return with_set
