"""docs/architecture.md shows the diff that adds a command. A test applies it to a copy of the tree and uses the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Database

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/architecture.md"
COPIED = ("layers", "functions", "migrations", "contract", "local", "tests")

USE = """
import json, sys
from types import SimpleNamespace

from contract.openapi import document
from payments import wiring
from payments.telemetry import InvocationFailed
from tests.fakes import FakeGateway, FakePublisher, approve, lose_reply
from tests.shop import Books, Shop
from tests.servers import Database

gateway, publisher = FakeGateway(), FakePublisher()
shop = Shop.on(Database(*sys.argv[1:]))
wiring.service = lambda: shop.service
from functions.process.handler import lambda_handler

context = SimpleNamespace(
    aws_request_id="request", function_name="process", memory_limit_in_mb=512, invoked_function_arn="arn", function_version="1",
    get_remaining_time_in_millis=lambda: 20_000,
)
order = {"amount": 1999, "currency": "USD", "payment_method": "credit_card", "capture_method": "manual"}


def cancel(order_id, cause, key):
    paid = lambda_handler(order | {"order_id": order_id}, context)["body"]
    request = {"operation": "cancel", "transaction_id": paid["transaction_id"], "cause": cause, "idempotency_key": key}
    return paid, request, lambda_handler(request, context)


paid, request, canceled = cancel(f"{shop.owner}-1", "out_of_stock", "k1")
replayed = lambda_handler(request, context)
shop.gateway.answer = approve
other = lambda_handler(order | {"order_id": f"{shop.owner}-2"}, context)["body"]
shop.gateway.answer = lose_reply
lost = lambda_handler(request | {"transaction_id": other["transaction_id"], "idempotency_key": "k2"}, context)
try:
    lambda_handler({"operation": "capture", "transaction_id": other["transaction_id"], "idempotency_key": "k3"}, context)
except InvocationFailed as error:
    in_flight = str(error).partition(":")[0]
books = Books(sys.argv[1])
settled = shop.hears_later(approve, books).settled
described = document()["paths"]["/api/v1/payments/cancel"]["post"]
print(json.dumps({
    "canceled": [canceled["outcome"], canceled["body"]["status"]], "replayed": replayed["replayed"],
    "keys": shop.gateway.keys, "lost": lost["outcome"], "in_flight": in_flight, "settled": settled,
    "history": books.query(
        "SELECT to_status, reason FROM payment_status_history WHERE payment_id = :id ORDER BY version DESC LIMIT 1",
        id=other["payment_id"],
    ),
    "described": sorted(described["responses"]),
}))
"""


@pytest.fixture
def diff() -> str:
    found = re.search(r"```diff\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "the page shows the diff"
    return found[1]


def test_the_diff_names_the_new_file_and_the_list_alone(diff: str) -> None:
    commands = "layers/shared/python/payments/commands"
    assert re.findall(r"^\+\+\+ b/(.*)$", diff, re.MULTILINE) == [f"{commands}/cancel.py", f"{commands}/catalog.py"]


def test_a_command_that_the_diff_adds_works_from_the_invocation_to_reconcile(
    diff: str, tmp_path: Path, own_database: Database
) -> None:
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    subprocess.run(["git", "apply", "--unidiff-zero", "-"], cwd=tmp_path, input=diff, text=True, check=True)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tmp_path}:{tmp_path / 'layers/shared/python'}",
        "DATABASE_URL": own_database.service_url,
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "POWERTOOLS_LOG_LEVEL": "CRITICAL",
    }
    command = [sys.executable, "-c", USE, own_database.owner_url, own_database.service_url]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["canceled"] == ["succeeded", "VOIDED"]
    assert seen["replayed"] is True
    assert [key.partition("-")[0] for key in seen["keys"]] == ["pay", "cancel", "pay", "cancel", "cancel"]
    assert seen["keys"][3] == seen["keys"][4], "reconcile calls under the same key"
    assert (seen["lost"], seen["in_flight"], seen["settled"]) == ("unknown", "payment_state_conflict", 1)
    assert seen["history"] == [["VOIDED", "canceled: out_of_stock"]]
    assert seen["described"] == ["200", "202", "400", "401", "402", "403", "404", "409", "413", "415", "422", "429", "500", "503"]
