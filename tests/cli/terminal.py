"""The command line as its users meet it: a process with arguments, an environment and sometimes a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Its own folder alone, so that whatever it took from the layer would be missing.
CLI = Path(__file__).resolve().parent.parent.parent / "cli"
COMMAND = [sys.executable, "-m", "payments_cli"]
TIMEOUT_S = 60


@dataclass(frozen=True)
class Done:
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def problem(self) -> Any:
        return json.loads(self.err.splitlines()[-1])


class Payments:
    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": environment["DATA_DIR"],
            "PYTHONPATH": str(CLI),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            **environment,
        }

    def __call__(self, *arguments: str, **environment: str) -> Done:
        """Run to the end, without a terminal."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str) -> Any:
        """What a command that succeeds prints for a script."""
        done = self(*arguments, "--json")
        assert done.exit_code == 0, done.err
        return done.json

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run on, with the output to be read as it comes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*COMMAND, *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        )

    def at_terminal(self, *arguments: str, typed: str = "", **environment: str) -> Done:
        """Run to the end at a terminal, whose output is both streams as they come."""
        ours, its = pty.openpty()
        settings = self.environment | {"TERM": "xterm-256color", "COLUMNS": "100"} | environment
        with contextlib.closing(os.fdopen(ours, "rb+", buffering=0)) as terminal:
            process = subprocess.Popen([*COMMAND, *arguments], env=settings, stdin=its, stdout=its, stderr=its)
            os.close(its)
            terminal.write(typed.encode())
            output = b""
            with contextlib.suppress(OSError):  # a terminal that nobody has open any more reads as an error
                while part := terminal.read(4096):
                    output += part
            return Done(process.wait(TIMEOUT_S), output.decode(), "")

    def charged(self, *options: str, order: str = "", amount: str = "19.99 USD") -> dict[str, Any]:
        """A new payment."""
        payment: dict[str, Any] = self.json("process", order or new_order(), amount, "--payment-token", "tok_ok", *options)
        return payment


def new_order() -> str:
    return f"order-{uuid.uuid4().hex[:12]}"


def printed_key(done: Done) -> str:
    """The Idempotency-Key that a command made up."""
    found = re.search(r"^Idempotency key: (\S+)$", done.err, re.MULTILINE)
    assert found, done.err
    return found[1]
