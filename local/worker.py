"""One Lambda execution environment as a process: import the handler, then handle one event at a time.

pool.py runs this file as `python -P local/worker.py HANDLER` with the function's folder, layers and environment, so we import
only the standard library. Standard input and output are one socket, the channel to the runner: one JSON value a line. We send the
handler's own output to standard error, which is the function's log.
  in:  {"event": any, "request_id": text, "arn": text, "deadline_s": seconds since the epoch}, and perhaps {"log": file}, for
       the output of this one event
  out: {"ready": true} once; then for each event {"result": any}, or {"error": Lambda's error document}
"""

import contextlib
import importlib
import json
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class LambdaContext:
    aws_request_id: str
    invoked_function_arn: str
    deadline_s: float
    function_name: str = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"))
    log_group_name: str = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
    log_stream_name: str = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline_s - time.time()) * 1000))


def main() -> None:
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - one write a line, so that workers do not mix their lines

    def watch() -> None:
        """End at once, even in the middle of an event, when the runner closes the channel or dies."""
        poll = select.poll()
        poll.register(requests, select.POLLHUP)  # it reads nothing: a thread that handed each request over would delay it
        while not any(happened & select.POLLHUP for _, happened in poll.poll()):
            pass
        os._exit(0)

    def answer(line: bytes) -> None:
        answers.write(line)
        answers.flush()

    threading.Thread(target=watch, daemon=True).start()
    module, _, function = sys.argv[1].replace("/", ".").rpartition(".")
    try:
        handler = getattr(importlib.import_module(module), function)
    except BaseException as error:  # also SystemExit: the runner gets any error of the import
        answer(_line({"error": _described(error, "")}))
        os._exit(1)
    answer(_line({"ready": True}))
    for line in requests:
        request = json.loads(line)
        with _written_to(request.get("log")):
            said = _said(handler, request)
        answer(said)


def _said(handler: Callable[[Any, LambdaContext], Any], request: dict[str, Any]) -> bytes:
    try:
        context = LambdaContext(request["request_id"], request["arn"], request["deadline_s"])
        return _line({"result": handler(request["event"], context)})
    except Exception as error:  # the caller gets the handler's error, as from Lambda
        return _line({"error": _described(error, request["request_id"])})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


@contextlib.contextmanager
def _written_to(file: str | None) -> Iterator[None]:
    """Send the output to this file instead of the function's log. What is there outlives this process."""
    if file is None:
        yield
        return
    log, own = os.dup(2), os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        for number in (1, 2):
            os.dup2(own, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in (1, 2):
            os.dup2(log, number)
        os.close(log)
        os.close(own)


def _described(error: BaseException, request_id: str) -> dict[str, Any]:
    traceback.print_exception(error)
    frames = error.__traceback__.tb_next if error.__traceback__ else None  # the first frame is this module's
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "requestId": request_id,
        "stackTrace": traceback.format_tb(frames),
    }


if __name__ == "__main__":
    main()
