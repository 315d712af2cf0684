"""Time payments, ours and the peer's, on the same servers: `make bench ARGS="--rounds N --seconds S"`.

Each round measures every row once, and the next round begins with another row, because the speed of a machine drifts. A row's
figure is the median of its rounds, and so is a ratio: each round's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from statistics import median, quantiles

import psutil
from rich.console import Console
from rich.table import Table

from bench import our_sql
from bench.stage import REPOSITORY, Stage, built, cpu_s
from bench.workers import CROWD, Worker
from local.servers import _free_port

PAYMENTS = 300
"""In one round by one caller."""

ENVIRONMENTS = 16

Measured = dict[str, float]


def p50(milliseconds: list[float]) -> float:
    return median(milliseconds)


def p99(milliseconds: list[float]) -> float:
    return quantiles(milliseconds, n=100)[-1]


@contextlib.contextmanager
def peer(stage: Stage, processes: int, pool_size: int) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Serve the peer by so many processes of uvicorn, each on its own port. Yields their URLs with commas, and the processes.

    uvicorn's own `--workers` would share one port, but leaves the sockets without TCP_NODELAY, and each answer waits 40 ms.
    """
    environment = os.environ | stage.peer_environment | {"PEER_POOL_SIZE": str(pool_size), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "uvicorn", "bench.peer:app", "--log-level", "warning", "--port"]
    urls, served = [], []
    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            port = _free_port(0)
            process = _served([*command, str(port)], environment, f"http://127.0.0.1:{port}/openapi.json")
            served.append(stack.enter_context(process))
            urls.append(f"http://127.0.0.1:{port}/payments")
        yield ",".join(urls), served


@contextlib.contextmanager
def make_run(stage: Stage) -> Iterator[str]:
    """Serve ours as `make run` does. Yields the URL of its process route."""
    port = _free_port(0)
    environment = (
        os.environ
        | stage.environment
        | {
            "DATABASE_URL": stage.postgres.url,
            "DATABASE_SERVICE_URL": stage.postgres.service_url,
            "PORT": str(port),
            "DATA_DIR": str(stage.folder / "run"),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "layers/shared/python"), str(REPOSITORY)]),
        }
    )
    with _served([sys.executable, "-m", "local"], environment, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/api/v1/payments/process"


@contextlib.contextmanager
def _served(command: list[str], environment: dict[str, str], url: str) -> Iterator[psutil.Process]:
    process = psutil.Popen(command, env=environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends_s = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - our own URL
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > ends_s:
                    raise RuntimeError(f"not served: {' '.join(command)}") from None
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(30)


class Bench:
    def __init__(self, stage: Stage, stack: contextlib.ExitStack, seconds: int) -> None:
        self.stage, self.seconds = stage, seconds
        ours, pooled = stage.environment, stage.environment | {"DATABASE_URL": stage.pooler_url}
        self._peer, _ = stack.enter_context(peer(stage, 1, ENVIRONMENTS))
        self._peers, self._peers_processes = stack.enter_context(peer(stage, psutil.cpu_count() or 1, ENVIRONMENTS))
        self._one = {
            "peer over HTTP": Worker("http", {}, self._peer),
            "API Gateway event": Worker("api", ours),
            "direct event": Worker("direct", ours),
            "over make run's port": Worker("http", {}, stack.enter_context(make_run(stage))),
        }
        self._crowd = Worker("crowd", {}, self._peers)
        self._environments = {kind: [Worker(kind, pooled) for _ in range(ENVIRONMENTS)] for kind in ("api", "direct")}
        for worker in (*self._one.values(), self._crowd, *self._environments["api"], *self._environments["direct"]):
            stack.callback(worker.stop)
        self._script = our_sql.script(stage.postgres.service_url)

    def rows(self) -> dict[str, Callable[[], Measured]]:
        one = {f"one caller, {name}": lambda worker=worker: self._by_one(worker) for name, worker in self._one.items()}
        many = {
            f"{CROWD} callers, peer": self._by_crowd,
            f"{ENVIRONMENTS} environments, API Gateway events": lambda: self._by_environments("api"),
            f"{ENVIRONMENTS} environments, direct events": lambda: self._by_environments("direct"),
            f"our SQL alone, pgbench, {our_sql.CLIENTS} clients": self._by_pgbench,
        }
        return one | many

    def _by_one(self, worker: Worker) -> Measured:
        taken = worker.round(payments=PAYMENTS).milliseconds
        return {"p50_ms": p50(taken), "p99_ms": p99(taken)}

    def _by_crowd(self) -> Measured:
        return self._rate([self._crowd], lambda: cpu_s(self._peers_processes), in_workers=False)

    def _by_environments(self, kind: str) -> Measured:
        wal, tables = self.stage.wal_bytes(), self.stage.table_bytes()
        measured = self._rate(self._environments[kind], lambda: 0.0, in_workers=True)
        paid, after = measured["payments"], self.stage.table_bytes()
        sizes = {
            "wal_bytes": self.stage.wal_bytes() - wal,
            "table_bytes": after[0] - tables[0],
            "index_bytes": after[1] - tables[1],
        }
        return measured | {name: size / paid for name, size in sizes.items()}

    def _rate(self, workers: list[Worker], served_cpu_s: Callable[[], float], *, in_workers: bool) -> Measured:
        postgres, served, begun_s = self.stage.postgres_cpu_s(), served_cpu_s(), time.perf_counter()
        for worker in workers:
            worker.begin(seconds=self.seconds)
        rounds = [worker.end() for worker in workers]
        taken = [one for round_ in rounds for one in round_.milliseconds]
        paid, took_s = len(taken), time.perf_counter() - begun_s
        function = (sum(round_.cpu_s for round_ in rounds) if in_workers else served_cpu_s() - served) / paid * 1000
        database = (self.stage.postgres_cpu_s() - postgres) / paid * 1000
        times = {"p50_ms": p50(taken), "p99_ms": p99(taken), "payments": paid, "payments_per_s": paid / took_s}
        return times | {"function_cpu_ms": function, "postgres_cpu_ms": database, "cpu_ms": function + database}

    def _by_pgbench(self) -> Measured:
        return {"payments_per_s": our_sql.payments_per_s(self.stage, *self._script, self.seconds)}


BOUNDS = (
    ("API Gateway event to return, p50", "one caller, API Gateway event", "one caller, peer over HTTP", "p50_ms", "<=", 0.6),
    ("direct event to return, p50", "one caller, direct event", "one caller, peer over HTTP", "p50_ms", "<=", 0.5),
    ("API Gateway event to return, p99", "one caller, API Gateway event", "one caller, peer over HTTP", "p99_ms", "<=", 0.8),
    ("over make run's port, p50", "one caller, over make run's port", "one caller, peer over HTTP", "p50_ms", "<=", 0.9),
    ("payments a second", "16 environments, API Gateway events", "16 callers, peer", "payments_per_s", ">=", 1.5),
    ("CPU of function and PostgreSQL a payment", "16 environments, API Gateway events", "16 callers, peer", "cpu_ms", "<=", 0.6),
    (
        "payments a second against our SQL alone",
        "16 environments, API Gateway events",
        "our SQL alone, pgbench, 8 clients",
        "payments_per_s",
        ">=",
        0.45,
    ),
)
"""What we promise: a name, our row, the yardstick's row, the figure, and the bound of the ratio."""


def report(rounds: list[dict[str, Measured]], heading: str) -> None:
    console = Console(width=140)
    table = Table(title=heading, title_justify="left")
    figures = (
        "p50_ms",
        "p99_ms",
        "payments_per_s",
        "function_cpu_ms",
        "postgres_cpu_ms",
        "wal_bytes",
        "table_bytes",
        "index_bytes",
    )
    for name in ("", *figures):
        table.add_column(name, justify="left" if not name else "right")
    for row in rounds[0]:
        values = [median(round_[row][name] for round_ in rounds) if name in rounds[0][row] else None for name in figures]
        table.add_row(row, *("" if value is None else f"{value:,.2f}" if value < 100 else f"{value:,.0f}" for value in values))
    console.print(table)
    ratios = Table(title="Ratios: the median of the rounds' own, lowest and highest")
    for name in ("ours against the yardstick", "ratio", "lowest", "highest", "bound", ""):
        ratios.add_column(name, justify="left" if name.startswith("ours") else "right")
    for name, ours, yardstick, figure, sign, bound in BOUNDS:
        found = [round_[ours][figure] / round_[yardstick][figure] for round_ in rounds]
        holds = median(found) <= bound if sign == "<=" else median(found) >= bound
        shown = (f"{median(found):.2f}", f"{min(found):.2f}", f"{max(found):.2f}", f"{sign} {bound}", "yes" if holds else "NO")
        ratios.add_row(name, *shown)
    console.print(ratios)


def facts_of(stage: Stage) -> dict[str, str]:
    """Return when, what and where was measured."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    postgres = str(stage.query("SHOW server_version")[0][0])
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": f"{psutil.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "versions": f"Python {platform.python_version()}, PostgreSQL {postgres}, {stage.broker}",
    }


def in_rounds(rows: Mapping[str, Callable[[], Measured]], number_of_rounds: int) -> list[dict[str, Measured]]:
    """Measure each row once a round. The next round begins with another row."""
    rounds, names = list[dict[str, Measured]](), list(rows)
    for number in range(number_of_rounds):
        shifted = names[number % len(names) :] + names[: number % len(names)]
        measured = {name: rows[name]() for name in shifted}
        rounds.append({name: measured[name] for name in names})
        print(f"round {number + 1} of {number_of_rounds}", file=sys.stderr)
    return rounds


def write(what: str, facts: dict[str, str], rounds: list[dict[str, Measured]]) -> None:
    """Write the rounds to bench/results/."""
    file = REPOSITORY / "bench/results" / f"{facts['at'][:10]}-{facts['commit']}-{what}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(facts | {"rounds": rounds}, indent=1) + "\n")
    print(f"written to {file.relative_to(REPOSITORY)}")


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.payments", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8, help="of each round of many callers")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(built())
        rounds = in_rounds(Bench(stage, stack, given.seconds).rows(), given.rounds)
        facts, broker = facts_of(stage), stage.broker
    report(rounds, ", ".join(facts.values()))
    write("payments" if broker == "embedded broker" else "payments-kafka", facts, rounds)


if __name__ == "__main__":
    main()
