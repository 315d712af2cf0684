"""What a captured payment leaves behind: `python -m bench.growth [PAYMENTS [CHECKOUT ...]]`.

With checkouts, such as those of two commits, each is measured by its own code, one after the other.

The commands themselves take the payments, with a gateway that approves at once and a broker that acknowledges at once. We print
the bytes of each table and index a payment, the write-ahead log a payment, and how many updates stay within their page (HOT).
`DATABASE_URL` (the owner's, of an empty database) measures another server than the embedded one, whose service role then needs no
password.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from pg8000.native import Connection

from local.servers import EmbeddedPostgres, connect
from migrations.apply import migrate
from payments.commands.catalog import COMMANDS
from payments.commands.phases import perform
from payments.commands.process import ProcessRequest
from payments.commands.service import Call, Deadline, Service
from payments.domain.events import Event
from payments.gateway.simulated import SimulatedGateway
from payments.store.connection import Database

TABLES = ("payments", "payment_status_history", "operations", "outbox")

SIZES = """
SELECT c.relname, c.relkind::text, pg_table_size(c.oid) FROM pg_class c
LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')
  AND regexp_replace(COALESCE(i.indrelid, c.oid)::regclass::text, '_(p?[0-9]+|default)$', '') = :table
ORDER BY c.relkind DESC, 3 DESC
"""

UPDATES = """
SELECT regexp_replace(relname, '_(p?[0-9]+|default)$', '') AS name, sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint,
       sum(n_tup_hot_upd)::bigint, sum(n_dead_tup)::bigint, sum(autovacuum_count)::bigint
FROM pg_stat_user_tables GROUP BY name HAVING sum(n_tup_ins) > 0 ORDER BY name
"""


class Acknowledging:
    """A broker that acknowledges at once."""

    def warm_up(self) -> None: ...

    def backs_off(self) -> bool:
        return False

    def publish(self, events: Sequence[Event], _: float) -> set[UUID]:
        return {event.event_id for event in events}


def main(payments: int, checkouts: Sequence[str] = ()) -> int:
    for checkout in checkouts:
        print(checkout, flush=True)
        environment = os.environ | {"PYTHONPATH": "layers/shared/python:cli:."}
        subprocess.run([sys.executable, "-m", "bench.growth", str(payments)], cwd=checkout, env=environment, check=True)
    if checkouts:
        return 0
    if url := os.environ.get("DATABASE_URL"):
        migrate(url, Path("migrations"))
        parts = urlsplit(url)
        _measure(url, parts._replace(netloc=f"payments_service@{parts.hostname}:{parts.port}").geturl(), payments)
        return 0
    with tempfile.TemporaryDirectory(prefix="payments-bench-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder), max_wal_size="4GB", checkpoint_timeout="5min")
        server.start()
        try:
            migrate(server.url, Path("migrations"))
            server.allow_service()
            _measure(server.url, server.service_url, payments)
        finally:
            server.stop()
    return 0


def _measure(owner_url: str, service_url: str, payments: int) -> None:
    owner = connect(owner_url)
    owner._usock.settimeout(None)
    owner.run("ALTER ROLE payments_service SET synchronous_commit = off")  # only the time differs
    service = Service(db=Database.at(service_url), gateway=SimulatedGateway(1.0, (0, 0)), publisher=Acknowledging())
    process, cart = COMMANDS["process"], "two books and a lamp"
    before, begun = _wal(owner), time.monotonic()
    for number in range(payments):
        order = ProcessRequest(
            order_id=f"order-{uuid4()}", amount=1999, currency="USD", payment_method="credit_card",
            payment_token=f"tok_{uuid4().hex}", customer_id=f"customer-{number % 100_000}", description=cart,
            metadata={"cart": str(number), "channel": "web"},
        )  # fmt: skip
        perform(process, order, Call(owner="shop", deadline=Deadline.in_s(30), idempotency_key=str(uuid4())), service)
    took_s, after = time.monotonic() - begun, _wal(owner)
    print(
        f"{owner.run('SHOW server_version')[0][0]}: {payments:,} payments in {took_s:.0f} s, full_page_writes {_setting(owner)}"
    )
    bytes_, records, pages = (b - a for a, b in zip(before, after, strict=True))
    print(f"write-ahead log a payment: {bytes_ / payments:,.0f} bytes, {records / payments:.1f} records,", end=" ")
    print(f"{pages / payments:.2f} page images")
    owner.run("SELECT pg_stat_force_next_flush()")
    _print_sizes(owner, payments)


def _wal(owner: Connection) -> tuple[int, int, int]:
    time.sleep(1.5)  # a backend tells its numbers once a second
    ((bytes_, records, pages),) = owner.run(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, wal_records, wal_fpi FROM pg_stat_wal"
    )
    return bytes_, records, pages


def _setting(owner: Connection) -> str:
    return str(owner.run("SHOW full_page_writes")[0][0])


def _print_sizes(owner: Connection, payments: int) -> None:
    total = index_total = 0
    for table in TABLES:
        for name, kind, size in owner.run(SIZES, table=table):
            total, index_total = total + size, index_total + size * (kind == "i")
            print(f"{size / payments:>8.0f}  {'  ' if kind == 'i' else ''}{name}")
    print(f"{total / payments:>8.0f}  bytes a payment, {index_total / payments:.0f} of them indexes\n")
    for name, inserted, updated, hot, dead, vacuums in owner.run(UPDATES):
        share = f"{hot / updated:.0%}" if updated else "-"
        print(f"{name:<24}{inserted:>10} inserted {updated:>10} updated {share:>5} HOT {dead:>9} dead {vacuums} autovacuums")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000, sys.argv[2:]))
