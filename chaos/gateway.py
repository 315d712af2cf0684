"""The simulated gateway with its own ledger. The ledger has each request and its answer on disk before the answer leaves.

Money moves at the first approved call of a key and never again: later calls with the key get the same answer, as a real gateway's
idempotency promises. The simulator computes the answer from the key, so the ledger is only a list of calls, and its reader takes
the first call of each key. The gateway checks nothing: it carries out and records a refund beyond the capture, or a void after
a capture. So a wrong command cannot hide behind a strict gateway.
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
"""The time-out when we compute a call's verdict: long enough never to run out."""


class LedgerGateway:
    def __init__(self, simulated: Gateway, ledger: Path, crash: Crash, label: Callable[[], str]) -> None:
        """`simulated` is the gateway that we ship; `label` names the current invocation."""
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

    def _call(self, action: str, request: GatewayRequest, method: Callable[[SimulatedGateway, GatewayRequest], Reply]) -> Reply:
        trap = self._crash.reach("gateway")
        call = f"{self._label()}#{self._calls}"
        self._calls += 1
        # A scenario may lose the first attempt's reply. A second attempt always gets the gateway's decision.
        verdict = method(self._verdicts, replace(request, attempt=2, timeout_s=PATIENCE_S))
        assert not isinstance(verdict, Unknown)
        fields = asdict(request)
        del fields["timeout_s"]
        self._record(
            {"call": call, "action": action, "begun_s": time.monotonic(), **fields}
            | {"approved": isinstance(verdict, Approved), "verdict_transaction_id": verdict.transaction_id}
            | {"decline_code": None if isinstance(verdict, Approved) else verdict.decline_code}
        )
        self._crash.passed(trap)
        answer = method(self._answers, request)
        self._record({"call": call, "ended_s": time.monotonic()})
        self._crash.gateway_answered()
        return answer

    def _record(self, line: dict[str, Any]) -> None:
        # A kill may tear a write at the end of a page. We write a line end on both sides, so that the next line stays whole.
        os.write(self._ledger, b"\n" + json.dumps(line).encode() + b"\n")
        os.fsync(self._ledger)
