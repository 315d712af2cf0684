"""`STRIPE_API_KEY=sk_test_… make run`: Stripe takes the payments, and neither the key nor a webhook secret shows anywhere.

A scripted server stands in for Stripe. It tells the key back where Stripe might, as no careful server would.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.local.test_run import PATIENCE_S, REPOSITORY, Run, environment, refused
from tests.migrations.test_apply import query
from tests.topic import messages

CANARY = "CANARY4f1d0c3b2a"
KEY = f"sk_test_{CANARY}"
ECHO = f"You sent Bearer {KEY}"
WEBHOOK_SECRETS = [f"whsec_{CANARY}new", f"whsec_{CANARY}old"]
PAYLOAD = "customer@canary.example.com"
"""Stands in the payload of Stripe's events, of which we keep the ids alone."""

EVENTS = "/api/v1/gateways/stripe/events"

pytestmark = pytest.mark.server


def intent(order: str, status: str, **more: Any) -> dict[str, Any]:
    money = {"amount": 1999, "amount_received": 1999, "amount_capturable": 0, "currency": "usd"}
    thing = {"object": "payment_intent", "id": f"pi_{order}", "status": status, "livemode": False, "metadata": {}}
    return thing | money | {"latest_charge": f"ch_{order}", "last_payment_error": None} | more


class ScriptedStripe(BaseHTTPRequestHandler):
    """What becomes of a payment follows from its payment method."""

    protocol_version = "HTTP/1.1"
    keys: set[str | None]
    methods: set[str]

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        self.keys.add(self.headers["Authorization"])
        method, order = form.get("payment_method", self.path.rpartition("/")[2]), form.get("metadata[order_id]", "")
        self.methods.add(method)
        error: dict[str, Any] = {"type": "invalid_request_error", "message": ECHO}
        match method:
            case "pm_card_visa":
                self.answer(200, intent(order, "succeeded"))
            case "pm_declined":
                declined = {"type": "card_error", "code": "card_declined", "decline_code": "do_not_honor", "message": "No."}
                of = intent(order, "requires_payment_method", last_payment_error=declined)
                self.answer(402, {"error": declined | {"payment_intent": of}})
            case "cancel":
                self.answer(200, intent(self.path.split("/")[3].removeprefix("pi_"), "canceled"))
            case "refunds":
                refund = {
                    "object": "refund",
                    "id": "re_1",
                    "status": "succeeded",
                    "amount": int(form["amount"]),
                    "currency": "usd",
                }
                self.answer(200, refund | {"charge": "ch_1", "payment_intent": form["payment_intent"], "metadata": {}})
            case "pm_unauthorized":
                self.answer(401, {"error": error | {"message": f"Invalid API Key provided: {KEY}"}})
            case "pm_refused":
                self.answer(400, {"error": error | {"code": "parameter_invalid"}})
            case "pm_fault":
                self.answer(500, {"error": error | {"type": "api_error"}})
            case "pm_strange":
                self.answer(200, {"object": "list", "said": ECHO})
            case "pm_no_json":
                self.answer(200, ECHO)
            case _:  # half an answer
                self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nEcho: {ECHO}\r\n\r\n{ECHO}".encode())
                self.close_connection = True

    def do_GET(self) -> None:
        self.answer(404, {"error": {"type": "invalid_request_error", "message": ECHO}})

    def answer(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode() if isinstance(body, dict) else body.encode()
        self.send_response(status)
        for name, value in (("Request-Id", "req_1"), ("Content-Length", str(len(text))), ("Echo", ECHO)):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stripe() -> Iterator[tuple[str, type[ScriptedStripe]]]:
    script = type("Script", (ScriptedStripe,), {"keys": set(), "methods": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), script) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", script
        server.shutdown()
        thread.join()


METHODS = {
    "pm_card_visa": 201, "pm_declined": 402, "pm_refused": 402, "pm_unauthorized": 202, "pm_fault": 202, "pm_strange": 202,
    "pm_no_json": 202, "pm_half": 202,
}  # fmt: skip


def asked(url: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
    """Return the status, and the whole answer as text."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, f"{answer.headers}\n{answer.read().decode()}"
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, f"{answer.headers}\n{answer.read().decode()}"


def told(url: str, intent_id: str, *secrets: str, body: str = "") -> tuple[int, str]:
    """Send an event of Stripe's, signed with these secrets. Return as `asked`."""
    thing = {"object": "payment_intent", "id": intent_id, "metadata": {}, "receipt_email": PAYLOAD}
    event = {"object": "event", "id": f"evt_{intent_id}", "type": "payment_intent.succeeded", "created": 1_780_000_000}
    body, now_s = body or json.dumps(event | {"data": {"object": thing}}), int(time.time())
    macs = [hmac.new(secret.encode(), f"{now_s}.{body}".encode(), hashlib.sha256).hexdigest() for secret in secrets]
    signature = ",".join([f"t={now_s}", *(f"v1={mac}" for mac in macs)])
    return asked(url, EVENTS, json.loads(body), **{"Stripe-Signature": signature})


def everything_in(data_dir: Path) -> str:
    """Return all files of a run but PostgreSQL's, and all rows of its tables."""
    url = json.loads((data_dir / "run.json").read_text())["database_owner_url"]
    tables = query(url, "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'")
    rows = [str(row) for [table] in tables for row in query(url, f"SELECT t::text FROM {table} t")]
    assert any("do_not_honor" in row for row in rows), "the rows are read"
    files = [path for path in data_dir.rglob("*") if path.is_file() and "postgres/cluster" not in str(path)]
    return "\n".join([*rows, *(path.read_text(errors="replace") for path in files)])


def test_stripe_takes_the_payments_and_the_key_shows_nowhere(
    servers_folder: Path, tmp_path: Path, stripe: tuple[str, type[ScriptedStripe]]
) -> None:
    base, script = stripe
    data_dir = servers_folder / f"run-{tmp_path.name}"
    variables = {
        "STRIPE_API_KEY": KEY,
        "STRIPE_API_BASE": base,
        "STRIPE_WEBHOOK_SECRETS": ",".join(WEBHOOK_SECRETS),
        "POWERTOOLS_LOG_LEVEL": "DEBUG",
        "RETRY_SCHEDULE_S": "0.1,0.5,3600",
    }
    run = Run(REPOSITORY / "template.yaml", data_dir, **variables)
    run.until("Ready in")
    seen = {}
    try:
        url = run.facts()["url"]
        statuses = {}
        for method in METHODS:
            payment = {
                "order_id": method,
                "amount": 1999,
                "currency": "USD",
                "payment_method": "credit_card",
                "payment_token": method,
            }
            statuses[method], seen[method] = asked(url, "/api/v1/payments/process", payment)
            direct = payment | {"order_id": f"{method}-direct"}
            invoked = "/2015-03-31/functions/process:direct/invocations"
            seen[f"{method}, directly"] = asked(url, invoked, direct, **{"X-Amz-Log-Type": "Tail"})[1]
            seen[f"{method}, looked up"] = asked(url, f"/api/v1/payments/order/{method}")[1]
        assert statuses == METHODS
        status, seen["refund"] = asked(url, "/api/v1/payments/refund", {"order_id": "pm_card_visa", "amount": 500})
        assert status == 201
        of_an_event = {
            "new secret": told(url, "pi_pm_card_visa", WEBHOOK_SECRETS[0]),
            "old secret": told(url, "pi_of_somebody", "whsec_of_nobody", WEBHOOK_SECRETS[1]),
            "another secret": told(url, "pi_1", "whsec_of_nobody"),
            "no signature": told(url, "pi_1"),
            "no event": told(url, "pi_1", WEBHOOK_SECRETS[0], body='{"object": "event"}'),
        }
        assert [status for status, _ in of_an_event.values()] == [200, 200, 400, 400, 400]
        seen |= {name: text for name, (_, text) in of_an_event.items()}
        for path in ("/health", "/health?deep=true", "/api/v1/payments", "/api/v1/webhooks"):
            seen[path] = asked(url, path)[1]
        command = [sys.executable, "-m", "payments_cli", "show", "pm_unauthorized"]
        own = environment(DATA_DIR=str(data_dir), STRIPE_API_KEY=KEY)
        own["PYTHONPATH"] = str(REPOSITORY / "cli")
        shown = subprocess.run(command, env=own, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert shown.returncode == 0, shown.stderr
        seen["the command line"] = shown.stdout + shown.stderr
        facts = run.facts()
        seen["the topic"] = str(list(messages(facts["kafka_bootstrap_servers"], facts["topic"])))
        assert "do_not_honor" not in seen["the topic"], "banks' reasons are not for shops"
        assert "payment.successful" in seen["the topic"]
        seen["logs and rows"] = everything_in(data_dir)
        assert "evt_pi_pm_card_visa" in seen["logs and rows"] and PAYLOAD not in seen["logs and rows"]
        assert "Stripe refuses our key" in seen["logs and rows"] and "GatewayRefusesUs" in seen["logs and rows"]
    finally:
        run.end(signal.SIGTERM)
    seen["the terminal"] = run.output
    assert "Gateway     Stripe, in test mode" in run.output
    assert script.keys == {f"Bearer {KEY}"}, "the key was in use"
    assert script.methods >= METHODS.keys()
    assert {place for place, text in seen.items() if CANARY in text} == set()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (
            f"sk_live_{CANARY}",
            "GATEWAY_LIVE is Off, and Stripe's API key is a live one. A local run takes a key of Stripe's test mode",
        ),
        (
            f"rk_live_{CANARY}",
            "GATEWAY_LIVE is Off, and Stripe's API key is a live one. A local run takes a key of Stripe's test mode",
        ),
        (f"pk_test_{CANARY}", "Stripe's API key must begin with sk_test_, rk_test_"),
        (f"{KEY} ", "Stripe's API key must begin with"),
    ],
)
def test_a_key_that_could_move_real_money_is_refused_and_so_is_none(servers_folder: Path, key: str, said: str) -> None:
    message = refused(DATA_DIR=str(servers_folder / "refused"), STRIPE_API_KEY=key, GATEWAY_LIVE="On")
    assert f"Cannot start: {said}" in message
    assert CANARY not in message


def test_nothing_but_a_test_key_turns_a_local_run_to_stripe(servers_folder: Path, tmp_path: Path) -> None:
    """The functions could find AWS credentials at home, and with a secret's ARN a live key."""
    arn = "arn:aws:secretsmanager:us-east-1:210987654321:secret:stripe-AbCdEf"
    run = Run(
        REPOSITORY / "template.yaml",
        servers_folder / f"run-{tmp_path.name}",
        GATEWAY="stripe",
        GATEWAY_LIVE="On",
        STRIPE_SECRET=arn,
    )
    run.until("Ready in")
    try:
        payment = {"order_id": "1", "amount": 1999, "currency": "USD", "payment_method": "credit_card", "payment_token": "tok_ok"}
        assert run.call("/api/v1/payments/process", payment)["transaction_id"].startswith("txn_")
    finally:
        run.end(signal.SIGTERM)
    assert "Gateway     simulated" in run.output
