"""Lose the database, restore it to a moment, and follow docs/operations.md, "Restoring". The oracle then finds nothing wrong.

Payments run, a moment passes, payments go on, and the database is gone with all that came after the moment. The gateway's ledger,
the topic and the callers remember it. The steps are those of the page, with its own commands, `payments compare` and
`payments redrive`. The order service's invocations wait in the queue, and the operator sends all of them without a look at one.
The callers over HTTP do what the page asks of them: they drop the refunds, captures and voids that were entered, and repeat
everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaos import acknowledged, again, evidence, money, oracle, plan, requested, simulated
from chaos.answers import Answer
from chaos.archive import ArchivedPostgres, RestoredPostgres, silent
from chaos.clients import HELD_S, Clients
from chaos.environments import REPO, Environments
from chaos.evidence import Evidence, Row
from chaos.outages import TopicReader
from chaos.plan import Rates
from chaos.quiet import Quiet
from chaos.run import RETRY_SCHEDULE_S
from chaos.runbook import Operator
from chaos.servers import PgBouncer, Servers
from local.servers import EmbeddedBroker
from migrations.apply import migrate

SHARE = 0.6
"""The share of the stories that begin before the moment."""

AT_ONCE = 12


RETURN = ((plan.Command("return", "refund", 0.05),),)
"""What the order service asks for after the moment, of payments from before it: such a refund is on the gateway's list, and its
message may be in the old stack's queue."""


@dataclass(frozen=True)
class Options:
    """Without `enters` or `takes_back` the operator leaves a step of the page out, and the oracle must notice.

    With `sends_refunds` the operator says that each refund in the queue was looked at, and has looked at none.
    """

    seed: str
    stories: int = 120
    enters: bool = True
    takes_back: bool = True
    sends_refunds: bool = False
    rates: Rates = field(default_factory=lambda: Rates(kill=0.12, freeze=0.0, cut=0.0))


@dataclass(slots=True)
class Outcome:
    folder: Path
    violations: list[str]
    facts: dict[str, Any]


@dataclass(slots=True)
class Lost:
    """What the first database had after the moment. The harness knows it; the operator and the oracle do not."""

    moment: datetime
    moment_s: float
    """The moment in the clients' monotonic time."""
    lost_s: float
    tables: dict[str, list[Row]]


async def run(options: Options, report: Callable[[str], None]) -> Outcome:
    """Keep the folder with the evidence if there are violations. Raises a server's error if it does not start."""
    folder = Path(tempfile.mkdtemp(prefix="payments-restore-"))
    folder.chmod(0o755)  # PostgreSQL started by root runs as nobody
    with contextlib.ExitStack() as stack:
        first = ArchivedPostgres(folder / "first", folder / "archive")
        stack.callback(first.stop)
        first.start()
        migrate(first.url, REPO / "migrations", passwords={"payments_service": first.state["service_password"]})
        broker = EmbeddedBroker(folder / "broker", silent, "payments")
        stack.callback(broker.stop)
        broker.start()
        backup = first.back_up()
        stand = Stand(options, folder, broker, stack)
        servers = stand.stack(first, "one")
        reader = TopicReader(servers, folder)
        stack.callback(reader.close)
        clients = Clients(stand.environments, options.seed, options.rates, 0.2)
        report(f"seed {options.seed}; {servers.versions}; evidence in {folder}")

        lost = await _live(options, first, stand, clients)
        await reader.drain()
        published_before = {message.headers.get("ce_id", "") for message in reader.messages()}
        await stand.environments.close()
        first.lose()
        report(f"the database is lost; back to {lost.moment.isoformat()}")

        begun_s = time.monotonic()
        restored = RestoredPostgres(folder / "restored", first, backup, lost.moment)
        stack.callback(restored.stop)
        restored.start()
        password = secrets.token_urlsafe(24)  # the new stack's secret
        migrate(restored.url, REPO / "migrations", passwords={"payments_service": password})
        restored.state["service_password"] = password
        restored_s = time.monotonic() - begun_s
        at_the_moment = evidence.tables(restored.url)
        violations = list(_stands_at(at_the_moment, lost))

        servers = stand.stack(restored, "two")
        clients.move_to(stand.environments)
        operator = Operator(
            folder,
            restored.service_url,
            stand.environments,
            report,
            enters=options.enters,
            takes_back=options.takes_back,
        )
        violations += await operator.compare_and_settle()
        report("open again")
        kept = {row["gateway_key"] for row in at_the_moment["operations"]}
        queued, dropped = await _repeat(clients, lost, kept, operator.entered)
        resent = await again.send(clients, queued, refunds=options.sends_refunds)
        quiet = Quiet(servers, stand.environments, clients, reader, folder / "acknowledged")
        await quiet.settle_down()
        await stand.environments.close()
        seen = Evidence(
            tables=evidence.tables(restored.url),
            calls=evidence.calls(folder / "ledger"),
            books=simulated.books(folder / "ledger"),
            messages=reader.messages(),
            answers=[a for a in clients.answers if a.received_s < lost.moment_s or a.sent_s > lost.lost_s],
            acknowledgements=evidence.acknowledgements(folder / "acknowledged"),
            lost_with_broker=frozenset(),
            frozen=frozenset(),
            clock_s=time.time() - time.monotonic(),
        )
    told = {row["event_id"] for row in seen.tables["outbox"]}
    retold = {event_id for event_id in published_before if event_id not in told}
    violations += stand.environments.tally.failures + quiet.failures
    violations += list(_witness(seen, lost, operator, clients.answers, retold))
    violations += list(_paid_twice(seen, lost, clients))
    facts = {
        "seconds from the loss to a restored database": round(restored_s, 1),
        "payments at the moment, when lost, at the end": [
            len(tables["payments"]) for tables in (at_the_moment, lost.tables, seen.tables)
        ],
        "operations without an outcome at the moment": sum(row["outcome"] is None for row in at_the_moment["operations"]),
        "first comparison": operator.first,
        "rounds of comparing and reconciling": operator.rounds,
        "charges taken back": len(operator.taken_back),
        "entered": dict(Counter(operator.entered.values())),
        "events lost with the database": len(retold),
        "entered commands that their callers dropped": dropped,
        "messages in the old stack's queue": resent,
    }
    if violations:
        evidence.keep(seen, folder)
    else:
        shutil.rmtree(folder)
    return Outcome(folder, violations, facts)


class Stand:
    """The stacks: each has its own database, pooler and environments. Topic, gateway and callers stay."""

    def __init__(self, options: Options, folder: Path, broker: EmbeddedBroker, stack: contextlib.ExitStack) -> None:
        self._options, self._folder, self._broker, self._stack = options, folder, broker, stack
        self.environments: Environments

    def stack(self, postgres: ArchivedPostgres, name: str) -> Servers:
        own = self._folder / name
        own.mkdir(mode=0o755)
        pooler = PgBouncer(own, postgres.service_url)
        pooler.start()
        self._stack.callback(pooler.stop)
        variables = {
            "DATABASE_URL": pooler.url,
            "KAFKA_BOOTSTRAP_SERVERS": self._broker.bootstrap_servers,
            "KAFKA_TOPIC": "payments",
            "DIRECT_OWNER": f"jwt/{plan.DIRECT_OWNER}",
            "RETRY_SCHEDULE_S": RETRY_SCHEDULE_S,
            "CAPTURE_WINDOW_S": "3600",  # in production a week: it is no part of this
            "GATEWAY_SUCCESS_RATE": "0.8",
            "GATEWAY_DELAY_MS": "20-150",
            "GATEWAY_SEED": self._options.seed,
            "GATEWAY_LOST_REPLY_RATE": "0.2",  # so that some outcomes are unknown at the moment
            "POWERTOOLS_LOG_LEVEL": "ERROR",
        }
        self.environments = Environments(REPO, self._folder, variables, self._options.seed, pooler.port, AT_ONCE)
        return Servers(postgres.url, pooler, self._broker.bootstrap_servers, "payments", postgres, self._broker)


async def _live(options: Options, first: ArchivedPostgres, stand: Stand, clients: Clients) -> Lost:
    """Run the stories and the scheduled functions. Note the moment when SHARE of the stories have begun, in the midst of them."""
    ending = asyncio.Event()

    async def tick(function: str) -> None:
        number = 0
        while not ending.is_set():
            number += 1
            await stand.environments.invoke(function, {}, f"tick.{function}.{number}", HELD_S[function])
            await asyncio.sleep(1.0)

    ticks = [asyncio.create_task(tick(function)) for function in ("relay", "reconcile")]
    stories: list[asyncio.Task[None]] = []
    room = asyncio.Semaphore(AT_ONCE)

    async def begin(numbers: range) -> None:
        for number in numbers:
            await room.acquire()
            story = asyncio.create_task(clients.play(replace(plan.story(options.seed, number), wait_s=0.0)))
            story.add_done_callback(lambda _: room.release())
            stories.append(story)

    before = int(options.stories * SHARE)
    await begin(range(before))
    with contextlib.closing(evidence.connect(first.url)) as connection:
        moment: datetime = connection.run("SELECT clock_timestamp()")[0][0]
    moment_s = time.monotonic()
    await begin(range(before, options.stories))
    returns = (plan.story(options.seed, number) for number in range(before))
    await asyncio.gather(*stories, *(clients.play(replace(each, groups=RETURN, wait_s=0.0)) for each in returns if each.direct))
    ending.set()
    await asyncio.gather(*ticks)
    await asyncio.to_thread(first.archive_all)
    return Lost(moment.astimezone(UTC), moment_s, time.monotonic(), evidence.tables(first.url))


def _stands_at(tables: dict[str, list[Row]], lost: Lost) -> Iterator[str]:
    """The restored database has all of the moment and nothing later."""
    # These two are of the database's clock. The environments' clocks differ.
    moments = [row[name] for row in tables["operations"] for name in ("created_at", "settled_at") if row[name]]
    if (latest := max(map(oracle.moment, moments))) > lost.moment:
        yield f"the restored database goes on until {latest}, after {lost.moment}"
    for table in ("payments", "operations"):
        if len(tables[table]) >= len(lost.tables[table]):
            yield f"nothing of {table} was lost, so this run shows nothing"


async def _repeat(clients: Clients, lost: Lost, kept: set[str], entered: dict[str, str]) -> tuple[list[str], int]:
    """Repeat the payments over HTTP that were lost, and drop what was entered. Return the direct commands, for the queue.

    Also return the number of the commands that were dropped.
    """
    dropped, queued = 0, dict[str, None]()
    for row in lost.tables["operations"]:
        name = clients.request_of(row["kind"], row["traceparent"])
        if name is None or row["gateway_key"] in kept:
            continue
        if clients.is_direct(name):
            queued[name] = None
        elif row["kind"] == "process":
            await clients.repeat(name)
        elif row["gateway_key"] in entered:
            clients.drop(name)
            dropped += 1
    return [*queued], dropped


def _paid_twice(seen: Evidence, lost: Lost, clients: Clients) -> Iterator[str]:
    """One refund that the order service asked for moved money under two keys. It carries a key, so it is one refund."""
    keys = defaultdict[str, set[str]](set)
    moved = seen.books.by_key()
    for row in [*lost.tables["operations"], *seen.tables["operations"]]:
        name = clients.request_of("refund", row["traceparent"]) if row["kind"] == "refund" else None
        if name and clients.is_direct(name) and row["gateway_key"] in moved:
            keys[name].add(row["gateway_key"])
    for name, own in keys.items():
        if len(own) > 1:
            yield f"the refund {name} was paid twice: {', '.join(sorted(own))}"


def _witness(seen: Evidence, lost: Lost, operator: Operator, every_answer: list[Answer], retold: set[str]) -> Iterator[str]:
    """The oracle's view of gateway, tables, topic and answers, less what the page says is taken back and told again."""
    known = {row["gateway_key"] for row in seen.tables["operations"]}
    yield from _nothing_is_left_at_the_gateway(seen, known)
    books = replace(
        seen,
        calls=[call for call in seen.calls if call.key in known],
        books=replace(seen.books, moves=[move for move in seen.books.moves if move.key in known]),
        messages=[message for message in seen.messages if message.headers.get("ce_id") not in retold],
    )
    lives = oracle.lives_of(books)
    yield from oracle.check(books, lives)
    yield from money.check(books, lives)
    yield from acknowledged.check(books, lives, every_answer)
    entered = {row["operation_id"]: row for row in seen.tables["operations"] if row["gateway_key"] in operator.entered}
    for violation in requested.check(replace(books, answers=every_answer), lives):
        if not (violation.endswith("has no request") and any(identifier in violation for identifier in entered)):
            yield violation
    before = {row["gateway_key"]: row for row in lost.tables["operations"]}
    for row in entered.values():
        for name in ("kind", "owner", "payment_id", "refund_id", "amount_minor"):
            if row[name] != before[row["gateway_key"]][name]:
                yield f"entered {row['gateway_key']}: {name} is {row[name]}, and was {before[row['gateway_key']][name]}"


def _nothing_is_left_at_the_gateway(seen: Evidence, known: set[str]) -> Iterator[str]:
    """Whatever moved under a key that the books do not have was taken back, to the unit."""
    paid = {row["transaction_id"] for row in seen.tables["payments"]}
    moved: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for move in seen.books.moves:
        if move.key in known:
            continue
        moved[move.transaction_id][move.shown] += move.amount
        if move.transaction_id in paid:
            yield f"the gateway has a {move.action} of {move.amount} under {move.key}, which the books do not have"
    for transaction_id, sums in moved.items():
        left = sums["charge"] + sums["capture"] - sums["refund"]
        if left or (sums["authorization"] and not sums["capture"] and not sums["void"]):
            yield f"the gateway has the charge {transaction_id}, which the books do not have: {dict(sums)}"
