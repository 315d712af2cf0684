"""Time cold starts in the real Lambda runtime: `python -m bench.cold [--rounds N] [--cpus 0.29]`.

AWS's Runtime Interface Emulator starts the function's process at the first event; we time from that event to its answer. Database
and broker are up, so the first payment connects, pays and publishes. Beside our functions stand a bare handler and the peer
behind Mangum. `--cpus` gives the function's processes that share of a core, as Lambda does with 512 MB (0.29), where Linux's
control groups allow it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import psutil
from rich.console import Console
from rich.table import Table

from bench.stage import REPOSITORY, Stage, built
from bench.workers import order
from local.template import Function, load_template
from tests.lambda_runtime import LambdaRuntime, qualifier_of

GROUP = Path("/sys/fs/cgroup/cpu/payments-bench")
PERIOD_US = 20_000
"""Lambda's own period is not published; a short one makes an answer of some milliseconds wait less by chance."""


@dataclasses.dataclass(frozen=True)
class Start:
    function: Function
    environment: Mapping[str, str]
    event: Any


def starts(stage: Stage) -> dict[str, Start]:
    parameters = {
        "DatabaseUrl": stage.postgres.service_url,
        "DatabaseOwnerUrl": stage.postgres.url,
        "KafkaBootstrapServers": stage.bootstrap_servers,
        "KafkaTopic": stage.topic,
        "JwtIssuer": "https://issuer.example.com",
    }
    template = load_template(REPOSITORY / "template.yaml", parameters)
    sample = json.loads((REPOSITORY / "events/process_approved.json").read_text())
    process, lookups = template.function("process"), template.function("lookups")
    assert process and lookups

    def api() -> Any:
        return sample | {"headers": sample["headers"] | {"idempotency-key": str(uuid4())}, "body": json.dumps(order())}

    listed = json.loads((REPOSITORY / "events/lookup_list.json").read_text())
    path = "/payments"
    context = sample["requestContext"] | {"http": sample["requestContext"]["http"] | {"path": path}}
    to_peer = api() | {"rawPath": path, "routeKey": f"POST {path}", "requestContext": context}
    layers = (*process.layer_folders, REPOSITORY)
    bare = dataclasses.replace(process, handler="bench.bare.handler", code_folder=REPOSITORY, layer_folders=layers)
    peer = dataclasses.replace(process, handler="bench.peer.handler", code_folder=REPOSITORY, layer_folders=layers)
    return {
        "a bare handler": Start(bare, {}, {}),
        "the peer behind Mangum": Start(peer, stage.peer_environment, to_peer),
        "process, direct event": Start(process, stage.environment, order()),
        "process, API Gateway event": Start(process, stage.environment, api()),
        "look-up": Start(lookups, stage.environment, listed),
    }


def first_answer(start: Start) -> tuple[float, float]:
    """Return the milliseconds from the event to the answer of a new environment, and the MB that its process then holds."""
    with LambdaRuntime(start.function, start.environment) as runtime:
        runtime._started(qualifier_of(start.event))  # the emulator, and not the function
        begun_s = time.perf_counter()
        invocation = runtime.invoke(start.event)
        taken_ms = (time.perf_counter() - begun_s) * 1000
        status = invocation.payload.get("statusCode", invocation.payload.get("status"))
        if invocation.function_error or status not in (200, 201):
            raise RuntimeError(f"no answer: {invocation.payload}\n{invocation.logs}")
        [(emulator, _)] = runtime._emulators.values()
        held = max(process.memory_info().rss for process in emulator.children(recursive=True))
        return taken_ms, held / 1e6


@contextlib.contextmanager
def limited(cpus: float | None) -> Iterator[None]:
    """Give this process, and those that it starts from now on, so many cores."""
    if cpus is None:
        yield
        return
    GROUP.mkdir(exist_ok=True)
    (GROUP / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (GROUP / "cpu.cfs_quota_us").write_text(str(int(cpus * PERIOD_US)))
    (GROUP / "tasks").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (GROUP.parent / "tasks").write_text(str(os.getpid()))


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.cold", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpus", type=float)
    given = parser.parse_args()
    with built() as stage:
        functions = starts(stage)
        make_table = "import asyncio, bench.peer; asyncio.run(bench.peer.make_table())"
        subprocess.run([sys.executable, "-c", make_table], env=os.environ | stage.peer_environment, cwd=REPOSITORY, check=True)
        with limited(given.cpus):
            rounds = []
            for number in range(-1, given.rounds):  # The first round fills the caches of the disk.
                rounds.append({name: first_answer(start) for name, start in functions.items()})
                print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
    rounds = rounds[1:]
    table = Table(
        title=f"Cold starts, {psutil.cpu_count()} cores" + (f", {given.cpus} of a core for the function" if given.cpus else "")
    )
    for column in ("", "ms", "against the peer", "MB"):
        table.add_column(column, justify="right" if column else "left")
    for name in functions:
        ratio = median(round_[name][0] / round_["the peer behind Mangum"][0] for round_ in rounds)
        ms, mb = (median(round_[name][part] for round_ in rounds) for part in (0, 1))
        table.add_row(name, f"{ms:,.0f}", f"{ratio:.2f}", f"{mb:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
