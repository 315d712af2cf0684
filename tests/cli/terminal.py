"""The command line as its users meet it: a process with arguments, an environment and sometimes a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import termios
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The path holds no other folder, so that an import from the layer fails.
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


class Prefork:
    """Runs commands in forked copies of one process (prefork.py), one at a time."""

    def __init__(self) -> None:
        self._channel, its = socket.socketpair()
        self._channel.settimeout(TIMEOUT_S)
        program = str(Path(__file__).with_name("prefork.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-P", program],  # -P: without the script's folder on the path
            env={"PYTHONPATH": str(CLI), "LC_ALL": "C.UTF-8"},
            stdin=its.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        its.close()

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, out_fd: int | None = None, err_fd: int | None = None
    ) -> Done:
        """`out_fd` and `err_fd` are for streams that cannot be written; what is written into them is not in the result."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open() as nothing:
            streams = [nothing.fileno(), *(file.fileno() if fd is None else fd for file, fd in ((out, out_fd), (err, err_fd)))]
            socket.send_fds(self._channel, [b"\0"], streams)
            request = {"arguments": arguments, "environment": environment}
            self._channel.sendall(json.dumps(request).encode() + b"\n")
            exit_code = int(self._channel.recv(16))
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return Done(exit_code, *texts)

    def close(self) -> None:
        self._channel.close()
        self._process.wait(TIMEOUT_S)


class Payments:
    def __init__(self, prefork: Prefork, environment: dict[str, str]) -> None:
        self._prefork = prefork
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": environment["DATA_DIR"],
            "PYTHONPATH": str(CLI),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            **environment,
        }

    def __call__(self, *arguments: str, **environment: str) -> Done:
        """Run to the end without a terminal."""
        done = self._prefork.run(arguments, self.environment | environment)
        assert "Traceback" not in done.err, done.err
        return done

    def into(self, *arguments: str, out_fd: int | None = None, err_fd: int | None = None) -> Done:
        """Run to the end with streams that cannot be written."""
        done = self._prefork.run(arguments, self.environment, out_fd=out_fd, err_fd=err_fd)
        assert "Traceback" not in done.err, done.err
        return done

    def shell(self, line: str, **environment: str) -> Done:
        """Run a line of the shell in which `payments` is the command line, as a process that Python starts anew."""
        function = f'payments() {{ {shlex.quote(sys.executable)} -m payments_cli "$@"; }}\n'
        settings = self.environment | environment
        done = subprocess.run(["bash", "-c", function + line], env=settings, capture_output=True, timeout=TIMEOUT_S, check=False)
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def json(self, *arguments: str) -> Any:
        """Return the JSON that the command prints. The command must succeed."""
        done = self(*arguments, "--json")
        assert done.exit_code == 0, done.err
        return done.json

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command. The caller reads its output while it runs."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*COMMAND, *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        )

    def at_terminal(self, *arguments: str, typed: str = "", program: Sequence[str] = COMMAND, **environment: str) -> Done:
        """Run to the end at a terminal, and type when it asks. The output holds both streams in the order of their arrival."""
        ours, its = pty.openpty()
        settings = self.environment | {"TERM": "xterm-256color", "COLUMNS": "100"} | environment
        with contextlib.closing(os.fdopen(ours, "rb+", buffering=0)) as terminal:
            process = subprocess.Popen(
                [*program, *arguments],
                env=settings,
                stdin=its,
                stdout=its,
                stderr=its,
                preexec_fn=own_terminal,  # noqa: PLW1509 - it takes no lock that a thread of ours could hold
            )
            os.close(its)
            output = b""
            with contextlib.suppress(OSError):  # reading fails once no process has the terminal open
                while part := terminal.read(4096):
                    output += part
                    if typed and b"[y/N]" in output:
                        terminal.write(typed.encode())
                        typed = ""
            return Done(process.wait(TIMEOUT_S), output.decode(), "")

    def charged(self, *options: str, order: str = "", amount: str = "19.99 USD") -> dict[str, Any]:
        """Return a new payment."""
        payment: dict[str, Any] = self.json("process", order or new_order(), amount, "--payment-token", "tok_ok", *options)
        return payment


def own_terminal() -> None:
    """Make the standard input the terminal of a session of its own, so that its Ctrl-C reaches the process."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def new_order() -> str:
    return f"order-{uuid.uuid4().hex[:12]}"


def printed_key(done: Done) -> str:
    """Return the Idempotency-Key that the command generated."""
    found = re.search(r"^Idempotency key: (\S+)$", done.err, re.MULTILINE)
    assert found, done.err
    return found[1]
