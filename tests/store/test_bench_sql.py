"""The bench's pgbench script is what the commands send. `make bench` would find out minutes after its start."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench import our_sql
from local.servers import connect
from tests.servers import Database


def test_pgbench_pays_with_the_sql_that_the_commands_send(own_database: Database, tmp_path: Path) -> None:
    stage: Any = SimpleNamespace(postgres=SimpleNamespace(service_url=own_database.service_url), folder=tmp_path)
    assert our_sql.payments_per_s(stage, *our_sql.script(own_database.service_url), seconds=1) > 0
    with closing(connect(own_database.owner_url)) as owner:
        [[status, paid]] = owner.run("SELECT status, count(*) FROM payments GROUP BY status")
        [[published]] = owner.run("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL")
    assert status == "CAPTURED"
    assert published == paid > 1, "the recorded payment, and pgbench's"
