from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.stand import Stand, stands
from tests.cli.terminal import Payments, Prefork

ROOT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT_S = 60  # the embedded servers start in 3 s; this ends the wait when one does not


@pytest.fixture(scope="session")
def data_dir(servers_folder: Path) -> Iterator[Path]:
    """Start the whole service as `make run` does, and return its folder. Its gateway approves every charge whose token decides
    nothing else, without a delay."""
    folder = servers_folder / "cli"
    folder.mkdir()
    instant = {"GATEWAY_SUCCESS_RATE": "1", "GATEWAY_DELAY_MS": "0-0"}
    python_path = {"PYTHONPATH": str(ROOT / "layers" / "shared" / "python")}
    given = ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "STRIPE_API_KEY")
    own = {name: value for name, value in os.environ.items() if name not in given}
    log = folder / "runner.log"
    with log.open("wb") as output:
        runner = subprocess.Popen(
            [sys.executable, "-m", "local"],
            cwd=ROOT,
            env=own | instant | python_path | {"PORT": "0", "DATA_DIR": str(folder)},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (folder / "run.json").exists():
            assert runner.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield folder
    finally:
        runner.kill()  # its servers and workers end with it (tests/local/test_run.py)
        runner.wait()


@pytest.fixture(scope="session")
def prefork(servers_folder: Path) -> Iterator[Prefork]:
    started = Prefork()
    yield started
    started.close()


@pytest.fixture(scope="session")
def payments(prefork: Prefork, data_dir: Path) -> Payments:
    """The command line beside a running service, whose address it reads from the data folder."""
    return Payments(prefork, {"DATA_DIR": str(data_dir)})


@pytest.fixture
def payments_alone(prefork: Prefork, tmp_path: Path) -> Payments:
    """The command line where no service runs."""
    return Payments(prefork, {"DATA_DIR": str(tmp_path)})


@pytest.fixture
def standing_in() -> Iterator[Callable[..., Stand]]:
    with stands() as start:
        yield start
