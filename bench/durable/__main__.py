"""Run each scenario under each way to make the gateway's key, and compare the charges with those of the decision: `make durable`.

The exit status is 1 when a count differs from `SCENARIOS`: then the SDK has changed, and the decision has to be read again
(docs/adr/024-durable-functions.md).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3

from bench.durable.endpoint import endpoint
from bench.durable.payment import books

KEYS = ("attempt", "execution", "payment")
"""Who makes the gateway's key: each attempt of the step, the execution (its ARN), or the payment's row behind a unique index."""

PATIENCE_S = 240.0


@dataclass(frozen=True)
class Scenario:
    """`charges` and `events` are what we saw, a number for each of `KEYS`. Executions but the first begin as `then` says."""

    what: str
    charges: tuple[int, int, int]
    events: tuple[int, int, int] = (1, 1, 1)
    status: str = "SUCCEEDED"
    dies: str = ""
    semantics: str = "AT_LEAST_ONCE"
    retries: bool = True
    named: bool = True
    new_code: bool = False
    payment_token: str = "tok_ok"
    then: str = ""
    """A second execution: `same name` or `other name` at the same time, `after` the first has ended, or of an `other order`."""


SCENARIOS = (
    Scenario("nothing happens", (1, 1, 1)),
    Scenario("two orders side by side", (2, 2, 2), (2, 2, 2), then="other order"),
    Scenario("killed before the gateway is called", (1, 1, 1), dies="before the gateway"),
    Scenario("killed after the gateway answered; at least once", (2, 1, 1), dies="gateway answered"),
    Scenario("the same; at most once per retry", (2, 1, 1), dies="gateway answered", semantics="AT_MOST_ONCE"),
    Scenario(
        "the same; at most once, no retry",
        (1, 1, 1),
        (0, 0, 0),
        status="FAILED",
        dies="gateway answered",
        semantics="AT_MOST_ONCE",
        retries=False,
    ),
    Scenario(
        "the same, and the caller sends the order again",
        (2, 2, 1),
        status="FAILED",
        dies="gateway answered",
        semantics="AT_MOST_ONCE",
        retries=False,
        then="after",
    ),
    Scenario("the gateway's reply is lost, the step is retried", (2, 1, 1), payment_token="tok_timeout_then_captured"),  # noqa: S106
    Scenario("killed after settle's commit", (1, 1, 1), (2, 2, 2), dies="settled"),
    Scenario("started twice under one name (AWS: one execution)", (2, 2, 1), (2, 2, 2), then="same name"),
    Scenario("started twice under two names", (2, 2, 1), (2, 2, 2), then="other name"),
    Scenario(
        "new code with one step more, after the charge",
        (1, 1, 1),
        (0, 0, 0),
        status="FAILED",
        dies="before settle",
        new_code=True,
    ),
    Scenario("the same, steps without names", (2, 1, 1), dies="before settle", new_code=True, named=False),
)


class Runner:
    """The SDK's own local runner, in a process of its own. It keeps the executions in SQLite and skips the waits of retries."""

    def __init__(self, lambda_url: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            str(Path(sys.executable).parent / "dex-local-runner"),
            "start-server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        command += ["--lambda-endpoint", lambda_url, "--store-type", "sqlite", "--store-path", str(folder / "executions.db")]
        with (folder / "runner.log").open("w") as log:
            self.process = subprocess.Popen([*command, "--skip-time", "--log-level", "WARNING"], stdout=log, stderr=log)
        self._client = boto3.client("lambda", endpoint_url=self.url)
        deadline = time.monotonic() + PATIENCE_S
        while not self._listens():
            assert self.process.poll() is None and time.monotonic() < deadline, (folder / "runner.log").read_text()
            time.sleep(0.1)

    def _listens(self) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self, name: str, event: dict[str, Any]) -> str:
        """Start an execution and return its ARN. On AWS this is Invoke with `DurableExecutionName`."""
        body: dict[str, Any] = {
            "AccountId": "123456789012",
            "FunctionName": "pay",
            "FunctionQualifier": "1",
            "ExecutionName": name,
        }
        body |= {"ExecutionTimeoutSeconds": 3600, "ExecutionRetentionPeriodDays": 14, "Input": json.dumps(event)}
        headers = {"Content-Type": "application/json"}
        request = Request(self.url + "/start-durable-execution", json.dumps(body).encode(), headers)  # noqa: S310
        with urlopen(request, timeout=30) as answer:  # noqa: S310
            return str(json.load(answer)["ExecutionArn"])

    def wait(self, arn: str) -> str:
        """Return the execution's status when it has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            status = str(self._client.get_durable_execution(DurableExecutionArn=arn)["Status"])
            if status != "RUNNING":
                return status
            time.sleep(0.2)
        raise TimeoutError(arn)


@dataclass(frozen=True)
class Seen:
    charges: int
    events: int
    status: str
    arn: str


def run(scenario: Scenario, key: str, runner: Runner, folder: Path) -> Seen:
    here = folder / f"{SCENARIOS.index(scenario)}-{key}"
    here.mkdir()
    event = asdict(scenario) | {"folder": str(here), "order_id": "1001", "key": key}
    name = uuid.uuid4().hex
    arns = [runner.start(name, event)]
    if scenario.then == "after":
        runner.wait(arns[0])
    if scenario.then:
        again = event | {"order_id": "1002"} if scenario.then == "other order" else event
        arns.append(runner.start(name if scenario.then == "same name" else uuid.uuid4().hex, again))
    statuses = [runner.wait(arn) for arn in arns]
    lines = [json.loads(line) for line in (here / "ledger").read_text().splitlines() if line]
    with books(here) as tables:
        (events,) = tables.execute("SELECT count(*) FROM events").fetchone()
    return Seen(len({line["key"] for line in lines if line.get("approved")}), events, statuses[0], arns[0])


def main() -> int:
    with tempfile.TemporaryDirectory() as name, endpoint() as lambda_url:
        folder = Path(name)
        os.environ.update(AWS_DEFAULT_REGION="us-east-1", AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none")  # noqa: S106
        runner = Runner(lambda_url, folder)
        os.environ.update(AWS_ENDPOINT_URL_LAMBDA=runner.url, CHECKPOINTS=str(folder / "checkpoints"))
        try:
            with ThreadPoolExecutor(8) as pool:
                runs = [[pool.submit(run, scenario, key, runner, folder) for key in KEYS] for scenario in SCENARIOS]
            rows = [[future.result() for future in row] for row in runs]
        finally:
            runner.process.terminate()
            runner.process.wait()
        calls = Counter((folder / "checkpoints").read_text().split())
    different = 0
    for package in ("aws-durable-execution-sdk-python", "aws-durable-execution-sdk-python-testing", "boto3"):
        print(package, version(package))
    print(f"{'charges when the key is made by:':58}{''.join(f'{key:>11}' for key in KEYS)}  events told  first execution")
    for scenario, row in zip(SCENARIOS, rows, strict=True):
        charges, events = tuple(seen.charges for seen in row), tuple(seen.events for seen in row)
        statuses = {seen.status for seen in row}
        same = (charges, events, statuses) == (scenario.charges, scenario.events, {scenario.status})
        different += not same
        counts = "".join(f"{count:>11}" for count in charges)
        print(f"{scenario.what:58}{counts}  {events!s:11}  {'/'.join(sorted(statuses))}{'' if same else '  NOT AS DECIDED'}")
    print(f"checkpoint calls when nothing happens: {calls[rows[0][0].arn]}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
