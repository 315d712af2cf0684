"""A server on this machine that says what a test wrote for it, over kept connections, with TLS or without."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    pairs: tuple[tuple[str, str], ...]

    @property
    def parameters(self) -> dict[str, str]:
        """The last one of each name."""
        return dict(self.pairs)


Says = Callable[[socket.socket, Request], object]
"""Answers one request. If it returns something that is true, the connection ends."""


def says(status: int, body: object = None, **headers: str) -> Says:
    """Answer with this status and, unless it is bytes, this body as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    said = "\r\n".join([*lines, "", ""]).encode() + data

    def answer(connection: socket.socket, request: Request) -> None:
        connection.sendall(said)

    return answer


@dataclass
class Scripted:
    script: list[Says] = field(default_factory=list)
    received: list[Request] = field(default_factory=list)
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def resolve(self, host: str, port: int) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", self.port))]

    def serve(self, raw: socket.socket, tls: ssl.SSLContext | None) -> None:
        raw.settimeout(20)
        with contextlib.suppress(OSError), tls.wrap_socket(raw, server_side=True) if tls else raw as connection:
            while request := _read(connection):
                self.received.append(request)
                if self.script.pop(0)(connection, request):
                    return


def _read(connection: socket.socket) -> Request | None:
    text = b""
    while b"\r\n\r\n" not in text:
        if not (more := connection.recv(65536)):
            return None
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    method, target, _ = line.split(" ")
    parts = urlsplit(target)
    return Request(method, parts.path, headers, (*parse_qsl(parts.query), *parse_qsl(body.decode())))


@contextlib.contextmanager
def scripted(*script: Says, files: tuple[Path, Path] | None = None) -> Iterator[Scripted]:
    """Serve until the block ends. `files` are a certificate and its key."""
    tls = None
    if files:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*files)
    server = Scripted(list(script))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                server.connections += 1
                threading.Thread(target=server.serve, args=(connection, tls), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            server.over.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join(20)
