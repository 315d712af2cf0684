"""The simulated gateway with a ledger of its own: what it was asked and what it answered, on disk before the answer leaves.

Money moves at the first approved call of a key and never again: later calls with the key get the same answer, as a real gateway's
idempotency promises. The simulator computes that answer from the key, so the ledger needs no look-up: it is the list of calls,
and whoever reads it takes the first of each key. The gateway judges nothing: a refund of more than was captured, or a void after
a capture, is carried out and stays on the record, so that a wrong command cannot hide behind a strict gateway.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from chaos.crash import Crash
from payments.gateway.port import Approved, Gateway, GatewayRequest, Reply, Unknown
from payments.gateway.simulated import SimulatedGateway

PATIENCE_S = 60.0
"""What the gateway itself waits for: for ever, as far as a call's verdict goes."""


class LedgerGateway:
    def __init__(self, simulated: Gateway, ledger: Path, crash: Crash, label: Callable[[], str]) -> None:
        """`simulated` is the gateway that ships; `label` names the invocation at work."""
        assert isinstance(simulated, SimulatedGateway)
        self._answers = simulated
        self._verdicts = replace(simulated, delay_ms=(0, 0), lost_reply_rate=0.0)
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._crash, self._label = crash, label
        self._calls = 0

    def charge(self, request: GatewayRequest) -> Reply:
        return self._call("charge", request, SimulatedGateway.charge)

    def capture(self, request: GatewayRequest) -> Reply:
        return self._call("capture", request, SimulatedGateway.capture)

    def void(self, request: GatewayRequest) -> Reply:
        return self._call("void", request, SimulatedGateway.void)

    def refund(self, request: GatewayRequest) -> Reply:
        return self._call("refund", request, SimulatedGateway.refund)

    def _call(self, action: str, request: GatewayRequest, ask: Callable[[SimulatedGateway, GatewayRequest], Reply]) -> Reply:
        trap = self._crash.reach("gateway")
        call = f"{self._label()}#{self._calls}"
        self._calls += 1
        # A first attempt's reply may get lost by scenario; what the gateway decided is what a second attempt would hear.
        verdict = ask(self._verdicts, replace(request, attempt=2, timeout_s=PATIENCE_S))
        assert not isinstance(verdict, Unknown)
        fields = asdict(request)
        del fields["timeout_s"]
        self._record(
            {"call": call, "action": action, "begun_s": time.monotonic(), **fields}
            | {"approved": isinstance(verdict, Approved), "verdict_transaction_id": verdict.transaction_id}
        )
        self._crash.passed(trap)
        answer = ask(self._answers, request)
        self._record({"call": call, "ended_s": time.monotonic()})
        self._crash.gateway_answered()
        return answer

    def _record(self, line: dict[str, Any]) -> None:
        # Between two line ends, because a kill may tear a write at the end of a page: the next line then stands by itself.
        os.write(self._ledger, b"\n" + json.dumps(line).encode() + b"\n")
        os.fsync(self._ledger)
