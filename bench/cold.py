"""Time cold starts in the real Lambda runtime: `python -m bench.cold [--rounds N] [--cpus 0.29 [--full-init]]`.

AWS's Runtime Interface Emulator starts the function's process at the first event; we time from that event to its answer. Database
and broker are up, so the first payment connects, pays and publishes. Beside our functions stand a bare handler and the peer
behind Mangum. `--cpus` gives the function's processes that share of a core, as Lambda does with 512 MB (0.29), where Linux's
control groups allow it; `--full-init` begins with it after the import of the handler, because Lambda gives the init phase more.

Times on a busy machine say little. The processor's time says how much a start computes, at init and in the handler.
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import psutil
from rich.console import Console
from rich.table import Table

from bench.stage import REPOSITORY, Stage, built, cpu_s
from bench.workers import order
from local.template import Function, load_template
from tests.lambda_runtime import LambdaRuntime, qualifier_of

PEER = "the peer behind Mangum"

GROUP = Path("/sys/fs/cgroup/cpu/payments-bench")
PERIOD_US = 20_000
"""Lambda's own period is not published; a short one makes an answer of some milliseconds wait less by chance."""


@dataclasses.dataclass(frozen=True)
class Start:
    function: Function
    environment: Mapping[str, str]
    event: Callable[[], Any]
    """Makes a new one for each start. One that was sent before would only be replayed, without gateway and broker."""


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
    to_peer = {"rawPath": path, "routeKey": f"POST {path}", "requestContext": context}
    bare = dataclasses.replace(process, handler="bench.bare.handler", code_folder=REPOSITORY)
    peer = dataclasses.replace(process, handler="bench.peer.handler", code_folder=REPOSITORY)
    return {
        "a bare handler": Start(bare, {}, dict),
        PEER: Start(peer, stage.peer_environment, lambda: api() | to_peer),
        "process, direct event": Start(process, stage.environment, order),
        "process, API Gateway event": Start(process, stage.environment, api),
        "look-up": Start(lookups, stage.environment, lambda: listed),
    }


def first_answer(start: Start, group: str) -> tuple[float, float, float, float]:
    """Return the milliseconds from the event to the answer of a new environment, those that its process computed at init and in
    the handler, and the MB that it then holds."""
    function = dataclasses.replace(
        start.function, handler="bench.imported.handler", layer_folders=(*start.function.layer_folders, REPOSITORY)
    )
    measured = {"BENCHED_HANDLER": start.function.handler, "BENCHED_GROUP": group}
    with LambdaRuntime(function, {**start.environment, **measured}) as runtime:
        event = start.event()
        runtime._started(qualifier_of(event))  # the emulator, and not the function
        begun_s = time.perf_counter()
        invocation = runtime.invoke(event)
        taken_ms = (time.perf_counter() - begun_s) * 1000
        status = invocation.payload.get("statusCode", invocation.payload.get("status"))
        if invocation.function_error or status not in (200, 201) or invocation.payload.get("replayed"):
            raise RuntimeError(f"no answer: {invocation.payload}\n{invocation.logs}")
        [(emulator, _)] = runtime._emulators.values()
        [process] = emulator.children(recursive=True)
        init_ms = float(runtime.logs().partition("imported: ")[2].split()[0])
        return taken_ms, init_ms, cpu_s([process]) * 1000 - init_ms, process.memory_info().rss / 1e6


@contextlib.contextmanager
def limited(cpus: float | None, full_init: bool) -> Iterator[str]:
    """Give this process, and those that it starts from now on, so many cores; with `full_init` only those that join the group
    which this yields."""
    if cpus is None:
        yield ""
        return
    GROUP.mkdir(exist_ok=True)
    (GROUP / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (GROUP / "cpu.cfs_quota_us").write_text(str(int(cpus * PERIOD_US)))
    if full_init:
        yield str(GROUP)
        return
    (GROUP / "tasks").write_text(str(os.getpid()))
    try:
        yield ""
    finally:
        (GROUP.parent / "tasks").write_text(str(os.getpid()))


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.cold", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpus", type=float)
    parser.add_argument("--full-init", action="store_true")
    given = parser.parse_args()
    with built() as stage:
        functions = starts(stage)
        make_table = "import asyncio, bench.peer; asyncio.run(bench.peer.make_table())"
        subprocess.run([sys.executable, "-c", make_table], env=os.environ | stage.peer_environment, cwd=REPOSITORY, check=True)
        with limited(given.cpus, given.full_init) as group:
            rounds = []
            for number in range(-1, given.rounds):  # The first round fills the caches of the disk.
                rounds.append({name: first_answer(start, group) for name, start in functions.items()})
                print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
    rounds = rounds[1:]
    share = f", {given.cpus} of a core for the function" + ("'s handler" if given.full_init else "") if given.cpus else ""
    table = Table(title=f"Cold starts, {psutil.cpu_count()} cores{share}")
    for column in ("", "ms", "of the peer's", "processor's ms", "of the peer's", "at init", "in the handler", "MB"):
        table.add_column(column, justify="right" if column else "left")
    for name in functions:
        ms, init_ms, handler_ms, mb = (median(round_[name][part] for round_ in rounds) for part in range(4))
        ratio = median(round_[name][0] / round_[PEER][0] for round_ in rounds)
        computed = median(sum(round_[name][1:3]) / sum(round_[PEER][1:3]) for round_ in rounds)
        computed_ms = median(sum(round_[name][1:3]) for round_ in rounds)
        cells = (f"{ms:,.0f}", f"{ratio:.2f}", f"{computed_ms:,.0f}", f"{computed:.2f}", f"{init_ms:,.0f}", f"{handler_ms:,.0f}")
        table.add_row(name, *cells, f"{mb:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
