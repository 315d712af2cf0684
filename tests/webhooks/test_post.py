"""A webhook is sent to the checked address alone, under the name's certificate, in bounded time, whatever the receiver does."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from payments.webhooks.post import FAILURES, MOST_ANSWER_BYTES, Post
from tests.certificates import Authority
from tests.webhooks.receiver import HOST, Answer, Receiver, Request, receiving, says

pytestmark = pytest.mark.server

URL = f"https://{HOST}/hook?a=b"
BODY = '{"type": "payment.successful", "ü": 1}'.encode()

Serve = Callable[[Answer], Receiver]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def receiver(authority: Authority, tmp_path: Path) -> Iterator[Receiver]:
    with receiving(files=authority.issue(tmp_path / "shop", HOST)) as receiver:
        yield receiver


def trusting(authority: Authority, receiver: Receiver, **options: Any) -> Post:
    """Return a sender that trusts the authority, finds every name at the receiver, and takes its address for a public one."""
    how: dict[str, Any] = {
        "resolve": receiver.resolve,
        "admits": lambda address: address == "127.0.0.1",
        "timeout_s": 5.0,
    } | options
    return Post(tls=ssl.create_default_context(cafile=str(authority.file)), **how)


def test_a_webhook_arrives_over_tls_at_the_checked_address(authority: Authority, receiver: Receiver) -> None:
    assert trusting(authority, receiver)(URL, {"webhook-id": "1"}, BODY) == 204
    [request] = receiver.received
    assert request.line == "POST /hook?a=b HTTP/1.1"
    assert request.body == BODY
    assert request.headers["host"] == HOST
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["content-length"] == str(len(BODY))
    assert request.headers["webhook-id"] == "1"
    assert request.headers["connection"] == "close"


def test_an_address_that_is_not_public_is_not_connected_to(authority: Authority, receiver: Receiver) -> None:
    """The name led to a public address when it was registered, and leads to us now."""
    assert Post(resolve=receiver.resolve)(URL, {}, BODY) == "its name leads to no public address"
    assert Post()("http://localhost:1/", {}, BODY) == "its name leads to no public address"
    assert Post(resolve=receiver.resolve)("http\u017f://shop.example.com/", {}, BODY) == "its name leads to no public address"
    assert (receiver.received, receiver.broken) == ([], [])


@pytest.mark.parametrize(("host", "valid_for"), [("other.example.com", timedelta(days=1)), (HOST, timedelta(days=-1))])
def test_a_certificate_of_another_name_or_of_yesterday_is_refused(
    host: str, valid_for: timedelta, authority: Authority, tmp_path: Path
) -> None:
    with receiving(files=authority.issue(tmp_path / "wrong", host, valid_for=valid_for)) as receiver:
        assert trusting(authority, receiver)(URL, {}, BODY) == "its certificate is not valid"
        assert receiver.received == []


def test_a_certificate_of_an_authority_that_nobody_knows_is_refused(receiver: Receiver, authority: Authority) -> None:
    unknowing = trusting(authority, receiver)
    unknowing = Post(resolve=unknowing.resolve, admits=unknowing.admits)
    assert unknowing(URL, {}, BODY) == "its certificate is not valid"
    assert receiver.received == []


@pytest.mark.parametrize("status", [200, 201, 202, 204, 301, 302, 307, 308, 400, 401, 404, 410, 429, 500, 503])
def test_the_status_is_the_answer_and_no_redirect_is_followed(status: int, authority: Authority, receiver: Receiver) -> None:
    receiver.answer = says(status, f"Location: https://{HOST}/elsewhere", "Retry-After: 1")
    assert trusting(authority, receiver)(URL, {}, BODY) == status
    assert len(receiver.received) == 1


def hangs(connection: socket.socket, request: Request) -> None:
    connection.recv(1)


def drips(connection: socket.socket, request: Request) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def never_ends_its_headers(connection: socket.socket, request: Request) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [hangs, drips])
def test_who_hangs_or_drips_gains_no_time(answer: Answer, authority: Authority, receiver: Receiver) -> None:
    receiver.answer = answer
    begun_s = time.monotonic()
    assert trusting(authority, receiver, timeout_s=0.7)(URL, {}, BODY) == "timed out"
    assert time.monotonic() - begun_s < 15, "the drips would take 8 minutes"


def test_headers_without_end_are_no_answer(authority: Authority, receiver: Receiver) -> None:
    receiver.answer = never_ends_its_headers
    assert trusting(authority, receiver, timeout_s=0.7)(URL, {}, BODY) in ("timed out", "the answer is not HTTP")


def test_who_does_not_read_gains_no_time(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # It accepts nobody: the kernel does.
        receiver = Receiver(port=listener.getsockname()[1])
        for timeout_s in (0.3, 0.6):
            assert trusting(authority, receiver, timeout_s=timeout_s)(URL, {}, BODY) == "timed out"
        local = Post(is_local=True, timeout_s=0.6)
        assert local(f"http://localhost:{receiver.port}/", {}, b"x" * 50_000_000) == "timed out"


def test_of_a_huge_answer_a_bounded_part_is_read(authority: Authority, receiver: Receiver) -> None:
    sent = list[int]()

    def huge(connection: socket.socket, request: Request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(10_000):
            connection.sendall(b"x" * 65536)
            sent.append(65536)

    receiver.answer = huge
    assert trusting(authority, receiver)(URL, {}, BODY) == 200
    assert MOST_ANSWER_BYTES < 65536
    receiver.over.wait(0.2)
    assert sum(sent) < 10_000 * 65536, "the kernel's buffers hold the rest"


def test_an_answer_that_breaks_after_its_status_has_come_all_the_same(authority: Authority, receiver: Receiver) -> None:
    receiver.answer = lambda connection, request: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    assert trusting(authority, receiver)(URL, {}, BODY) == 200


@pytest.mark.parametrize("size", [b"-5", b"-1", b"x", b"\xff", b"f" * 5000])
def test_chunks_of_an_impossible_size_are_an_answer_all_the_same(size: bytes, authority: Authority, receiver: Receiver) -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nabc\r\n"
    receiver.answer = lambda connection, request: connection.sendall(said)
    assert trusting(authority, receiver)(URL, {}, BODY) == 200


@pytest.mark.parametrize("said", [b"", b"220 mail.example.com ESMTP\r\n", b"\0" * 70_000, b"HTTP/1.1 two hundred\r\n\r\n"])
def test_what_is_not_http_is_no_answer(said: bytes, authority: Authority, receiver: Receiver) -> None:
    receiver.answer = lambda connection, request: connection.sendall(said)
    assert trusting(authority, receiver)(URL, {}, BODY) in ("the answer is not HTTP", "the connection failed")


def test_a_closed_port_and_an_unknown_name_are_told_apart(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = Receiver(port=listener.getsockname()[1])
    assert trusting(authority, receiver)(URL, {}, BODY) == "the connection was refused"

    def unknown(host: str, port: int) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME)

    assert Post(resolve=unknown)(URL, {}, BODY) == "its name leads to no public address"


def test_of_several_addresses_the_next_one_is_tried(authority: Authority, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = Receiver(port=listener.getsockname()[1])
    both = [*closed.resolve(HOST, 443), *receiver.resolve(HOST, 443)]
    assert trusting(authority, receiver, resolve=lambda host, port: both)(URL, {}, BODY) == 204


def test_a_local_run_sends_without_tls_to_this_machine(tmp_path: Path) -> None:
    with receiving() as receiver:
        assert Post(is_local=True)(receiver.url, {"webhook-id": "1"}, BODY) == 204
        assert receiver.received[0].headers["host"] == f"localhost:{receiver.port}"
        assert Post()(receiver.url, {"webhook-id": "1"}, BODY) == "its name leads to no public address"
        assert len(receiver.received) == 1


def test_every_failure_has_words_of_ours() -> None:
    assert {OSError, TimeoutError}.issubset(FAILURES)
    for kind in FAILURES:
        assert next(known for known in FAILURES if issubclass(kind, known)) is kind, "an earlier one must not hide a later one"
