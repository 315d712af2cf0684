"""Exchanges requests and answers with Stripe over kept connections.

Everything together, from the name's look-up to the answer's last byte, ends at the deadline. A server that drips bytes gains no
time.
"""

import http.client
import queue
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from payments.timed import TimedAnswer, connected, left_s

IDLE_S = 60.0
"""A connection that has been idle for longer is not used again: something between us and Stripe may have forgotten it."""

MOST_ANSWER_BYTES = 8 * 1024 * 1024
"""A page of a hundred intents with all the metadata that Stripe takes is smaller."""

FAILURES: Mapping[type[Exception], str] = {
    TimeoutError: "no answer in time",
    socket.gaierror: "its name is not found",
    ssl.SSLCertVerificationError: "its certificate is not valid",
    ssl.SSLError: "TLS failed",
    ConnectionRefusedError: "the connection was refused",
    OSError: "the connection broke",
    http.client.IncompleteRead: "the answer is not whole",
    http.client.HTTPException: "the answer is not HTTP",
    ValueError: "the answer is not HTTP",
}
"""What our log reads of a failure: neither the request nor the answer. The first fitting one counts."""

Resolve = Callable[[str, int], list[Any]]


class NoAnswer(Exception):
    """No whole answer has come. The request may have been carried out."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def resolve(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class _Connection(http.client.HTTPConnection):
    """A connection that keeps the deadline of the exchange it is in."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, resolve: Resolve) -> None:
        super().__init__(host, port)
        self.default_port = 443 if tls else 80
        self.response_class = self._response  # type: ignore[assignment]  # it is called
        self._tls, self._resolve = tls, resolve
        self.ends_s = self.idle_since_s = 0.0
        self.has_answered = False

    def exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, ends_s: float) -> Answer:
        self.ends_s, self.has_answered = ends_s, False
        self.request(method, path, body, headers)
        with self.getresponse() as response:
            data = response.read(MOST_ANSWER_BYTES)
            if response.length:
                raise http.client.IncompleteRead(data, response.length)
        self.idle_since_s = time.time()
        return Answer(response.status, response.headers, data)

    def is_alive(self) -> bool:
        """Return whether the connection is open and has no unread bytes. An idle one has some only when the server has closed
        it."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)

    def connect(self) -> None:
        self.sock = connected(self._addresses(), self.ends_s, self._tls, self.host)

    def _addresses(self) -> list[Any]:
        found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                found.put(self._resolve(self.host, self.port))
            except OSError as error:
                found.put(error)

        # No look-up takes a time-out, so the thread may outlive our wait.
        threading.Thread(target=look_up, daemon=True).start()
        try:
            addresses = found.get(timeout=left_s(self.ends_s))
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(addresses, OSError):
            raise addresses
        return addresses

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(left_s(self.ends_s))  # of the sending as a whole
        super().send(data)

    def _response(self, connection: socket.socket, method: str) -> http.client.HTTPResponse:
        timed = TimedAnswer(connection, self.ends_s, MOST_ANSWER_BYTES, self._came)
        return http.client.HTTPResponse(timed, method=method)  # type: ignore[arg-type]  # it reads its file

    def _came(self) -> None:
        self.has_answered = True


class StripeHttp:
    """Sends requests to `base`. Each connection serves one thread at a time, and waits for the next thread that needs one."""

    def __init__(self, base: str, tls: ssl.SSLContext | None = None, resolve: Resolve = resolve) -> None:
        parts = urlsplit(base)
        self._host, self._prefix = parts.hostname or "", parts.path.rstrip("/")
        if parts.scheme != "https" and self._host not in ("127.0.0.1", "localhost"):
            raise ValueError("Stripe's API key goes over TLS, or to this machine")
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._resolve = resolve
        self._idle: deque[_Connection] = deque()

    def exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, ends_s: float) -> Answer:
        """Return the answer, whatever its status. Raises NoAnswer.

        A kept connection may have died while nobody used it. Then the request is sent once more, so it must be repeatable.
        """
        kept = self._kept()
        try:
            return self._on(kept or self._new(), method, path, headers, body, ends_s)
        except OSError as error:
            if kept is None or kept.has_answered or isinstance(error, TimeoutError):
                raise NoAnswer(_reason(error)) from error
        except (http.client.HTTPException, ValueError) as error:
            raise NoAnswer(_reason(error)) from error
        try:
            return self._on(self._new(), method, path, headers, body, ends_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoAnswer(_reason(error)) from error

    def _on(
        self, connection: _Connection, method: str, path: str, headers: Mapping[str, str], body: bytes | None, ends_s: float
    ) -> Answer:
        try:
            answer = connection.exchange(method, self._prefix + path, headers, body, ends_s)
        except BaseException:
            connection.close()
            raise
        if connection.sock:
            self._idle.append(connection)
        return answer

    def _kept(self) -> _Connection | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.time() - connection.idle_since_s < IDLE_S and connection.is_alive():
                return connection
            connection.close()
        return None

    def _new(self) -> _Connection:
        return _Connection(self._host, self._port, self._tls, self._resolve)

    def close(self) -> None:
        """Close the connections that wait."""
        while self._idle:
            self._idle.pop().close()


def _reason(error: Exception) -> str:
    return next(text for kind, text in FAILURES.items() if isinstance(error, kind))
