"""The real servers that the tests run on: PostgreSQL, PgBouncer in transaction mode, and a Kafka broker.

This module starts them, unless DATABASE_URL (as the owner, with DATABASE_SERVICE_URL as the service's role) and
KAFKA_BOOTSTRAP_SERVERS name running ones.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
from kafka.admin import KafkaAdminClient, NewTopic

from local.servers import SCHEDULED_ROLE, EmbeddedBroker, EmbeddedPostgres, Server, connect
from migrations.apply import migrate

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
PARTITIONS = 3
"""Several, so that a test fails when it relies on order across payments."""

POOL_SIZE = 2
"""Fewer than the clients of any concurrent test, so that clients share server connections."""

START_TIMEOUT_S = 60.0
"""PgBouncer starts in milliseconds. This ends the wait when it does not."""


@dataclass(frozen=True)
class Database:
    """A migrated database: the URL of its owner and that of the service's role."""

    owner_url: str
    service_url: str


class Postgres:
    """A PostgreSQL server that makes databases. Each is a copy of a migrated one, which takes about 0.1 s."""

    def __init__(self, owner_url: str, service_url: str) -> None:
        self.owner_url, self.service_url = owner_url, service_url
        self._names = f"payments_test_{secrets.token_hex(4)}"
        self._count = 0
        self._template: str | None = None

    def new_database(self) -> Database:
        if self._template is None:
            self._template = self._create("template1")
            migrate(with_database(self.owner_url, self._template), MIGRATIONS)
        name = self._create(self._template)
        return Database(with_database(self.owner_url, name), with_database(self.service_url, name))

    def drop_databases(self) -> None:
        for number in range(1, self._count + 1):
            self._run(f"DROP DATABASE IF EXISTS {self._names}_{number} WITH (FORCE)")

    def _create(self, template: str) -> str:
        self._count += 1
        name = f"{self._names}_{self._count}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _run(self, sql: str) -> None:
        with contextlib.closing(connect(self.owner_url)) as connection:
            connection._usock.settimeout(None)  # dropping a database waits for a checkpoint, which takes long on a busy disk
            connection.run(sql)


class PgBouncer:
    """PgBouncer in transaction mode in the place of RDS Proxy: two server connections for any number of clients."""

    @staticmethod
    def program() -> str | None:
        return shutil.which("pgbouncer", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))

    def __init__(self, server_url: str, *, pool_size: int = POOL_SIZE, **more: str) -> None:
        """`server_url` is that of the service's role. Every database of that server can be reached through PgBouncer.

        `more` are settings of PgBouncer. They override those below.
        """
        program = self.program()
        assert program, "PgBouncer is not installed"
        server = urlsplit(server_url)
        # PgBouncer refuses to run as root. The user `nobody` must be able to read its files.
        nobody = "nobody" if os.geteuid() == 0 else None
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        users, settings = self._folder / "users.txt", self._folder / "pgbouncer.ini"
        users.write_text("".join(f'"{role}" "{unquote(server.password or "")}"\n' for role in (server.username, SCHEDULED_ROLE)))
        own = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(users),
            "admin_users": str(server.username),
            "pool_mode": "transaction",
            "default_pool_size": str(pool_size),
            "max_client_conn": "500",
        }
        lines = [f"{name} = {value}" for name, value in (own | more).items()]
        settings.write_text("\n".join(["[databases]", f"* = host={server.hostname} port={server.port}", "[pgbouncer]", *lines]))
        if nobody:
            for path in (self._folder, users, settings):
                shutil.chown(path, nobody)
        self._log = self._folder.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(ending_with_us(program, settings), stderr=log, user=nobody, cwd="/")
        wait_for_port(self.port, START_TIMEOUT_S, self._process, self._log)

    def url(self, service_url: str) -> str:
        """Return the URL of the same database through the pool."""
        return with_address(service_url, "127.0.0.1", self.port)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)
        self._log.unlink()


class Broker:
    """A Kafka broker that makes topics."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    def new_topic(self, partitions: int = PARTITIONS) -> str:
        name = f"payments-test-{secrets.token_hex(4)}"
        # So that the client soon tries again to reach a broker that was just killed, and not after up to 30 s.
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers, reconnect_backoff_max_ms=200)
        with contextlib.closing(admin):
            admin.create_topics([NewTopic(name, partitions, 1)])
        return name


class ThrowawayPostgres(EmbeddedPostgres):
    """PostgreSQL whose data is thrown away: it does not flush its writes, and its shutdown is immediate.

    The tests kill processes, never the machine, so the files hold all that PostgreSQL wrote.
    """

    stop_signals = (signal.SIGQUIT, signal.SIGKILL, signal.SIGKILL)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda line: None, fsync="off", full_page_writes="off")


class ThrowawayBroker(EmbeddedBroker):
    """A broker that is killed at its end. It keeps nothing, and an orderly end would wait long for connected clients."""

    stop_signals = (signal.SIGKILL, signal.SIGKILL)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda line: None)


class ProxiedBroker(ThrowawayBroker):
    """A broker that announces a proxy's port as its own, because Kafka's clients connect to the announced address."""

    advertised_port: int

    def command(self) -> list[str]:
        command = super().command()
        command[command.index("--advertised-listener-url") + 1] = f"tcp://127.0.0.1:{self.advertised_port}"
        return command


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """Yield the server that DATABASE_URL names, else an embedded one in `folder`."""
    if owner_url := os.environ.get("DATABASE_URL"):
        postgres = Postgres(owner_url, os.environ["DATABASE_SERVICE_URL"])
        try:
            yield postgres
        finally:
            postgres.drop_databases()
        return
    server = ThrowawayPostgres(folder)
    server.start()
    try:
        yield prepared(server)
    finally:
        server.stop()


def prepared(server: EmbeddedPostgres) -> Postgres:
    """Return the server after its migrations, with a login for the service's role."""
    postgres = Postgres(server.url, server.service_url)
    postgres.new_database()
    server.allow_service()
    return postgres


@contextlib.contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    """Yield the broker that KAFKA_BOOTSTRAP_SERVERS names, else an embedded one."""
    if bootstrap_servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield Broker(bootstrap_servers)
        return
    server = ThrowawayBroker(folder)
    server.start()
    try:
        yield Broker(server.bootstrap_servers)
    finally:
        server.stop()


def kill(server: Server) -> None:
    """Kill the server as if the machine had died. Its supervisor restarts it, the first time within a second."""
    for process in _processes(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Within the block let the server accept connections and answer nothing, as a machine that hangs."""
    processes = _processes(server)
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def _processes(server: Server) -> list[psutil.Process]:
    assert server._process, "the server was never started"
    process = psutil.Process(server._process.pid)
    return [process, *process.children(recursive=True)]


def with_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def with_address(url: str, host: str, port: int) -> str:
    """Return the URL with another address and the same user."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{host}:{port}").geturl()


def ending_with_us(*command: str | Path) -> list[str | Path]:
    """Return the command in a form that ends with this process, also when this process is killed. Only Linux can do that."""
    return ["setpriv", "--pdeathsig=KILL", *command] if shutil.which("setpriv") else [*command]


def free_port() -> int:
    """Return a free port below those that the kernel gives to outgoing connections. One of these could take the port before its
    server does."""
    while True:
        port = random.randint(15_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for_port(port: int, timeout_s: float, process: subprocess.Popen[bytes] | psutil.Popen, log: Path) -> None:
    """Wait until the process listens. Raises AssertionError with the end of its log when it ends or does not listen in time."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise AssertionError(f"nothing listens on port {port}:\n{log.read_text(errors='replace')[-2000:]}")
