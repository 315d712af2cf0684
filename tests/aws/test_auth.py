"""The credentials endpoint when its answer holds no credentials."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest

from payments.aws_auth import credentials

pytestmark = pytest.mark.server

GIVEN = b'{"AccessKeyId": "ASIARESTORED", "SecretAccessKey": "secret-canary", "Token": "token"}'
ANSWERS = {
    "an error": b"HTTP/1.0 500 Internal Server Error\r\n\r\n" + GIVEN,
    "an error document": b'HTTP/1.0 200 OK\r\n\r\n{"message": "not now"}',
    "no document": b"HTTP/1.0 200 OK\r\n\r\n",
    "another document": b"HTTP/1.0 200 OK\r\n\r\n[]",
    "a document that breaks off": b"HTTP/1.0 200 OK\r\n\r\n" + GIVEN[:-10],
    "an answer that breaks off": b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n" + GIVEN,
    "no HTTP": b"hello\r\n\r\n",
    "nothing": b"",
}


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(ANSWERS[request.param])

    with socketserver.TCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/role"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("endpoint", ANSWERS, indirect=True)
def test_an_endpoint_that_gives_no_credentials_is_an_error_of_the_network(endpoint: str) -> None:
    environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "sesame"}
    with pytest.raises(ConnectionError) as error:
        credentials(environment)
    assert "canary" not in repr(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None, "the answer may hold half a secret"
