"""The gateway of an environment, which has each call on disk before it leaves. The simulated one also keeps a ledger."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from chaos import customer
from chaos.books import TOO_LATE
from chaos.crash import Crash
from payments.gateway.port import ActionRequired, Approved, Declined, Gateway, GatewayRequest, Hint, Reply, Seen, Unknown
from payments.gateway.simulated import SimulatedGateway
from payments.gateway.simulated_scenarios import ACTIONS

PATIENCE_S = 60.0
"""The time-out when we compute a call's verdict: long enough never to run out."""

RECORDED = (
    "key",
    "attempt",
    "amount_minor",
    "currency",
    "payment_token",
    "capture",
    "transaction_id",
    "payment_intent_id",
)


class RecordedGateway:
    """Records the calls of the gateway that we ship."""

    def __init__(self, shipped: Gateway, record: Path, crash: Crash, label: Callable[[], str]) -> None:
        """`label` names the current invocation."""
        self._shipped, self._path, self._crash, self._label = shipped, record, crash, label
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._calls = 0

    @property
    def name(self) -> str:
        return self._shipped.name

    def key_lifetime_s(self, kind: str) -> float:
        return self._shipped.key_lifetime_s(kind)

    def refuses(self, *asked: Any, **how: Any) -> tuple[str, str] | None:
        return self._shipped.refuses(*asked, **how)

    def charge(self, request: GatewayRequest) -> Reply:
        return self._call("charge", request)

    def capture(self, request: GatewayRequest) -> Reply:
        return self._call("capture", request)

    def void(self, request: GatewayRequest) -> Reply:
        return self._call("void", request)

    def refund(self, request: GatewayRequest) -> Reply:
        return self._call("refund", request)

    def find(self, request: GatewayRequest) -> Reply:
        reply = self._shipped.find(request)
        self._crash.gateway_answered()
        return reply

    def look(self, payment_intent_id: str, timeout_s: float) -> Seen | None:
        seen = self._shipped.look(payment_intent_id, timeout_s)
        self._crash.gateway_answered()
        return seen

    def undelivered(self, since: datetime, timeout_s: float, until: datetime | None = None) -> Sequence[Hint]:
        hints = list(self._shipped.undelivered(since, timeout_s, until))
        self._crash.gateway_answered()
        return hints

    def _call(self, action: str, request: GatewayRequest) -> Reply:
        call = self._begins(action, request)
        reply: Reply = getattr(self._shipped, action)(request)
        self._ended(call)
        return reply

    def _begins(self, action: str, request: GatewayRequest, **verdict: Any) -> str:
        call = f"{self._label()}#{self._calls}"
        self._calls += 1
        fields = {name: getattr(request, name) for name in RECORDED}
        self._write({"call": call, "action": action, "begun_s": time.monotonic()} | fields | verdict)
        return call

    def _ended(self, call: str) -> None:
        self._write({"call": call, "ended_s": time.monotonic()})
        self._crash.gateway_answered()

    def _write(self, line: dict[str, Any]) -> None:
        # A kill may tear a write at the end of a page. We write a line end on both sides, so that the next line stays whole.
        os.write(self._record, b"\n" + json.dumps(line).encode() + b"\n")
        os.fsync(self._record)


class LedgerGateway(RecordedGateway):
    """The simulated gateway. Its record of calls is a ledger: each call has its verdict.

    Money moves at the first approved call of a key and never again: later calls with the key get the same answer, as a real
    gateway's idempotency promises. The simulator computes the answer from the key, so the ledger is only a list of calls, and
    its reader takes the first call of each key. The gateway checks nothing: it carries out and records a refund beyond the
    capture, or a void after a capture. So a wrong command cannot hide behind a strict gateway.

    A payment whose customer has to act has a state, which customer.py reads in the ledger: it waits until the customer acts or a
    void cancels it. Only then can its money move.
    """

    def __init__(self, simulated: Gateway, ledger: Path, crash: Crash, label: Callable[[], str]) -> None:
        assert isinstance(simulated, SimulatedGateway)
        super().__init__(simulated, ledger, crash, label)
        self._verdicts = replace(simulated, delay_ms=(0, 0), lost_reply_rate=0.0)

    def find(self, request: GatewayRequest) -> Reply:
        trap = self._crash.reach("gateway")
        self._crash.passed(trap)
        action = "charge" if request.kind == "process" else request.kind
        with self._path.open(encoding="utf-8") as ledger:
            seen = any(f'"action": "{action}"' in line and f'"key": "{request.key}"' in line for line in ledger)
        self._crash.gateway_answered()
        if not seen:
            return Unknown("the ledger has no such call")
        return self._of_customer(request) if _asks(request) else self._verdicts.find(request)

    def _call(self, action: str, request: GatewayRequest) -> Reply:
        trap = self._crash.reach("gateway")
        asks, cancels = action == "charge" and _asks(request), action == "void" and request.transaction_id is None
        if asks:
            verdict: Reply = self._verdicts.outcome(request, "charge")  # what comes of it once the customer acts
        else:
            # A scenario may lose the first attempt's reply. A second attempt always gets the gateway's decision.
            verdict = getattr(self._verdicts, action)(replace(request, attempt=2, timeout_s=PATIENCE_S))
        assert isinstance(verdict, Approved | Declined)
        call = self._begins(
            action,
            request,
            approved=isinstance(verdict, Approved),
            verdict_transaction_id=verdict.transaction_id,
            decline_code=None if isinstance(verdict, Approved) else verdict.decline_code,
            payment_intent_id=verdict.payment_intent_id,
            asks=asks,
        )
        self._crash.passed(trap)
        reply: Reply = getattr(self._shipped, action)(request)
        if asks and not isinstance(reply, Unknown):
            reply = self._verdicts.charge(replace(request, attempt=1))  # a key gets its first answer again
        if cancels and not isinstance(reply, Unknown):
            reply = self._canceled(request, reply)
        self._ended(call)
        return reply

    def _of_customer(self, request: GatewayRequest) -> Reply:
        """Return how a payment stands whose customer was asked."""
        first = self._verdicts.charge(replace(request, attempt=1))
        assert isinstance(first, ActionRequired)
        payment = customer.asked(self._path)[first.payment_intent_id]
        if payment.is_open:
            return first
        if payment.canceled_by and (payment.has_paid or payment.acted_s is None):
            return Declined("payment_canceled", "It was canceled.", None, first.payment_intent_id, first.raw)
        return self._verdicts.outcome(request, "charge")

    def _canceled(self, request: GatewayRequest, reply: Reply) -> Reply:
        """Return what became of a cancel that is in the ledger already."""
        payment = customer.asked(self._path).get(request.payment_intent_id or "")
        if payment is None or payment.canceled_by:
            return reply
        return Declined(TOO_LATE, "The customer was faster.", None, request.payment_intent_id, {})


def _asks(request: GatewayRequest) -> bool:
    return request.payment_token in ACTIONS and not request.off_session
