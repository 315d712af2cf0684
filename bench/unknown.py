"""How fast reconcile settles what an outage of the gateway leaves: `python -m bench.unknown [--operations N] [--rounds N]`.

Each round writes payments whose gateway call got no answer and is due again. One run of reconcile then calls a gateway that
takes 50 to 200 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from statistics import median
from typing import Any

from bench.drain import HOUR_S, pay, run_worker
from bench.stage import Stage, built
from local.servers import connect

TOKEN = "tok_timeout_then_captured"

DELAY_MS = "50-200"

PORTION = 2_000
"""Payments of the backlog written at a time, within the time-out of a connection."""

# One payment that our own code has left without an outcome, again and again under other ids. Our triggers check each step of a
# payment's life, and these payments are written as they stand.
SAMPLES = """
CREATE TABLE sample_payment AS SELECT * FROM payments;
CREATE TABLE sample_operation AS SELECT * FROM operations;
CREATE TABLE sample_history AS SELECT * FROM payment_status_history
"""
BACKLOG = """
ALTER TABLE payments DISABLE TRIGGER USER;
ALTER TABLE operations DISABLE TRIGGER USER;
CREATE TEMPORARY TABLE ids AS SELECT gen_random_uuid() AS id, n FROM generate_series({first}, {last}) n;
INSERT INTO payments
SELECT (jsonb_populate_record(sample, jsonb_build_object('payment_id', id, 'order_id', 'order-' || id,
    'transaction_id', 'txn_' || id))).*
FROM ids, sample_payment sample;
INSERT INTO payment_status_history
SELECT (jsonb_populate_record(sample, jsonb_build_object('payment_id', id))).* FROM ids, sample_history sample;
INSERT INTO operations
SELECT (jsonb_populate_record(sample, jsonb_build_object('operation_id', gen_random_uuid(), 'payment_id', id,
    'idempotency_key', id, 'gateway_key', 'pay-' || id,
    'next_attempt_at', now() - interval '1 hour' + n * interval '1 millisecond'))).*
FROM ids, sample_operation sample;
DROP TABLE ids;
ALTER TABLE payments ENABLE TRIGGER USER;
ALTER TABLE operations ENABLE TRIGGER USER
"""


def write_sample(stage: Stage) -> None:
    pay(stage, TOKEN)
    _script(stage, SAMPLES)


def write_backlog(stage: Stage, operations: int) -> None:
    stage.query("TRUNCATE payments, payment_status_history, operations, refunds, outbox")
    for first in range(0, operations, PORTION):
        _script(stage, BACKLOG.format(first=first, last=min(first + PORTION, operations) - 1))
    stage.query("ANALYZE payments, operations")
    stage.query("CHECKPOINT")


def _script(stage: Stage, script: str) -> None:
    with contextlib.closing(connect(stage.postgres.url)) as connection:
        for statement in script.split(";\n"):
            connection.run(statement)


def run_reconcile(stage: Stage) -> dict[str, Any]:
    """Settle the backlog. Return what it measured."""
    before_s = stage.postgres_cpu_s()
    measured = run_worker("bench.unknown", environment=stage.environment | {"GATEWAY_DELAY_MS": DELAY_MS})
    return measured | {"postgres_cpu_s": stage.postgres_cpu_s() - before_s}


def worker() -> None:
    from payments import wiring
    from payments.commands.service import Deadline
    from payments.scheduled.reconcile import reconcile

    service = wiring.service()
    service.publisher.check(10)  # type: ignore[attr-defined]
    begun_s, cpu_before_s = time.perf_counter(), time.process_time()
    done = reconcile(service, Deadline.in_s(HOUR_S))
    took_s, used_s = time.perf_counter() - begun_s, time.process_time() - cpu_before_s
    print(json.dumps({"settled": done.settled, "unknown": done.unknown, "s": took_s, "cpu_s": used_s}))


def main() -> int:
    if sys.argv[1:2] == ["worker"]:
        worker()
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with built() as stage:
        print(f"{stage.broker}; {options.operations:,} operations; gateway {DELAY_MS} ms; {os.cpu_count()} cores", flush=True)
        write_sample(stage)
        rates = []
        for _ in range(options.rounds):
            write_backlog(stage, options.operations)
            measured = run_reconcile(stage)
            if measured["settled"] != options.operations:
                raise RuntimeError(f"not all were settled: {measured}")
            rates.append(measured["settled"] / measured["s"])
            cpu = {"reconcile": measured["cpu_s"], "PostgreSQL": measured["postgres_cpu_s"]}
            told = ", ".join(f"{who} {1e3 * used_s / measured['settled']:.2f}" for who, used_s in cpu.items())
            print(
                f"{rates[-1]:,.0f} operations/s ({measured['settled']:,} in {measured['s']:.1f} s); ms of CPU each: {told}",
                flush=True,
            )
        print(f"median {median(rates):,.0f} operations/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
