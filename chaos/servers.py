"""PostgreSQL, PgBouncer in transaction mode in front of it, and a broker. We start them, or the environment names them.

DATABASE_URL (the owner's login), DATABASE_SERVICE_URL (the service role's login) and KAFKA_BOOTSTRAP_SERVERS name servers that
already run. The harness then makes its own database and topic on them. It never kills a server that it did not start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import psutil
from kafka.admin import KafkaAdminClient, NewTopic

from local.servers import SCHEDULED_ROLE, EmbeddedBroker, EmbeddedPostgres, Server, connect
from migrations.apply import migrate

POOL_SIZE = 3
"""Fewer server connections than invocations at a time, so that invocations get each other's connections."""

PARTITIONS = 3

START_TIMEOUT_S = 20.0
"""Crash recovery takes a second or two. This ends the wait for a server that never comes back."""


class PgBouncer:
    """The nearest to RDS Proxy on a laptop. The port stays the same over a restart."""

    def __init__(self, folder: Path, service_url: str, pool_size: int = POOL_SIZE) -> None:
        program = shutil.which("pgbouncer", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
        if program is None:
            raise FileNotFoundError("PgBouncer is not installed (apt-get install pgbouncer, brew install pgbouncer)")
        self._program = program
        # PgBouncer refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        server = urlsplit(service_url)
        self.port = _free_port()
        self.url = urlunsplit(server._replace(netloc=f"{server.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}"))
        self._folder = folder / "pgbouncer"
        self._folder.mkdir()
        users, self._settings = self._folder / "users.txt", self._folder / "pgbouncer.ini"
        users.write_text("".join(f'"{role}" "{unquote(server.password or "")}"\n' for role in (server.username, SCHEDULED_ROLE)))
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": users,
            "stats_users": server.username,
            "pool_mode": "transaction",
            "default_pool_size": pool_size,
            "max_client_conn": 1000,
            "server_login_retry": 0.2,  # seconds; by default PgBouncer waits 15 s before it tries a restarted server again
            "query_wait_timeout": 10,  # seconds; longer than the service waits
        }
        database = f"* = host={server.hostname} port={server.port or 5432}"
        text = [f"{name} = {value}" for name, value in lines.items()]
        self._settings.write_text("\n".join(["[databases]", database, "[pgbouncer]", *text]))
        for path in (self._folder, users, self._settings):
            if self._user:
                shutil.chown(path, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._before_kills = 0

    def start(self) -> None:
        with (self._folder / "pgbouncer.log").open("ab") as log:
            command = [self._program, str(self._settings)]
            if setpriv := shutil.which("setpriv"):  # on Linux PgBouncer ends with this process, also after a kill
                command = [setpriv, "--pdeathsig=KILL", *command]
            self._process = subprocess.Popen(command, stderr=log, stdout=log, user=self._user, cwd="/")
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.01)

    @property
    def transactions(self) -> int:
        """Return the number of transactions, including those before a kill."""
        with contextlib.closing(connect(_with_database(self.url, "pgbouncer"))) as connection:
            rows = connection.run("SHOW STATS")
            position = [column["name"] for column in connection.columns or ()].index("total_xact_count")
            return self._before_kills + sum(int(row[position]) for row in rows or ())

    def kill(self) -> None:
        assert self._process is not None
        self._before_kills = self.transactions
        self.stop()

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def processes(self) -> list[psutil.Process]:
        assert self._process is not None
        return [psutil.Process(self._process.pid)]


@dataclass(frozen=True)
class Servers:
    """`postgres` and `broker` are None if the harness did not start them."""

    owner_url: str
    pgbouncer: PgBouncer
    bootstrap_servers: str
    topic: str
    postgres: EmbeddedPostgres | None
    broker: EmbeddedBroker | None

    @property
    def versions(self) -> str:
        with contextlib.closing(connect(self.owner_url)) as connection:
            postgres = connection.run("SHOW server_version")[0][0].split()[0]
        broker = "embedded broker" if self.broker else f"Kafka at {self.bootstrap_servers}"
        return f"PostgreSQL {postgres}, PgBouncer pool of {POOL_SIZE}, {broker}"


def processes_of(server: Server) -> list[psutil.Process]:
    """Return the server's process, found by its port, and its children."""
    children = psutil.Process().children()
    listening = [c for c in children if any(a.laddr.port == server.port for a in c.net_connections("tcp4"))]
    return [process for one in listening for process in (one, *one.children(recursive=True))]


@contextlib.contextmanager
def running(folder: Path, migrations: Path) -> Iterator[Servers]:
    """Start all three servers, with an empty database and an empty topic."""
    with contextlib.ExitStack() as stack:
        postgres = broker = None
        if owner_url := os.environ.get("DATABASE_URL"):
            service_url = os.environ["DATABASE_SERVICE_URL"]
            name = f"payments_chaos_{secrets.token_hex(4)}"
            _run(owner_url, f"CREATE DATABASE {name}")
            stack.callback(_run, owner_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            owner_url, service_url = _with_database(owner_url, name), _with_database(service_url, name)
            migrate(owner_url, migrations)
        else:
            # fsync is off, because the harness kills processes and never the machine: the kernel keeps PostgreSQL's writes.
            postgres = EmbeddedPostgres(folder / "postgres", _silent, fsync="off", full_page_writes="off")
            stack.callback(postgres.stop)
            postgres.start()
            owner_url, service_url = postgres.url, postgres.service_url
            migrate(owner_url, migrations)
            postgres.allow_service()
        if bootstrap_servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            topic = f"payments-chaos-{secrets.token_hex(4)}"
            with contextlib.closing(KafkaAdminClient(bootstrap_servers=bootstrap_servers)) as admin:
                admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
        else:
            topic = "payments"
            broker = EmbeddedBroker(folder / "broker", _silent, topic)
            stack.callback(broker.stop)
            broker.start()
            bootstrap_servers = broker.bootstrap_servers
        pgbouncer = PgBouncer(folder, service_url)
        pgbouncer.start()
        stack.callback(pgbouncer.stop)
        yield Servers(owner_url, pgbouncer, bootstrap_servers, topic, postgres, broker)


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _silent(_: str) -> None:
    """Report nothing: the harness itself reports the outages that a server's supervisor would report."""


def _run(url: str, sql: str) -> None:
    with contextlib.closing(connect(url)) as connection:
        connection.run(sql)


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
