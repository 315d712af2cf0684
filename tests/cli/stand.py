"""A server of the test's own that plays the service, or what may stand in its place."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], str]

PAYMENT: dict[str, Any] = {
    "payment_id": "01900000-0000-7000-8000-000000000000",
    "order_id": "order-1",
    "status": "CAPTURED",
    "amount": 500,
    "currency": "USD",
    "payment_method": "credit_card",
    "capture_method": "automatic",
    "amount_captured": 500,
    "amount_refunded": 0,
    "amount_refund_pending": 0,
    "metadata": {},
    "created_at": "2026-01-31T12:00:00.000000Z",
} | dict.fromkeys(
    ("transaction_id", "payment_intent_id", "decline_code", "error_message", "customer_id", "description", "capture_before")
)
TAKEN: Answer = (201, {}, json.dumps(PAYMENT))
DROPPED: Answer = (0, {}, "")
NEVER: Answer = (-1, {}, "")
REFUND: dict[str, Any] = {
    "refund_id": "01900000-0000-7000-8000-00000000000a",
    "payment_id": PAYMENT["payment_id"],
    "transaction_id": "txn_1",
    "amount": 500,
    "currency": "USD",
    "status": "SUCCEEDED",
    "reason": "zażółć gęślą jaźń",
    "decline_code": None,
    "created_at": "2026-01-31T12:00:00.000000Z",
    "payment_status": "REFUNDED",
    "amount_refunded": 500,
}
REFUNDED: Answer = (201, {}, json.dumps(REFUND))
WEBHOOK: dict[str, Any] = {
    "webhook_id": "01900000-0000-7000-8000-00000000000b",
    "url": "https://shop.example.com/events",
    "event_types": None,
    "created_at": "2026-01-31T12:00:00.000000Z",
    "waiting": 0,
    "failed": 0,
} | dict.fromkeys(("description", "previous_until", "disabled_at", "disabled_reason", "failing_since", "last_error"))


def problem(status: int, code: str, **headers: str) -> Answer:
    body = {"title": f"The {code}", "status": status, "detail": "Wait.", "code": code, "request_id": "req-1"}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body)


@dataclass
class Stand:
    """Gives its answers in turn, repeats the last one, and keeps the requests."""

    answers: list[Answer]
    url: str = ""
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    was_asked: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def keys(self) -> list[str]:
        return [headers["idempotency-key"] for _, headers, _ in self.asked]


@contextlib.contextmanager
def stands() -> Iterator[Callable[..., Stand]]:
    """Give a function that starts a stand with these answers, behind `tls` if that is given. All of them end together."""
    started: list[tuple[Stand, ThreadingHTTPServer]] = []

    def start(*answers: Answer, tls: ssl.SSLContext | None = None) -> Stand:
        stand = Stand(list(answers))

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                stand.asked.append((self.path, headers, json.loads(body) if body else None))
                status, more, text = stand.answers.pop(0) if len(stand.answers) > 1 else stand.answers[0]
                self.close_connection = True
                stand.was_asked.set()
                if status < 0:
                    stand.closing.wait()
                elif status:
                    self.send_response(status)
                    for name, value in more.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text.encode())

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the base class looks for these names

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        started.append((stand, server))
        stand.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        return stand

    yield start
    for stand, server in started:
        stand.closing.set()
        server.shutdown()
        server.server_close()
