from __future__ import annotations

import contextlib
import json
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from payments.gateway.stripe import StripeGateway
from payments.gateway.stripe_events import EVENT_TYPES
from payments.gateway.stripe_http import StripeHttp
from tests.gateway.servers import LocalStripe, StripeMock, StripeWorld, Toxiproxy, ask


@pytest.fixture(scope="session")
def stripe_world(servers_folder: Path) -> Iterator[StripeWorld]:
    if why := StripeWorld.missing():
        pytest.skip(why)
    with StripeWorld() as world:
        yield world


@pytest.fixture(scope="session")
def localstripe(servers_folder: Path) -> Iterator[LocalStripe]:
    if why := LocalStripe.missing():
        pytest.skip(why)
    with LocalStripe() as server:
        yield server


@pytest.fixture
def delivered(localstripe: LocalStripe) -> Iterator[queue.SimpleQueue[dict[str, Any]]]:
    """What localstripe posts to an endpoint of ours, of the types that we want."""
    events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            events.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """It says nothing."""

    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        webhook = {"url": f"http://127.0.0.1:{server.server_port}", "secret": "whsec_x", "events": list(EVENT_TYPES)}
        ask("POST", f"{localstripe.url}/_config/webhooks/{uuid.uuid4().hex}", json.dumps(webhook).encode())
        yield events
        server.shutdown()
        serving.join()


@pytest.fixture
def stripe_at() -> Iterator[Callable[..., StripeGateway]]:
    """`stripe_at(base)` is an adapter in test mode, whose connections end with the test."""
    with contextlib.ExitStack() as stack:

        def at(
            base: str, *, key: str = "sk_test_x", is_live: bool = False, http: type[StripeHttp] = StripeHttp, **how: Any
        ) -> StripeGateway:
            connections = http(base, **how)
            stack.callback(connections.close)
            return StripeGateway(lambda: key, is_live=is_live, http=connections)

        yield at


@pytest.fixture(scope="session")
def stripe_mock(servers_folder: Path) -> Iterator[StripeMock]:
    if why := StripeMock.missing():
        pytest.skip(why)
    with StripeMock() as server:
        yield server


@pytest.fixture(scope="session")
def toxiproxy(servers_folder: Path) -> Iterator[Toxiproxy]:
    if why := Toxiproxy.missing():
        pytest.skip(why)
    with Toxiproxy() as proxy:
        yield proxy
