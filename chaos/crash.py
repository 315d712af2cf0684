"""Hooks inside a child: count its network writes, show the harness the child's phase, and spring the trap at one write.

A network write is a send on a TCP socket (to the database, the broker or a webhook's receiver), a call of the gateway, or the
answer to the caller.
"""

from __future__ import annotations

import select
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from mmap import mmap
from typing import Any, Literal, TypedDict

Where = Literal["database", "broker", "gateway", "receiver", "reply"]
WHERES: tuple[Where, ...] = ("database", "broker", "gateway", "receiver", "reply")

Moment = Literal["before", "half", "after"]
"""Nothing of the write leaves; half of its bytes leave; or all of it leaves, and the child never reads the answer."""

Act = Literal["kill", "stop", "cut", "stall"]
"""kill: SIGKILL. stop: SIGSTOP, until the harness sends SIGCONT. cut: only the connection breaks, and the answer is lost. stall:
the wait for the server's answer times out, and the answer comes later; at the gateway a stall is a cut."""


class Trap(TypedDict):
    """Springs at the `number`-th write to `where` (None: anywhere), counted from 1. Number 0 springs when `phase` begins."""

    number: int
    where: Where | None
    phase: int
    moment: Moment
    act: Act


class Phase(IntEnum):
    """An invocation's progress. We know it only from its writes, so it is exact except for retries within a phase."""

    IDLE = 0
    BEGUN = 1
    CLAIM = 2
    GATEWAY = 3
    ANSWERED = 4
    SETTLE = 5
    PUBLISH = 6
    MARK = 7
    REPLY = 8


SLOT = struct.Struct("BBB")
"""A child's state, which the harness can read after its death: phase, where the trap sprang (0, or 1 + index), stopped or not."""

ANSWER_TIMEOUT_S = 1.0
"""How long a cut waits for the server's answer before it drops it. A statement here takes milliseconds."""

_AFTER_DATABASE = {Phase.ANSWERED: Phase.SETTLE, Phase.SETTLE: Phase.SETTLE, Phase.PUBLISH: Phase.MARK}


@dataclass(slots=True)
class Invocation:
    """The child's current invocation; a child handles one at a time."""

    trap: Trap | None = None
    counts: Counter[Where | None] = field(default_factory=Counter)
    phase: Phase = Phase.IDLE
    sprung: int = 0
    stopped: int = 0
    relays: bool = False


class Crash:
    """The hooks of one child. `slot` is its part of the memory that it shares with the harness. A port that `ports` does not name
    is the broker's."""

    def __init__(self, memory: mmap, slot: int, ports: Mapping[int | None, Where]) -> None:
        self._memory, self._offset, self._ports = memory, slot * SLOT.size, ports
        self._lock = threading.Lock()  # kafka-python sends from its own thread, and the courier from several
        self._now = Invocation()
        self._send = socket.socket.send
        self._recv = socket.socket.recv
        self._recv_into = socket.socket.recv_into
        self._stalled: socket.socket | None = None
        self._cut: socket.socket | None = None
        """The child reads nothing more from it. After a shutdown alone, bytes that arrive later could still be read: the end of
        an answer whose beginning was dropped. No network does that."""

    def install(self) -> None:
        """Hook the sends of all sockets of this process."""

        def send(sock: socket.socket, data: Any, flags: int = 0) -> int:
            if sock.family == socket.AF_UNIX:
                return self._send(sock, data, flags)
            return self._on_send(sock, data, flags)

        def sendall(sock: socket.socket, data: Any, flags: int = 0) -> None:
            view = memoryview(data)
            while view:
                view = view[send(sock, view, flags) :]

        def sendmsg(sock: socket.socket, buffers: Any, *_: Any) -> int:
            return send(sock, b"".join(buffers))

        def recv(sock: socket.socket, *arguments: Any) -> bytes:
            if sock is self._cut:
                raise ConnectionResetError("cut")
            received = self._recv(sock, *arguments)
            if received and sock is self._stalled:
                raise BlockingIOError  # kafka-python reads without blocking: for it, the answer never arrives.
            return received

        def recv_into(sock: socket.socket, *arguments: Any) -> int:
            if sock is self._cut:
                raise ConnectionResetError("cut")
            if sock is self._stalled:
                self._stalled = None
                raise TimeoutError("stalled")
            return self._recv_into(sock, *arguments)

        for hook in (send, sendall, sendmsg, recv, recv_into):
            setattr(socket.socket, hook.__name__, hook)

    def begin(self, trap: Trap | None, *, relays: bool) -> None:
        """`relays` says that the function only publishes, so its writes to the broker are never the producer's warm-up."""
        with self._lock:
            self._now = Invocation(trap, phase=Phase.BEGUN, relays=relays)
            self._show()

    def end(self) -> None:
        with self._lock:
            self._now.trap, self._now.phase = None, Phase.IDLE
            self._show()

    def reach(self, where: Where) -> Trap | None:
        """Announce a write that is not a send. Return the trap if it springs after the write; give it to passed()."""
        trap = self._count(where)
        if trap is None or trap["moment"] == "after":
            return trap
        self._break(trap)
        return None

    def passed(self, trap: Trap | None) -> None:
        """Report that the write that reach() announced has happened."""
        if trap is not None:
            self._break(trap)

    def gateway_answered(self) -> None:
        with self._lock:  # Reconcile calls the gateway from several threads, and another one may report its trap now.
            self._now.phase = Phase.ANSWERED
            self._show()

    def _on_send(self, sock: socket.socket, data: Any, flags: int) -> int:
        trap = self._count(self._ports.get(_peer_port(sock), "broker"))
        if trap is None:
            return self._send(sock, data, flags)
        if trap["moment"] == "before":
            self._break(trap, sock)
            return self._send(sock, data, flags)
        if trap["moment"] == "half":
            sent = self._send(sock, bytes(data)[: max(len(data) // 2, 1)], flags)
            self._break(trap, sock)
            return sent  # after a freeze in the middle of a message, the sender sends the rest
        sent = self._send(sock, data, flags)
        if trap["act"] == "stall":
            self._stalled = sock
        elif trap["act"] != "cut":
            self._act(trap)
        elif select.select([sock], [], [], ANSWER_TIMEOUT_S)[0]:
            self._cut = sock  # the server's answer is lost
            sock.shutdown(socket.SHUT_RDWR)
        return sent

    def _break(self, trap: Trap, sock: socket.socket | None = None) -> None:
        if trap["act"] in ("kill", "stop"):
            self._act(trap)
            return
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError("cut")

    def _act(self, trap: Trap) -> None:
        # raise_signal signals this thread. After kill, another thread might handle the signal, and this one would run on.
        if trap["act"] == "kill":
            signal.raise_signal(signal.SIGKILL)
        self._now.stopped = 1
        self._show()
        signal.raise_signal(signal.SIGSTOP)
        self._now.stopped = 0
        self._show()

    def _count(self, where: Where) -> Trap | None:
        """Count a write. Return the trap if it springs here."""
        with self._lock:
            now = self._now
            if now.phase is Phase.IDLE:
                return None  # between invocations kafka-python does its own housekeeping
            before = now.phase
            now.counts[None] += 1
            now.counts[where] += 1
            now.phase = _next_phase(before, where, relays=now.relays)
            trap = now.trap
            if trap is not None and not now.sprung:
                there = trap["where"] in (None, where) and now.counts[trap["where"]] == trap["number"]
                if there or (not trap["number"] and now.phase == trap["phase"] != before):
                    now.sprung = 1 + WHERES.index(where)
                    self._show()
                    return trap
            self._show()
            return None

    def _show(self) -> None:
        now = self._now
        SLOT.pack_into(self._memory, self._offset, now.phase, now.sprung, now.stopped)


def _next_phase(phase: Phase, where: Where, *, relays: bool) -> Phase:
    match where:
        case "database":
            return _AFTER_DATABASE.get(phase, Phase.CLAIM)
        case "broker":
            publishes = phase in (Phase.SETTLE, Phase.REPLY) or (relays and phase is Phase.CLAIM)
            return Phase.PUBLISH if publishes else phase  # other writes are the producer's warm-up
        case "gateway":
            return Phase.GATEWAY
        case "receiver":
            return Phase.PUBLISH
        case "reply":
            return Phase.REPLY


def _peer_port(sock: socket.socket) -> int:
    try:
        return int(sock.getpeername()[1])
    except OSError:  # not connected any more
        return 0
