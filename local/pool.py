"""The worker processes of one function. Each handles one event at a time and stays warm. If all are busy, we start another."""

import asyncio
import contextlib
import json
import os
import sys
import time
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.template import REGION, Function

MAX_WORKERS = 10  # per function; each may hold a database connection, and PostgreSQL's default limit is 100
INIT_TIMEOUT_S = 10  # Lambda's own limit for the init phase
CLOSE_TIMEOUT_S = 1  # a worker ends when its channel closes; we kill it after this, because a system call may hold it up
RETRY_DELAYS_S = (1, 2)  # of asynchronous invocations; Lambda waits one minute, then two
MAX_ANSWER_BYTES = 64 << 20  # of one line on the channel; far more than Lambda's own 6 MB

_WORKER = Path(__file__).with_name("worker.py")
_INHERITED = ("PATH", "HOME", "LANG")  # from the runner's environment; everything else comes from the template, as on AWS


@dataclass(frozen=True)
class Answer:
    """The result of an invocation: the handler's value, or Lambda's error document if it failed."""

    payload: Any
    failed: bool = False


@dataclass(frozen=True)
class _Job:
    event: Any
    request_id: str
    arn: str
    answer: asyncio.Future[Answer]

    def settle(self, answer: Answer) -> None:
        if not self.answer.done():  # the caller may have stopped waiting
            self.answer.set_result(answer)


class Pool:
    def __init__(self, function: Function, log: Path, report: Callable[[str], None], max_workers: int = MAX_WORKERS) -> None:
        self._function = function
        self._log = log
        self._report = report
        self._max_workers = max_workers
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._workers: set[asyncio.Task[None]] = set()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._idle = 0
        self._last_error = ""

    def add_worker(self) -> None:
        worker = asyncio.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def invoke(self, event: Any, request_id: str | None = None, arn: str | None = None) -> Answer:
        """Give the event to a free or a new worker and return its answer. If all are busy at the cap, the event waits.

        `arn` names the function as the caller does; by default with the alias that API Gateway invokes.
        """
        if self._jobs.qsize() >= self._idle and len(self._workers) < self._max_workers:
            self.add_worker()
        job = _Job(event, request_id or str(uuid.uuid4()), arn or self._function.arn, asyncio.get_running_loop().create_future())
        self._jobs.put_nowait(job)
        answer = await job.answer
        self._note(answer)
        return answer

    def invoke_later(self, event: Any, request_id: str, arn: str) -> None:
        """Invoke in the background, as InvocationType=Event does. After a failure, try again with the same request id."""
        delivery = asyncio.create_task(self._deliver(event, request_id, arn))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    async def close(self) -> None:
        tasks = [*self._deliveries, *self._workers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, event: Any, request_id: str, arn: str) -> None:
        delays_s = iter(RETRY_DELAYS_S[: self._function.async_retries])
        while (await self.invoke(event, request_id, arn)).failed:
            if (delay_s := next(delays_s, None)) is None:
                self._report(f"{self._function.name} gave up on event {request_id} (on AWS it goes to the on-failure queue)")
                break
            await asyncio.sleep(delay_s)

    async def _work(self) -> None:
        """Run one environment: a process that handles one job after the other. Replace the process when it ends."""
        while True:
            process = await self._start()
            try:
                init = await self._read(process, "", INIT_TIMEOUT_S)
                while init.failed or not _ended(process):
                    self._idle += 1
                    try:
                        job = await self._jobs.get()
                    finally:
                        self._idle -= 1
                    if init.failed:  # as on Lambda, the caller that needed this environment gets the error of its start
                        job.settle(init)
                        break
                    if _ended(process):  # it was killed while idle, so another process gets the job
                        self._jobs.put_nowait(job)
                        break
                    try:
                        job.settle(await self._handle(process, job))
                    finally:
                        job.answer.cancel()  # no effect once it is settled
            finally:
                await _end(process)

    async def _start(self) -> Process:
        function = self._function
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
            "PYTHONPATH": os.pathsep.join(map(str, (function.code_folder, *function.layer_folders))),
            "TZ": "UTC",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": self._log.name,
        }
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", _WORKER, function.handler),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                env=environment | function.environment,
                start_new_session=True,  # only the runner gets Ctrl-C, and it ends the workers in order
                limit=MAX_ANSWER_BYTES,
            )

    async def _handle(self, process: Process, job: _Job) -> Answer:
        timeout_s = self._function.timeout_s
        request = {"event": job.event, "request_id": job.request_id, "arn": job.arn, "deadline_s": time.time() + timeout_s}
        assert process.stdin
        with contextlib.suppress(OSError):  # if the worker has just died, _read() finds that its answer is missing
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
        return await self._read(process, job.request_id, timeout_s)

    async def _read(self, process: Process, request_id: str, timeout_s: float) -> Answer:
        assert process.stdout
        try:
            async with asyncio.timeout(timeout_s):
                line = await process.stdout.readline()
        except TimeoutError:
            process.kill()
            await process.wait()
            return _sandbox_error("Sandbox.Timedout", request_id, f"Task timed out after {timeout_s:.2f} seconds")
        if not line:
            status = await process.wait()
            how = f"signal: {-status}" if status < 0 else f"exit status {status}"
            return _sandbox_error("Runtime.ExitError", request_id, f"Runtime exited with error: {how}")
        answer = json.loads(line)
        return Answer(answer["error"], failed=True) if "error" in answer else Answer(answer.get("result"))

    def _note(self, answer: Answer) -> None:
        """Report that the function failed. Report a repeated error once, because a schedule may repeat it every second."""
        error = f"{answer.payload['errorType']}: {answer.payload['errorMessage']}" if answer.failed else ""
        if error and error.partition(":")[0] != self._last_error.partition(":")[0]:
            self._report(f"{self._function.name} failed: {error[:300]} (more in {self._log})")
        self._last_error = error


def _ended(process: Process) -> bool:
    assert process.stdout
    return process.returncode is not None or process.stdout.at_eof()


async def _end(process: Process) -> None:
    assert process.stdin
    process.stdin.close()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _sandbox_error(kind: str, request_id: str, message: str) -> Answer:
    return Answer({"errorType": kind, "errorMessage": f"RequestId: {request_id} Error: {message}"}, failed=True)
