"""The embedded servers are restarted when they die, keep port and password, and end with the process that started them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kafka import KafkaConsumer

from local.servers import EmbeddedBroker, EmbeddedPostgres, ServerError, connect

PATIENCE_S = 60


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def postgres(servers_folder: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(servers_folder / tmp_path.name, print, fsync="off")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def broker(servers_folder: Path, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    server = EmbeddedBroker(servers_folder / tmp_path.name, print, "orders")
    server.start()
    yield server
    server.stop()


def ask(url: str, sql: str) -> Any:
    with contextlib.closing(connect(url)) as connection:
        return connection.run(sql)


def partitions(broker: EmbeddedBroker) -> set[int]:
    with contextlib.closing(KafkaConsumer(bootstrap_servers=broker.bootstrap_servers)) as consumer:
        return consumer.partitions_for_topic("orders") or set()


def test_postgres_keeps_its_books_over_a_kill_and_a_second_start(postgres: EmbeddedPostgres) -> None:
    url = postgres.url
    ask(url, "CREATE TABLE book (line text)")
    ask(url, "INSERT INTO book VALUES ('kept')")
    assert postgres._process
    postgres._process.kill()
    eventually(lambda: postgres.restarts == 1)
    assert ask(url, "SELECT line FROM book") == [["kept"]]
    postgres.stop()
    again = EmbeddedPostgres(postgres.data_dir, print)
    assert again.url == url
    again.start()
    assert ask(url, "SELECT line FROM book") == [["kept"]]
    again.stop()
    postgres.start()  # the same object can be started again


def test_postgres_lets_nobody_in_without_the_password(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(Exception, match="password authentication failed"):
        ask(postgres.url.replace(postgres.state["owner_password"], "guessed"), "SELECT 1")
    for role in ("payments_service", "payments_scheduled"):
        ask(postgres.url, f"CREATE ROLE {role} LOGIN")
    with pytest.raises(Exception, match="password authentication failed"):
        ask(postgres.service_url, "SELECT 1")
    postgres.allow_service()
    assert ask(postgres.service_url, "SELECT current_user") == [["payments_service"]]
    assert (postgres.data_dir / "postgres.json").stat().st_mode & 0o777 == 0o600
    assert not list(postgres.data_dir.glob("postgres/password"))


def test_a_leftover_pid_file_does_not_block_a_start(postgres: EmbeddedPostgres) -> None:
    postgres.stop()
    pid_file = postgres.data_dir / "postgres" / "cluster" / "postmaster.pid"
    for pid in (os.getpid(), 4_194_000):  # the number of another program, and a number that no process has
        pid_file.write_text(f"{pid}\n{pid_file.parent}\n0\n{postgres.port}\n\n127.0.0.1\n")
        pid_file.chmod(0o600)
        shutil.chown(pid_file, pid_file.parent.stat().st_uid)
        again = EmbeddedPostgres(postgres.data_dir, print)
        again.start()
        again.stop()


def test_a_server_that_cannot_start_says_why(servers_folder: Path, tmp_path: Path) -> None:
    server = EmbeddedPostgres(servers_folder / tmp_path.name, print, shared_buffers="plenty")
    with pytest.raises(ServerError, match=r"postgres did not start(.|\n)*shared_buffers"):
        server.start()
    server.stop()


def test_the_broker_has_its_topic_again_after_a_kill(broker: EmbeddedBroker) -> None:
    assert partitions(broker) == {0, 1, 2}
    assert broker._process
    broker._process.kill()
    eventually(lambda: broker.restarts == 1)
    assert partitions(broker) == {0, 1, 2}


def test_stopping_while_a_server_is_being_restarted_leaves_nothing(broker: EmbeddedBroker) -> None:
    assert broker._process
    broker._process.kill()
    time.sleep(0.1)
    broker.stop()
    assert broker._process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the parent-death signal")
def test_both_end_with_a_runner_that_is_killed(servers_folder: Path, tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from local.servers import EmbeddedBroker, EmbeddedPostgres
servers = [kind(Path({str(servers_folder / tmp_path.name)!r})) for kind in (EmbeddedPostgres, EmbeddedBroker)]
for server in servers:
    server.start()
print(*(server._process.pid for server in servers), flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as runner:
        assert runner.stdout
        processes = [psutil.Process(int(pid)) for pid in runner.stdout.readline().split()]
        processes += [child for process in processes for child in process.children()]
        runner.send_signal(signal.SIGKILL)
    assert len(processes) > 2
    assert not psutil.wait_procs(processes, timeout=PATIENCE_S)[1]
