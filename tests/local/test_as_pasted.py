"""What the README, the pages for integrators and the Bruno collection tell people to send, sent to `make run` as they would."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from functools import cache
from pathlib import Path

import pytest

from local.template import load_template
from tests.local.test_http import INVOKE
from tests.local.test_run import Run
from tests.pages import PAGES, ROOT, blocks, program
from tests.servers import free_port

PATIENCE_S = 90
"""A broker that just started makes the first member of a group wait."""

README = ROOT / "README.md"
BRUNO = ROOT / "docs" / "bruno"
BRU = ROOT / ".venv-bruno" / "node_modules" / ".bin" / "bru"

WALKS = {page.name: "\n".join(text for text in blocks(page, "sh") if "curl" in text) for page in (README, *PAGES)}
"""The commands of each page that send requests. They share one service, as for a reader who tries one page after the other."""


@pytest.fixture(scope="module")
def service(servers_folder: Path) -> Iterator[Run]:
    run = Run(ROOT / "template.yaml", servers_folder / "as-pasted", CORS_ALLOW_ORIGINS="https://shop.test")
    run.until("Ready in")
    yield run
    run.end(signal.SIGTERM)
    assert run.process.stdout
    run.process.stdout.close()


@pytest.fixture
def clone(service: Run, tmp_path: Path) -> Path:
    """A folder in which the service runs, with the programs that a reader saved there."""
    (tmp_path / ".local").symlink_to(service.data_dir)
    for name in ("order_service.py", "notification_service.py", "webhook_receiver.py"):
        (tmp_path / name).write_text(at_its_port(program(name), service), encoding="utf-8")
    return tmp_path


@cache
def receivers_port() -> int:
    return free_port()


def at_its_port(text: str, service: Run) -> str:
    """Return the text with the ports of the service and of the receiver of webhooks in this test."""
    return text.replace("http://127.0.0.1:8001", service.facts()["url"]).replace("8002", str(receivers_port()))


def pasted(text: str, service: Run, clone: Path, said: Path) -> subprocess.Popen[bytes]:
    """Run the text in a shell whose output goes to the file `said`. Only the ports are others than in the text."""
    environment = {"HOME": str(clone), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-eu", "-o", "pipefail", "-c", at_its_port(text, service)]
    with said.open("wb") as file:
        return subprocess.Popen(command, cwd=clone, env=environment, stdout=file, stderr=file, start_new_session=True)


@pytest.mark.parametrize("page", [name for name, text in WALKS.items() if text])
def test_each_request_of_a_page_gets_the_status_that_the_page_says(page: str, service: Run, clone: Path, tmp_path: Path) -> None:
    shell = pasted(WALKS[page], service, clone, tmp_path / "said.txt")
    shell.wait(PATIENCE_S)
    said = (tmp_path / "said.txt").read_text()
    assert shell.returncode == 0, said
    got = re.findall(r"^HTTP/1\.1 (\d{3}) ", said, re.MULTILINE)
    if page == README.name:
        assert got == ["201", "402", "202", "201", "200"], said
        for order in ("1003", "2001"):
            assert re.search(rf'^\{{.*"order_id":"{order}","status":"CAPTURED"', said, re.MULTILINE)
    else:
        assert got == re.findall(r"^# (\d{3}),? ", WALKS[page], re.MULTILINE), said
        assert len(got) == WALKS[page].count("curl -i")
    assert '{"message":' not in said  # that is API Gateway, which knows no such route


def test_what_the_order_service_does_is_heard_by_the_notification_service(service: Run, clone: Path, tmp_path: Path) -> None:
    (listening,) = blocks(ROOT / "docs/integration/consumer.md", "sh")
    ordering, _ = blocks(ROOT / "docs/integration/order-service.md", "sh")
    consumer = pasted(listening, service, clone, heard := tmp_path / "heard.txt")
    try:
        shell = pasted(ordering, service, clone, tmp_path / "said.txt")
        shell.wait(PATIENCE_S)
        assert (shell.returncode, (tmp_path / "said.txt").read_text()) == (0, "")
        until = time.monotonic() + PATIENCE_S
        while not {f"order {order}: thank you for 19.99 USD" for order in (3001, 3002)} <= set(heard.read_text().splitlines()):
            assert time.monotonic() < until and consumer.poll() is None, heard.read_text()
            time.sleep(0.1)
    finally:
        os.killpg(consumer.pid, signal.SIGKILL)
        consumer.wait()
    with urllib.request.urlopen(f"{service.facts()['url']}/api/v1/payments/order/3001", timeout=PATIENCE_S) as reply:
        assert json.load(reply)["status"] == "REFUNDED"


def test_a_receiver_of_webhooks_hears_of_a_payment_once_however_often_it_is_told(
    service: Run, clone: Path, tmp_path: Path
) -> None:
    register, listen, pay, look_after, change = blocks(ROOT / "docs/integration/webhooks.md", "sh")

    def run(text: str) -> str:
        shell = pasted(text, service, clone, said := tmp_path / "said.txt")
        assert shell.wait(PATIENCE_S) == 0, said.read_text()
        return said.read_text()

    def wait_for(text: str, times: int) -> None:
        until = time.monotonic() + PATIENCE_S
        while heard.read_text().count(text) < times:
            assert time.monotonic() < until and receiver.poll() is None, heard.read_text()
            time.sleep(0.1)

    run(register)
    receiver = pasted(listen, service, clone, heard := tmp_path / "heard.txt")
    try:
        run(pay.replace("6001", "6002"))
        wait_for("order '6002': thank you for 1999 minor units of USD\n", 1)
        told = heard.read_text().count('"POST /events HTTP/1.1" 204')
        run(look_after)
        wait_for('"POST /events HTTP/1.1" 204', told + 1)
        run(pay.replace("6001", "6003"))
        wait_for("order '6003': thank you", 1)
        forged = urllib.request.Request(f"http://127.0.0.1:{receivers_port()}/events", b"{}", {"webhook-signature": "v1,?"})
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(forged, timeout=PATIENCE_S)
    finally:
        os.killpg(receiver.pid, signal.SIGKILL)
        receiver.wait()
        run("\n".join([look_after.partition("\n")[0], change]))
    assert heard.read_text().count("order '6002'") == 1
    assert "Traceback" not in heard.read_text()


def asked(service: Run, path: str, origin: str, data: bytes | None = None) -> tuple[int, Message]:
    request = urllib.request.Request(service.facts()["url"] + path, data, {"Origin": origin})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            return reply.status, reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def test_the_setting_admits_pages_of_other_machines_to_the_api(service: Run) -> None:
    for origin in ("https://shop.test", "http://localhost:3000"):
        status, headers = asked(service, "/health", origin)
        assert (status, headers["access-control-allow-origin"]) == (200, origin)
    for origin in ("https://shop.example.com", "https://shop.test.evil.example", "http://shop.test"):
        assert asked(service, "/health", origin)[0] == 403
    assert asked(service, INVOKE.format("migrate"), "https://shop.test", b"{}")[0] == 403


@pytest.mark.skipif(not BRU.exists(), reason="the Bruno CLI is not set up: make .venv-bruno")
def test_each_request_of_the_bruno_collection_is_answered_as_it_says(service: Run, tmp_path: Path) -> None:
    url, report = f"url={service.facts()['url']}", tmp_path / "report.json"
    command = [str(BRU), "run", "-r", "--env", "local", "--env-var", url, "--noproxy", "--reporter-json", str(report)]
    done = subprocess.run(command, cwd=BRUNO, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads(report.read_text())
    assert run["summary"]["passedRequests"] == len(requests())
    assert all(result["assertionResults"] for result in run["results"])


def requests() -> list[str]:
    return [file.read_text(encoding="utf-8") for file in BRUNO.glob("*/*.bru") if "\n  type: http\n" in file.read_text("utf-8")]


def test_the_bruno_collection_has_a_request_for_each_route() -> None:
    sent = {re.search(r"^(get|post|put|delete) \{\n  url: \{\{url\}\}([^\s?]+)", text, re.MULTILINE) for text in requests()}
    for route in load_template(ROOT / "template.yaml").routes:
        path = re.compile(re.sub(r"\\\{\w+\\\}", r"([^/]+|\\{\\{\\w+\\}\\})", re.escape(route.path)))
        assert any(found and found[1].upper() == route.method and path.fullmatch(found[2]) for found in sent), route
