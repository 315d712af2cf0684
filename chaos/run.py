"""One run: start the servers, run clients and faults, let the service finish in the quiet period, and call the oracle."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from chaos import (
    acknowledged,
    disputed,
    evidence,
    inbox,
    money,
    oracle,
    plan,
    received,
    refused,
    requested,
    stale_workers,
    waited,
)
from chaos.clients import HELD_S, Clients
from chaos.crash_points import CrashPoints, Sweep
from chaos.environments import REPO, Environments
from chaos.outages import OUTAGES, PAUSE_S, Outages, TopicReader
from chaos.plan import Rates
from chaos.provider import Provider
from chaos.quiet import Quiet
from chaos.receiver import Receiver, receiving
from chaos.scenes import Scenes
from chaos.servers import Servers, running
from chaos.simulated import Simulated
from chaos.stale_workers import StaleWorkers
from chaos.stripe_world import stripe_world

RETRY_SCHEDULE_S = ",".join(str(moment_s) for moment_s in (1, *range(4, 3600, 4)))
"""Moments enough that reconcile gives up no operation within a run. So an operation without an outcome is a violation. They
leave room for a sync, which asks the gateway when nobody has for two seconds."""

TICK_S = 0.4
"""The pause between two scheduled invocations. Each function has two such loops, so its invocations overlap."""

SCHEDULED = ("relay", "relay", "reconcile", "reconcile", "courier", "courier")

REPLAYS_EVERY, REPLAYED = 10, timedelta(seconds=5)
"""Every tenth tick of a relay replays the last seconds. A consumer may notice only duplicates."""

PROGRESS_S = 5.0


GATEWAYS = ("simulated", "stripe-world")


@dataclass(frozen=True)
class Options:
    """`root` is the tree under test.

    `sweep` and `stale` come before the load. The load ends after `invocations` or after `minutes`, whichever comes first.
    `pause_s` is the pause between `outages`; `commands` are further outages. `hurry` multiplies the pauses between the clients'
    tries.
    """

    seed: str
    invocations: int = 2000
    minutes: float = 60.0
    workers: int = 10
    sweep: Sweep | None = field(default_factory=Sweep)
    stale: tuple[str, ...] = stale_workers.KINDS
    load: bool = True
    outages: tuple[str, ...] = OUTAGES
    pause_s: tuple[float, float] = PAUSE_S
    commands: tuple[str, ...] = ()
    rates: Rates = field(default_factory=Rates)
    hurry: float = 1.0
    root: Path = REPO
    after_answer: bool = False
    """Whether events are published after the answer."""
    gateway: str = "simulated"
    """One of GATEWAYS."""


@dataclass(slots=True)
class Outcome:
    """The summary's data. `before_load` is the number of invocations of the crash points and the stale workers."""

    options: Options
    folder: Path
    servers: str
    provider: Provider
    environments: Environments
    outages: Outages
    points: CrashPoints
    stale: StaleWorkers
    seen: evidence.Evidence
    violations: list[str]
    pooled: int
    before_load: int
    load_s: float
    all_s: float


Report = Callable[[str], None]


async def run(options: Options, report: Report) -> Outcome:
    """Run, and keep the folder with logs and evidence if there are violations. Raises a server's error if it does not start."""
    begun_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="payments-chaos-"))
    folder.chmod(0o755)  # PostgreSQL started by root runs as nobody
    # A server ends with the thread that started it, so the thread of the outages outlives the servers.
    with ThreadPoolExecutor(1) as thread, running(folder, options.root / "migrations") as servers:
        async with (
            _behind(options, folder) as provider,
            _harness(options, servers, provider, folder, thread) as (environments, clients, quiet, outages, reader, receiver),
        ):
            versions = f"{servers.versions}, {provider.name}"
            report(f"seed {options.seed}; {versions}; evidence in {folder}")
            scenes = Scenes(environments, clients, receiver, provider, servers.owner_url)
            points, stale = CrashPoints(scenes, quiet, report), StaleWorkers(scenes, report)
            if options.sweep:
                await points.run(options.sweep.without(provider.cannot))
            await stale.run(tuple(kind for kind in options.stale if kind not in provider.cannot))
            before_load, load_begun_s = environments.tally.invocations.total(), time.monotonic()
            if options.load:
                await _load(options, provider, environments, clients, outages, report)
            load_s = time.monotonic() - load_begun_s
            report("faults are over; quiet")
            while_waiting = evidence.tables(servers.owner_url)
            await quiet.settle_down()
            lost = await quiet.replay_lost(outages)
            await environments.close()
            pooled = servers.pgbouncer.transactions
            report("the oracle")
            calls = evidence.calls(folder / "ledger")
            seen = evidence.Evidence(
                tables=evidence.tables(servers.owner_url),
                calls=calls,
                books=provider.books(calls, folder / "ledger"),
                messages=reader.messages(),
                answers=clients.answers,
                acknowledgements=evidence.acknowledgements(folder / "acknowledged"),
                lost_with_broker=lost,
                frozen=frozenset(environments.frozen_labels),
                clock_s=time.time() - time.monotonic(),
                arrivals=receiver.arrivals,
                while_waiting=while_waiting,
            )
    lives = oracle.lives_of(seen)
    violations = [
        *environments.tally.failures,
        *scenes.failures,
        *points.failures,
        *stale.failures,
        *quiet.failures,
        *oracle.check(seen, lives),
        *money.check(seen, lives),
        *acknowledged.check(seen, lives),
        *requested.check(seen, lives),
        *refused.check(seen, lives),
        *received.check(seen, lives),
        *disputed.check(seen, lives, provider.events.owes if provider.events else lambda _: True),
        *waited.check(seen, lives),
        *(inbox.check(seen, provider.events, lives) if provider.events else ()),
    ]
    if violations:
        evidence.keep(seen, folder)
    else:
        shutil.rmtree(folder)
    all_s = time.monotonic() - begun_s
    return Outcome(
        options,
        folder,
        versions,
        provider,
        environments,
        outages,
        points,
        stale,
        seen,
        violations,
        pooled,
        before_load,
        load_s,
        all_s,
    )


@contextlib.asynccontextmanager
async def _behind(options: Options, folder: Path) -> AsyncIterator[Provider]:
    if options.gateway == "simulated":
        yield Simulated(options.seed, folder / "ledger")
        return
    async with stripe_world(options.seed) as provider:
        yield provider


@contextlib.asynccontextmanager
async def _harness(
    options: Options, servers: Servers, provider: Provider, folder: Path, thread: Executor
) -> AsyncIterator[tuple[Environments, Clients, Quiet, Outages, TopicReader, Receiver]]:
    environment = {
        "DATABASE_URL": servers.pgbouncer.url,
        "KAFKA_BOOTSTRAP_SERVERS": servers.bootstrap_servers,
        "KAFKA_TOPIC": servers.topic,
        "DIRECT_OWNER": f"jwt/{plan.DIRECT_OWNER}",  # clients look its payments up over HTTP
        "RETRY_SCHEDULE_S": RETRY_SCHEDULE_S,
        "CAPTURE_WINDOW_S": str(plan.CAPTURE_WINDOW_S),
        "WEBHOOKS_LOCAL": "On",
        "POWERTOOLS_LOG_LEVEL": "ERROR",
        **provider.environment,
    }
    async with receiving() as receiver:
        receiver.register(servers.owner_url, (*plan.OWNERS, plan.DIRECT_OWNER))
        environments = Environments(
            options.root,
            folder,
            environment,
            options.seed,
            servers.pgbouncer.port,
            options.workers,
            after_answer=options.after_answer,
            receiver_port=receiver.port,
            gateway_port=provider.port,
        )
        clients = Clients(environments, options.seed, options.rates, options.hurry, provider.act)
        reader = TopicReader(servers, folder)
        quiet = Quiet(servers, environments, clients, reader, folder / "acknowledged", provider.events)
        outages = Outages(
            servers, reader, options.seed, thread, options.outages, options.pause_s, options.commands, provider.outages
        )
        try:
            yield environments, clients, quiet, outages, reader, receiver
        finally:
            await environments.close()
            reader.close()


async def _load(
    options: Options, provider: Provider, environments: Environments, clients: Clients, outages: Outages, report: Report
) -> None:
    """Run stories, scheduled invocations and outages until there were enough invocations, then let the stories end."""
    begun_s = time.monotonic()
    first = environments.tally.invocations.total()
    ticks = [asyncio.create_task(_tick(options, environments, clients, function, n)) for n, function in enumerate(SCHEDULED)]
    progress = asyncio.create_task(_progress(options.seed, environments, clients, outages, report))
    trouble = asyncio.create_task(outages.break_servers())
    telling = []
    if provider.events:
        await provider.events.fetch()  # what was before the load is told by nobody
        going_on = provider.events.go_on(environments, partial(plan.fault, options.seed, rates=options.rates), clients.hang_up)
        telling.append(asyncio.create_task(going_on))
    stories: set[asyncio.Task[None]] = set()
    number = 0
    while (
        environments.tally.invocations.total() - first < options.invocations and time.monotonic() - begun_s < options.minutes * 60
    ):
        # A new story begins when the others leave room. Most of them wait, for a lease or before a retry.
        async with environments.in_flight:
            await asyncio.sleep(0)
        number += 1
        stories.add(asyncio.create_task(clients.play(plan.story(options.seed, number, provider.tokens))))
        done = {story for story in stories if story.done()}
        stories -= done
        for story in done:
            story.result()
    clients.hang_up.set()
    await asyncio.gather(*stories, *ticks, *telling)
    for task in (progress, trouble):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await outages.finish()


async def _tick(options: Options, environments: Environments, clients: Clients, function: str, line: int) -> None:
    tick = 0
    while not clients.hang_up.is_set():
        tick += 1
        label = f"tick.{function}.{line}.{tick}"
        event: dict[str, Any] = {}
        if function == "relay" and tick % REPLAYS_EVERY == 0:
            now = datetime.now(UTC)
            event = {"replay": {"from": (now - REPLAYED).isoformat(), "to": now.isoformat()}}
        await environments.invoke(function, event, label, HELD_S[function], plan.fault(options.seed, label, options.rates))
        await clients.pause(TICK_S)


async def _progress(seed: str, environments: Environments, clients: Clients, outages: Outages, report: Report) -> None:
    before, before_s, reported = environments.tally.invocations.total(), time.monotonic(), 0
    while True:
        await asyncio.sleep(PROGRESS_S)
        clients.take_late_answers()
        tally, now_s = environments.tally, time.monotonic()
        total = tally.invocations.total()
        report(
            f"{total:>7} invocations ({(total - before) / (now_s - before_s):.0f}/s), {tally.landed} kills,"
            f" {tally.freezes} freezes, {tally.cuts} cuts, {outages.count.total()} outages, {len(tally.failures)} failures"
        )
        for failure in tally.failures[reported:]:
            report(f"FAILURE (seed {seed}): {failure}")
        before, before_s, reported = total, now_s, len(tally.failures)


def commit() -> str:
    """Return the harness's own commit, for the summary."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    done = subprocess.run([git, "describe", "--always", "--dirty"], cwd=REPO, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
