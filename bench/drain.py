"""How fast one relay sends a backlog: `python -m bench.drain [--events N] [--rounds N] [--beside TREE] [--dead]`.

Each round writes a backlog as an outage of the broker leaves it, and one run of the relay sends it. With `--beside`, a checkout
of another commit, its relay sends another backlog on the same servers. Quote ratios: the speed of a machine drifts. `--dead`
lets one partition of three acknowledge nothing, and gives the run as much time as Lambda does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import psutil

from bench.stage import REPOSITORY, Stage, built, cpu_s

RUN_S, HOUR_S = 55.0, 3600.0
"""The relay's time-out in template.yaml, and enough for any backlog."""

DEAD = 0
"""The partition that never acknowledges with `--dead`."""

ONE_IN = 10
"""One payment in so many has two events."""

TOKEN = "tok_ok"

PORTION = 5_000
"""Payments of the backlog written at a time, within the time-out of a connection."""

# One event that our own code has written, again and again under other ids.
BACKLOG = """
WITH sample AS (SELECT * FROM sample_event),
     ids AS (SELECT gen_random_uuid() AS payment_id, n FROM generate_series({first}, {last}) n)
INSERT INTO outbox (event_id, payment_id, sequence, type, data, traceparent, created_at, lease_until)
SELECT gen_random_uuid(), ids.payment_id, sequence, type, replace(data, sample.payment_id::text, ids.payment_id::text),
       '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', now(), now() - (60 - n / {payments}.0) * interval '1 second'
FROM ids, sample, generate_series(1, 1 + (n % {one_in} = 0)::int) sequence
"""


def write_sample(stage: Stage) -> None:
    pay(stage, TOKEN)
    stage.query("CREATE TABLE sample_event AS SELECT payment_id, type, data FROM outbox")


def pay(stage: Stage, token: str) -> None:
    """Make one payment whose events stay in the outbox."""
    from payments.commands.catalog import COMMANDS
    from payments.commands.phases import perform
    from payments.commands.process import ProcessRequest
    from payments.commands.service import Call, Deadline, Service
    from payments.gateway.simulated import SimulatedGateway
    from payments.store.connection import Database

    class Away:
        """A broker that acknowledges nothing, so that the event stays in the outbox."""

        def warm_up(self) -> None: ...

        def backs_off(self, *_: object) -> bool:
            return True

        def publish(self, _: Sequence[Any], __: float) -> set[UUID]:
            return set()

    service = Service(db=Database.at(stage.postgres.service_url), gateway=SimulatedGateway(1.0, (0, 0)), publisher=Away())
    order = ProcessRequest(
        order_id="order-1001", amount=1999, currency="USD", payment_method="credit_card", payment_token=token,
        customer_id="customer-7", description="Two notebooks", metadata={"channel": "web"},
    )  # fmt: skip
    perform(COMMANDS["process"], order, Call(owner="shop", deadline=Deadline.in_s(30), idempotency_key="k"), service)
    service.db.close()


def write_backlog(stage: Stage, events: int) -> None:
    stage.query("TRUNCATE outbox")
    payments = events * ONE_IN // (ONE_IN + 1)
    for first in range(0, payments, PORTION):
        stage.query(BACKLOG.format(payments=payments, first=first, last=min(first + PORTION, payments) - 1, one_in=ONE_IN))
    stage.query("CHECKPOINT")


def run_relay(tree: Path, stage: Stage, *, dead: bool) -> dict[str, Any]:
    """Send the backlog with the relay of a tree. Return what it measured."""
    before = stage.postgres_cpu_s(), broker_cpu_s()
    measured = run_worker("bench.drain", *["dead"] * dead, tree=tree, environment=stage.environment)
    postgres, broker = stage.postgres_cpu_s() - before[0], broker_cpu_s() - before[1]
    return measured | {"cpu_s": {"relay": measured["cpu_s"], "PostgreSQL": postgres, "broker": broker}}


def run_worker(module: str, *words: str, tree: Path = REPOSITORY, environment: dict[str, str]) -> dict[str, Any]:
    """Run the module's worker with the layer of a tree, in a process of its own. Return what it printed last."""
    path = os.pathsep.join([str(tree / "layers/shared/python"), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-m", module, "worker", *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path} | environment,
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def broker_cpu_s() -> float:
    """Return the CPU seconds of the brokers that this bench has started; a container's are not our children."""
    return cpu_s([one for one in psutil.process_iter() if one.create_time() > BEGUN_S and _is_broker(one)])


BEGUN_S = time.time()


def _is_broker(process: psutil.Process) -> bool:
    try:
        return process.name() == "tansu" or "kafka.Kafka" in process.cmdline()
    except psutil.Error:
        return False


# The relay's process


class Timed:
    """Adds up the time in each of the relay's calls. Two threads may be in one at a time, so the shares may exceed 1 together."""

    def __init__(self) -> None:
        self.spent_s = dict.fromkeys(("claim", "send", "mark"), 0.0)

    def call(self, names: Sequence[str], function: Any, *arguments: Any) -> Any:
        begun_s = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            for name in names:
                self.spent_s[name] += (time.perf_counter() - begun_s) / len(names)


def worker(*, dead: bool) -> None:
    import kafka

    from payments import wiring
    from payments.commands.service import Deadline
    from payments.scheduled.relay import relay
    from payments.store import backlog, outbox
    from payments.store.connection import Bound, Database

    if dead:
        kafka.KafkaProducer = with_dead_partition(kafka.KafkaProducer)
    timed, service = Timed(), wiring.service()

    def names_of(statements: Sequence[Bound]) -> Iterator[str]:
        for statement in statements:
            if statement.sql == backlog.CLAIM_UNPUBLISHED.sql:
                yield "claim"
            if statement.sql == outbox.MARK_PUBLISHED.sql:
                yield "mark"

    class TimedDatabase(Database):
        def send(self, *statements: Bound) -> Any:
            return timed.call(list(names_of(statements)), super().send, *statements)

    class TimedPublisher:
        def __getattr__(self, name: str) -> Any:
            function = getattr(service.publisher, name)
            return (lambda *arguments: timed.call(["send"], function, *arguments)) if name == "publish" else function

    db = TimedDatabase(service.db._connect)
    publisher: Any = TimedPublisher()
    service.publisher.check(10)  # type: ignore[attr-defined]
    begun_s, cpu_before_s = time.perf_counter(), time.process_time()
    done = relay(replace(service, db=db, publisher=publisher), Deadline.in_s(RUN_S if dead else HOUR_S))
    took_s, used_s = time.perf_counter() - begun_s, time.process_time() - cpu_before_s
    shares = {name: spent_s / took_s for name, spent_s in timed.spent_s.items()}
    print(json.dumps({"events": done.published, "s": took_s, "cpu_s": used_s, "shares": shares}))


def with_dead_partition(producer: type) -> type:
    from kafka.errors import KafkaTimeoutError
    from kafka.producer.future import FutureProduceResult, FutureRecordMetadata
    from kafka.structs import TopicPartition

    class Partial(producer):  # type: ignore[misc]
        """The producer, with one partition that has no leader: what goes there fails after delivery_timeout_ms."""

        stuck: Any = None

        def send(self, topic: str, value: Any = None, key: Any = None, headers: Any = None, partition: int | None = None) -> Any:
            if self._partition(topic, partition, key, value, key, value) != DEAD:
                return super().send(topic, value=value, key=key, headers=headers, partition=partition)
            if self.stuck is None:
                self.stuck = FutureProduceResult(TopicPartition(topic, DEAD))
                threading.Timer(self.config["delivery_timeout_ms"] / 1000, self._expire, [self.stuck]).start()
            return FutureRecordMetadata(self.stuck, 0, 0, None, 0, 0, 0)

        def _expire(self, stuck: Any) -> None:
            self.stuck = None
            stuck.failure(KafkaTimeoutError())

    return Partial


def main() -> int:
    if sys.argv[1:2] == ["worker"]:
        worker(dead="dead" in sys.argv)
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--dead", action="store_true")
    options = parser.parse_args()
    trees = {"this tree": REPOSITORY} | ({str(options.beside): options.beside} if options.beside else {})
    with built() as stage:
        print(f"{stage.broker}; {options.events:,} events; {os.cpu_count()} cores", flush=True)
        write_sample(stage)
        rates: dict[str, list[float]] = {name: [] for name in trees}
        for number in range(options.rounds):
            for name in sorted(trees, reverse=number % 2 == 1):
                write_backlog(stage, options.events)
                measured = run_relay(trees[name], stage, dead=options.dead)
                rates[name].append(measured["events"] / measured["s"])
                shares = ", ".join(f"{what} {share:.0%}" for what, share in measured["shares"].items())
                cpu = ", ".join(f"{what} {1e6 * used_s / measured['events']:.0f}" for what, used_s in measured["cpu_s"].items())
                print(f"{name}: {rates[name][-1]:,.0f} events/s ({measured['events']:,} in {measured['s']:.1f} s);", end=" ")
                print(f"{shares} of the time; µs of CPU an event: {cpu}", flush=True)
        for name, found in rates.items():
            print(f"{name}: median {median(found):,.0f} events/s")
        if options.beside:
            ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
            print(f"ratio of each round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {median(ratios):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
