"""The front on its port: what a client sees of uvicorn as we set it. tests/local/test_http.py has what the front makes of it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import psutil
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from local.__main__ import HttpServer, listen
from local.front import MAX_BODY_BYTES, Front
from local.pool import Answer, Pool
from local.template import Template
from tests.local.test_http import Functions, functions

__all__ = ["functions"]  # a fixture

PATIENCE_S = 60

pytestmark = pytest.mark.server


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.socket: socket.socket = writer.get_extra_info("socket")

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the next answer."""
        self.writer.write(request)
        line, *headers = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        named = dict(cast(tuple[bytes, bytes], tuple(header.split(b": ", 1))) for header in headers)
        return int(line.split()[1]), await self.reader.readexactly(int(named[b"content-length"]))


def serve(app: ASGIApp, test: Callable[[Client, HttpServer], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE_S):
            with listen("0") as listener:
                listener.listen()
                server = HttpServer(app)
                serving = asyncio.create_task(server.serve(sockets=[listener]))
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                try:
                    await test(Client(reader, writer), server)
                finally:
                    writer.close()
                    server.should_exit = True
                    await serving

    asyncio.run(run())


@pytest.fixture
def front(template: Template, functions: Functions, tmp_path: Path) -> ASGIApp:
    return Front(template, dict.fromkeys(template.functions, cast(Pool, functions)), tmp_path / "openapi.json").app


def post(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers or (b"Host: localhost",))
    return b"POST /echo HTTP/1.1\r\n" + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_an_answer_on_a_kept_connection_waits_for_no_acknowledgement(front: ASGIApp) -> None:
    """With Nagle's algorithm, an answer's body may wait for the client's delayed acknowledgement of its head, 40 ms."""

    async def test(client: Client, _: HttpServer) -> None:
        await client.ask(post(b"1"))
        [accepted] = [
            connection.fd
            for connection in psutil.Process().net_connections("tcp")
            if tuple(connection.raddr) == client.socket.getsockname()
        ]
        with socket.socket(fileno=os.dup(accepted)) as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    serve(front, test)


def segments_in(client: socket.socket) -> int:
    """How many segments with data have reached the client: tcpi_data_segs_in of Linux's struct tcp_info."""
    return int(struct.unpack_from("I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 152)[0])


@pytest.mark.skipif(sys.platform != "linux", reason="another system counts segments otherwise")
def test_an_answer_is_no_more_than_two_segments(front: ASGIApp, functions: Functions) -> None:
    functions.answer = Answer({"statusCode": 200, "body": "x" * 2000})

    async def test(client: Client, _: HttpServer) -> None:
        for number in range(1, 6):
            assert await client.ask(post(b"x" * 2000)) == (200, b"x" * 2000)
            assert segments_in(client.socket) <= 2 * number  # its head and its body

    serve(front, test)


@pytest.mark.parametrize("headers", [(b"Host: evil.example",), (b"Host: localhost", b"Host: evil.example")])
def test_a_name_that_its_owner_points_at_this_machine_gets_no_answer(
    front: ASGIApp, functions: Functions, headers: tuple[bytes, ...]
) -> None:
    async def test(client: Client, _: HttpServer) -> None:
        assert (await client.ask(post(b"{}", *headers)))[0] in (400, 403)

    serve(front, test)
    assert functions.events == []


def test_no_header_changes_the_source_ip(front: ASGIApp, functions: Functions) -> None:
    async def test(client: Client, _: HttpServer) -> None:
        assert (await client.ask(post(b"{}", b"Host: localhost", b"X-Forwarded-For: 192.0.2.1")))[0] == 200

    serve(front, test)
    [event] = functions.events
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"
    assert event["headers"]["x-forwarded-for"] == "192.0.2.1,127.0.0.1"


@pytest.mark.parametrize(
    "ambiguous",
    [
        b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"X: 1\nContent-Length: 4\r\n\r\nabcd",
    ],
    ids=["two lengths", "length and chunks", "a bare line feed"],
)
def test_a_request_that_two_readers_could_understand_differently_is_refused(
    front: ASGIApp, functions: Functions, ambiguous: bytes
) -> None:
    async def test(client: Client, _: HttpServer) -> None:
        assert (await client.ask(b"POST /echo HTTP/1.1\r\nHost: localhost\r\n" + ambiguous))[0] == 400
        assert await client.reader.read() == b""  # what follows cannot be told from the rest

    serve(front, test)
    assert functions.events == []


def test_a_body_over_10_mb_is_refused_and_is_not_the_next_request(front: ASGIApp, functions: Functions) -> None:
    async def test(client: Client, _: HttpServer) -> None:
        status, _body = await client.ask(post(post(b"hidden") * (MAX_BODY_BYTES // 50)))
        assert status == 413
        assert (await client.ask(post(b"next")))[0] == 200

    serve(front, test)
    assert [event["body"] for event in functions.events] == ["next"]


def test_a_request_whose_client_leaves_before_its_end_reaches_no_function(
    front: ASGIApp, functions: Functions, capsys: pytest.CaptureFixture[str]
) -> None:
    async def test(client: Client, _: HttpServer) -> None:
        client.writer.write(post(b'{"amount": 1999}')[:-1])
        await client.writer.drain()

    serve(front, test)
    assert functions.events == []
    assert capsys.readouterr().err == ""  # it is no fault of ours


@pytest.mark.parametrize(("name", "value"), [("x", "1\r\nSet-Cookie: a=b"), ("x", "1\n"), ("x: 1\r\nSet-Cookie", "a=b")])
def test_a_header_of_a_function_cannot_become_two(front: ASGIApp, functions: Functions, name: str, value: str) -> None:
    functions.answer = Answer({"statusCode": 200, "headers": {name: value}})

    async def test(client: Client, _: HttpServer) -> None:
        client.writer.write(post(b""))
        assert await client.reader.read() == b""

    serve(front, test)


def test_an_application_that_fails_is_a_500_and_its_error_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no such luck")

    async def test(client: Client, _: HttpServer) -> None:
        assert await client.ask(post(b"x")) == (500, b"Internal Server Error")

    serve(fails, test)
    assert "LookupError: no such luck" in capsys.readouterr().err


@pytest.mark.parametrize("finishes", [True, False])
def test_a_stop_waits_for_requests_in_progress_but_not_for_ever(finishes: bool) -> None:
    begun, may_finish = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await may_finish.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"last"})

    async def test(client: Client, server: HttpServer) -> None:
        server.config.timeout_graceful_shutdown = PATIENCE_S if finishes else 0
        client.writer.write(post(b""))
        await begun.wait()
        server.should_exit = True
        if finishes:
            asyncio.get_running_loop().call_later(0.3, may_finish.set)  # meanwhile the server takes notice
        assert (await client.ask(b""))[0] == (200 if finishes else 500)

    serve(slow, test)
