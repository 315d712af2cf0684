"""Sends one webhook. Everything together, from the name's look-up to the answer, takes at most TIMEOUT_S."""

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from payments import __version__
from payments.timed import TimedAnswer, connected, left_s
from payments.webhooks.target import NOT_PUBLIC, Resolve, Target, TargetRefused, addresses_of, is_public, resolve, target_of

TIMEOUT_S = 10.0
"""A receiver that stores the event and answers needs less than one. One that works on it first had better not."""

MOST_ANSWER_BYTES = 16 * 1024
"""Only the status counts. We read on to the answer's end, so that the server need not see its connection break."""

FAILURES: Mapping[type[Exception], str] = {
    TargetRefused: f"its name {NOT_PUBLIC}",
    TimeoutError: "timed out",
    socket.gaierror: f"its name {NOT_PUBLIC}",
    ssl.SSLCertVerificationError: "its certificate is not valid",
    ssl.SSLError: "TLS failed",
    ConnectionRefusedError: "the connection was refused",
    OSError: "the connection failed",
    http.client.HTTPException: "the answer is not HTTP",
}
"""What the owner and our log read of a failure: nothing that the receiver has said. The first fitting one counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Posts to public addresses. `is_local` admits this machine. It follows no redirect."""

    is_local: bool = False
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    resolve: Resolve = resolve
    admits: Callable[[str], bool] = is_public
    timeout_s: float = TIMEOUT_S

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int | str:
        """Return the status of the answer, or why there is none."""
        ends_s = time.time() + self.timeout_s
        try:
            target = target_of(url, self.is_local)
            with self._connection(target, ends_s) as connection:
                return _exchange(connection, target, headers, body, ends_s)
        except (TargetRefused, OSError, http.client.HTTPException) as error:
            return next(text for kind, text in FAILURES.items() if isinstance(error, kind))

    def _connection(self, target: Target, ends_s: float) -> socket.socket:
        # The certificate is of the name, and the connection goes to a checked address.
        found = addresses_of(target, self.resolve, self.admits)
        return connected(found, ends_s, self.tls if target.is_tls else None, target.host)


def _exchange(connection: socket.socket, target: Target, headers: Mapping[str, str], body: bytes, ends_s: float) -> int:
    host = target.host if target.port in (80, 443) else f"{target.host}:{target.port}"
    ours = {"Host": host, "User-Agent": f"payments-webhooks/{__version__}", "Connection": "close"}
    ours |= {"Content-Type": "application/cloudevents+json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in (ours | dict(headers)).items())
    rest = memoryview(f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    while rest:
        connection.settimeout(left_s(ends_s))
        rest = rest[connection.send(rest) :]
    timed = TimedAnswer(connection, ends_s, MOST_ANSWER_BYTES)
    response = http.client.HTTPResponse(timed, method="POST")  # type: ignore[arg-type]  # it reads its file
    response.begin()
    # The status has come, which is the answer. A chunk of a negative size is a ValueError.
    with suppress(OSError, http.client.HTTPException, ValueError):
        response.read(MOST_ANSWER_BYTES)
    return response.status
