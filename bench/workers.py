"""Processes that pay, and what each measured: `python -m bench.workers KIND [URL]`.

A worker reads one line of JSON for each round ({"payments": n} or {"seconds": s}), pays, and answers with one line. `api` and
`direct` are environments of our process function: each calls the handler with an event, as Lambda does, and times event to
return. `http` is a client that keeps one connection, and `crowd` one process with sixteen of them.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
WARM_UP = 50
"""Payments before the first round, so that connections, plans and caches are as they are in the middle of a day."""

CROWD = 16

Pay = Callable[[], float]


@dataclass(frozen=True)
class Round:
    """What one worker did in one round. `cpu_s` is its own process's."""

    milliseconds: list[float]
    cpu_s: float


class Worker:
    """A worker's process, seen from the bench."""

    def __init__(self, kind: str, environment: dict[str, str], url: str = "", checkout: Path = REPOSITORY) -> None:
        path = os.pathsep.join([str(checkout / "layers/shared/python"), str(checkout)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.workers", kind, url],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path} | environment,
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.pid = self._process.pid
        self._read()

    def begin(self, **asked: float) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def end(self) -> Round:
        return Round(**self._read())

    def round(self, **asked: float) -> Round:
        self.begin(**asked)
        return self.end()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended: {' '.join(map(str, self._process.args))}")  # type: ignore[arg-type]
        return json.loads(line)


@dataclass
class Context:
    aws_request_id: str
    invoked_function_arn: str
    function_name: str = "process"
    function_version: str = "1"
    memory_limit_in_mb: int = 512

    def get_remaining_time_in_millis(self) -> int:
        return 20_000


def order() -> dict[str, Any]:
    """Return a request that both services take."""
    return {
        "order_id": f"order-{uuid4()}",
        "amount": 1999,
        "currency": "USD",
        "payment_method": "credit_card",
        "payment_token": "tok_ok",
        "customer_id": "customer-7",
        "description": "Two notebooks",
        "metadata": {"channel": "web"},
    }


def handler() -> Callable[[Any, Any], Any]:
    file = REPOSITORY / "functions/process/handler.py"
    spec = importlib.util.spec_from_file_location("handler", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lambda_handler  # type: ignore[no-any-return]


def by_event(kind: str) -> Pay:
    """Return what pays through the handler and returns the milliseconds from event to return."""
    handle = handler()
    sample = json.loads((REPOSITORY / "events/process_approved.json").read_text())
    arn = f"arn:aws:lambda:eu-central-1:123456789012:function:process:{'live' if kind == 'api' else 'direct'}"

    def pay() -> float:
        event: Any = order()
        if kind == "api":
            headers = sample["headers"] | {"idempotency-key": str(uuid4())}
            event = sample | {"headers": headers, "body": json.dumps(event)}
        context, begun_s = Context(str(uuid4()), arn), time.perf_counter()
        answer = handle(event, context)
        taken_ms = (time.perf_counter() - begun_s) * 1000
        if (answer["statusCode"] if kind == "api" else answer["status"]) != 201:
            raise RuntimeError(f"not paid: {answer}")
        return taken_ms

    return pay


def over_http(url: str) -> Pay:
    """Return what pays over one kept connection and returns the milliseconds from request to answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port)
    connection.connect()

    def pay() -> float:
        headers = {"content-type": "application/json", "idempotency-key": str(uuid4())}
        body, begun_s = json.dumps(order()), time.perf_counter()
        try:
            connection.request("POST", parts.path, body, headers)
            response = connection.getresponse()
        except ConnectionError:
            connection.close()
            connection.request("POST", parts.path, body, headers)
            response = connection.getresponse()
        response.read()
        taken_ms = (time.perf_counter() - begun_s) * 1000
        if response.status != 201:
            raise RuntimeError(f"not paid: {response.status}")
        return taken_ms

    return pay


async def crowd(urls: str, seconds: float, callers: int = CROWD) -> list[float]:
    """Pay from so many connections at once for so many seconds, at each URL in turn. Returns the milliseconds of each payment."""
    ends_s, taken = time.perf_counter() + seconds, list[float]()

    async def one(url: str) -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (begun_s := time.perf_counter()) < ends_s:
            body = json.dumps(order()).encode()
            head = f"POST {parts.path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            writer.write(f"{head}\r\nidempotency-key: {uuid4()}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(f"not paid: {answer!r}")
            lengths = [line.split(b":")[1] for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0]))
            taken.append((time.perf_counter() - begun_s) * 1000)
        writer.close()

    await asyncio.gather(*(one(url) for _, url in zip(range(callers), cycle(urls.split(",")))))
    return taken


def main() -> None:
    kind, url = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # The handler logs to standard output.
    itself = psutil.Process()
    pay = None if kind == "crowd" else over_http(url) if kind == "http" else by_event(kind)
    if pay:
        for _ in range(WARM_UP):
            pay()
    else:
        asyncio.run(crowd(url, 1.0))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        asked, before = json.loads(line), sum(itself.cpu_times()[:2])
        ends_s, taken = time.perf_counter() + asked.get("seconds", 0), list[float]()
        if pay is None:
            taken = asyncio.run(crowd(url, asked["seconds"], asked.get("callers", CROWD)))
        else:
            pay()  # It may reconnect, because a server drops a connection that was idle between two rounds.
            while len(taken) < asked.get("payments", 0) or time.perf_counter() < ends_s:
                taken.append(pay())
        told = {"milliseconds": taken, "cpu_s": sum(itself.cpu_times()[:2]) - before}
        print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()
