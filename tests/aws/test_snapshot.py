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
from snapshot_restore_py import get_before_snapshot
for load, arguments, options in get_before_snapshot():
    load(*arguments, **options)
print(json.dumps({"network": network, "random": random, "http": "fastapi" in sys.modules}))
"""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_before_a_snapshot_everything_is_imported_and_nothing_connected(name: str) -> None:
    pytest.importorskip("snapshot_restore_py", reason="the runtime client of AWS Lambda has wheels for Linux only")
    environment = {
        "PYTHONPATH": f"{ROOT / 'functions' / name}:{ROOT / 'layers/shared/python'}",
        "DATABASE_URL": "postgresql://payments_service@database.invalid/payments",
        "DATABASE_AUTH": "iam",
        "KAFKA_BOOTSTRAP_SERVERS": "broker.invalid:9098",
        "KAFKA_AUTH": "iam",
    }
    done = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    held = json.loads(done.stdout.splitlines()[-1])
    # FastAPI imports OpenTelemetry, which draws names for its own variables. They need only differ within a process.
    drawn = [path for path in held["random"] if "/opentelemetry/context/" not in path]
    assert (held["network"], drawn) == ([], [])
    assert held["http"] == (name in ("process", "refund", "lookups"))
