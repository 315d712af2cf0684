"""What the clients meet: a fresh `make run`, and in front of it what only API Gateway and a newer version would do.

The local front answers 401 and 429 to nobody, so `Front` does, in API Gateway's words. It passes everything else on.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]

NEW_VALUES = {"status": "SETTLING", "decline_code": "wallet_empty", "code": "order_archived"}
"""Values that no version has yet, by member: what a later version may answer."""
NEW_MEMBER = {"risk": {"level": 3}}


@contextlib.contextmanager
def running(python: str = str(ROOT / ".venv-run/bin/python")) -> Iterator[dict[str, Any]]:
    """Start `make run` on a free port with a data folder and servers of its own, and yield its run.json."""
    with tempfile.TemporaryDirectory(prefix="make-run-") as folder:
        environment = os.environ | {"PORT": "0", "DATA_DIR": folder, "PYTHONPATH": str(ROOT / "layers/shared/python")}
        for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "STRIPE_API_KEY"):
            environment.pop(name, None)
        log, facts = Path(folder) / "make-run.log", Path(folder) / "run.json"
        with log.open("w") as output:
            command = [python, "-m", "local"]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 120
            while not facts.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"make run did not start:\n{log.read_text()}")
                time.sleep(0.1)
            yield json.loads(facts.read_text())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


class Front(BaseHTTPRequestHandler):
    """API Gateway as the clients meet it. `BASE/throttled` is over its limit; `BASE/newer` is a later version of the service.

    The authorizer lets in tokens that begin with `shop-`. The token is the owner, so each client has payments of its own.
    """

    protocol_version = "HTTP/1.1"
    service = ""
    """The address of the running service, as host:port."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        _, first, rest = (self.path + "/").split("/", 2)
        if scheme != "Bearer" or not token.startswith("shop-"):
            self._send(401, {"content-type": "application/json"}, b'{"message":"Unauthorized"}')
        elif first == "throttled":
            self._send(429, {"content-type": "application/json"}, b'{"message":"Too Many Requests"}')
        elif first == "newer":
            status, headers, content = self._passed_on("/" + rest[:-1], body, token)
            self._send(status, headers, json.dumps(newer(json.loads(content))).encode())
        else:
            self._send(*self._passed_on(self.path, body, token))

    def _passed_on(self, path: str, body: bytes, owner: str) -> tuple[int, dict[str, str], bytes]:
        own = {"host", "connection", "authorization", "content-length", "upgrade", "http2-settings", "accept-encoding"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
        connection = http.client.HTTPConnection(self.service, timeout=60)
        with contextlib.closing(connection):
            connection.request(self.command, path, body or None, headers | {"X-Local-Owner": owner})
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in {"content-length", "connection"}}
            return answer.status, kept, answer.read()

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the clients say what happened."""


def newer(answer: Any) -> Any:
    """Return the answer as a later version may give it: with values and a member that the document does not have."""
    if isinstance(answer, list):
        return [newer(item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    told = {name: NEW_VALUES.get(name, value) if isinstance(value, str) else newer(value) for name, value in answer.items()}
    return told | NEW_MEMBER if "payment_id" in answer or "code" in answer else told


@contextlib.contextmanager
def front(service_url: str) -> Iterator[str]:
    """Serve `Front` before a running service, and yield its address."""
    handler = type("Front", (Front,), {"service": urlsplit(service_url).netloc})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
