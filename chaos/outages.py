"""What befalls the servers while the clients are at it: killed, restarted, frozen, one after the other, as the seed has it."""

from __future__ import annotations

import asyncio
import shlex
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
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
)

PAUSE_S = (4.0, 12.0)
"""Between outages, so that much of the load meets healthy servers."""

BOOKS_FREEZE_S = 6.8
"""Longer than the service waits for an answer of the books (6 s), so that answers come to connections that have given up, and
statements are carried out for callers that have been told of a failure."""

BROKER_FREEZE_S = 3.0
"""Longer than the service waits for an acknowledgement (2 s)."""

UNSEEN_MARGIN_S = 0.3
"""The reader fetches ahead: what it calls drained is a little older than it says."""


class TopicReader:
    """The process that keeps what is on the topic; see topic.py."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self._topic, self._drained = folder / "topic", folder / "drained"
        self._drained.touch()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.topic", servers.bootstrap_servers, servers.topic, str(folder)],
            cwd=REPO,
            stdin=subprocess.PIPE,
        )

    def drained_at_s(self) -> float:
        """Since when at least (seconds since the epoch) the reader has missed nothing."""
        try:
            (asked_s,) = DRAINED.unpack(self._drained.read_bytes())
        except struct.error:  # not written yet
            return 0.0
        return float(asked_s) - UNSEEN_MARGIN_S

    def began_anew(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    async def drain(self) -> None:
        """Wait until everything that is on the topic now has been kept. Raises TimeoutError."""
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
    ) -> None:
        """`thread` is one that outlives the servers: on Linux they end with the thread that started them. `commands` break what
        is not ours to break, such as `docker restart kafka`; their effect is theirs to wait for.
        """
        self._servers, self._reader, self._thread, self._pause_s = servers, reader, thread, pause_s
        self._random = Random(f"{seed}/outages")
        self.count: Counter[str] = Counter()
        self.unseen_s: list[tuple[float, float]] = []
        """From when to when (seconds since the epoch) an acknowledged event may have died with the broker, unread."""
        kinds: dict[str, Callable[[], object]] = {
            "PgBouncer killed": self._kill_pooler,
            "PgBouncer frozen": self._freeze_pooler,
        }
        if servers.postgres is not None:
            kinds |= {
                "PostgreSQL restarted": self._restart_postgres,
                "PostgreSQL killed": self._kill_postgres,
                "PostgreSQL frozen": self._freeze_postgres,
            }
        if servers.broker is not None:
            kinds |= {"broker killed": self._kill_broker, "broker frozen": self._freeze_broker}
        self._kinds = [(name, bring) for name, bring in kinds.items() if name in names]
        self._kinds += [(command, partial(subprocess.run, shlex.split(command), check=True)) for command in commands]

    async def befall(self) -> None:
        """Go on until cancelled; an outage that has begun is always brought to its end."""
        while self._kinds:
            await asyncio.sleep(self._random.uniform(*self._pause_s))
            name, bring = self._random.choice(self._kinds)
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, bring))
            self.count[name] += 1

    async def over(self) -> None:
        """Wait for the end of the outage that has begun, if any."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    def _kill_pooler(self) -> None:
        self._servers.pgbouncer.kill()
        self._servers.pgbouncer.start()

    def _freeze_pooler(self) -> None:
        _freeze(self._servers.pgbouncer.processes, BOOKS_FREEZE_S)

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
        _freeze(processes_of(self._servers.postgres), BOOKS_FREEZE_S)

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
