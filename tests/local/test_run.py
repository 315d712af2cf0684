"""`python -m local` as a developer uses it: what it prints, writes and refuses, and that it leaves no process behind."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config

from local.__main__ import Runner, StartError, listen
from local.folder import FolderError, data_folder
from tests.local.conftest import write_stack
from tests.servers import Database

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 90


def environment(**variables: str) -> dict[str, str]:
    path = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "layers" / "shared" / "python")))
    return {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PORT": "0", **variables}


class Run:
    def __init__(self, stack: Path, data_dir: Path, **variables: str) -> None:
        command = [sys.executable, "-m", "local", "--template", str(stack)]
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(DATA_DIR=str(data_dir), **variables),
        )
        self.output = ""

    def until(self, text: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        raise AssertionError(self.output)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.output += self.process.communicate(timeout=PATIENCE_S)[0]
        return self.process.returncode

    def facts(self) -> dict[str, Any]:
        return dict(json.loads((self.data_dir / "run.json").read_text()))

    def call(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.facts()['url']}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def data_dir(servers_folder: Path, tmp_path: Path) -> Path:
    return servers_folder / f"run-{tmp_path.name}"


@contextlib.contextmanager
def started(stack: Path, data_dir: Path) -> Iterator[Run]:
    run = Run(stack, data_dir, RATE="0.5", TOPIC="from the shell")
    run.until("Ready in")
    yield run
    if run.process.poll() is None:
        run.end(signal.SIGTERM)
    assert run.process.stdout
    run.process.stdout.close()


@pytest.fixture
def running(stack: Path, data_dir: Path) -> Iterator[Run]:
    """A run of the test's own, which the test may end."""
    with started(stack, data_dir) as run:
        yield run


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory, servers_folder: Path) -> Iterator[Run]:
    """A run that no test ends."""
    with started(write_stack(tmp_path_factory.mktemp("stack")), servers_folder / "shared-run") as run:
        yield run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_serves_and_ends_with_all_it_started(running: Run, number: signal.Signals) -> None:
    facts = running.facts()
    assert set(facts) == {"url", "database_url", "database_owner_url", "kafka_bootstrap_servers", "topic", "pid"}
    assert facts["pid"] == running.process.pid
    assert (running.data_dir / "run.json").stat().st_mode & 0o777 == 0o600
    answer = running.call("/echo", {"amount": 1999})
    assert answer["environment"]["DATABASE_URL"] == facts["database_url"]
    assert answer["environment"]["RATE"] == "0.5"  # the shell's value takes the place of the template's
    os.kill(answer["pid"], signal.SIGKILL)
    started = running.descendants()
    names = set()
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            names.add(process.name())
    assert {"postgres", "tansu"} <= names
    assert running.end(number) == 0
    assert not psutil.wait_procs(started, timeout=1)[1]
    assert not (running.data_dir / "run.json").exists()
    assert "Traceback" not in running.output
    assert running.output.endswith("Stopped.\n")


def test_a_killed_run_leaves_nothing_and_the_next_one_starts(running: Run, stack: Path) -> None:
    started = running.descendants()
    running.process.kill()
    assert not psutil.wait_procs(started, timeout=5)[1]
    again = Run(stack, running.data_dir)
    again.until("Ready in")
    assert "Migrations  none to apply" in again.output
    assert again.end(signal.SIGTERM) == 0


def test_a_run_can_be_ended_while_it_starts(stack: Path, data_dir: Path) -> None:
    run = Run(stack, data_dir)
    run.until("Starting")
    assert run.end(signal.SIGINT) == 0
    assert "Traceback" not in run.output


def test_boto3_invokes_a_function(shared_run: Run) -> None:
    client = boto3.client(
        "lambda",
        endpoint_url=shared_run.facts()["url"],
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"max_attempts": 0}),
    )
    answer = client.invoke(FunctionName="echo", Payload=b'{"order_id": "1"}')
    assert json.load(answer["Payload"])["event"] == {"order_id": "1"}
    failed = client.invoke(FunctionName="EchoFunction", Payload=b'{"todo": "raise"}')
    assert failed["FunctionError"] == "Unhandled"
    assert json.load(failed["Payload"])["errorMessage"] == "no such luck"
    assert client.invoke(FunctionName="echo", InvocationType="Event", Payload=b"{}")["StatusCode"] == 202
    assert client.invoke(FunctionName="echo", InvocationType="DryRun")["StatusCode"] == 204
    logged = client.invoke(FunctionName="echo", LogType="Tail", Payload=b"{}")
    assert f"a line of the log, {json.load(logged['Payload'])['context'][3]}" in base64.b64decode(logged["LogResult"]).decode()
    for unknown in ("nobody", "echo:nobody"):
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.invoke(FunctionName=unknown)


def test_a_function_sees_the_name_by_which_it_was_invoked(shared_run: Run) -> None:
    """API Gateway invokes the template's alias. An order service names another one, in the name or beside it."""
    client = boto3.client(
        "lambda",
        endpoint_url=shared_run.facts()["url"],
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    arn = "arn:aws:lambda:us-east-1:123456789012:function:EchoFunction"
    assert shared_run.call("/echo", {})["context"][1] == f"{arn}:live"
    ways: list[tuple[dict[str, str], str]] = [
        ({"FunctionName": "EchoFunction"}, arn),
        ({"FunctionName": "EchoFunction:direct"}, f"{arn}:direct"),
        ({"FunctionName": "EchoFunction", "Qualifier": "direct"}, f"{arn}:direct"),
        ({"FunctionName": f"{arn}:direct"}, f"{arn}:direct"),
        ({"FunctionName": "123456789012:function:EchoFunction", "Qualifier": "$LATEST"}, f"{arn}:$LATEST"),
    ]
    for named, seen in ways:
        assert json.load(client.invoke(**named, Payload=b"{}")["Payload"])["context"][1] == seen, named


def modes(folder: Path) -> dict[str, str]:
    """Return the modes of what a run keeps, by path. PostgreSQL looks after what is in its cluster itself."""
    kept = [folder, *folder.glob("*"), *folder.glob("logs/*"), *folder.glob("postgres/*")]
    return {str(path.relative_to(folder)): f"{path.stat().st_mode & 0o777:o}" for path in kept}


def test_what_a_run_keeps_is_for_its_user_alone(stack: Path, data_dir: Path) -> None:
    """Also under the widest umask, and also what an earlier run left with other modes."""
    command = [sys.executable, "-c", "import os, runpy; os.umask(0); runpy.run_module('local', run_name='__main__')"]
    for earlier in (False, True):
        if earlier:
            for path in (data_dir, *data_dir.glob("*"), *data_dir.glob("logs/*")):
                path.chmod(0o777 if path.is_dir() else 0o666)
        process = subprocess.Popen(
            [*command, "--template", str(stack)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(DATA_DIR=str(data_dir)),
        )
        try:
            assert process.stdout
            assert any("Ready in" in line for line in process.stdout)
            found = modes(data_dir)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
        names = {
            ".",
            "lock",
            "logs",
            "logs/echo.log",
            "logs/postgres.log",
            "postgres",
            "postgres.json",
            "broker.json",
            "run.json",
        }
        assert names | ({"logs/echo.log.1"} if earlier else set()) <= found.keys()
        assert {name: mode for name, mode in found.items() if mode != ("700" if (data_dir / name).is_dir() else "600")} == {}
        assert {path.stat().st_mode & 0o077 for path in (data_dir / "postgres/cluster").rglob("*")} == {0}


@pytest.mark.server
def test_a_folder_of_many_users_stays_open_to_them(tmp_path: Path) -> None:
    """Somebody may name /tmp, or a home. What is not ours keeps its mode, and what a link of another's names is not ours."""
    foreign, elsewhere = tmp_path / "somebody's", tmp_path / "elsewhere"
    for file in (foreign, elsewhere):
        file.touch()
        file.chmod(0o644)
    (tmp_path / "run.json").symlink_to(elsewhere)
    tmp_path.chmod(0o755)
    with data_folder(tmp_path):
        assert [path.stat().st_mode & 0o777 for path in (tmp_path, foreign, elsewhere)] == [0o755, 0o644, 0o644]
        assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("lock", "logs")] == [0o600, 0o700]


FOREIGN = {
    "run.sh": 0o755,
    "run": 0o755,
    "run.json.bak": 0o644,
    "run.json.old-one": 0o644,
    "broker.yaml": 0o644,
    "broker.json.md": 0o644,
    "postgres.conf": 0o640,
    "postgres.json.example": 0o644,
    "lock.txt": 0o644,
    "logs.zip": 0o644,
    "logs/mine.txt": 0o644,
    "logs/notes.md.1": 0o644,
}


@pytest.mark.server
def test_what_has_a_name_like_ours_keeps_its_mode(tmp_path: Path) -> None:
    ours = (
        "run.json",
        "broker.json",
        "postgres.json",
        "run.json.a1b2c3_d",
        "postgres.json.zzzzzzzz",
        "logs/echo.log",
        "logs/x.log.1",
    )
    (tmp_path / "logs").mkdir()
    for name, mode in FOREIGN.items() | dict.fromkeys(ours, 0o644).items():
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "broker").mkdir(mode=0o755)
    (tmp_path / "broker" / "of somebody").touch(mode=0o644)
    with data_folder(tmp_path):
        assert {name: (tmp_path / name).stat().st_mode & 0o777 for name in FOREIGN} == FOREIGN
        assert {(tmp_path / name).stat().st_mode & 0o777 for name in ours} == {0o600}
        assert (tmp_path / "broker").stat().st_mode & 0o777 == 0o700


@pytest.mark.server
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
@pytest.mark.parametrize("name", ["logs", "lock", "run.json", "broker.json", "logs/echo.log"])
def test_what_belongs_to_another_user_refuses_the_start(tmp_path: Path, name: str) -> None:
    """We would write a password or a customer's payment where its owner can read it."""
    (tmp_path / "logs").mkdir()
    entry = tmp_path / name
    if name != "logs":
        entry.touch()
    os.chown(entry, 1234, 1234)
    entry.chmod(0o777)
    message = refused(DATA_DIR=str(tmp_path))
    assert f"Cannot start: {entry} belongs to another user" in message
    assert entry.stat().st_mode & 0o777 == 0o777


def refused(**variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "local"],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_second_run_on_the_same_folder_is_refused(shared_run: Run) -> None:
    message = refused(DATA_DIR=str(shared_run.data_dir))
    assert f"already runs on {shared_run.data_dir} as {shared_run.facts()['url']} (pid {shared_run.process.pid})" in message


def test_a_taken_port_is_told_with_its_holder(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(DATA_DIR=str(data_dir), PORT=str(port))
    assert f"port {port} is taken by " in message
    assert f"(pid {os.getpid()}). Choose another: PORT={(port + 1) % 65536} make run" in message


def test_a_port_that_is_none_is_refused(data_dir: Path) -> None:
    assert "PORT must be a number" in refused(DATA_DIR=str(data_dir), PORT="http")
    for port in ("-1", "65536", "8001.0", "٨٠٠١"):
        with pytest.raises(StartError, match="PORT must be a number"):
            listen(port)


@pytest.mark.parametrize(
    "origins",
    [
        "https://shop.test/",
        "shop.test",
        "https://shop.test https://other.test",
        "null",
        "https://Shop.test",
        "https://a.test,",
        ",",
    ],
)
def test_an_origin_that_no_page_has_is_refused(data_dir: Path, origins: str) -> None:
    """A browser names scheme, host and port in small letters. `null` is every page in a sandbox."""
    assert "Cannot start: CORS_ALLOW_ORIGINS must be origins such as" in refused(
        DATA_DIR=str(data_dir), CORS_ALLOW_ORIGINS=origins
    )


@pytest.mark.server
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"the data folder {tmp_path / 'file' / 'data'} cannot be written" in refused(DATA_DIR=str(tmp_path / "file" / "data"))
    nowhere = Path("/proc/payments")
    with pytest.raises(FolderError, match=f"the data folder {nowhere} cannot be written"), data_folder(nowhere):
        pass


def test_a_kafka_that_is_not_there_is_told(data_dir: Path, own_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"DATA_DIR": str(data_dir), "DATABASE_URL": own_database.owner_url, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    for name, value in (variables | {"PORT": "0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("local.events.BOOTSTRAP_TIMEOUT_MS", 300)
    with contextlib.ExitStack() as stack, pytest.raises(StartError, match=r"the Kafka at 127\.0\.0\.1:1 does not answer"):
        Runner(REPOSITORY / "template.yaml").run(stack)


def test_a_database_that_is_not_there_is_told(data_dir: Path) -> None:
    message = refused(DATA_DIR=str(data_dir), DATABASE_URL="postgresql://me:secret@127.0.0.1:1/db")
    assert "the migrations could not be applied" in message
    assert "secret" not in message


def demo(data_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local.demo"]
    variables = environment(DATA_DIR=str(data_dir))
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)


def test_the_demo_sees_every_event_of_the_real_service(data_dir: Path) -> None:
    run = Run(REPOSITORY / "template.yaml", data_dir, GATEWAY_DELAY_MS="0-0", RETRY_SCHEDULE_S="0.1,1,2,4,8,15")
    run.until("Ready in")
    done = demo(data_dir)
    with urllib.request.urlopen(f"{run.facts()['url']}/api/v1/webhooks", timeout=PATIENCE_S) as left:
        assert json.load(left) == {"data": []}
    assert run.end(signal.SIGTERM) == 0
    assert done.returncode == 0, done.stdout
    assert "Every payment's events arrived, numbered without a gap." in done.stdout
    assert "The webhook got them too, each payment's in order and with valid signatures." in done.stdout


def test_the_demo_says_when_the_service_does_not_run(data_dir: Path) -> None:
    done = demo(data_dir)
    assert (done.returncode, done.stderr) == (1, "")
    assert "make run" in done.stdout
