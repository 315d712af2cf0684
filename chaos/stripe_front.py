"""Lies between the adapter and Stripe World: a network that loses answers, and the bad moments of Stripe, which the copy lacks.

What happens to a request depends on the seed, its key and how often the key came. After a 500 that came of a request that was
carried out, Stripe remembers the 500 under the key; so does this. It leaves refusals (400) alone: nobody could ever find out what
became of a request that was refused behind such a 500. It writes each refusal down, because Stripe's books have none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from urllib.parse import parse_qsl, urlencode

from chaos.events import Events
from chaos.stripe_books import AGAIN, Refusal

SHARES = {
    "lost request": 0.02,
    "lost answer": 0.03,
    "half an answer": 0.03,
    "busy": 0.015,
    "500": 0.01,
    "remembered 500": 0.008,
}
"""The share of the requests that come to this."""

DONE = (b"200", b"402")
"""The statuses of a request that was carried out: a declined payment is one, too."""

REFUSED = (b"400", b"402", b"404")

PENDING = "tok_pendingRefund"
"""Stripe's token of the card whose refunds take days. Stripe World knows the card alone."""
CARD_OF_PENDING = {"card[number]": "4000000000007726", "card[exp_month]": "12", "card[exp_year]": "2034", "card[cvc]": "123"}

ERROR = b'{"error": {"type": "api_error", "message": "An unknown error occurred"}}'


def _answer(status: str, *headers: str, body: bytes = ERROR) -> bytes:
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer."""

    head: bytes
    body: bytes

    @property
    def words(self) -> list[bytes]:
        return self.head.partition(b"\r\n")[0].split()

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    def sends(self, form: dict[str, str]) -> Message:
        """Return the same request with another form."""
        body, length = urlencode(form).encode(), self.header("content-length")
        return Message(self.head.replace(f": {length}\r\n".encode(), f": {len(body)}\r\n".encode()), body)

    @property
    def whole(self) -> bytes:
        return self.head + self.body

    def header(self, name: str) -> str:
        for line in self.head.decode().split("\r\n")[1:]:
            title, _, value = line.partition(": ")
            if title.lower() == name:
                return value
        return ""


@dataclass(slots=True)
class Front:
    world_port: int
    seed: str
    port: int = 0
    count: Counter[str] = field(default_factory=Counter)
    losing: str = ""
    """The end of the path whose next answer gets lost or is a 500, in turn. Until then nothing else happens."""
    away: bool = False
    frozen: bool = False
    forgot: int = 0
    """How often all keys were forgotten."""
    refusals: list[Refusal] = field(default_factory=list)
    """In their order."""
    events: Events | None = None
    """Whose turn it is between a request and its answer."""
    _lost: int = 0
    _serving: set[asyncio.Task[None]] = field(default_factory=set)
    """The loop itself keeps no task alive."""
    _came: Counter[str] = field(default_factory=Counter)
    _remembers: set[str] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            world_reader, world = await asyncio.open_connection("127.0.0.1", self.world_port)
            try:
                while True:
                    request = await _message(reader)
                    while self.frozen:
                        await asyncio.sleep(0.05)
                    answer, is_whole = await self._answered(request, world_reader, world)
                    writer.write(answer)
                    await writer.drain()
                    if not is_whole:
                        break
            finally:
                world.close()
                writer.close()

    async def _answered(
        self, request: Message, world_reader: asyncio.StreamReader, world: asyncio.StreamWriter
    ) -> tuple[bytes, bool]:
        """Return what the adapter gets, and whether that is all. Raises ConnectionAbortedError if it gets nothing."""
        method, path = (word.decode() for word in request.words[:2])
        key = request.header("idempotency-key")
        if self.away:
            raise ConnectionAbortedError
        what = self._draw(method, path, key)
        if key in self._remembers:
            return _answer("500 Internal Server Error", "Idempotent-Replayed: true"), True
        if what == "lost request":
            raise ConnectionAbortedError
        if what == "busy":
            return _answer("429 Too Many Requests", "Retry-After: 1"), True
        if what == "500":
            return _answer("500 Internal Server Error"), True
        if key and self.forgot:
            new = f"{key}{AGAIN}{self.forgot}".encode()
            request = Message(request.head.replace(f": {key}\r\n".encode(), b": " + new + b"\r\n"), request.body)
        if self.events and "delivery_success=false" in path:
            listed = self.events.undelivered(path.partition("?")[2])  # The copy of Stripe delivers nothing, and says so.
            return _answer("200 OK", body=listed), True
        if request.body and (form := request.form).get("card[token]") == PENDING:
            del form["card[token]"]
            request = request.sends(form | CARD_OF_PENDING)
        world.write(request.whole)
        answer = await _message(world_reader)
        if key and answer.words[1] in REFUSED:
            self.refusals.append(Refusal(key, path, request.form, json.loads(answer.body)["error"]))
        if self.events and method == "POST":
            await self.events.before_answer(path, key)
        if what == "remembered 500" and answer.words[1] in DONE:
            self._remembers.add(key)
            return _answer("500 Internal Server Error"), True
        if what == "lost answer":
            raise ConnectionAbortedError
        if what == "half an answer":
            return answer.whole[: len(answer.whole) // 2], False
        return answer.whole, True

    def _draw(self, method: str, path: str, key: str) -> str:
        name = key or path
        self._came[name] += 1
        if self.losing:
            if method == "GET" or not path.partition("?")[0].endswith(self.losing):
                return ""
            self.losing = ""
            self._lost += 1
            # After the first byte of an answer, the adapter does not send again at once.
            what = ("half an answer", "remembered 500")[self._lost % 2]
        else:
            random = Random(f"{self.seed}/stripe/{name}/{self._came[name]}")
            [what] = random.choices(["", *SHARES], [1 - sum(SHARES.values()), *SHARES.values()])
            if what == "remembered 500" and (not key or path.endswith("/payment_methods")):
                what = "lost answer"
        if what:
            self.count[what] += 1
        return what


async def _message(reader: asyncio.StreamReader) -> Message:
    """Return a whole message. Raises IncompleteReadError for what a kill or a cut tore."""
    head = await reader.readuntil(b"\r\n\r\n")
    message = Message(head, b"")
    return Message(head, await reader.readexactly(int(message.header("content-length") or 0)))


@contextlib.asynccontextmanager
async def in_front_of(world_port: int, seed: str) -> AsyncIterator[Front]:
    front = Front(world_port, seed)
    server = await asyncio.start_server(front.serve, "127.0.0.1", 0, limit=1 << 24)
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        server.close()
