"""A TCP proxy that stands in front of a server and fails on command."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

CHUNK_BYTES = 65_536
ANSWER_TIMEOUT_S = 2.0
"""How long the server may take to answer a write whose answer is dropped: longer than any statement here, shorter than its
client waits."""


@dataclass
class PostgresCounts:
    """Counts what PostgreSQL answers, over all connections, without TLS. For another protocol the counts mean nothing."""

    round_trips: int = 0
    """ReadyForQuery messages: one for each Sync or simple query of a client, without those of logging in."""
    commits: int = 0
    """Committed transactions, with the read-only and the implicit ones."""
    _rest: WeakKeyDictionary[object, bytes] = field(default_factory=WeakKeyDictionary)
    _last: WeakKeyDictionary[object, bytes] = field(default_factory=WeakKeyDictionary)

    def from_server(self, connection: object, data: bytes) -> None:
        data = self._rest.get(connection, b"") + data
        while len(data) >= 5 and len(data) > (length := int.from_bytes(data[1:5], "big")):
            self._message(connection, data[:1], data[5 : length + 1])
            data = data[length + 1 :]
        self._rest[connection] = data

    def _message(self, connection: object, kind: bytes, body: bytes) -> None:
        last = self._last.get(connection, b"login")
        if kind == b"C":  # CommandComplete, with a tag such as COMMIT or INSERT 0 1
            last = body
        elif kind == b"E":  # ErrorResponse: this transaction cannot be committed
            last = b"ROLLBACK"
        elif kind == b"Z":  # ReadyForQuery; I: in no transaction
            self.round_trips += last != b"login"
            if body == b"I":
                self.commits += last not in {b"login", b"none"} and not last.startswith(b"ROLLBACK")
                last = b"none"
        self._last[connection] = last


@dataclass
class Writes:
    """Counts what clients write through any number of proxies, and breaks one of these writes.

    A test breaks every network write in turn: fail(1), fail(2) ... until a run ends without a broken write.
    """

    count: int = 0
    failed: bool = False
    answered: bool = False
    _number: int = 0
    _action: Callable[[], None] = lambda: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, number: int, *, answered: bool, action: Callable[[], None] = lambda: None) -> None:
        """Count from 1 again. At write `number` call `action` and reset the connection.

        With `answered` the server gets this write and its answer is dropped. Otherwise the server never gets the write.
        """
        with self._lock:
            self.count, self.failed, self.answered, self._number, self._action = 0, False, answered, number, action

    def fails(self) -> bool:
        """Count a write, and return whether it is the one to break."""
        with self._lock:
            self.count += 1
            fails = self.count == self._number
            self.failed = self.failed or fails
        return fails

    def act(self) -> None:
        self._action()


class FaultProxy:
    """Forwards connections from 127.0.0.1:port to a server, unchanged unless a fault is set."""

    def __init__(self, server: tuple[str, int], *, port: int = 0, writes: Writes | None = None) -> None:
        self.writes = writes or Writes()
        self.postgres = PostgresCounts()
        self._server = server
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._reply_bytes: int | None = None
        self.port = port
        self._listen()

    def cut(self) -> None:
        """Reset every open connection. New ones are accepted."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.cut()

    def forget(self) -> None:
        """Swallow what the open connections send from now on, and say nothing, as a gateway that has forgotten them."""
        with self._lock:
            for connection in self._connections:
                connection.forgotten = True

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Within the block refuse connections, as a server that is down does, and reset those that are open."""
        self._stop_listening()
        self.cut()
        try:
            yield
        finally:
            self._listen()

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Within the block let nothing pass in either direction. Connections stay open."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    def lose_reply(self, after_bytes: int = 0) -> None:
        """Once, after the server has sent that many more bytes, reset the connection that carries them."""
        self._reply_bytes = after_bytes

    def close(self) -> None:
        self._flowing.set()
        self._stop_listening()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        self._listening = threading.Event()
        listener = socket.create_server(("127.0.0.1", self.port))
        listener.settimeout(0.02)  # so that the thread soon notices the end
        self.port = listener.getsockname()[1]
        self._listening.set()
        self._listener = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._listener.start()

    def _stop_listening(self) -> None:
        self._listening.clear()
        self._listener.join()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while self._listening.is_set():
                with contextlib.suppress(TimeoutError):
                    client, _ = listener.accept()
                    thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            connection = _Connection(client, socket.create_connection(self._server))
        except OSError:  # the server is down, so we reset the client
            _set_reset(client)
            client.close()
            return
        with self._lock:
            self._connections.add(connection)
        requests = threading.Thread(target=self._pump, args=(connection, self._request), daemon=True)
        requests.start()
        self._pump(connection, self._reply)
        requests.join()
        with self._lock:
            self._connections.discard(connection)
        connection.close()

    def _pump(self, connection: _Connection, forward: Callable[[_Connection, bytes], None]) -> None:
        source, sink = connection.client, connection.server
        if forward == self._reply:
            source, sink = sink, source
        try:
            while data := source.recv(CHUNK_BYTES):
                self._flowing.wait()
                if not connection.forgotten:
                    forward(connection, data)
            if not connection.was_cut:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            connection.cut()

    def _request(self, connection: _Connection, data: bytes) -> None:
        if not self.writes.fails():
            connection.server.sendall(data)
            return
        connection.muted = True
        if self.writes.answered:
            connection.server.sendall(data)
            connection.answered.wait(ANSWER_TIMEOUT_S)
        self.writes.act()
        connection.cut()

    def _reply(self, connection: _Connection, data: bytes) -> None:
        if connection.muted:
            connection.answered.set()
            return
        with self._lock:
            self.postgres.from_server(connection, data)
            passing = len(data) if self._reply_bytes is None else min(self._reply_bytes, len(data))
            losing = passing < len(data)
            if self._reply_bytes is not None:
                self._reply_bytes = None if losing else self._reply_bytes - passing
        connection.client.sendall(data[:passing])
        if losing:
            connection.cut()


@dataclass(eq=False)
class _Connection:
    client: socket.socket
    server: socket.socket
    was_cut: bool = False
    forgotten: bool = False
    muted: bool = False
    """Drop what the server sends."""
    answered: threading.Event = field(default_factory=threading.Event)
    """Set once data of the server was dropped."""

    def cut(self) -> None:
        """Wake both pumps. When they close the connection, it is reset."""
        self.was_cut = True
        for one in (self.client, self.server):
            with contextlib.suppress(OSError):  # closed already
                _set_reset(one)
                one.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self.client.close()
        self.server.close()


def _set_reset(one: socket.socket) -> None:
    """Let closing drop unsent data and send RST instead of FIN."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
