"""The owners' receiver of webhooks: it keeps what came whole, and answers 204, or 503 if a scene says so."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from chaos import evidence
from chaos.evidence import Arrival

REGISTER = (
    "INSERT INTO webhooks (webhook_id, owner, url, secret, created_at, next_attempt_at)"
    " VALUES (CAST(:id AS uuid), :owner, :url, :secret, now(), now())"
)


@dataclass(slots=True)
class Receiver:
    port: int
    arrivals: list[Arrival] = field(default_factory=list)
    refuses: int = 0
    """How many of the next arrivals get a 503."""

    def register(self, owner_url: str, owners: tuple[str, ...]) -> None:
        """Give each owner a webhook that leads here, for all types of events."""
        with contextlib.closing(evidence.connect(owner_url)) as connection:
            for owner in owners:
                secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
                url = f"http://127.0.0.1:{self.port}/{owner}"
                connection.run(REGISTER, id=str(uuid.uuid4()), owner=owner, url=url, secret=secret)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request. What a kill or a cut tore has not arrived."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            refused, self.refuses = self.refuses > 0, max(self.refuses - 1, 0)
            self.arrivals.append(Arrival(line.split()[1].lstrip("/"), headers, body.decode(), time.time(), taken=not refused))
            status = "503 Service Unavailable" if refused else "204 No Content"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver(0)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
