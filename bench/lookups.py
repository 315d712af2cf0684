"""Compare look-ups on a small and a large table: `python -m bench.lookups [ROWS]`.

We measure both tables in turn and compare the ratio of their p99 times, because a machine's speed drifts and the ratio does not.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.fill import OWNERS, fill
from local.servers import EmbeddedPostgres, connect
from migrations.apply import migrate
from payments.domain.payment import PaymentName, PaymentStatus
from payments.store import lookups
from payments.store.connection import Database
from payments.store.lookups import ListFilter

SMALL_ROWS = 20_000
CALLS = 2_000
MAX_RATIO = 1.5
"""How much slower a table a hundred times as large may be: its indexes are a level deeper, and caches hold less of it."""

Lookup = Callable[[Database, "Keys"], object]


class Keys:
    """A sample of one table's keys. We draw from it at random, so that caches are as warm as with many callers."""

    def __init__(self, owner_url: str, rows: int) -> None:
        self.rows = rows
        self._random = random.Random(7)
        sample = connect(owner_url).run(
            "SELECT payment_id, owner, order_id, transaction_id, created_at FROM payments TABLESAMPLE SYSTEM (5)"
        )
        self._sample = list(sample or [])

    def draw(self) -> tuple[Any, ...]:
        return tuple(self._random.choice(self._sample))

    def moment(self) -> datetime:
        return datetime.now(UTC) - timedelta(days=self._random.uniform(90, 360))


def _list(**options: object) -> Lookup:
    def look_up(db: Database, keys: Keys) -> object:
        payment_id, owner, _, _, created_at = keys.draw()
        filters = dict(options)
        if filters.pop("after", False):
            filters |= {"after_time": created_at, "after_id": payment_id}
        if filters.pop("months", False):
            begin = keys.moment()
            filters |= {"created_from": begin, "created_to": begin + timedelta(days=90)}
        owned = owner if filters.pop("owned", True) else None
        return lookups.list_payments(db, owned, ListFilter(**filters), 21)  # type: ignore[arg-type]

    return look_up


def _by(name: PaymentName, column: int, *, owned: bool = True) -> Lookup:
    def look_up(db: Database, keys: Keys) -> object:
        row = keys.draw()
        found = lookups.find_payment(db, row[1] if owned else None, name, row[column])
        assert found is not None
        return found

    return look_up


# Both tables can fill each of these pages, so that the two answers have the same size.
LOOKUPS: dict[str, Lookup] = {
    "payment by id": _by("payment_id", 0),
    "payment by order": _by("order_id", 2),
    "payment by order, admin": _by("order_id", 2, owned=False),
    "payment by transaction": _by("transaction_id", 3),
    "history": lambda db, keys: lookups.history_after(db, keys.draw()[0], 0, 21),
    "refunds": lambda db, keys: lookups.newest(db, [keys.draw()[0]], 21),
    "first page": _list(),
    "page in the middle": _list(after=True),
    "page of a status": _list(status=PaymentStatus.CAPTURED),
    "page of a status, in the middle": _list(status=PaymentStatus.FAILED, after=True),
    "page of a status that no payment has": _list(status=PaymentStatus.VOIDED),
    "page of a customer with every fourth payment": _list(customer_id="guest"),
    "page of a customer of all owners, admin": _list(owned=False, customer_id="guest"),
    "page of a method": _list(payment_method="paypal"),
    "page of three months": _list(months=True),
    "first page, admin": _list(owned=False),
    "page of a status, admin, in the middle": _list(owned=False, status=PaymentStatus.REFUNDED, after=True),
}


def main(large_rows: int) -> int:
    with tempfile.TemporaryDirectory(prefix="payments-bench-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            return _measure(server, large_rows)
        finally:
            server.stop()


def _measure(server: EmbeddedPostgres, large_rows: int) -> int:
    connections: dict[int, tuple[Database, Keys]] = {}
    for rows in (SMALL_ROWS, large_rows):
        connect(server.url).run(f"CREATE DATABASE payments_{rows}")
        owner_url = server.url.rpartition("/")[0] + f"/payments_{rows}"
        migrate(owner_url, Path("migrations"))
        server.allow_service()
        begun = time.monotonic()
        fill(owner_url, rows)
        print(f"{rows:>9,} payments of {OWNERS} owners written in {time.monotonic() - begun:.0f} s", flush=True)
        service_url = server.service_url.rpartition("/")[0] + f"/payments_{rows}"
        connections[rows] = (Database.at(service_url), Keys(owner_url, rows))
    print(f"\n{'milliseconds':<42}{'p50 small':>10}{'p50 large':>10}{'p99 small':>10}{'p99 large':>10}{'p99 ratio':>10}")
    worst = 0.0
    for name, look_up in LOOKUPS.items():
        times: dict[int, list[float]] = {rows: [] for rows in connections}
        for _ in range(CALLS):
            for rows, (db, keys) in connections.items():
                begun = time.perf_counter()
                look_up(db, keys)
                times[rows].append((time.perf_counter() - begun) * 1000)
        small, large = (sorted(times[rows][CALLS // 10 :]) for rows in connections)  # the first tenth warms the caches
        p50s, p99s = [t[len(t) // 2] for t in (small, large)], [t[len(t) * 99 // 100] for t in (small, large)]
        worst = max(worst, p99s[1] / p99s[0])
        print(f"{name:<42}{p50s[0]:>10.2f}{p50s[1]:>10.2f}{p99s[0]:>10.2f}{p99s[1]:>10.2f}{p99s[1] / p99s[0]:>10.2f}", flush=True)
    print(f"\nworst ratio of p99: {worst:.2f} (limit: {MAX_RATIO})")
    return 0 if worst <= MAX_RATIO else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000))
