"""HTTP/1.1 for the front: an ASGI server that answers a request with one write, and has one task for each connection.

A general server's parser took more of the processor than everything else in the front (bench/NOTES.md). This one knows what API
Gateway's port needs: no upgrades, no WebSockets, no limits on idle connections, because only this machine reaches it.
"""

import asyncio
import re
import socket
import traceback
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

MAX_HEAD_BYTES = 64 << 10  # of the request line and all headers; API Gateway takes 10 KB
PIECE_BYTES = 64 << 10

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/(1\.[01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_BREAK = re.compile(rb"[\r\n\x00]")

Headers = list[tuple[bytes, bytes]]


class Malformed(Exception):
    """What came is no HTTP request, or one that two readers could understand differently."""


class HttpServer:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._connections: set[asyncio.Task[Any]] = set()
        self._busy: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def start(self, listener: socket.socket) -> None:
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=MAX_HEAD_BYTES)

    async def stop(self, timeout_s: float) -> None:
        """Take no more requests. Those in progress have until the time-out."""
        self._server.close()
        self._stopping = True
        for connection in self._connections - self._busy:
            connection.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=timeout_s)
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection
        self._connections.add(connection)
        try:
            is_kept = True
            while is_kept and not self._stopping:
                head = await reader.readuntil(b"\r\n\r\n")
                self._busy.add(connection)
                is_kept = await _Exchange(reader, writer, head).run(self._app)
                self._busy.discard(connection)
        except Malformed:
            writer.write(_plain(400))
        except asyncio.LimitOverrunError:
            writer.write(_plain(431))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the server stops
        finally:
            self._connections.discard(connection)
            self._busy.discard(connection)
            writer.close()


class _Exchange:
    """One request and its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        """Raises Malformed."""
        self._reader, self._writer = reader, writer
        line, *lines = head[:-4].split(b"\r\n")
        if not (request := _REQUEST_LINE.fullmatch(line)):
            raise Malformed
        method, target, version = request.groups()
        headers: Headers = []
        for each in lines:
            if not (header := _HEADER.fullmatch(each)):
                raise Malformed
            headers.append((header[1].lower(), header[2].rstrip(b" \t")))
        named: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            named.setdefault(name, []).append(value)
        lengths, codings = named.get(b"content-length", []), named.get(b"transfer-encoding", [])
        if len(named.get(b"host", [])) != 1 and (version == b"1.1" or b"host" in named):
            raise Malformed  # without this, a request without a name would pass for one with ours
        if codings and (lengths or version == b"1.0" or [coding.lower() for coding in codings] != [b"chunked"]):
            raise Malformed
        if lengths and (len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0])):
            raise Malformed
        self._is_chunked = bool(codings)
        self._left_bytes = int(lengths[0]) if lengths else 0  # of the body, or of its present chunk
        self._has_more = self._is_chunked or self._left_bytes > 0
        self._awaits_go = self._has_more and version == b"1.1" and b"100-continue" in map(bytes.lower, named.get(b"expect", []))
        options = b",".join(named.get(b"connection", [])).lower()
        self._is_kept = version == b"1.1" and b"close" not in options
        self._is_bodiless = method == b"HEAD"  # the answer
        self._start: Message | None = None  # of the answer, until its first piece goes out with it
        self._is_answered = False
        path, _, query = target.partition(b"?")
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": version.decode(),
            "method": method.decode(),
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "root_path": "",
            "query_string": query,
            "headers": headers,
            "client": writer.get_extra_info("peername"),
            "server": writer.get_extra_info("sockname"),
        }

    async def run(self, app: ASGIApp) -> bool:
        """Return whether the connection takes another request. Raises Malformed for a body that is none."""
        try:
            await app(self._scope, self._receive, self._send)
        except (Malformed, asyncio.IncompleteReadError, ConnectionError):
            raise
        except Exception:
            traceback.print_exc()
            self._is_kept = False
        if not self._is_answered:
            self._is_kept = False
            self._writer.write(_plain(500))
        while self._is_kept and self._has_more and not self._awaits_go:
            await self._piece()  # a client that has not sent everything would not read an answer
        return self._is_kept and not self._has_more

    async def _receive(self) -> Message:
        if self._awaits_go:
            self._awaits_go = False
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._piece() if self._has_more else b""
        return {"type": "http.request", "body": body, "more_body": self._has_more}

    async def _piece(self) -> bytes:
        if self._is_chunked and not self._left_bytes:
            if not (size := _CHUNK.fullmatch(await self._reader.readuntil(b"\r\n"))):
                raise Malformed
            self._left_bytes = int(size[1], 16)
            if not self._left_bytes:
                while await self._reader.readuntil(b"\r\n") != b"\r\n":
                    pass  # a trailer
                self._has_more = False
                return b""
        piece = await self._reader.read(min(self._left_bytes, PIECE_BYTES))
        if not piece:
            raise asyncio.IncompleteReadError(b"", self._left_bytes)
        self._left_bytes -= len(piece)
        if not self._left_bytes:
            if self._is_chunked and await self._reader.readexactly(2) != b"\r\n":
                raise Malformed
            self._has_more = self._is_chunked
        return piece

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        if self._start:
            head = self._head(self._start, len(body) if is_last else None)
            self._start, self._is_answered = None, True
            body = head if self._is_bodiless else head + body  # one write: with two, the client would wake twice
        elif self._is_bodiless:
            return
        self._writer.write(body)
        await self._writer.drain()

    def _head(self, start: Message, length: int | None) -> bytes:
        status, headers = start["status"], start.get("headers", ())
        if not 200 <= status <= 999:
            raise ValueError(f"{status} is no status of an answer")
        if any(_BREAK.search(part) for header in headers for part in header):
            raise ValueError("a header with a line break")
        lines, names = [b"%b: %b" % header for header in headers], dict(headers)
        declared, actual = names.get(b"content-length"), None if length is None else b"%d" % length
        if b"transfer-encoding" in names or not (self._is_bodiless or None in (declared, actual) or declared == actual):
            raise ValueError("a body of another length than the headers say")
        if status in (204, 304):
            self._is_bodiless = True
        elif declared is None and actual:
            lines.append(b"content-length: " + actual)
        elif declared is None:
            self._is_kept = False  # the end of the connection is the end of the body
        if b"date" not in names:
            lines.append(b"date: " + formatdate(usegmt=True).encode())
        if not self._is_kept or self._awaits_go:
            lines.append(b"connection: close")
        return b"HTTP/1.1 %b\r\n%b\r\n\r\n" % (_status(status), b"\r\n".join(lines))


def _status(status: int) -> bytes:
    try:
        return b"%d %b" % (status, HTTPStatus(status).phrase.encode())
    except ValueError:
        return b"%d " % status


def _plain(status: int) -> bytes:
    text = HTTPStatus(status).phrase.encode()
    head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (_status(status), len(text)) + text
