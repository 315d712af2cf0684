"""Workers behave as Lambda's execution environments do."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.folder import fresh_log
from local.pool import Answer, Pool
from local.template import Function, Template

pytestmark = pytest.mark.server

ARN = "arn:aws:lambda:us-east-1:123456789012:function:EchoFunction:direct"


@asynccontextmanager
async def pool_of(
    function: Function, folder: Path, reports: list[str] | None = None, max_workers: int = 10
) -> AsyncIterator[Pool]:
    pool = Pool(function, folder / "function.log", ([] if reports is None else reports).append, max_workers)
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
def echo(template: Template) -> Function:
    return template.functions["EchoFunction"]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_an_event_reaches_the_handler_with_its_context_and_environment(echo: Function, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path) as pool:
            answer = await pool.invoke({"text": "Grüße\n\ud800"}, "request-1")
        seen = answer.payload
        assert seen["event"] == {"text": "Grüße\n\ud800"}
        assert seen["context"] == [
            "EchoFunction",
            "arn:aws:lambda:us-east-1:123456789012:function:EchoFunction:live",
            256,
            "request-1",
        ]
        assert 1000 < seen["remaining_ms"] <= 2000
        assert seen["environment"]["RATE"] == "0.95"
        assert "PYTEST_CURRENT_TEST" not in seen["environment"]  # the worker gets only the variables that the template declares
        assert str(Path(__file__).parents[2] / "local") not in seen["path"]
        assert "a line of the log, request-1" in (tmp_path / "function.log").read_text()

    run(test)


def test_an_invocations_own_log_has_its_lines_alone_and_the_functions_log_has_them_too(echo: Function, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path) as pool:
            others = [asyncio.create_task(pool.invoke({}, f"another-{number}")) for number in range(3)]
            answer, log = await pool.invoke_with_log({"written": "on standard error\n"}, "request-1", ARN)
            await asyncio.gather(*others)
            await pool.invoke({}, "request-2")
            failed, log_of_failure = await pool.invoke_with_log({"todo": "raise"}, "request-3", ARN)
        assert not answer.failed
        assert re.fullmatch(
            "START RequestId: request-1 Version: \\$LATEST\na line of the log, request-1\non standard error\n"
            "END RequestId: request-1\nREPORT RequestId: request-1\tDuration: [0-9.]+ ms\n",
            log.decode(),
        )
        assert failed.failed
        assert "ValueError: no such luck" in log_of_failure.decode()
        lines = (tmp_path / "function.log").read_text().splitlines()
        for line in (
            "a line of the log, request-1",
            "on standard error",
            "a line of the log, request-2",
            "ValueError: no such luck",
        ):
            assert lines.count(line) == 1
        assert [file.name for file in tmp_path.glob("*.log")] == ["function.log"]

    run(test)


@pytest.mark.parametrize("todo", [{"todo": "exit"}, {"todo": "sleep", "seconds": 60}], ids=["exits", "takes too long"])
def test_an_invocations_log_outlives_its_environment(echo: Function, tmp_path: Path, todo: dict[str, Any]) -> None:
    async def test() -> None:
        async with pool_of(replace(echo, timeout_s=1), tmp_path) as pool:
            answer, log = await pool.invoke_with_log(todo, "request-1", ARN)
        assert answer.failed
        assert "a line of the log, request-1" in log.decode()
        assert "a line of the log, request-1" in (tmp_path / "function.log").read_text()

    run(test)


def test_a_run_begins_without_the_logs_that_a_killed_one_left_of_its_invocations(tmp_path: Path) -> None:
    for name in ("echo.log", "echo-request-1.log", "late.log"):
        (tmp_path / name).write_text("a line")
    fresh_log(tmp_path / "echo.log")
    assert {file.name for file in tmp_path.iterdir()} == {"echo.log", "echo.log.1", "late.log"}


def test_an_environment_that_does_not_start_leaves_an_empty_log(template: Template, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(template.functions["BrokenFunction"], tmp_path) as pool:
            answer, log = await pool.invoke_with_log({}, "request-1", ARN)
        assert answer.failed
        assert log.startswith(b"START RequestId: request-1")

    run(test)


def test_a_worker_handles_one_event_at_a_time_and_stays_warm(echo: Function, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path) as pool:
            first = (await pool.invoke({})).payload["pid"]
            assert (await pool.invoke({})).payload["pid"] == first
            together = await asyncio.gather(*(pool.invoke({"todo": "sleep", "seconds": 1}) for _ in range(3)))
            pids = {answer.payload["pid"] for answer in together}
            assert len(pids) == 3
            assert first in pids

    run(test)


def test_an_event_waits_for_the_worker_that_starts_instead_of_for_another(echo: Function, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path) as pool:
            pool.add_worker()
            await pool.invoke({})
            assert len(pool._workers) == 1
            await asyncio.gather(*(pool.invoke({"todo": "sleep", "seconds": 1}) for _ in range(2)))
            assert len(pool._workers) == 2

    run(test)


def test_at_the_cap_events_wait_in_line(echo: Function, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path, max_workers=2) as pool:
            answers = await asyncio.gather(*(pool.invoke({"n": n}) for n in range(20)))
        assert [answer.payload["event"]["n"] for answer in answers] == list(range(20))
        assert len({answer.payload["pid"] for answer in answers}) <= 2

    run(test)


@pytest.mark.parametrize(
    ("event", "error_type"),
    [
        pytest.param({"todo": "raise"}, "ValueError", id="raises"),
        pytest.param({"todo": "unserialisable"}, "TypeError", id="answers what is no JSON"),
        pytest.param({"todo": "exit"}, "Runtime.ExitError", id="exits"),
        pytest.param({"todo": "sleep", "seconds": 30}, "Sandbox.Timedout", id="takes too long"),
    ],
)
def test_a_failure_is_lambdas_error_and_the_next_event_works(
    echo: Function, tmp_path: Path, event: dict[str, Any], error_type: str
) -> None:
    async def test() -> None:
        reports: list[str] = []
        async with pool_of(replace(echo, timeout_s=1), tmp_path, reports, max_workers=1) as pool:
            answer = await pool.invoke(event)
            assert answer.failed
            assert answer.payload["errorType"] == error_type
            await pool.invoke(event)
            assert (await pool.invoke({})).payload["event"] == {}
        assert [report.split(" (")[0] for report in reports] == [
            f"EchoFunction failed: {error_type}: {answer.payload['errorMessage']}"
        ]  # reported once although it failed twice

    run(test)


def test_what_the_handler_raised_is_described(echo: Function, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path) as pool:
            answer = await pool.invoke({"todo": "raise"}, "request-1")
        assert answer.payload["errorMessage"] == "no such luck"
        assert answer.payload["requestId"] == "request-1"
        assert answer.payload["stackTrace"][-1].strip().endswith('raise ValueError("no such luck")')

    run(test)


def test_a_handler_that_cannot_be_imported_fails_each_invocation(template: Template, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(template.functions["BrokenFunction"], tmp_path, max_workers=1) as pool:
            answers = [await pool.invoke({}), *await asyncio.gather(pool.invoke({}), pool.invoke({}))]
        assert [answer.payload["errorType"] for answer in answers] == ["ModuleNotFoundError"] * 3

    run(test)


def test_a_worker_killed_while_idle_is_replaced_unnoticed(echo: Function, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path, max_workers=1) as pool:
            pid = (await pool.invoke({})).payload["pid"]
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.2)
            answer = await pool.invoke({})
            assert not answer.failed
            assert answer.payload["pid"] != pid

    run(test)


def test_a_worker_killed_at_work_fails_that_event_alone(echo: Function, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path, max_workers=1) as pool:
            pid = (await pool.invoke({})).payload["pid"]
            working = asyncio.create_task(pool.invoke({"todo": "sleep", "seconds": 30}))
            await asyncio.sleep(0.2)
            waiting = asyncio.create_task(pool.invoke({"n": 2}))
            os.kill(pid, signal.SIGKILL)
            assert (await working).payload["errorType"] == "Runtime.ExitError"
            assert (await waiting).payload["event"] == {"n": 2}

    run(test)


def test_an_asynchronous_event_is_tried_again_with_the_same_request_id(
    echo: Function, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path) as pool:
            pool.invoke_later({"todo": "raise twice", "file": str(tries)}, "request-1", ARN)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and tries.read_text().count("\n") < 3:
                await asyncio.sleep(0.02)
        assert tries.read_text().splitlines() == ["request-1"] * 3

    tries = tmp_path / "tries"
    tries.touch()
    monkeypatch.setattr("local.pool.RETRY_DELAYS_S", (0.1, 0.1))
    run(test)


def test_an_asynchronous_event_that_keeps_failing_is_given_up_aloud(
    echo: Function, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        reports: list[str] = []
        async with pool_of(replace(echo, async_retries=1), tmp_path, reports) as pool:
            pool.invoke_later({"todo": "raise"}, "request-1", ARN)
            while not any("gave up on event request-1" in report for report in reports):
                await asyncio.sleep(0.05)
        assert (tmp_path / "function.log").read_text().count("a line of the log, request-1") == 2

    monkeypatch.setattr("local.pool.RETRY_DELAYS_S", (0.1, 0.1))
    run(test)


def test_closing_ends_every_worker_even_one_at_work(echo: Function, tmp_path: Path) -> None:
    async def test() -> None:
        async with pool_of(echo, tmp_path) as pool:
            pid = (await pool.invoke({})).payload["pid"]
            working = asyncio.create_task(pool.invoke({"todo": "sleep", "seconds": 30}))
            await asyncio.sleep(0.2)
        assert not psutil.pid_exists(pid)
        assert working.cancelled() or await asyncio.gather(working, return_exceptions=True)

    run(test)


def test_workers_end_with_a_runner_that_is_killed(echo: Function, tmp_path: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path, PosixPath
from local.pool import Pool
from local.template import Function
async def main():
    pool = Pool({echo!r}, Path({str(tmp_path)!r}) / "log", print)
    print((await pool.invoke({{}})).payload["pid"], flush=True)
    await pool.invoke({{"todo": "sleep", "seconds": 60}})
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as runner:
        assert runner.stdout
        worker = psutil.Process(int(runner.stdout.readline()))
        time.sleep(0.2)
        runner.kill()
    worker.wait(2)


def test_answers_may_be_large(echo: Function, tmp_path: Path) -> None:
    async def test() -> Answer:
        async with pool_of(echo, tmp_path) as pool:
            return await pool.invoke({"text": "x" * 5_000_000})

    assert len(asyncio.run(test()).payload["event"]["text"]) == 5_000_000
