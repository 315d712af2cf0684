"""The servers' outages during the load. We kill, restart or freeze one server after the other, as drawn from the seed."""

from __future__ import annotations

import asyncio
import shlex
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from random import Random

import psutil

from chaos.environments import REPO
from chaos.evidence import Message, messages
from chaos.servers import START_TIMEOUT_S, Servers, processes_of, signal_all
from chaos.topic import DRAINED

OUTAGES = (
    "PgBouncer killed",
    "PgBouncer frozen",
    "PostgreSQL restarted",
    "PostgreSQL killed",
    "PostgreSQL frozen",
    "broker killed",
    "broker frozen",
    "gateway away",
    "gateway frozen",
)

PAUSE_S = (4.0, 12.0)
"""The pause between outages, so that much of the load meets healthy servers."""

DATABASE_FREEZE_S = 6.8
"""Longer than the service waits for the database's answer (6 s). So answers arrive at connections that have given up, and
PostgreSQL runs statements whose callers have already got an error."""

BROKER_FREEZE_S = 3.0
"""Longer than the service waits for an acknowledgement (2 s)."""

UNSEEN_MARGIN_S = 0.3
"""The reader fetches ahead, so its state is a little older than the time that it writes down."""


class TopicReader:
    """The process that keeps the topic's messages; see topic.py."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._topic, self._drained = folder / "topic", folder / "drained"
        self._drained.touch()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.topic", servers.bootstrap_servers, servers.topic, str(folder)],
            cwd=REPO,
            stdin=subprocess.PIPE,
        )

    def drained_at_s(self) -> float:
        """Return a time (seconds since the epoch): the reader has every message that was on the topic then."""
        try:
            (polled_s,) = DRAINED.unpack(self._drained.read_bytes())
        except struct.error:  # the reader has not written it yet
            return 0.0
        return float(polled_s) - UNSEEN_MARGIN_S

    def began_anew(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    async def drain(self) -> None:
        """Wait until the reader has every message that is on the topic now. Raises TimeoutError."""
        now_s = time.time()
        async with asyncio.timeout(START_TIMEOUT_S):
            while self.drained_at_s() < now_s:
                await asyncio.sleep(0.05)

    def messages(self) -> list[Message]:
        return messages(self._topic)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Outages:
    def __init__(
        self,
        servers: Servers,
        reader: TopicReader,
        seed: str,
        thread: Executor,
        names: Sequence[str],
        pause_s: tuple[float, float],
        commands: Sequence[str],
        more: Mapping[str, Callable[[], object]],
    ) -> None:
        """`thread` must outlive the servers, because on Linux a server ends with the thread that started it. `commands` break
        servers that we did not start, such as `docker restart kafka`. A command must wait for its own effect. `more` are outages
        of the gateway.
        """
        self._servers, self._reader, self._thread, self._pause_s = servers, reader, thread, pause_s
        self._random = Random(f"{seed}/outages")
        self.count: Counter[str] = Counter()
        self.unseen_s: list[tuple[float, float]] = []
        """Spans of time (seconds since the epoch). An event acknowledged in one may have died with the broker, unread."""
        kinds: dict[str, Callable[[], object]] = {
            "PgBouncer killed": self._kill_pooler,
            "PgBouncer frozen": self._freeze_pooler,
            **more,
        }
        if servers.postgres is not None:
            kinds |= {
                "PostgreSQL restarted": self._restart_postgres,
                "PostgreSQL killed": self._kill_postgres,
                "PostgreSQL frozen": self._freeze_postgres,
            }
        if servers.broker is not None:
            kinds |= {"broker killed": self._kill_broker, "broker frozen": self._freeze_broker}
        self._kinds = [(name, outage) for name, outage in kinds.items() if name in names]
        self._kinds += [(command, partial(subprocess.run, shlex.split(command), check=True)) for command in commands]

    async def break_servers(self) -> None:
        """Break one server after the other until cancelled. An outage that has begun always runs to its end."""
        while self._kinds:
            await asyncio.sleep(self._random.uniform(*self._pause_s))
            name, outage = self._random.choice(self._kinds)
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, outage))
            self.count[name] += 1

    async def finish(self) -> None:
        """Wait for the end of the current outage, if there is one."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    def _kill_pooler(self) -> None:
        self._servers.pgbouncer.kill()
        self._servers.pgbouncer.start()

    def _freeze_pooler(self) -> None:
        _freeze(self._servers.pgbouncer.processes, DATABASE_FREEZE_S)

    def _restart_postgres(self) -> None:
        assert self._servers.postgres is not None
        self._servers.postgres.stop()
        self._servers.postgres.start()

    def _kill_postgres(self) -> None:
        postgres = self._servers.postgres
        assert postgres is not None
        before = postgres.restarts
        signal_all(processes_of(postgres), signal.SIGKILL)
        _wait(lambda: postgres.restarts > before)

    def _freeze_postgres(self) -> None:
        assert self._servers.postgres is not None
        _freeze(processes_of(self._servers.postgres), DATABASE_FREEZE_S)

    def _kill_broker(self) -> None:
        broker = self._servers.broker
        assert broker is not None
        before, processes = broker.restarts, processes_of(broker)
        drained_s = self._reader.drained_at_s()
        signal_all(processes, signal.SIGKILL)
        self.unseen_s.append((drained_s, time.time()))
        self._reader.began_anew()
        _wait(lambda: broker.restarts > before)

    def _freeze_broker(self) -> None:
        assert self._servers.broker is not None
        _freeze(processes_of(self._servers.broker), BROKER_FREEZE_S)


def _freeze(processes: list[psutil.Process], freeze_s: float) -> None:
    signal_all(processes, signal.SIGSTOP)
    time.sleep(freeze_s)
    signal_all(processes, signal.SIGCONT)


def _wait(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not done():
        if time.monotonic() > deadline_s:
            raise TimeoutError("a server did not come back")
        time.sleep(0.05)
