"""PostgreSQL's own log: DETAIL quotes the row that a constraint refused, and no log of ours may hold a payment token."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pg8000.exceptions import DatabaseError

from local.servers import EmbeddedPostgres, connect
from migrations.apply import migrate
from tests.aws.test_template import RESOURCES, ROOT
from tests.docker.test_containers import missing
from tests.domain.examples import payment, row_values
from tests.servers import MIGRATIONS, free_port
from tests.store.test_schema import insert, pay

TOKEN, ORDER, KEY = (f"{name}_{secrets.token_hex(8)}" for name in ("tok", "order", "key"))

PARAMETERS = RESOURCES["DatabaseParameters"]["Properties"]["Parameters"]
ON_AWS = {name: value for name, value in PARAMETERS.items() if isinstance(value, str) and not name.startswith("rds.")}
"""The settings of the cluster that the stack makes. PostgreSQL itself knows those."""


def provoke(owner_url: str) -> None:
    """Make PostgreSQL refuse rows with a token in them, for each kind of reason, and run a statement that it logs as slow."""
    migrate(owner_url, MIGRATIONS)
    with contextlib.closing(connect(owner_url)) as connection:
        first = pay(connection, order_id=ORDER, payment_token=TOKEN)
        row = row_values(payment(payment_id=first, order_id=ORDER, payment_token=TOKEN))
        refused = {
            "23505": row,
            "23514": row | {"amount_minor": 0},
            "23502": row | {"currency": None},
            "22P02": row | {"metadata": f"{{{TOKEN}"},
        }
        for state, values in refused.items():
            with pytest.raises(DatabaseError) as caught:
                insert(connection, "payments", values)
            assert caught.value.args[0]["C"] == state
        with pytest.raises(DatabaseError) as caught:
            connection.run("INSERT INTO operations SELECT (jsonb_populate_record(NULL::operations, CAST(:row AS jsonb))).*",
                           row=json.dumps({"idempotency_key": KEY, "owner": TOKEN}))  # fmt: skip
        assert caught.value.args[0]["C"] == "23502"
        connection.run("SELECT pg_sleep(1.1), CAST(:token AS text)", token=TOKEN)


def secrets_in(log: str) -> set[str]:
    assert "payments_one_live_per_order" in log or "payments_pkey" in log, "the errors themselves are logged"
    return {secret for secret in (TOKEN, ORDER, KEY) if secret in log}


@contextlib.contextmanager
def embedded(folder: Path, **settings: str) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder, lambda _: None, fsync="off", **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        pytest.param({}, set(), id="as make run starts it"),
        pytest.param(ON_AWS, set(), id="with the settings of the cluster that the stack makes"),
        pytest.param({"log_error_verbosity": "default"}, {TOKEN, ORDER, KEY}, id="as PostgreSQL comes"),
    ],
)
def test_the_log_of_an_embedded_server_holds_no_token(
    servers_folder: Path, tmp_path: Path, settings: dict[str, str], found: set[str]
) -> None:
    with embedded(servers_folder / tmp_path.name, **settings) as server:
        provoke(server.url)
        log = server.log.read_text()
    assert secrets_in(log) == found
    assert "DETAIL" not in log or found
    if settings == ON_AWS:
        assert "pg_sleep" in log, "slow statements are logged"


@pytest.mark.server
@pytest.mark.docker
def test_the_log_of_the_container_holds_no_token() -> None:
    if reason := missing():
        pytest.skip(reason)
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["postgres"]
    name, port = f"payments-test-{secrets.token_hex(4)}", free_port()
    variables = [part for pair in service["environment"].items() for part in ("--env", "=".join(pair))]
    run = ["docker", "run", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:5432", *variables]
    subprocess.run([*run, service["image"], *service["command"]], check=True, capture_output=True)
    try:
        url = f"postgresql://postgres:local@127.0.0.1:{port}/payments"
        deadline = time.monotonic() + 60
        while True:
            try:
                connect(url).close()
                break
            except Exception:  # the container first starts a server without a network, for the database
                assert time.monotonic() < deadline
                time.sleep(0.2)
        provoke(url)
        log = subprocess.run(["docker", "logs", name], check=True, capture_output=True, text=True).stderr
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], check=True, capture_output=True)
    assert secrets_in(log) == set()
    assert "DETAIL" not in log


def test_the_cluster_logs_neither_details_nor_values() -> None:
    assert ON_AWS["log_error_verbosity"] == "terse"
    assert ON_AWS["log_parameter_max_length"] == ON_AWS["log_parameter_max_length_on_error"] == "0"
