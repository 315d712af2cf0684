"""Where the CPU time of a payment's main thread goes: `python -m bench.parts direct|api [--payments N] [--calls]`.

It pays on real servers first, and counts the CPU of the thread that carries the payment and of the producer's thread. Then it
lets the servers' recorded answers stand for them, so that Python's own work is all that is left, and samples where that is. A
sample belongs to the innermost of its functions that a part names. `--calls` prints cProfile's list as well.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import os
import pstats
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import psutil

from bench import workers
from bench.stage import built

PARTS: dict[str, tuple[str, ...]] = {
    "card filter": ("domain/card_data.py",),
    "log line": ("aws_lambda_powertools/logging/", "/logging/__init__.py"),
    "metrics": ("telemetry.py:count", "telemetry.py:write_metrics"),
    "hashing": ("fields.py:digest", "direct.py:_event_id"),
    "validation": ("api/bodies.py", "commands/fields.py", "domain/text.py"),
    "binding": ("connection.py:__call__", "connection.py:_extended_query", "pg8000/converters.py"),
    "wire": ("store/connection.py", "pg8000/core.py"),
    "rows": ("store/rows.py", "store/claims.py", "store/settlement.py"),
    "gateway": ("gateway/", "phases.py:charge"),
    "publish": ("payments/broker/",),
    "domain": ("payments/domain/", "payments/commands/"),
    "answer": ("api/answers.py", "api/direct.py"),
    "FastAPI": ("/fastapi/", "/starlette/", "payments/api/"),
    "handler": ("payments/telemetry.py", "aws_lambda_powertools/"),
    "the bench": ("bench/",),
}
"""What a function belongs to, by a piece of FILE:FUNCTION. The first that fits counts."""


class Recorded:
    """Stands for the file over a connection's socket: it notes the server's answers, and later gives them in turn."""

    def __init__(self, file: Any) -> None:
        self._file, self._answers, self._answer, self.replays = file, list[bytes](), io.BytesIO(), False
        self._turn = 0

    def write(self, data: bytes) -> int:
        return len(data) if self.replays else int(self._file.write(data))

    def flush(self) -> None:
        if self.replays:
            self._answer = io.BytesIO(self._answers[self._turn % len(self._answers)])
            self._turn += 1
        else:
            self._file.flush()
            self._answers.append(b"")

    def read(self, size: int) -> bytes:
        if self.replays:
            return self._answer.read(size)
        data: bytes = self._file.read(size)
        self._answers[-1] += data
        return data


def part_of(frame: FrameType | None) -> str:
    while frame is not None:
        name = f"{frame.f_code.co_filename}:{frame.f_code.co_name}"
        for part, pieces in PARTS.items():
            if any(piece in name for piece in pieces):
                return part
        frame = frame.f_back
    return "other"


def timed(pay: Callable[[], object], payments: int) -> float:
    """Return the milliseconds of CPU that the calling thread spends on a payment."""
    begun_s = time.thread_time()
    for _ in range(payments):
        pay()
    return (time.thread_time() - begun_s) * 1000 / payments


def sampled(pay: Callable[[], object], payments: int) -> Counter[str]:
    """Return how many samples of the processor's time fell on each part."""
    found = Counter[str]()
    signal.signal(signal.SIGPROF, lambda _, frame: found.update([part_of(frame)]))
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    for _ in range(payments):
        pay()
    signal.setitimer(signal.ITIMER_PROF, 0)
    return found


def other_threads_s() -> float:
    itself = threading.get_native_id()
    return sum(each.user_time + each.system_time for each in psutil.Process().threads() if each.id != itself)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["direct", "api"])
    parser.add_argument("--payments", type=int, default=1000)
    parser.add_argument("--calls", action="store_true")
    asked = parser.parse_args()
    answers = sys.stdout
    with contextlib.ExitStack() as stack:
        sys.stdout = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))  # The handler logs to standard output.
        stage = stack.enter_context(built())
        os.environ.update(stage.environment)
        pay = workers.by_event(asked.kind)
        for _ in range(workers.WARM_UP):
            pay()
        others_s = other_threads_s()
        main_ms = timed(pay, asked.payments)
        others_ms = (other_threads_s() - others_s) * 1000 / asked.payments
        told = f"{main_ms:.2f} ms CPU, and {others_ms:.2f} ms in the producer's thread"
        print(f"{asked.kind}, with the servers: {told}", file=answers)

        from payments import wiring

        service: Any = wiring.service()
        connection = service.db._connection
        service.db._make_ready()  # It reads the answer to the last mark.
        connection._sock = recorded = Recorded(connection._sock)
        pay()
        service.db._make_ready()
        recorded.replays = True
        acknowledged = SimpleNamespace(get=lambda **_: SimpleNamespace(offset=0))
        service.publisher.close(())
        service.publisher._producer = SimpleNamespace(
            partitions_for=lambda _: {0}, send=lambda *_, **__: acknowledged, flush=lambda *_: None
        )
        alone_ms = min(timed(pay, asked.payments) for _ in range(5))
        print(f"{asked.kind}, with their answers: {alone_ms:.2f} ms CPU, of which", file=answers)
        found = sampled(pay, 4 * asked.payments)
        for part, samples in found.most_common():
            print(f"  {samples / found.total() * alone_ms:5.2f}  {part}", file=answers)
        if asked.calls:
            with cProfile.Profile() as profile:
                timed(pay, asked.payments)
            pstats.Stats(profile, stream=answers).sort_stats("tottime").print_stats(60).sort_stats("cumtime").print_stats(90)


if __name__ == "__main__":
    main()
