"""An exchange with Stripe ends in time, whatever the server does, and is repeated only where a kept connection had died."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from payments.gateway import stripe_http
from payments.gateway.stripe_http import FAILURES, Answer, NoAnswer, StripeHttp
from tests.certificates import Authority
from tests.gateway.scripted import Request, Says, Scripted, says, scripted

pytestmark = pytest.mark.server

HOST = "api.stripe.example"
OK = says(200, {"is": "ok"})

To = Callable[..., StripeHttp]


@pytest.fixture
def to() -> Iterator[To]:
    """`to(base)` is a client whose connections end with the test."""
    with contextlib.ExitStack() as stack:

        def client(base: str, **how: Any) -> StripeHttp:
            http = StripeHttp(base, **how)
            stack.callback(http.close)
            return http

        yield client


def post(http: StripeHttp, timeout_s: float = 5.0, body: bytes = b"a=b") -> Answer:
    return http.exchange("POST", "/v1/x", {"Idempotency-Key": "key-1"}, body, time.time() + timeout_s)


def closes_after(answer: Says) -> Says:
    """Answer, and close the connection without saying so."""

    def say(connection: socket.socket, request: Request) -> bool:
        answer(connection, request)
        return True

    return say


def resets(connection: socket.socket, request: Request) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return True


def closes(connection: socket.socket, request: Request) -> bool:
    return True


# Connections.


def test_a_connection_is_kept(to: To) -> None:
    with scripted(OK, OK, OK) as server:
        http = to(server.url + "/worlds/a")
        for _ in range(3):
            answer = post(http)
            assert (answer.status, answer.headers["content-length"], answer.body) == (200, "12", b'{"is": "ok"}')
        assert server.connections == 1
        assert {request.path for request in server.received} == {"/worlds/a/v1/x"}


def test_a_connection_is_kept_after_chunks_and_given_up_after_too_many(to: To) -> None:
    head, end = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"
    megabyte = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"

    def chunks(connection: socket.socket, request: Request) -> None:
        connection.sendall(head + b"5\r\nabcde\r\n5\r\nfghij\r\n" + end)

    def many_chunks(connection: socket.socket, request: Request) -> None:
        connection.sendall(head + megabyte * 9 + end)

    with scripted(chunks, chunks, many_chunks, OK) as server:
        http = to(server.url)
        assert post(http).body == post(http).body == b"abcdefghij"
        assert server.connections == 1
        with pytest.raises(NoAnswer, match="not whole"):
            post(http)
        assert post(http).status == 200
        assert server.connections == 2


def test_threads_share_no_connection_at_a_time(to: To) -> None:
    together = threading.Barrier(16, timeout=10)

    def waits(connection: socket.socket, request: Request) -> None:
        together.wait()
        says(200, {"key": request.headers["idempotency-key"]})(connection, request)

    with scripted(*[waits] * 48) as server, ThreadPoolExecutor(16) as pool:
        http = to(server.url)

        def call(number: int) -> bool:
            answer = http.exchange("POST", "/", {"Idempotency-Key": f"key-{number}"}, b"", time.time() + 10)
            return answer.body == f'{{"key": "key-{number}"}}'.encode()

        for turn in range(3):
            assert all(pool.map(call, range(16 * turn, 16 * turn + 16)))
        assert server.connections == 16


def test_an_old_connection_is_not_used_again(to: To) -> None:
    with scripted(OK, OK, OK) as server:
        http = to(server.url)
        post(http)
        post(http)
        assert server.connections == 1
        http._idle[0].idle_since_s -= stripe_http.IDLE_S  # as after a minute in which the function was frozen
        post(http)
        assert server.connections == 2


def test_a_connection_that_the_server_closes_by_its_answer_is_not_used_again(to: To) -> None:
    with scripted(closes_after(says(200, {}, Connection="close")), OK) as server:
        http = to(server.url)
        assert post(http).body == b"{}"
        post(http)
        assert (server.connections, len(server.received)) == (2, 2)


@pytest.mark.parametrize("dies", [resets, closes])
def test_a_kept_connection_that_dies_before_the_first_byte_is_replaced_once(dies: Says, to: To) -> None:
    with scripted(OK, dies, OK) as server:
        http = to(server.url)
        post(http)
        assert post(http).status == 200
        assert [request.headers["idempotency-key"] for request in server.received] == ["key-1"] * 3
        assert server.connections == 2
    with scripted(OK, dies, dies) as server:
        http = to(server.url)
        post(http)
        with pytest.raises(NoAnswer, match="the connection broke"):
            post(http)
        assert len(server.received) == 3, "one repetition"


@pytest.mark.parametrize("dies", [resets, closes])
def test_a_new_connection_that_dies_is_not_replaced(dies: Says, to: To) -> None:
    with scripted(dies) as server:
        with pytest.raises(NoAnswer, match="the connection broke"):
            post(to(server.url))
        assert len(server.received) == 1


def test_an_answer_that_has_begun_is_not_asked_for_again(to: To) -> None:
    def half(connection: socket.socket, request: Request) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-")
        return resets(connection, request)

    with scripted(OK, half) as server:
        http = to(server.url)
        post(http)
        with pytest.raises(NoAnswer):
            post(http)
        assert len(server.received) == 2


def test_a_kept_connection_that_hangs_is_not_replaced(to: To) -> None:
    with scripted(OK, lambda connection, request: connection.recv(1)) as server:
        http = to(server.url)
        post(http)
        with pytest.raises(NoAnswer, match="in time"):
            post(http, timeout_s=0.3)
        assert len(server.received) == 2


# The deadline.


def hangs(connection: socket.socket, request: Request) -> bool:
    connection.recv(1)
    return True


def hangs_after_its_head(connection: socket.socket, request: Request) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    return hangs(connection, request)


def drips(text: bytes, first: bytes = b"") -> Says:
    def drip(connection: socket.socket, request: Request) -> bool:
        connection.sendall(first)
        for byte in text:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)
        return True

    return drip


SLOW: dict[str, Says] = {
    "hangs": hangs,
    "hangs after its head": hangs_after_its_head,
    "drips its status": drips(b"HTTP/1.1 200 O" + b"K" * 1000),
    "drips its headers": drips(b"X-Y: z\r\n" * 200, b"HTTP/1.1 200 OK\r\n"),
    "drips its body": drips(b"x" * 1000, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
    "drips its chunks": drips(b"1\r\nx\r\n" * 200, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "drips until it closes": drips(b"x" * 1000, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
}


@pytest.mark.parametrize("what", SLOW)
def test_who_hangs_or_drips_gains_no_time(what: str, to: To) -> None:
    with scripted(SLOW[what]) as server:
        begun_s = time.monotonic()
        with pytest.raises(NoAnswer, match="in time"):
            post(to(server.url), timeout_s=0.5)
        assert time.monotonic() - begun_s < 15, "the drips would take a minute"


def test_a_name_that_is_looked_up_for_ever_gains_no_time(to: To) -> None:
    over = threading.Event()

    def slow(host: str, port: int) -> list[Any]:
        over.wait(20)
        return []

    with pytest.raises(NoAnswer, match="in time"):
        post(to("http://localhost:1", resolve=slow), timeout_s=0.3)
    over.set()


def test_a_tls_handshake_that_hangs_or_drips_gains_no_time(to: To, authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with listener.accept()[0] as connection, contextlib.suppress(OSError):
                for byte in b"\x16\x03\x03\x40\x00" + b"\0" * 1000:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.05)

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        server = Scripted(port=listener.getsockname()[1])
        begun_s = time.monotonic()
        with pytest.raises(NoAnswer, match="in time"):
            post(trusting(to, authority, server), timeout_s=0.5)
        assert time.monotonic() - begun_s < 15
        dripping.join(20)


def test_who_does_not_read_gains_no_time(to: To) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # It accepts nobody: the kernel does.
        http = to(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(NoAnswer, match="in time"):
            post(http, timeout_s=0.5, body=b"x" * 50_000_000)


def test_nothing_is_sent_after_the_deadline(to: To) -> None:
    with scripted(OK) as server:
        http = to(server.url)
        post(http)
        with pytest.raises(NoAnswer, match="in time"):
            post(http, timeout_s=-1)
        assert len(server.received) == 1


# The answer.


def test_a_huge_answer_is_not_read_to_its_end(to: To) -> None:
    sent = list[int]()

    def huge(connection: socket.socket, request: Request) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                connection.sendall(b"x" * 65536)
                sent.append(65536)
        return True

    with scripted(huge) as server, pytest.raises(NoAnswer):
        post(to(server.url), timeout_s=10)
    assert sum(sent) < 4 * stripe_http.MOST_ANSWER_BYTES


@pytest.mark.parametrize(
    "said",
    [
        b"220 mail.example.com ESMTP\r\n",
        b"\0" * 70_000,
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nabc\r\n",
    ],
)
def test_what_is_not_whole_http_is_no_answer(said: bytes, to: To) -> None:
    def say(connection: socket.socket, request: Request) -> bool:
        connection.sendall(said)
        return True

    with scripted(say) as server, pytest.raises(NoAnswer, match="the answer is not"):
        post(to(server.url))


def test_no_redirect_is_followed(to: To) -> None:
    with scripted(says(302, b"", Location="http://127.0.0.1:1/")) as server:
        assert post(to(server.url)).status == 302
        assert len(server.received) == 1


# TLS.


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def trusting(to: To, authority: Authority, server: Scripted) -> StripeHttp:
    return to(f"https://{HOST}", tls=ssl.create_default_context(cafile=str(authority.file)), resolve=server.resolve)


def test_stripe_is_asked_over_tls_under_its_name(to: To, authority: Authority, tmp_path: Path) -> None:
    with scripted(OK, OK, files=authority.issue(tmp_path / "stripe", HOST)) as server:
        http = trusting(to, authority, server)
        assert post(http).status == post(http).status == 200
        assert server.received[0].headers["host"] == HOST
        assert server.connections == 1
        with pytest.raises(NoAnswer, match="certificate"):  # an authority that nobody knows
            post(to(f"https://{HOST}", resolve=server.resolve))


@pytest.mark.parametrize(("host", "valid_for"), [("other.example.com", timedelta(days=1)), (HOST, timedelta(days=-1))])
def test_a_certificate_of_another_name_or_of_yesterday_is_refused(
    host: str, valid_for: timedelta, to: To, authority: Authority, tmp_path: Path
) -> None:
    with scripted(files=authority.issue(tmp_path / "wrong", host, valid_for=valid_for)) as server:
        with pytest.raises(NoAnswer, match="its certificate is not valid"):
            post(trusting(to, authority, server))
        assert server.received == []


def test_the_key_does_not_leave_this_machine_in_clear_text(to: To) -> None:
    with pytest.raises(ValueError, match="TLS"):
        to("http://api.stripe.com")


def test_a_closed_port_and_an_unknown_name_are_told_apart(to: To) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NoAnswer, match="the connection was refused"):
        post(to(f"http://127.0.0.1:{port}"))

    def unknown(host: str, port: int) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME)

    with pytest.raises(NoAnswer, match="its name is not found"):
        post(to("http://localhost:1", resolve=unknown))


def test_of_several_addresses_the_next_one_is_tried(to: To) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = Scripted(port=listener.getsockname()[1])
    with scripted(OK) as server:
        both = [*closed.resolve("", 0), *server.resolve("", 0)]
        assert post(to("http://localhost:1", resolve=lambda host, port: both)).status == 200


def test_every_failure_has_words_of_ours() -> None:
    for kind in FAILURES:
        assert next(known for known in FAILURES if issubclass(kind, known)) is kind, "an earlier one must not hide a later one"
