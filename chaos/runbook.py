"""The operator of restore.py: what docs/operations.md, "Restoring", has a person do between the restore and the opening."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaos import evidence, simulated
from chaos.books import Move
from chaos.clients import HELD_S
from chaos.environments import REPO, Environments
from chaos.evidence import Call
from chaos.quiet import CLOCK_MOVES_S, MOVE_CLOCK

ROUNDS, STUCK = 20, 4
"""An authorization may wait for its charge, a refund for its capture, and each of them for a lost reply. After four rounds
without a change there is none to come."""

LISTED = ("key", "kind", "amount", "currency", "transaction_id", "at")

BACK = "taken-back-"
"""The beginning of the key of a call that the operator makes at the gateway."""


class Operator:
    """Follows the page: compares, enters, lets reconcile settle, takes back, compares again."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        environments: Environments,
        report: Callable[[str], None],
        *,
        enters: bool,
        takes_back: bool,
    ) -> None:
        """Without `enters` or `takes_back` the operator leaves that step out."""
        self._folder, self._url, self._environments, self._report = folder, database_url, environments, report
        self._enters, self._takes_back = enters, takes_back
        self.entered: dict[str, str] = {}
        """The kind of each entered operation, by its gateway key."""
        self.taken_back: list[dict[str, Any]] = []
        self.first: dict[str, int] = {}
        self.rounds = 0

    async def compare_and_settle(self) -> list[str]:
        results, counts, same = list[dict[str, Any]](), dict[str, int](), 0
        for self.rounds in range(1, ROUNDS + 1):
            before = counts
            results, counts, code = await asyncio.to_thread(self._compare)
            same = same + 1 if counts == before else 0
            self.first = self.first or counts
            self._report(f"compare: {counts}")
            self.entered |= {each["key"]: each["kind"] for each in results if each["result"] == "entered"}
            if self._takes_back:
                for each in results:
                    if each["result"] == "take_back":
                        self._take_back(each)
            if code == 0:
                return []
            if same == STUCK:
                break
            await self._reconcile()
        return [f"the comparison never ends; its last line is {counts}"] + [str(each) for each in results[:5]]

    def _compare(self) -> tuple[list[dict[str, Any]], dict[str, int], int]:
        file = self._folder / "gateway.csv"
        with file.open("w", newline="") as text:
            writer = csv.DictWriter(text, LISTED)
            writer.writeheader()
            ledger = self._folder / "ledger"
            writer.writerows(listed(simulated.books(ledger).moves, evidence.calls(ledger)))
        command = [sys.executable, "-m", "payments_cli", "compare", str(file), "--database-url", self._url, "--yes", "--json"]
        environment = os.environ | {"PYTHONPATH": str(REPO / "cli")}
        command += ["--enter"] if self._enters else []
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1, 4):
            raise RuntimeError(f"payments compare ended with {done.returncode}: {done.stderr}")
        *results, counts = map(json.loads, done.stdout.splitlines())
        return results, counts, done.returncode

    def _take_back(self, result: dict[str, Any]) -> None:
        """Void or refund a charge at the gateway, which notes it in its ledger."""
        self.taken_back.append(result)
        action = "refund" if result["take_back"] else "void"
        line = {
            "call": f"{BACK}{len(self.taken_back)}#0",
            "action": action,
            "begun_s": time.monotonic(),
            "key": f"{BACK}{len(self.taken_back)}",
            "attempt": 1,
            "amount_minor": result["take_back"] or result["amount"],
            "currency": result["currency"],
            "payment_method": "credit_card",
            "payment_token": None,
            "capture": True,
            "transaction_id": result["transaction_id"],
            "payment_intent_id": None,
            "approved": True,
            "verdict_transaction_id": result["transaction_id"],
            "decline_code": None,
        }
        with (self._folder / "ledger").open("a") as ledger:
            ledger.write(f"\n{json.dumps(line)}\n")

    async def _reconcile(self) -> None:
        """Let the leases of the lost workers end, and let reconcile run."""
        with contextlib.closing(evidence.connect(self._url)) as connection:
            for statement in MOVE_CLOCK:
                connection.run(statement, s=CLOCK_MOVES_S)
        label = f"restored.reconcile.{self.rounds}"
        await self._environments.invoke("reconcile", {}, label, HELD_S["reconcile"] + 6)


def listed(moves: list[Move], calls: list[Call]) -> Iterator[dict[str, Any]]:
    """Return what the gateway's own list shows: each movement once, whatever was asked again under its key."""
    clock_s = time.time() - time.monotonic()
    begun_s = {call.key: call.begun_s for call in reversed(calls)}
    for move in moves:
        yield {
            "key": move.key,
            "kind": move.shown,
            "amount": move.amount,
            "currency": move.currency,
            "transaction_id": move.transaction_id,
            "at": datetime.fromtimestamp(begun_s[move.key] + clock_s, UTC).isoformat(),
        }
