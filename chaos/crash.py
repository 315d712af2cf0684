"""Inside a child: counts its network writes, tells the harness how far it got, and springs the trap set for one of them.

A network write is a send on a TCP socket (to the books or to the broker), a call of the gateway, or the answer to the caller.
"""

from __future__ import annotations

import select
import signal
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from mmap import mmap
from typing import Any, Literal, TypedDict

Where = Literal["books", "broker", "gateway", "reply"]
WHERES: tuple[Where, ...] = ("books", "broker", "gateway", "reply")

Moment = Literal["before", "half", "after"]
"""Of the write: nothing of it leaves, half of its bytes leave, all of it leaves (and its answer is never read)."""

Act = Literal["kill", "stop", "cut", "stall"]
"""SIGKILL; SIGSTOP, which the harness ends with SIGCONT; only the connection breaks, and the server's answer is lost; or the wait
for an answer of the books or the gateway runs into its time-out, and the answer comes after that."""


class Trap(TypedDict):
    """Springs at the `number`-th write to `where` (None: anywhere), counted from 1; with number 0, when `phase` begins."""

    number: int
    where: Where | None
    phase: int
    moment: Moment
    act: Act


class Phase(IntEnum):
    """How far an invocation got, told from its writes alone: exact but for retries within a phase."""

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
"""What a child shows the harness, which outlives it: phase, where the trap sprang (0, or 1 + index), whether it is stopped."""

ANSWER_TIMEOUT_S = 1.0
"""How long a cut waits for the server's answer, which it then throws away; a statement here takes milliseconds."""

_AFTER_BOOKS = {Phase.ANSWERED: Phase.SETTLE, Phase.SETTLE: Phase.SETTLE, Phase.PUBLISH: Phase.MARK}


@dataclass(slots=True)
class Invocation:
    """The one that this child is at; a child handles one at a time."""

    trap: Trap | None = None
    counts: Counter[Where | None] = field(default_factory=Counter)
    phase: Phase = Phase.IDLE
    sprung: int = 0
    stopped: int = 0
    relays: bool = False


class Crash:
    """The hooks of one child. `slot` is its part of the memory shared with the harness."""

    def __init__(self, memory: mmap, slot: int, books_port: int) -> None:
        self._memory, self._offset, self._books_port = memory, slot * SLOT.size, books_port
        self._lock = threading.Lock()  # kafka-python sends from a thread of its own
        self._now = Invocation()
        self._send = socket.socket.send
        self._recv = socket.socket.recv
        self._recv_into = socket.socket.recv_into
        self._stalled: socket.socket | None = None
        self._cut: socket.socket | None = None
        """Nothing more is read from it. A shutdown would let through what arrives later, and so the end of an answer whose
        beginning was thrown away, which no network does."""

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
            return self._recv(sock, *arguments)

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
        """`relays`: it does nothing but publish, so what it sends to the broker is no warming up."""
        with self._lock:
            self._now = Invocation(trap, phase=Phase.BEGUN, relays=relays)
            self._show()

    def end(self) -> None:
        with self._lock:
            self._now.trap, self._now.phase = None, Phase.IDLE
            self._show()

    def reach(self, where: Where) -> Trap | None:
        """A write that is no send is about to happen. The trap that springs after it is for `passed`."""
        trap = self._count(where)
        if trap is None or trap["moment"] == "after":
            return trap
        self._break(trap)
        return None

    def passed(self, trap: Trap | None) -> None:
        """The write that `reach` announced has happened."""
        if trap is not None:
            self._break(trap)

    def gateway_answered(self) -> None:
        self._now.phase = Phase.ANSWERED
        self._show()

    def _on_send(self, sock: socket.socket, data: Any, flags: int) -> int:
        trap = self._count("books" if _peer_port(sock) == self._books_port else "broker")
        if trap is None:
            return self._send(sock, data, flags)
        if trap["moment"] == "before":
            self._break(trap, sock)
            return self._send(sock, data, flags)
        if trap["moment"] == "half":
            sent = self._send(sock, bytes(data)[: max(len(data) // 2, 1)], flags)
            self._break(trap, sock)
            return sent  # frozen and thawed in the middle of a message: the sender sends the rest
        sent = self._send(sock, data, flags)
        if trap["act"] == "stall":
            self._stalled = sock
        elif trap["act"] != "cut":
            self._act(trap)
        elif select.select([sock], [], [], ANSWER_TIMEOUT_S)[0]:
            self._cut = sock  # what the server answered gets lost
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
        # raise_signal and not kill: a signal to the process may be another thread's to handle, and this one would run on.
        if trap["act"] == "kill":
            signal.raise_signal(signal.SIGKILL)
        self._now.stopped = 1
        self._show()
        signal.raise_signal(signal.SIGSTOP)
        self._now.stopped = 0
        self._show()

    def _count(self, where: Where) -> Trap | None:
        """Count a write; the trap, when it springs here."""
        with self._lock:
            now = self._now
            if now.phase is Phase.IDLE:
                return None  # between invocations, as kafka-python's own housekeeping
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
        case "books":
            return _AFTER_BOOKS.get(phase, Phase.CLAIM)
        case "broker":
            publishes = phase is Phase.SETTLE or (relays and phase is Phase.CLAIM)
            return Phase.PUBLISH if publishes else phase  # else it is the producer warming up
        case "gateway":
            return Phase.GATEWAY
        case "reply":
            return Phase.REPLY


def _peer_port(sock: socket.socket) -> int:
    try:
        return int(sock.getpeername()[1])
    except OSError:  # not connected any more
        return 0
