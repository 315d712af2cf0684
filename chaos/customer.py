"""The customer of the simulated gateway, as its ledger has him: what came first counts, whether he acted or a call canceled.

The customer's line and the line of a cancel are each one append, so their order in the file is the same for every reader. Nobody
holds a lock, which a frozen process would keep.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.books import Asked
from chaos.evidence import whole_lines


@dataclass(slots=True)
class Waiting(Asked):
    """The charge whose customer was asked, by its first call. `approves` says what the bank does once the customer acts."""

    key: str = ""
    approves: bool = False
    captures: bool = False

    @property
    def has_paid(self) -> bool:
        """Whether money moved or is held, or was held until it was canceled."""
        return self.approves and self.acted_s is not None

    @property
    def is_open(self) -> bool:
        """Whether somebody may still pay it."""
        return self.acted_s is None and self.canceled_by is None

    def cancel(self, key: str, at_s: float) -> None:
        """Cancel it, as Stripe does: what is captured stays, and what is held is set free."""
        if self.canceled_by is None and not (self.has_paid and self.captures):
            self.canceled_by, self.canceled_s = key, at_s


def asked(ledger: Path) -> dict[str, Waiting]:
    """Return the payments whose customer was asked, by the gateway's name of them (payment_intent_id)."""
    found: dict[str, Waiting] = {}
    for line in whole_lines(ledger):
        if line.get("asks"):
            intent = line["payment_intent_id"]
            found.setdefault(intent, Waiting(intent, key=line["key"], approves=line["approved"], captures=line["capture"]))
        elif payment := found.get(line.get("acts_on", "")):
            if payment.is_open:
                payment.acted_s = line["at_s"]
        elif (payment := found.get(line.get("payment_intent_id") or "")) and is_cancel(line):
            payment.cancel(line["key"], line["begun_s"])
    return found


def is_cancel(line: dict[str, Any]) -> bool:
    """Whether a call's line ends a payment that nobody had paid when the call was decided on."""
    return bool(line.get("action") == "void" and line["transaction_id"] is None)


def act(ledger: Path, payment_intent_id: str) -> None:
    """Act as the customer. It is too late after a cancel."""
    line = json.dumps({"acts_on": payment_intent_id, "at_s": time.monotonic()})
    with ledger.open("ab", buffering=0) as file:
        file.write(b"\n" + line.encode() + b"\n")
        os.fsync(file.fileno())
