"""The worker processes of one function. Each handles one event at a time and stays warm. If all are busy, we start another."""

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
import uuid
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.template import REGION, Function

MAX_WORKERS = 10  # per function; each may hold a database connection, and PostgreSQL's default limit is 100
INIT_TIMEOUT_S = 10  # Lambda's own limit for the init phase
CLOSE_TIMEOUT_S = 1  # a worker ends when its channel closes; we kill it after this, because a system call may hold it up
RETRY_DELAYS_S = (1, 2)  # of asynchronous invocations; Lambda waits one minute, then two

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
    log: Path | None = None  # a log of its own, in the place of the function's

    def settle(self, answer: Answer) -> None:
        if not self.answer.done():  # the caller may have stopped waiting
            self.answer.set_result(answer)


class _Worker(asyncio.Protocol):
    """Our end of the channel to one process. An answer settles its job at once: a task in between costs a turn of the loop."""

    def __init__(self, on_free: Callable[["_Worker"], None]) -> None:
        self._on_free = on_free
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()  # it takes no more jobs
        self.job: _Job | None = None
        self.overdue_s = 0.0  # the time-out that the job exceeded
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.channel = transport

    def connection_lost(self, _: Exception | None) -> None:
        self._end()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not data.endswith(b"\n"):  # JSON has no line break in it, so this is the end of the answer
            return
        answer = json.loads(self._received)
        self._received.clear()
        self.settle(Answer(answer["error"], failed=True) if "error" in answer else Answer(answer.get("result")))
        self._on_free(self)

    def take(self, job: _Job, timeout_s: float) -> None:
        request = {"event": job.event, "request_id": job.request_id, "arn": job.arn, "deadline_s": time.time() + timeout_s}
        if job.log:
            request["log"] = str(job.log)
        self.expect(job, timeout_s)
        self.channel.write(json.dumps(request).encode() + b"\n")

    def expect(self, job: _Job, timeout_s: float) -> None:
        self.job, self._timer = job, self._loop.call_later(timeout_s, self._overdue, timeout_s)

    def settle(self, answer: Answer) -> None:
        if self.job:
            self._timer.cancel()
            self.job.settle(answer)
            self.job = None

    def _overdue(self, timeout_s: float) -> None:
        self.overdue_s = timeout_s
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class Pool:
    def __init__(self, function: Function, log: Path, report: Callable[[str], None], max_workers: int = MAX_WORKERS) -> None:
        self._function = function
        self._log = log
        self._report = report
        self._max_workers = max_workers
        self._waiting: deque[_Job] = deque()
        self._idle: list[_Worker] = []
        self._workers: dict[_Worker, asyncio.Task[None]] = {}
        self._starting: set[_Worker] = set()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._last_error = ""

    def add_worker(self) -> None:
        worker = _Worker(self._free)
        self._starting.add(worker)
        self._workers[worker] = asyncio.create_task(self._work(worker))

    async def invoke(self, event: Any, request_id: str | None = None, arn: str | None = None, log: Path | None = None) -> Answer:
        """Give the event to a free or a new worker and return its answer. If all are busy at the cap, the event waits.

        `arn` names the function as the caller does; by default with the alias that API Gateway invokes. `log` gets what the
        function writes, instead of its log.
        """
        answered = asyncio.get_running_loop().create_future()
        job = _Job(event, request_id or str(uuid.uuid4()), arn or self._function.arn, answered, log)
        self._waiting.append(job)
        self._dispatch()
        answer = await job.answer
        self._note(answer)
        return answer

    async def invoke_with_log(self, event: Any, request_id: str, arn: str) -> tuple[Answer, bytes]:
        """Invoke, and return what this invocation wrote, between the lines with which Lambda begins and ends it."""
        file = self._log.with_name(f"{self._log.stem}-{request_id}.log")
        began, written = time.monotonic(), b""
        try:
            answer = await self.invoke(event, request_id, arn, file)
        finally:
            if file.exists():  # not when the environment could not start
                written = file.read_bytes()
                file.unlink()
                with self._log.open("ab") as log:
                    log.write(written)
        first = f"START RequestId: {request_id} Version: $LATEST\n"
        last = (
            f"END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {1000 * (time.monotonic() - began):.2f} ms\n"
        )
        return answer, first.encode() + written + last.encode()

    def invoke_later(self, event: Any, request_id: str, arn: str) -> None:
        """Invoke in the background, as InvocationType=Event does. After a failure, try again with the same request id."""
        delivery = asyncio.create_task(self._deliver(event, request_id, arn))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    async def close(self) -> None:
        while self._waiting:
            self._waiting.popleft().answer.cancel()
        tasks = [*self._deliveries, *self._workers.values()]
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

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            worker = self._idle.pop()
            if not worker.ended.done():  # one that was killed while idle takes no job
                worker.take(self._waiting.popleft(), self._function.timeout_s)
        if len(self._waiting) > len(self._starting) and len(self._workers) < self._max_workers:
            self.add_worker()

    def _free(self, worker: _Worker) -> None:
        if worker not in self._starting:
            self._idle.append(worker)
            self._dispatch()

    async def _work(self, worker: _Worker) -> None:
        """Run one environment to its end: a process that handles one job after the other."""
        try:
            process = await self._start(worker)
            try:
                await self._jobs(process, worker)
            finally:
                await _end(process, worker)
                if worker.job:
                    worker.job.answer.cancel()
        finally:
            self._starting.discard(worker)
            del self._workers[worker]
        self._dispatch()  # another process takes its place, if anybody waits

    async def _jobs(self, process: Process, worker: _Worker) -> None:
        init = _Job(None, "", "", asyncio.get_running_loop().create_future())
        worker.expect(init, INIT_TIMEOUT_S)
        first_word: list[asyncio.Future[Any]] = [init.answer, worker.ended]
        await asyncio.wait(first_word, return_when=asyncio.FIRST_COMPLETED)
        is_ready = init.answer.done() and not init.answer.result().failed
        if is_ready:
            self._starting.discard(worker)
            self._free(worker)
        await worker.ended
        worker.settle(await _cause_of_end(process, worker))
        if not is_ready and self._waiting:  # as on Lambda, the caller that needed this environment gets the error of its start
            self._waiting.popleft().settle(init.answer.result())

    async def _start(self, worker: _Worker) -> Process:
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
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("ab") as log:
            await asyncio.get_running_loop().create_unix_connection(lambda: worker, sock=ours)
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", _WORKER, function.handler),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=log,
                env=environment | function.environment,
                start_new_session=True,  # only the runner gets Ctrl-C, and it ends the workers in order
            )

    def _note(self, answer: Answer) -> None:
        """Report that the function failed. Report a repeated error once, because a schedule may repeat it every second."""
        error = f"{answer.payload['errorType']}: {answer.payload['errorMessage']}" if answer.failed else ""
        if error and error.partition(":")[0] != self._last_error.partition(":")[0]:
            self._report(f"{self._function.name} failed: {error[:300]} (more in {self._log})")
        self._last_error = error


async def _cause_of_end(process: Process, worker: _Worker) -> Answer:
    request_id = worker.job.request_id if worker.job else ""
    if worker.overdue_s:
        _kill(process)
        await process.wait()
        return _sandbox_error("Sandbox.Timedout", request_id, f"Task timed out after {worker.overdue_s:.2f} seconds")
    status = await process.wait()
    how = f"signal: {-status}" if status < 0 else f"exit status {status}"
    return _sandbox_error("Runtime.ExitError", request_id, f"Runtime exited with error: {how}")


async def _end(process: Process, worker: _Worker) -> None:
    worker.channel.close()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await process.wait()
    finally:
        if process.returncode is None:
            _kill(process)
            await process.wait()


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _sandbox_error(kind: str, request_id: str, message: str) -> Answer:
    return Answer({"errorType": kind, "errorMessage": f"RequestId: {request_id} Error: {message}"}, failed=True)
