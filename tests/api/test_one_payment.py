"""The way of one payment over HTTP: which files it passes, how long they are, and that the README names them."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from payments import wiring
from payments.commands.service import Service
from tests.api_client import EVERYTHING, Context, http_event, order
from tests.test_size import ROOT, SHIPPED, lines_of

PACKAGE_ROOT = ROOT / "layers/shared/python"
LINES_OF_ONE_PAYMENT = 2000

README = (ROOT / "README.md").read_text(encoding="utf-8")


def profiled(run: Callable[[], object], note: Callable[[FrameType, str, object], None]) -> None:
    """Run under a profiler that calls `note` at each call and return."""
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)


def filtered_in(run: Callable[[], object], text: str) -> int:
    """Return how often the card filter looks at the text during the run. Log lines pass another function, `redact`."""
    looks: list[object] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_name == "contains_card_number":
            looks.append(frame.f_locals["text"])

    profiled(run, note)
    return looks.count(text)


def passed_by(run: Callable[[], object]) -> set[Path]:
    """Return the shipped files that have a function called during the run."""
    names: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        names.add(frame.f_code.co_filename)

    profiled(run, note)
    return {file for file in SHIPPED if str(file) in names}


@pytest.fixture
def handle(make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> Callable[[object], dict[str, Any]]:
    """The handler of the process function, warm."""
    service = make_service()
    monkeypatch.setattr(wiring, "service", lambda: service)
    monkeypatch.setattr(wiring, "settings", lambda: SimpleNamespace(direct_owner="shop"))
    sys.modules.pop("functions.process.handler", None)
    handler = importlib.import_module("functions.process.handler").lambda_handler

    def answer(event: object) -> dict[str, Any]:
        alias = "live" if isinstance(event, dict) and "requestContext" in event else "direct"
        answered: dict[str, Any] = handler(
            event, Context(invoked_function_arn=f"arn:aws:lambda:eu-central-1:1:function:f:{alias}")
        )
        return answered

    answer(over_http(order()))
    return answer


def over_http(request: dict[str, Any]) -> dict[str, Any]:
    claims = {"sub": "shop", "scope": EVERYTHING}
    return http_event("POST", "/api/v1/payments/process", json.dumps(request), claims=claims)


@pytest.fixture
def files_of_one_payment(handle: Callable[[object], dict[str, Any]]) -> set[Path]:
    answers: list[dict[str, Any]] = []
    files = passed_by(lambda: answers.append(handle(over_http(order()))))
    assert answers[0]["statusCode"] == 201
    return files


@pytest.mark.parametrize("event_of", [over_http, dict], ids=["HTTP", "direct"])
def test_each_text_of_a_request_passes_the_card_filter_once(
    handle: Callable[[object], dict[str, Any]], event_of: Callable[[dict[str, Any]], object]
) -> None:
    request = order(description="a description that nobody else uses")
    assert filtered_in(lambda: handle(event_of(request)), request["description"]) == 1


def test_the_files_that_one_payment_passes_stay_within_their_bound(files_of_one_payment: set[Path]) -> None:
    names = {file.name for file in files_of_one_payment}
    assert names >= {"phases.py", "claim.py", "process.py", "settle.py", "claims.py", "settlement.py", "kafka.py", "outbox.py"}
    assert not names & {"refund.py", "reconcile.py", "relay.py", "direct.py", "lookups.py"}
    assert lines_of(files_of_one_payment) <= LINES_OF_ONE_PAYMENT


def named_in_the_readme() -> list[Path]:
    """Return the files of "Follow one payment" in their order, with the adapters that stand behind the two ports."""
    table = re.search(r"Follow one payment\..*?\n\n(\|.*?)\n\n", README, re.DOTALL)
    assert table, "the README follows one payment"
    names = re.findall(r"`([\w/]+\.(?:py|json))`", table[1])
    files = [PACKAGE_ROOT / name if name.startswith("payments/") else ROOT / name for name in names]
    assert all(file.exists() for file in files)
    return files


def imported_by(file: Path) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {PACKAGE_ROOT / f"{name.replace('.', '/')}.py" for name in names}


def test_each_file_of_the_readmes_way_is_imported_by_one_before_it() -> None:
    event, handler, *others = named_in_the_readme()
    assert json.loads(event.read_text(encoding="utf-8"))["routeKey"] == "POST /api/v1/payments/process"
    reached = imported_by(handler) | imported_by(PACKAGE_ROOT / "payments/wiring.py")
    for file in others:
        assert file in reached, f"nothing before {file.name} imports it"
        reached |= imported_by(file)


def test_the_data_passes_every_file_of_the_readmes_way(files_of_one_payment: set[Path]) -> None:
    # A protocol has no code to run, and its adapter is in the table too. The app reads the catalog before the first payment.
    called = {file for file in named_in_the_readme()[2:] if file.name not in ("port.py", "catalog.py")}
    assert called <= files_of_one_payment
