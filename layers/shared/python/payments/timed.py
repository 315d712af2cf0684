"""Connections to servers of others that end at a moment of the wall clock, whatever the server does.

The wall clock goes on while the function is frozen, so nothing is sent when it thaws after that moment.
"""

import io
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any


def left_s(ends_s: float) -> float:
    """Return the seconds until then. Raises TimeoutError when there are none."""
    if (left := ends_s - time.time()) <= 0:
        raise TimeoutError
    return left


def connected(addresses: Iterable[Any], ends_s: float, tls: ssl.SSLContext | None, host: str) -> socket.socket:
    """Return a connection to the first address that takes one, under the certificate of `host` with `tls`.

    `addresses` are as getaddrinfo gives them. Raises OSError.
    """
    error = OSError()
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(left_s(ends_s))
            connection.connect(address)
            connection.settimeout(left_s(ends_s))  # of the handshake as a whole
            return tls.wrap_socket(connection, server_hostname=host) if tls else connection
        except (ssl.SSLError, TimeoutError):
            connection.close()
            raise
        except OSError as refused:
            connection.close()
            error = refused
    raise error


class TimedAnswer(io.RawIOBase):
    """The bytes of an answer, until `ends_s` and up to `most_bytes`. Whoever drips bytes gains no time.

    `came` is called with each piece. http.client takes this for the connection, because it reads its file alone.
    """

    def __init__(
        self, connection: socket.socket, ends_s: float, most_bytes: int, came: Callable[[], None] = lambda: None
    ) -> None:
        self._connection, self._ends_s, self._left, self._came = connection, ends_s, most_bytes, came
        self._file = connection.makefile("rb", buffering=0)

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._connection.settimeout(left_s(self._ends_s))
        count = self._file.readinto(memoryview(buffer)[: self._left])
        if count:
            self._left -= count
            self._came()
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
