"""The two tiers. A test that needs a server or another process is marked `server`; `make test-fast` leaves those tests out.

The mark follows from the fixtures: every fixture that starts a server depends on `servers_folder`. A test that starts a process
without such a fixture carries the mark itself. Every other test fails when it starts a process or opens a connection, in
`make test` too, so nobody can forget the mark.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Generator, Iterator

import pytest

GUARDED = frozenset({"os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.connect", "subprocess.Popen"})
"""Python's audit events for a new process and a new connection."""

_guarded: list[pytest.Item] = []
"""The test that runs now, unless it has the mark."""


def pytest_configure() -> None:
    sys.addaudithook(_refuse)


@pytest.hookimpl(tryfirst=True)  # before pytest applies `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "servers_folder" in getattr(item, "fixturenames", ()) or item.get_closest_marker("docker"):
            item.add_marker("server")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    with _guard(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    with _guard(item):
        return (yield)


@contextlib.contextmanager
def _guard(item: pytest.Item) -> Iterator[None]:
    if not item.get_closest_marker("server"):
        _guarded.append(item)
    try:
        yield
    finally:
        _guarded.clear()


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    # In `make test` threads of the servers' clients reconnect at any time; a test's own code runs in the main thread.
    if _guarded and event in GUARDED and threading.current_thread() is threading.main_thread():
        pytest.fail(f"a test without the mark `server` caused {event}: see tests/tiers.py")
