"""Lambda's Invoke API, as far as the local runner needs it: each invocation in a process of its own, which may die."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["bench.durable.environment"])
AT_ONCE = threading.BoundedSemaphore(2 * (os.cpu_count() or 1))


def invoke(event: dict[str, Any]) -> tuple[Any, bool]:
    """Return the function's answer and True, or Lambda's error and False if the process died."""
    from bench.durable.environment import handle  # the first process starts when the variables of the environment are set

    receiver, sender = PROCESSES.Pipe(duplex=False)
    with AT_ONCE:
        process = PROCESSES.Process(target=handle, args=(event, sender))
        process.start()
        sender.close()
        try:
            return receiver.recv(), True
        except EOFError:
            process.join()
            return {"errorType": "Runtime.ExitError", "errorMessage": f"exit status {process.exitcode}"}, False


class Invocation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        answer, lives = invoke(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = json.dumps(answer).encode()
        self.send_response(200)
        if not lives:
            self.send_header("X-Amz-Function-Error", "Unhandled")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the report is on standard output."""


@contextmanager
def endpoint() -> Iterator[str]:
    """Serve, and yield the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Invocation)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
