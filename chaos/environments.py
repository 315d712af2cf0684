"""Lambda for the harness: environments that handle one event at a time. We reuse them while they live, and end them by faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any, Literal

from chaos.crash import SLOT, WHERES, Phase, Trap
from chaos.zygote import COMMAND_BYTES, FORK, FUNCTIONS, NUMBER_BYTES, REAP, Options

REPO = Path(__file__).resolve().parent.parent

SLOTS = 1024
"""More than the environments that ever live at once: busy, idle and frozen."""

HUNG_S = 60.0
"""No handler takes half of this, even with all its time-outs in a row. We kill and report one that takes longer."""

STOP_POLL_S = 0.02

DONE = b"\n\n"
"""The end of an answer after which the event was published and marked, too."""

LINE_LIMIT_BYTES = 1 << 22
"""An answer is one line, and a list of 100 payments fits."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The fault of one invocation: a trap at one of its writes, a signal after a share of its usual duration, or nothing."""

    trap: Trap | None = None
    at_share: float | None = None
    signal: Literal["kill", "stop"] = "kill"
    freeze_s: float = 0.0


NO_FAULT = Fault()


@dataclass(frozen=True, slots=True)
class Ended:
    """How an invocation ended for its caller. `sprung` says where the trap sprang: at one of WHERES."""

    label: str
    end: Literal["answered", "raised", "killed", "frozen"]
    result: Any = None
    error: str = ""
    sprung: str = ""


@dataclass(slots=True)
class Tally:
    """Counts so far, for the progress line and the summary."""

    invocations: Counter[str] = field(default_factory=Counter)
    kills: Counter[Phase] = field(default_factory=Counter)
    kills_at_write: int = 0
    kills_after_answer: int = 0
    freezes: int = 0
    cuts: int = 0
    forks: int = 0
    raised: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """An environment must never die by itself or hang. These did."""

    @property
    def landed(self) -> int:
        """Return the number of kills that ended an invocation after its begin and before its answer."""
        return self.kills.total() - self.kills[Phase.IDLE]


@dataclass(slots=True, eq=False)
class Environment:
    pid: int
    slot: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Environments:
    def __init__(
        self,
        root: Path,
        folder: Path,
        environment: Mapping[str, str],
        seed: str,
        database_port: int,
        at_once: int,
        *,
        after_answer: bool = False,
        receiver_port: int | None = None,
        gateway_port: int | None = None,
    ) -> None:
        """`root` is the tree under test (layers/ and functions/). At most `at_once` callers wait at the same time."""
        self.tally = Tally()
        self.in_flight = asyncio.Semaphore(at_once)
        self._idle: defaultdict[str, list[Environment]] = defaultdict(list)
        self._slots = list(range(SLOTS))
        self._usual_s: defaultdict[str, float] = defaultdict(lambda: 0.02)
        self._frozen: dict[str, asyncio.Task[None]] = {}
        self._thaws: dict[str, asyncio.Event] = {}
        self._alive: set[Environment] = set()
        self._lock = asyncio.Lock()
        self._after_answer = after_answer
        self._publishing: set[asyncio.Task[None]] = set()
        self.frozen_labels: set[str] = set()
        self.late: asyncio.Queue[Ended] = asyncio.Queue()
        memory = folder / "slots"
        memory.write_bytes(bytes(SLOTS * SLOT.size))
        with memory.open("r+b") as file:
            self._memory = mmap(file.fileno(), 0)
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        options = Options(theirs.fileno(), str(folder), seed, database_port, receiver_port, gateway_port, after_answer)
        path = [root / "layers/shared/python", root, REPO]
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "chaos.zygote", json.dumps(asdict(options))],
            env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONSAFEPATH": "1"},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()

    async def invoke(
        self, function: str, event: Any, label: str, remaining_s: float, fault: Fault = NO_FAULT, *, cold: bool = False
    ) -> Ended:
        """Deliver the event to an idle or a new environment of the function, and wait for the end.

        Use each label once, because we derive ids from it.
        """
        async with self.in_flight:
            self.tally.invocations[function] += 1
            idle = [] if cold else self._idle[function]
            environment = idle.pop() if idle else await self._fork(function)
            invocation = {"event": event, "label": label, "remaining_s": remaining_s, "trap": fault.trap}
            begun_s = time.monotonic()
            environment.writer.write(json.dumps(invocation).encode() + b"\n")
            # A fault may strike after the answer, so we wait for the end. Without one the caller goes on at the answer.
            whole = self._after_answer and fault is not NO_FAULT
            reply = asyncio.ensure_future(_lines(environment.reader) if whole else _line(environment.reader))
            signalled = await self._signal(environment, reply, fault, self._usual_s[function])
            if signalled is signal.SIGSTOP:
                self.tally.freezes += 1
                self.frozen_labels.add(label)
                self._thaws[label] = asyncio.Event()
                self._frozen[label] = asyncio.create_task(self._thaw(function, environment, reply, label, fault.freeze_s))
                sprung = self._slot(environment)[1]
                return Ended(label, "frozen", sprung=WHERES[sprung - 1] if sprung else "")
            done, _ = await asyncio.wait({reply}, timeout=HUNG_S)
            if not done:
                self.tally.failures.append(f"{label}: {function} hung")
                os.kill(environment.pid, signal.SIGKILL)
            ended = await self._ended(function, environment, await reply, label, fault, signalled, whole=whole)
            if ended.end == "answered" and fault is NO_FAULT:
                self._usual_s[function] += 0.05 * (time.monotonic() - begun_s - self._usual_s[function])
            return ended

    def thaw(self, label: str) -> None:
        """End the freeze now."""
        self._thaws[label].set()

    async def idle(self) -> None:
        """Wait until every frozen environment has thawed and answered, and every other one is done after its answer."""
        while self._frozen or self._publishing:
            await asyncio.gather(*self._frozen.values(), *self._publishing)

    async def recycle(self) -> None:
        """End the idle environments, so that the next invocations start cold."""
        for environments in self._idle.values():
            while environments:
                await self._retire(environments.pop())

    async def close(self) -> None:
        """End all environments, also the busy and the frozen ones."""
        self._control.close()
        await asyncio.to_thread(self._zygote.wait)  # the zygote kills its children
        for environment in self._alive:
            await _hang_up(environment)

    async def _signal(
        self, environment: Environment, reply: asyncio.Future[bytes], fault: Fault, usual_s: float
    ) -> signal.Signals | None:
        if fault.trap is not None and fault.trap["act"] == "stop":
            # A stopped child cannot report, so we poll its slot.
            while not reply.done() and not self._slot(environment)[2]:
                await asyncio.wait({reply}, timeout=STOP_POLL_S)
            return None if reply.done() else signal.SIGSTOP
        if fault.at_share is None:
            return None
        done, _ = await asyncio.wait({reply}, timeout=fault.at_share * usual_s)
        if done:
            return None
        number = signal.SIGKILL if fault.signal == "kill" else signal.SIGSTOP
        os.kill(environment.pid, number)
        return number

    async def _thaw(
        self, function: str, environment: Environment, reply: asyncio.Future[bytes], label: str, freeze_s: float
    ) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._thaws[label].wait(), freeze_s)
        os.kill(environment.pid, signal.SIGCONT)
        done, _ = await asyncio.wait({reply}, timeout=HUNG_S)
        if not done:
            self.tally.failures.append(f"{label}: {function} hung after a thaw")
            os.kill(environment.pid, signal.SIGKILL)
        ended = await self._ended(function, environment, await reply, label, NO_FAULT, None, whole=self._after_answer)
        self.late.put_nowait(ended)
        del self._frozen[label], self._thaws[label]

    async def _ended(
        self,
        function: str,
        environment: Environment,
        line: bytes,
        label: str,
        fault: Fault,
        signalled: signal.Signals | None,
        *,
        whole: bool,
    ) -> Ended:
        phase, sprung, _ = self._slot(environment)
        finished = line.endswith(DONE if whole else b"\n")
        where = WHERES[sprung - 1] if sprung else ""
        act = fault.trap["act"] if sprung and fault.trap is not None else ""
        killed_at_write = act == "kill"
        if signalled is signal.SIGKILL or not finished or act in ("kill", "stop"):
            # We kill it even if it answered: kafka-python's thread may spring the trap a moment later.
            with contextlib.suppress(ProcessLookupError):
                os.kill(environment.pid, signal.SIGKILL)
            await self._retire(environment)
        elif self._after_answer and not whole:
            task = asyncio.create_task(self._publish(function, environment, label))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)
        else:
            self._idle[function].append(environment)
        if not finished:
            if signalled is None and not killed_at_write:
                self.tally.failures.append(f"{label}: {function} died by itself in phase {Phase(phase).name}")
            self.tally.kills[Phase(phase)] += 1
            self.tally.kills_at_write += killed_at_write
            self.tally.kills_after_answer += line.endswith(b"\n")
        if not line.endswith(b"\n"):
            return Ended(label, "killed", sprung=where)
        self.tally.cuts += act in ("cut", "stall")
        answer = json.loads(line)
        if "error" in answer:
            error = f"{answer['error']}: {answer['message']}"
            self.tally.raised[error.partition("\n")[0][:80]] += 1
            return Ended(label, "raised", error=error, sprung=where)
        return Ended(label, "answered", answer["result"], sprung=where)

    async def _publish(self, function: str, environment: Environment, label: str) -> None:
        """Wait for what follows the answer. Only then does the environment get another event."""
        reply = asyncio.ensure_future(_line(environment.reader))
        done, _ = await asyncio.wait({reply}, timeout=HUNG_S)
        if done and await reply == b"\n":
            self._idle[function].append(environment)
            return
        self.tally.failures.append(f"{label}: {function} {'died by itself' if done else 'hung'} after its answer")
        with contextlib.suppress(ProcessLookupError):
            os.kill(environment.pid, signal.SIGKILL)
        await self._retire(environment)

    async def _fork(self, function: str) -> Environment:
        ours, theirs = socket.socketpair()
        slot = self._slots.pop()
        SLOT.pack_into(self._memory, slot * SLOT.size, 0, 0, 0)
        async with self._lock:
            command = FORK + bytes([FUNCTIONS.index(function)]) + slot.to_bytes(NUMBER_BYTES, "big")
            socket.send_fds(self._control, [command], [theirs.fileno()])
            pid = int.from_bytes(await asyncio.get_running_loop().sock_recv(self._control, NUMBER_BYTES), "big")
        theirs.close()
        if not pid:
            raise RuntimeError("the handlers could not be imported; see handlers.log")
        self.tally.forks += 1
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_LIMIT_BYTES)
        environment = Environment(pid, slot, reader, writer)
        self._alive.add(environment)
        return environment

    async def _retire(self, environment: Environment) -> None:
        """Close the channel, so that the process ends if it still lives, and reap it."""
        self._alive.discard(environment)
        await _hang_up(environment)
        async with self._lock:
            command = REAP + b"\0" + environment.pid.to_bytes(NUMBER_BYTES, "big")
            await asyncio.get_running_loop().sock_sendall(self._control, command)
            await asyncio.get_running_loop().sock_recv(self._control, COMMAND_BYTES)
        self._slots.append(environment.slot)

    def _slot(self, environment: Environment) -> tuple[int, int, int]:
        phase, sprung, stopped = SLOT.unpack_from(self._memory, environment.slot * SLOT.size)
        return phase, sprung, stopped


async def _hang_up(environment: Environment) -> None:
    environment.writer.close()
    with contextlib.suppress(ConnectionError):
        await environment.writer.wait_closed()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return a whole line, or the part that the child wrote before it died."""
    try:
        return await reader.readline()
    except ConnectionError:  # the child died before it read the event
        return b""


async def _lines(reader: asyncio.StreamReader) -> bytes:
    """Return the answer's line and what follows it: an empty line, unless the child died before it was done."""
    line = await _line(reader)
    return line + (await _line(reader) if line.endswith(b"\n") else b"")
