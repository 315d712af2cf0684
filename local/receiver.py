"""A receiver of webhooks on this machine. It believes what is signed with its secret (Standard Webhooks), and nothing else."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300  # a signature that is older or younger is no longer believed, or not yet
SECRET_TIMEOUT_S = 5  # what is sent meanwhile waits for the secret; the service waits for 10 s


class Seen:
    """Events that somebody saw. `seen` is {payment_id: {event_id: (type, sequence)}}, in the order in which they first came."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)

    def add(self, payment_id: str, event_id: str, kind: str, sequence: int) -> None:
        self.seen[payment_id].setdefault(event_id, (kind, sequence))

    def types(self, payment_id: str) -> Counter[str]:
        return Counter(kind for kind, _ in self.seen[payment_id].values())

    def arrivals(self, payment_id: str) -> list[int]:
        """Return the events' numbers in the order in which they came."""
        return [number for _, number in self.seen[payment_id].values()]

    def sequence(self, payment_id: str) -> list[int]:
        return sorted(self.arrivals(payment_id))


class Receiver(Seen):
    """Listens on a port of its own until it is closed. `refused` counts what it did not believe."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0
        self._secret, self._has_secret = "", threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.send_response(204 if receiver.take(headers, body) else 400)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def believe(self, secret: str) -> None:
        """Take the secret that the registration has shown."""
        self._secret = secret
        self._has_secret.set()

    def take(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Keep the event, and return whether it is signed. A repeated one counts once."""
        if not (self._has_secret.wait(SECRET_TIMEOUT_S) and is_signed(self._secret, headers, body)):
            self.refused += 1
            return False
        event = json.loads(body)
        self.add(event["subject"], headers["webhook-id"], event["type"], int(event["sequence"]))
        return True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether one of the signatures is that of id, time and body, and the time is about now."""
    try:
        key, at = base64.b64decode(secret.removeprefix("whsec_")), headers["webhook-timestamp"]
        content = f"{headers['webhook-id']}.{at}.".encode() + body
        expected = b"v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256))
        signatures = headers["webhook-signature"].encode().split()
        is_recent = abs(time.time() - int(at)) <= TOLERANCE_S
    except (KeyError, TypeError, ValueError, AttributeError):  # a header is missing, or is something else
        return False
    return is_recent and any(hmac.compare_digest(each, expected) for each in signatures)
