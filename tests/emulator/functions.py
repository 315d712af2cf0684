"""Functions' code in processes, and custom resources, which need it. Runs in .venv-emulator."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import uuid
import zipfile
from pathlib import Path
from typing import Any

from localstack.services.lambda_.invocation.lambda_models import InvocationResult

from tests.emulator.moto_kinds import Properties
from tests.emulator.providers import SCHEMA, failed, succeeded


class Custom:
    """A custom resource: its function runs, and answers to an address that only this request knows."""

    SCHEMA = SCHEMA

    def create(self, request: Any) -> Any:
        return self.told(request, "Create")

    def update(self, request: Any) -> Any:
        return self.told(request, "Update")

    def delete(self, request: Any) -> Any:
        return self.told(request, "Delete")

    def told(self, request: Any, kind: str) -> Any:
        with Answer() as answer:
            event = {
                "RequestType": kind,
                "RequestId": str(uuid.uuid4()),
                "StackId": request.stack_id,
                "ResponseURL": answer.url,
                "LogicalResourceId": request.logical_resource_id,
                "ResourceType": request.resource_type,
                "ResourceProperties": request.desired_state,
            }
            token = request.desired_state["ServiceToken"]
            done = request.aws_client_factory.lambda_.invoke(FunctionName=token, Payload=json.dumps(event))
            told = answer.body
        if told is None or told["Status"] != "SUCCESS":
            return failed(
                f"The function of the custom resource answered {told}; its invocation: {done['Payload'].read().decode()}"
            )
        return succeeded(request.desired_state | told.get("Data", {}) | {"PhysicalResourceId": told["PhysicalResourceId"]})


class Answer:
    """A web server that takes one PUT."""

    def __enter__(self) -> Answer:
        self.body: Properties | None = None
        answer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                answer.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *ended: object) -> None:
        self.server.shutdown()
        self.server.server_close()


RUN = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
module, _, name = sys.argv[2].rpartition(".")
context = type("Context", (), {"log_group_name": "emulated", "log_stream_name": "emulated"})
print(json.dumps(getattr(importlib.import_module(module), name)(json.load(sys.stdin), context)))
"""


class Process:
    """Runs a function's code in a process of this Python, because there is no Docker."""

    def __init__(self, _id: str, function_version: Any) -> None:
        self.version = function_version

    def start(self, environment: dict[str, str]) -> None:
        self.environment = {name: str(value) for name, value in environment.items()}

    def stop(self) -> None: ...

    def get_address(self) -> str:
        return "127.0.0.1"

    get_endpoint_from_executor = get_runtime_endpoint = get_logs = get_address

    def invoke(self, payload: dict[str, str]) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder, "code.zip")
            with archive.open("wb") as target:
                self.version.config.code._download_archive_to_file(target)
            zipfile.ZipFile(archive).extractall(folder)
            done = subprocess.run(
                [sys.executable, "-c", RUN, folder, self.version.config.handler],
                input=payload["payload"],
                env=os.environ | self.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        return InvocationResult(
            request_id=payload["invoke-id"],
            payload=(done.stdout if done.returncode == 0 else done.stderr).encode(),
            is_error=done.returncode != 0,
            logs=done.stderr,
        )

    @classmethod
    def prepare_version(cls, version: Any) -> None: ...

    @classmethod
    def cleanup_version(cls, version: Any) -> None: ...
