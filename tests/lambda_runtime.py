"""A function in the real Lambda runtime, without Docker: AWS's Runtime Interface Emulator, its runtime client, our handler."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from local.template import REGION, Function
from tests.servers import ending_with_us, free_port, wait_for_port

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0
"""The emulator listens within 0.1 s. It starts the function at the first invocation."""

REPLY_MARGIN_S = 10.0
"""Added to the function's time-out, which the emulator enforces and which does not cover the start of the function."""


def missing() -> str | None:
    """Return why no function can be started here, or None."""
    if not importlib.util.find_spec("awslambdaric"):
        return "awslambdaric, the runtime client of AWS Lambda, has wheels for Linux only"
    if not emulator():
        return "the Runtime Interface Emulator comes with aws-sam-cli in .venv-sam, which `make test` sets up"
    return None


def emulator() -> Path | None:
    machine = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return next(ROOT.glob(f".venv-sam/lib/*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"), None)


@dataclass(frozen=True)
class Invocation:
    payload: Any
    """The handler's answer. After a fault, Lambda's document with errorType and errorMessage."""
    function_error: bool
    logs: str
    """What the function and the emulator wrote during the invocation."""


def qualifier_of(event: object) -> str:
    """Return the alias through which a deployment gets the event: API Gateway's for HTTP, else the order service's."""
    context = event.get("requestContext") if isinstance(event, dict) else None
    return "live" if isinstance(context, dict) and isinstance(context.get("http"), dict) else "direct"


class LambdaRuntime:
    """A function of the template in environments of its own. The first event starts one, which handles one event at a time.

    On AWS the aliases of a version share its environments. The emulator has one name for its function, so that each
    qualifier has an emulator and an environment here.
    """

    def __init__(self, function: Function, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to the template's. No variable of this process is passed on."""
        self._function = function
        self._environment = {
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(int(function.timeout_s)),
            "AWS_REGION": REGION,
            "LAMBDA_TASK_ROOT": str(function.code_folder),
            "LANG": "en_US.UTF-8",
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in function.layer_folders),
            "TZ": ":UTC",
            **function.environment,
            **(environment or {}),
        }

    def __enter__(self) -> Self:
        self._log = tempfile.NamedTemporaryFile(prefix="lambda-", suffix=".log")  # closed in __exit__
        self._emulators: dict[str, tuple[psutil.Popen, str]] = {}
        return self

    def _started(self, qualifier: str) -> str:
        """Start the emulator of the qualifier unless it runs, and return its address for invocations."""
        if qualifier in self._emulators:
            return self._emulators[qualifier][1]
        program = emulator()
        assert program, missing()
        port = free_port()
        url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
        api_port = free_port()
        own = [f"{name}={value}" for name, value in self._variables(api_port).items()]
        addresses = (f"--runtime-interface-emulator-address=127.0.0.1:{port}", f"--runtime-api-address=127.0.0.1:{api_port}")
        process = psutil.Popen(
            ending_with_us(
                program, *addresses, "/usr/bin/env", *own, sys.executable, "-m", "awslambdaric", self._function.handler
            ),
            cwd=self._function.code_folder,
            # The emulator makes the context's ARN of its own variable. The function's variable has no qualifier.
            env=self._environment | {"AWS_LAMBDA_FUNCTION_NAME": ":".join(filter(None, (self._function.name, qualifier)))},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._emulators[qualifier] = process, url
        wait_for_port(port, START_TIMEOUT_S, process, Path(self._log.name))
        return url

    def _variables(self, api_port: int) -> dict[str, str]:
        """Return the variables that the function gets in the place of the emulator's own. The Runtime API is at the port."""
        return {"AWS_LAMBDA_FUNCTION_NAME": self._function.name}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for emulator, _ in self._emulators.values():
            for process in (*emulator.children(recursive=True), emulator):
                process.kill()
            emulator.wait()
        if error:
            print(self.logs())  # pytest shows it with the failure
        self._log.close()

    def invoke(self, event: object, qualifier: str | None = None) -> Invocation:
        """Invoke the function through the alias or version, "" for none; by default through the alias that gets such events."""
        before, url = len(self.logs()), self._started(qualifier_of(event) if qualifier is None else qualifier)
        request = urllib.request.Request(url, json.dumps(event).encode())
        with urllib.request.urlopen(request, timeout=self._function.timeout_s + REPLY_MARGIN_S) as response:
            text = response.read().decode()
        try:
            payload = json.loads(text)
        except ValueError:  # a message of the emulator, such as "Task timed out after 15.00 seconds"
            payload = {"errorType": "Runtime", "errorMessage": text}
        failed = isinstance(payload, dict) and payload.keys() >= {"errorType", "errorMessage"}
        return Invocation(payload, failed, self.logs()[before:])

    def logs(self) -> str:
        """Return everything that the function and the emulator have written so far."""
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")
