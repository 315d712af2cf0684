"""The front's HTTP server: what goes over the wire. tests/local/test_http.py has what the front makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import cast

import h11
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.__main__ import listen
from local.http_server import HttpServer, Malformed, _Exchange

PATIENCE_S = 10
HOST = b"Host: localhost\r\n"


class Echo:
    """Answers with the request's body, and keeps what it was asked."""

    def __init__(self, *, reads: bool = True) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = 200
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, has_more = b"", self._reads
        while has_more:
            message = await receive()
            body, has_more = body + message["body"], message["more_body"]
        self.asked.append((scope["method"], body))
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": body})


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.socket: socket.socket = writer.get_extra_info("socket")

    async def answer(self) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """Return the next answer: its status line, its headers and its body."""
        head = (await self.reader.readuntil(b"\r\n\r\n"))[:-4]
        line, *headers = head.split(b"\r\n")
        named = dict(cast(tuple[bytes, bytes], tuple(header.split(b": ", 1))) for header in headers)
        return line, named, await self.reader.readexactly(int(named.get(b"content-length", b"0")))

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        self.writer.write(request)
        line, _, body = await self.answer()
        return line, body


def serve(app: ASGIApp, test: Callable[[Client, HttpServer], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE_S):
            with listen("0") as listener:
                server = HttpServer(app)
                await server.start(listener)
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                try:
                    await test(Client(reader, writer), server)
                finally:
                    writer.close()
                    await server.stop(0)

    asyncio.run(run())


def post(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST /x HTTP/1.1\r\n" + HOST + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


OK = b"HTTP/1.1 200 OK"


@pytest.mark.server
def test_an_answer_on_a_kept_connection_waits_for_no_acknowledgement() -> None:
    """With Nagle's algorithm, an answer after the first may wait for the client's delayed acknowledgement, 40 ms."""

    async def test(client: Client, _: HttpServer) -> None:
        await client.ask(post(b"1"))
        [accepted] = [
            connection.fd
            for connection in psutil.Process().net_connections("tcp")
            if tuple(connection.raddr) == client.socket.getsockname()
        ]
        with socket.socket(fileno=os.dup(accepted)) as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    serve(Echo(), test)


def segments_in(client: socket.socket) -> int:
    """How many segments with data have reached the client: tcpi_data_segs_in of Linux's struct tcp_info."""
    return int(struct.unpack_from("I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 152)[0])


@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="another system counts segments otherwise")
def test_an_answer_is_one_segment() -> None:
    async def test(client: Client, _: HttpServer) -> None:
        for number in range(1, 6):
            assert await client.ask(post(b"x" * 2000)) == (OK, b"x" * 2000)
            assert segments_in(client.socket) == number

    serve(Echo(), test)


@pytest.mark.server
def test_requests_may_come_in_pieces_or_several_at_once() -> None:
    async def test(client: Client, _: HttpServer) -> None:
        for byte in post(b"one"):
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer())[2] == b"one"
        client.writer.write(post(b"two") + post(b"three") + post(b""))
        assert [(await client.answer())[2] for _ in range(3)] == [b"two", b"three", b""]

    serve(Echo(), test)


@pytest.mark.server
def test_a_body_in_chunks_reaches_the_application_whole() -> None:
    async def test(client: Client, _: HttpServer) -> None:
        head = b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        large = b"y" * 200_000
        body = b"4\r\nab\r\n\r\n5;name=value\r\ncdefg\r\n%x\r\n%b\r\n0\r\nTrailer: 1\r\n\r\n" % (len(large), large)
        assert await client.ask(head + body) == (OK, b"ab\r\ncdefg" + large)
        assert await client.ask(post(b"next")) == (OK, b"next")

    serve(Echo(), test)


@pytest.mark.server
def test_a_client_that_asks_whether_to_send_the_body_is_told() -> None:
    async def test(client: Client, _: HttpServer) -> None:
        request = post(b"body", b"Expect: 100-continue")
        client.writer.write(request[:-4])
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await client.ask(b"body") == (OK, b"body")

    async def refused(client: Client, _: HttpServer) -> None:
        client.writer.write(post(b"body", b"Expect: 100-continue")[:-4])
        line, headers, _body = await client.answer()
        assert (line, headers[b"connection"]) == (OK, b"close")  # nobody knows whether the body will come
        assert await client.reader.read() == b""

    serve(Echo(), test)
    serve(Echo(reads=False), refused)


@pytest.mark.server
def test_a_body_that_nobody_reads_is_not_the_next_request() -> None:
    async def test(client: Client, _: HttpServer) -> None:
        assert await client.ask(post(b"GET /y HTTP/1.1\r\n" + HOST + b"\r\n" + b"x" * 200_000)) == (OK, b"")
        assert await client.ask(post(b"z")) == (OK, b"")

    app = Echo(reads=False)
    serve(app, test)
    assert app.asked == [("POST", b""), ("POST", b"")]


MALFORMED = {
    "no request line": b"hello\r\n\r\n",
    "another protocol": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"X : 1\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\r\n 2\r\n\r\n",
    "a bare line feed": b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\nY: 2\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\n" + HOST + b"X: \0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a length below zero": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na",
    "length and chunks": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a chunk without a size": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
    "a chunk beyond its size": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.server
@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_request_is_refused_and_nobody_gets_it(request_: bytes) -> None:
    async def test(client: Client, _: HttpServer) -> None:
        assert (await client.ask(request_))[0] == b"HTTP/1.1 400 Bad Request"
        assert await client.reader.read() == b""  # what follows cannot be told from the rest

    app = Echo()
    serve(app, test)
    assert app.asked == []


@pytest.mark.server
def test_headers_without_an_end_are_refused() -> None:
    async def test(client: Client, _: HttpServer) -> None:
        assert (await client.ask(b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000))[0].startswith(b"HTTP/1.1 431")

    serve(Echo(), test)


@pytest.mark.server
def test_an_answer_without_a_body_has_none() -> None:
    async def test(client: Client, _: HttpServer) -> None:
        client.writer.write(b"HEAD / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nbody")
        assert (await client.reader.readuntil(b"\r\n\r\n")).count(b"content-length: 4") == 1
        app.status = 204
        client.writer.write(post(b"which the application answers with"))
        line, headers, _body = await client.answer()
        assert await client.ask(post(b"")) == (b"HTTP/1.1 204 No Content", b"")
        assert (line, list(headers)) == (b"HTTP/1.1 204 No Content", [b"date"])

    app = Echo()
    serve(app, test)


@pytest.mark.server
@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\n" + HOST + b"Connection: x, Close\r\n\r\n"], ids=["1.0", "close"]
)
def test_a_connection_ends_when_the_client_wants_it(request_: bytes) -> None:
    async def test(client: Client, _: HttpServer) -> None:
        client.writer.write(request_)
        assert (await client.answer())[1][b"connection"] == b"close"
        assert await client.reader.read() == b""

    serve(Echo(), test)


@pytest.mark.server
@pytest.mark.parametrize(
    ("header", "error"),
    [
        ((b"x", b"1\r\nSet-Cookie: a=b"), "a header with a line break"),
        ((b"x", b"1\n"), "a header with a line break"),
        ((b"x\0", b"1"), "a header with a line break"),
        ((b"content-length", b"3"), "a body of another length"),
        ((b"content-length", b"5"), "a body of another length"),
        ((b"transfer-encoding", b"chunked"), "a body of another length"),
    ],
)
def test_what_the_application_says_cannot_become_two_answers(
    header: tuple[bytes, bytes], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(client: Client, _: HttpServer) -> None:
        client.writer.write(post(b"body"))
        line, headers, _body = await client.answer()
        assert (line, b"set-cookie" in headers) == (b"HTTP/1.1 500 Internal Server Error", False)

    app = Echo()
    app.headers = [header]
    serve(app, test)
    assert error in capsys.readouterr().err


@pytest.mark.server
def test_an_application_that_fails_is_a_500_and_its_error_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no such luck")

    async def test(client: Client, _: HttpServer) -> None:
        assert await client.ask(post(b"x")) == (b"HTTP/1.1 500 Internal Server Error", b"Internal Server Error")

    serve(fails, test)
    assert "LookupError: no such luck" in capsys.readouterr().err


@pytest.mark.server
def test_an_answer_that_breaks_off_ends_the_connection(capsys: pytest.CaptureFixture[str]) -> None:
    async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise LookupError("no such luck")

    async def test(client: Client, _: HttpServer) -> None:
        client.writer.write(post(b""))
        assert (await client.reader.read()).endswith(b"\r\n\r\nhalf")

    serve(breaks_off, test)
    assert "LookupError: no such luck" in capsys.readouterr().err


@pytest.mark.server
def test_a_stream_without_a_length_ends_with_the_connection() -> None:
    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for body, more_body in ((b"one ", True), (b"two", False)):
            await send({"type": "http.response.body", "body": body, "more_body": more_body})

    async def test(client: Client, _: HttpServer) -> None:
        client.writer.write(post(b""))
        assert (await client.reader.read()).split(b"\r\n\r\n")[1] == b"one two"

    serve(streams, test)


@pytest.mark.server
@pytest.mark.parametrize("finishes", [True, False])
def test_a_stop_waits_for_requests_in_progress_but_not_for_ever(finishes: bool) -> None:
    begun, may_finish = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await may_finish.wait()
        await Echo()(scope, receive, send)

    async def test(client: Client, server: HttpServer) -> None:
        client.writer.write(post(b"last"))
        await begun.wait()
        stopping = asyncio.create_task(server.stop(PATIENCE_S if finishes else 0.01))
        if finishes:
            may_finish.set()
        await stopping
        answer = await client.reader.read()
        assert answer.endswith(b"last") if finishes else answer == b""

    serve(slow, test)


class Nowhere:
    """A writer of a connection that nobody reads."""

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)


async def read(head: bytes) -> Message:
    """Return the scope of a request. Raises Malformed."""
    seen: list[Scope] = []

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        raise asyncio.CancelledError  # before an answer

    exchange = _Exchange(asyncio.StreamReader(), cast(asyncio.StreamWriter, Nowhere()), head)
    with contextlib.suppress(asyncio.CancelledError):
        await exchange.run(keep)
    return dict(seen[0])


PIECES = (
    b"GET /a POST ?a=%0a HTTP/1.1 HTTP/1.0 \r\n \n \r : Host localhost Content-Length Transfer-Encoding chunked 1 +1 \0 \x7f \xff"
)
PARTS = st.lists(st.sampled_from([*PIECES.split(b" "), b" ", b"  ", b"\t", b": "]), max_size=12).map(b"".join)


@given(
    PARTS | st.just(b"GET /a HTTP/1.1"),
    st.lists(PARTS | st.sampled_from([b"Host: a", b"Content-Length: 1", b"X-Y:\t1 "]), max_size=5),
)
def test_what_we_take_another_parser_takes_in_the_same_way(line: bytes, headers: list[bytes]) -> None:
    """h11 is the stricter kind of parser. We may refuse more, and never understand something else."""
    head = b"\r\n".join([line, *headers]) + b"\r\n\r\n"
    head = head[: head.index(b"\r\n\r\n") + 4]
    try:
        scope = asyncio.run(read(head))
    except Malformed:
        return
    other = h11.Connection(h11.SERVER)
    other.receive_data(head)
    event = other.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.http_version) == (scope["method"].encode(), scope["http_version"].encode())
    assert event.target.partition(b"?")[::2] == (scope["raw_path"], scope["query_string"])
    assert list(event.headers) == scope["headers"]
