"""What the copies of Stripe say otherwise than Stripe, put right on the way to the adapter."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from payments.gateway.stripe_http import Answer, StripeHttp


class OfStripeWorld(StripeHttp):
    """Stripe World delivers its events to nobody, and for it that is no failure. So we ask it for all of them."""

    def exchange(self, method: str, path: str, *arguments: Any) -> Answer:
        return super().exchange(method, path.replace("delivery_success=false&", ""), *arguments)


class OfLocalstripe(StripeHttp):
    """Adds what localstripe leaves out of its intents, by what it says of their charges, and that it has no disputes."""

    def exchange(self, method: str, path: str, *arguments: Any) -> Answer:
        if path.startswith("/v1/disputes"):
            return Answer(200, HTTPMessage(), b'{"object": "list", "data": [], "has_more": false}')
        answer = super().exchange(method, path, *arguments)
        said = json.loads(answer.body)
        for intent in [said, *said.get("data", ())]:
            if intent.get("object") == "payment_intent":
                charge = intent.get("latest_charge") or {"amount": 0, "amount_refunded": 0, "captured": False}
                left = charge["amount"] - charge["amount_refunded"]
                intent |= {"amount_received": left * charge["captured"], "amount_capturable": left * (not charge["captured"])}
        return replace(answer, body=json.dumps(said).encode())


@contextlib.contextmanager
def spoken(http: StripeHttp) -> Iterator[str]:
    """Serve the answers of `http`, for an adapter in another process. Return the server's address."""

    class Interpreter(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _interpret(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])) if self.command == "POST" else None
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            answer = http.exchange(self.command, self.path, headers, body, time.time() + 10)
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = _interpret  # noqa: N815  # the names that the server calls

        def log_message(self, *_: object) -> None:
            """It says nothing."""

    with contextlib.closing(http), ThreadingHTTPServer(("127.0.0.1", 0), Interpreter) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()
