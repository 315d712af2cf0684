"""A receiver of webhooks on this machine that answers as the test says, over TLS or without."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "shop.example.com"

Answer = Callable[[socket.socket, "Request"], None]


@dataclass(frozen=True)
class Request:
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


def says(status: int, *headers: str, body: bytes = b"") -> Answer:
    """Answer with this status."""

    def answer(connection: socket.socket, request: Request) -> None:
        lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", "Connection: close", *headers]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


THANKS = says(204)


@dataclass
class Receiver:
    answer: Answer = THANKS
    received: list[Request] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)
    """Connections that ended before a whole request came."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the test's end: an answer that hangs waits for it."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/hook?a=b"

    @property
    def ids(self) -> list[str]:
        return [request.id for request in self.received]

    def resolve(self, host: str, port: int) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", self.port))]

    def serve(self, raw: socket.socket, tls: ssl.SSLContext | None) -> None:
        raw.settimeout(20)
        try:
            with tls.wrap_socket(raw, server_side=True) if tls else raw as connection:
                request = _read(connection)
                self.received.append(request)
                self.answer(connection, request)
        except (OSError, ValueError) as error:
            self.broken.append(error)


def _read(connection: socket.socket) -> Request:
    text = b""
    while b"\r\n\r\n" not in text:
        if not (more := connection.recv(65536)):
            raise ValueError("the connection ended")
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    while len(body) < int(headers["content-length"]):
        if not (more := connection.recv(65536)):
            raise ValueError("the connection ended")
        body += more
    return Request(line, headers, body)


@contextlib.contextmanager
def receiving(answer: Answer = THANKS, files: tuple[Path, Path] | None = None) -> Iterator[Receiver]:
    """Serve until the block ends. `files` are a certificate and its key."""
    tls = None
    if files:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*files)
    receiver = Receiver(answer)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver.port = listener.getsockname()[1]
        threads = list[threading.Thread]()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=receiver.serve, args=(connection, tls), daemon=True))
                threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield receiver
        finally:
            receiver.over.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for thread in [accepting, *threads]:
                thread.join(20)
