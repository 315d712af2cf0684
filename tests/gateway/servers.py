"""The servers that stand for Stripe: Stripe World, localstripe, stripe-mock, and toxiproxy in front of one of them.

`make gateways` installs them. Each has `missing()`, which says why it cannot run here, and is a context manager. The chaos
harness uses Stripe World too.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent.parent
GO = ROOT / ".venv-go"
GATEWAYS = ROOT / ".venv-gateways/bin/python"
SITE = ROOT / ".venv-stripe-world/site"
IMAGE = "python:3.14-slim"
START_TIMEOUT_S = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def ask(method: str, url: str, data: bytes | None = None, **headers: str) -> bytes:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=20) as answer:
        return bytes(answer.read())


class _Program:
    """A program that serves on `port` of this machine."""

    path = "/"

    def __init__(self) -> None:
        self.port = free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(SITE), "LOG_LEVEL": "error"}
        self._process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, env=environment
        )
        ends_s = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends_s:
                self._log.seek(0)
                said = self._log.read().decode()[-2000:]
                self.__exit__()
                raise RuntimeError(f"{type(self).__name__} did not start: {said}")
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        try:
            ask("GET", self.url + self.path)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        self._log.close()


class StripeWorld(_Program):
    """A copy of Stripe's payments, with state. Each name is an account of its own, which comes to be when it is first used."""

    def __init__(self) -> None:
        super().__init__()
        self._name = f"payments-stripe-world-{self.port}"

    @staticmethod
    def missing() -> str | None:
        if not SITE.is_dir():
            return "Stripe World is not installed (make gateways)"
        return (
            None if _python314() or _has_image() else "Stripe World needs Python 3.14, or Docker with the image python:3.14-slim"
        )

    def command(self) -> list[str]:
        options = ["--port", str(self.port), "--max-instances", "0", "--reset-options", '{"startup": {"livemode": false}}']
        server = Path(__file__).with_name("stripe_world_server.py")
        if python := _python314():
            return [python, str(server), *options]
        run = ["docker", "run", "--rm", "--name", self._name, "--network", "host", "-e", "PYTHONPATH=/site"]
        return [*run, "-v", f"{SITE}:/site:ro", "-v", f"{server}:/server.py:ro", IMAGE, "python", "-B", "/server.py", *options]

    def account(self, name: str) -> str:
        """Return the base address of an account."""
        return f"{self.url}/worlds/{name}"

    def reset(self, name: str, **options: Any) -> None:
        """Begin the account anew."""
        ask("PUT", self.account(name), json.dumps(options).encode())

    def __exit__(self, *_: object) -> None:
        if not _python314():
            subprocess.run(["docker", "rm", "--force", self._name], capture_output=True, check=False)
        super().__exit__()


@functools.cache
def _python314() -> str | None:
    """Return a Python 3.14 that can use the Linux packages in SITE."""
    if sys.platform != "linux":
        return None
    for python in ("python3.14", *map(str, Path.home().glob(".pyenv/versions/3.14.*/bin/python3.14"))):
        if (found := shutil.which(python)) and subprocess.run(
            [found, "-c", ""], capture_output=True, check=False
        ).returncode == 0:
            return found
    return None


@functools.cache
def _has_image() -> bool:
    if not shutil.which("docker"):
        return False
    run = ["docker", "run", "--rm", "--network", "host", IMAGE, "python", "-c", ""]
    return subprocess.run(run, capture_output=True, check=False).returncode == 0


class LocalStripe(_Program):
    """A simpler copy of Stripe by other people, with state."""

    @staticmethod
    def missing() -> str | None:
        return None if GATEWAYS.exists() else "localstripe is not installed (make gateways)"

    def command(self) -> list[str]:
        return [str(GATEWAYS), "-m", "localstripe", "--port", str(self.port), "--from-scratch"]


class StripeMock(_Program):
    """Stripe's own checker of requests. It keeps nothing, and answers with samples."""

    @staticmethod
    def missing() -> str | None:
        return None if (GO / "stripe-mock").exists() else "stripe-mock is not installed (make gateways, with Go)"

    def command(self) -> list[str]:
        return [str(GO / "stripe-mock"), "-http-addr", f"127.0.0.1:{self.port}", "-https-addr", f"127.0.0.1:{free_port()}"]


class Toxiproxy(_Program):
    """A proxy that spoils connections. `between` puts it in front of a server, `poison` spoils what comes back from there."""

    path = "/version"

    @staticmethod
    def missing() -> str | None:
        return None if (GO / "server").exists() else "toxiproxy is not installed (make gateways, with Go)"

    def command(self) -> list[str]:
        return [str(GO / "server"), "-host", "127.0.0.1", "-port", str(self.port)]

    def between(self, port: int) -> int:
        """Return the port of a proxy in front of `port`."""
        listens = free_port()
        proxy = {"name": f"to-{listens}", "listen": f"127.0.0.1:{listens}", "upstream": f"127.0.0.1:{port}"}
        ask("POST", f"{self.url}/proxies", json.dumps(proxy).encode())
        return listens

    def poison(self, port: int, kind: str, stream: str, **attributes: int) -> None:
        toxic = {"name": kind, "type": kind, "stream": stream, "attributes": attributes}
        ask("POST", f"{self.url}/proxies/to-{port}/toxics", json.dumps(toxic).encode())

    def heal(self, port: int, kind: str) -> None:
        ask("DELETE", f"{self.url}/proxies/to-{port}/toxics/{kind}")


class Witness:
    """Stripe's own package, which reads what a server knows."""

    @staticmethod
    def missing() -> str | None:
        return None if GATEWAYS.exists() else "Stripe's package is not installed (make gateways)"

    @staticmethod
    def reads(base: str) -> dict[str, Any]:
        """Return the server's payment_intents, charges, refunds, disputes, balance with its transactions, and events."""
        command = [str(GATEWAYS), str(Path(__file__).with_name("witness.py")), base]
        read = subprocess.run(command, capture_output=True, text=True, check=False)
        assert read.returncode == 0, read.stderr
        known: dict[str, Any] = json.loads(read.stdout)
        return known


def left_out() -> list[str]:
    """Return what cannot run here, and why."""
    found = [server.missing() for server in (StripeWorld, LocalStripe, StripeMock, Toxiproxy)]
    if not os.environ.get("STRIPE_API_KEY", "").startswith(("sk_test_", "rk_test_")):
        found.append("Stripe's test mode was not asked (STRIPE_API_KEY=sk_test_… make contract)")
    return [why for why in found if why]


if __name__ == "__main__":
    print(f"{len(left_out())} left out. " + ". ".join(left_out()))
