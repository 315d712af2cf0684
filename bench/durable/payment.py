"""The smallest honest payment as a Lambda durable function: claim, charge and settle are three steps.

The gateway is the one that we ship, with the ledger of the chaos harness. A SQLite file with a unique index stands for our
tables. Everything in the event but the order is the experiment: how the gateway's key is made, how often a step runs, where the
process dies.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aws_durable_execution_sdk_python.config import StepConfig, StepSemantics
from aws_durable_execution_sdk_python.context import DurableContext
from aws_durable_execution_sdk_python.retries import RetryPresets

from chaos.crash import Crash, Trap, Where
from chaos.gateway import LedgerGateway
from payments.gateway.port import Approved, GatewayRequest
from payments.gateway.simulated import SimulatedGateway

TABLES = """
CREATE TABLE IF NOT EXISTS payments (order_id TEXT PRIMARY KEY, payment_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (order_id TEXT NOT NULL);
"""


class Deaths(Crash):
    """Kill this process with SIGKILL at one place, once: its successors live."""

    def __init__(self, folder: Path, place: str) -> None:
        self._folder, self._place = folder, place

    @property
    def happened(self) -> bool:
        return (self._folder / "died").exists()

    def at(self, place: str) -> None:
        if place == self._place and not self.happened:
            (self._folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def reach(self, where: Where) -> Trap | None:
        self.at(f"before the {where}")
        return None

    def gateway_answered(self) -> None:
        self.at("gateway answered")


def books(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "books.db", timeout=30, isolation_level=None)
    connection.executescript(TABLES)
    return connection


def claim(folder: Path, order_id: str) -> str:
    """Return the id of the order's one payment, whoever claimed it first."""
    with books(folder) as tables:
        tables.execute("INSERT INTO payments VALUES (?, ?) ON CONFLICT DO NOTHING", (order_id, str(uuid.uuid4())))
        (payment_id,) = tables.execute("SELECT payment_id FROM payments WHERE order_id = ?", (order_id,)).fetchone()
    return str(payment_id)


def pay(event: dict[str, Any], context: DurableContext) -> str:
    """Pay for an order. Raise when the gateway declines."""
    folder, order_id = Path(event["folder"]), event["order_id"]
    deaths = Deaths(folder, event["dies"])
    gateway = LedgerGateway(SimulatedGateway(delay_ms=(5, 20)), folder / "ledger", deaths, lambda: order_id)
    config = StepConfig(
        step_semantics=StepSemantics[event["semantics"] + "_PER_RETRY"],
        retry_strategy=RetryPresets.default() if event["retries"] else RetryPresets.none(),
    )

    def step(name: str, function: Callable[[Any], Any]) -> Any:
        return context.step(function, name=name if event["named"] else None, config=config)

    def charge(attempt: Any) -> str:
        keys = {
            "attempt": str(uuid.uuid4()),
            "execution": context.execution_context.durable_execution_arn,
            "payment": f"pay-{payment_id}",
        }
        request = GatewayRequest(
            kind="process",
            payment_id=payment_id,
            order_id=event["order_id"],
            key=keys[event["key"]],
            attempt=attempt.attempt,
            amount_minor=1999,
            currency="USD",
            payment_method="credit_card",
            payment_token=event["payment_token"],
            timeout_s=3.0,
        )
        reply = gateway.charge(request)
        if not isinstance(reply, Approved):
            raise TimeoutError(str(reply))
        return reply.transaction_id

    def settle(_: Any) -> str:
        deaths.at("before settle")
        with books(folder) as tables:
            tables.execute("INSERT INTO events VALUES (?)", (order_id,))
        deaths.at("settled")
        return "CAPTURED"

    payment_id = step("claim", lambda _: claim(folder, order_id))
    if event["new_code"] and deaths.happened:  # somebody deploys between the death and the replay
        step("screen", lambda _: "no fraud")
    step("charge", charge)
    return str(step("settle", settle))
