"""`make clients` can fail: what it compares, and what its front answers in the place of API Gateway and of a later version."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from contract.clients import __main__ as clients
from contract.clients.service import front, newer

HELD = [
    {"order_id": order, "status": status, "amount": amount, "amount_refunded": refunded}
    for order, (status, amount, refunded) in clients.PAID.items()
]


def test_a_shop_that_did_all_steps_and_left_what_it_should_passes() -> None:
    assert clients.verdict(clients.STEPS, HELD) == ", ".join(clients.STEPS)


@pytest.mark.parametrize("steps", [(), clients.STEPS[:-1], clients.STEPS[1:], ("Warning: old", *clients.STEPS)])
def test_a_shop_that_left_a_step_out_or_said_something_else_fails(steps: tuple[str, ...]) -> None:
    with pytest.raises(clients.Failed, match="The shop did"):
        clients.verdict(steps, HELD)


@pytest.mark.parametrize(
    "held",
    [[], HELD[1:], [*HELD, HELD[0]], [HELD[0] | {"amount": 705032704}, *HELD[1:]], [HELD[0] | {"amount_refunded": 0}, *HELD[1:]]],
    ids=["nothing", "one too few", "one twice", "an amount cut to 32 bits", "no refund"],
)
def test_a_shop_that_left_the_service_with_other_payments_fails(held: list[dict[str, Any]]) -> None:
    with pytest.raises(clients.Failed, match="The service holds"):
        clients.verdict(clients.STEPS, held)


def test_a_check_that_fails_is_printed_with_its_reason_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> str:
        raise clients.Failed("javac said no")

    with ThreadPoolExecutor(1) as pool:
        assert clients.report(pool, {"go": lambda: "pays", "java": fails}) == 1
    assert capsys.readouterr().out.splitlines() == ["go: pays", "java: FAILED. javac said no"]


def test_the_programs_that_are_not_here_are_named_by_their_packages() -> None:
    here = {"javac": "/usr/bin/javac", "npm": "/usr/bin/npm"}
    assert clients.missing(here.get) == ["golang", "maven", "nodejs"]
    assert clients.missing(lambda program: program) == []


def test_a_later_version_has_values_and_members_that_the_document_does_not_have() -> None:
    page = {"data": [{"payment_id": "p", "status": "FAILED", "decline_code": None, "metadata": {"a": "b"}}], "has_more": False}
    assert newer(page) == {
        "data": [
            {"payment_id": "p", "status": "SETTLING", "decline_code": None, "metadata": {"a": "b"}, "risk": {"level": 3}},
        ],
        "has_more": False,
    }
    assert newer({"code": "payment_not_found", "status": 404}) == {"code": "order_archived", "status": 404, "risk": {"level": 3}}


class Service(BaseHTTPRequestHandler):
    """Answers with the owner and the path of the request, and with the status of a declined payment."""

    def do_GET(self) -> None:
        self.send_response(402)
        self.send_header("content-type", "application/problem+json")
        self.end_headers()
        told = {"payment_id": self.headers["X-Local-Owner"], "path": self.path, "status": "FAILED"}
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(servers_folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with front(f"http://127.0.0.1:{server.server_address[1]}") as found:
            yield found
        server.shutdown()


def ask(url: str, token: str | None = "shop-go") -> tuple[int, str, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)
    with refused.value as answer:
        return answer.code, answer.headers["content-type"], json.load(answer)


@pytest.mark.parametrize("token", [None, "expired"])
def test_the_front_lets_nobody_in_without_a_token_of_a_shop(address: str, token: str | None) -> None:
    assert ask(f"{address}/x", token) == (401, "application/json", {"message": "Unauthorized"})


def test_the_front_throttles_in_api_gateways_words(address: str) -> None:
    assert ask(f"{address}/throttled/x") == (429, "application/json", {"message": "Too Many Requests"})


def test_the_front_passes_a_request_on_for_the_owner_that_its_token_names(address: str) -> None:
    told = {"payment_id": "shop-go", "path": "/x?limit=3", "status": "FAILED"}
    assert ask(f"{address}/x?limit=3") == (402, "application/problem+json", told)
    assert ask(f"{address}/newer/x?limit=3") == (402, "application/problem+json", newer(told))
