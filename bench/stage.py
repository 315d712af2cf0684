"""The servers that both sides use: one PostgreSQL, PgBouncer in front of it, and one broker.

PostgreSQL flushes each commit to the disk (fsync, synchronous_commit), as Aurora does to its storage. The broker is Apache Kafka
when Docker can run it or KAFKA_BOOTSTRAP_SERVERS names one, else the embedded broker.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from kafka.admin import KafkaAdminClient, NewTopic

from chaos.servers import PgBouncer, processes_of
from local.servers import EmbeddedBroker, EmbeddedPostgres, connect
from migrations.apply import migrate

REPOSITORY = Path(__file__).resolve().parent.parent

POOL_SIZE = 4
"""Server connections behind PgBouncer, for any number of environments."""

PARTITIONS = 3


@dataclass(frozen=True)
class Stage:
    postgres: EmbeddedPostgres
    pooler_url: str
    bootstrap_servers: str
    broker: str
    """What it is, for the table's heading."""
    topic: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a function needs to use these servers, with a gateway that approves at once."""
        return {
            "DATABASE_URL": self.postgres.service_url,
            "DATABASE_OWNER_URL": self.postgres.url,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA_TOPIC": self.topic,
            "GATEWAY_SUCCESS_RATE": "1",
            "GATEWAY_DELAY_MS": "0-0",
            "POWERTOOLS_SERVICE_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_NAME": "process",
        }

    @property
    def peer_environment(self) -> dict[str, str]:
        url = urlsplit(self.postgres.url)
        return {
            "PEER_DATABASE_URL": url._replace(scheme="postgresql+asyncpg").geturl(),
            "PEER_BROKERS": self.bootstrap_servers,
            "PEER_TOPIC": f"{self.topic}-peer",
        }

    def another_database(self, name: str) -> tuple[str, str]:
        """Make one with our tables. Returns the owner's URL and the service's."""
        with contextlib.closing(connect(self.postgres.url)) as owner:
            owner.run(f"CREATE DATABASE {name}")
        owners, services = (
            urlsplit(url)._replace(path=f"/{name}").geturl() for url in (self.postgres.url, self.postgres.service_url)
        )
        migrate(owners, REPOSITORY / "migrations")
        return owners, services

    def query(self, sql: str) -> list[list[object]]:
        with contextlib.closing(connect(self.postgres.url)) as connection:
            return list(connection.run(sql) or [])

    def postgres_cpu_s(self) -> float:
        return cpu_s(processes_of(self.postgres))

    def wal_bytes(self) -> int:
        return int(str(self.query("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0]))

    def table_bytes(self) -> tuple[int, int]:
        """Return the bytes of our tables and of their indexes."""
        sizes = "sum(pg_table_size(oid))::bigint, sum(pg_indexes_size(oid))::bigint"
        kinds = "relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname NOT LIKE 'peer%'"
        table, index = self.query(f"SELECT {sizes} FROM pg_class WHERE {kinds}")[0]
        return int(str(table)), int(str(index))


def cpu_s(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds that the processes have used so far, with those of their children that have ended."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


@contextlib.contextmanager
def built() -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="payments-bench-")))
        folder.chmod(0o755)  # PgBouncer runs as another user when we are root.
        postgres = EmbeddedPostgres(folder / "postgres", lambda _: None)
        stack.callback(postgres.stop)
        postgres.start()
        migrate(postgres.url, REPOSITORY / "migrations")
        postgres.allow_service()
        pooler = PgBouncer(folder, postgres.service_url, POOL_SIZE)
        pooler.start()
        stack.callback(pooler.stop)
        topic = f"payments-{secrets.token_hex(4)}"
        brokers, kind = stack.enter_context(_broker(folder, topic))
        with contextlib.closing(KafkaAdminClient(bootstrap_servers=brokers)) as admin:
            names = [f"{topic}-peer"] if kind == "embedded broker" else [topic, f"{topic}-peer"]
            admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        yield Stage(postgres, pooler.url, brokers, kind, topic, folder)


@contextlib.contextmanager
def _broker(folder: Path, topic: str) -> Iterator[tuple[str, str]]:
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield given, f"Kafka at {given}"
        return
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        compose = ["docker", "compose", "--project-name", f"payments-bench-{secrets.token_hex(4)}"]
        environment = os.environ | {"KAFKA_PORT": str(port)}

        def run(*words: str) -> None:
            subprocess.run([*compose, *words], cwd=REPOSITORY, env=environment, check=True, capture_output=True)

        try:
            run("up", "--detach", "--wait", "kafka")
            yield f"127.0.0.1:{port}", "the Apache Kafka of docker-compose.yml"
        finally:
            run("down", "--volumes")
        return
    broker = EmbeddedBroker(folder / "broker", lambda _: None, topic)
    broker.start()
    try:
        yield broker.bootstrap_servers, "embedded broker"
    finally:
        broker.stop()
