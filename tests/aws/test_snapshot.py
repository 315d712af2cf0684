"""A SnapStart snapshot holds every function imported, no connection, and no random number that all copies would share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/handler.py"))

PROBE = """
import json, os, sys
network, random, urandom = [], [], os.urandom
def spy(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        network.append(repr(arguments))
def drawn(size):
    frame = sys._getframe(1)
    while frame.f_code.co_filename.endswith("uuid.py"):
        frame = frame.f_back
    random.append(frame.f_code.co_filename)
    return urandom(size)
sys.addaudithook(spy)
os.urandom = drawn
import handler
print(json.dumps({"network": network, "random": random, "modules": sorted(sys.modules.keys() & {"fastapi", "kafka"})}))
"""


def _held(name: str, initialization: str) -> dict[str, list[str]]:
    """Return what the init phase of a function has connected to and drawn, and which of the large libraries it has imported."""
    environment = {
        "AWS_LAMBDA_INITIALIZATION_TYPE": initialization,
        "PYTHONPATH": f"{ROOT / 'functions' / name}:{ROOT / 'layers/shared/python'}",
        "DATABASE_URL": "postgresql://payments_service@database.invalid/payments",
        "DATABASE_AUTH": "iam",
        "KAFKA_BOOTSTRAP_SERVERS": "broker.invalid:9098",
        "KAFKA_AUTH": "iam",
    }
    done = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_before_a_snapshot_everything_is_imported_and_nothing_connected(name: str) -> None:
    held = _held(name, "snap-start")
    # FastAPI imports OpenTelemetry, which draws names for its own variables. They need only differ within a process.
    drawn = [path for path in held["random"] if "/opentelemetry/context/" not in path]
    assert (held["network"], drawn) == ([], [])
    large = {"process": ["fastapi", "kafka"], "refund": ["fastapi", "kafka"], "lookups": ["fastapi"], "webhooks": ["fastapi"]}
    assert held["modules"] == large.get(name, [])


@pytest.mark.parametrize("name", ["process", "refund"])
def test_only_an_environment_for_api_gateway_or_a_snapshot_begins_with_fastapi(name: str) -> None:
    assert _held(name, "provisioned-concurrency")["modules"] == ["fastapi", "kafka"]
    assert _held(name, "on-demand")["modules"] == ["kafka"]
