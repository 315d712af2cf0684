from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_test_without_the_mark_can_start_no_process_and_open_no_connection(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("server") is None
    with pytest.raises(pytest.fail.Exception, match=r"subprocess\.Popen"):
        subprocess.run([sys.executable, "-c", ""], check=False)
    with pytest.raises(pytest.fail.Exception, match=r"socket\.connect"):
        socket.create_connection(("127.0.0.1", 9))


def test_a_fixture_that_may_start_a_server_brings_the_mark(request: pytest.FixtureRequest, servers_folder: Path) -> None:
    assert request.node.get_closest_marker("server")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 9))
