"""A gateway without a network. It stands where Stripe or PayPal will.

It keeps no state and draws no random numbers. Outcome, delay and ids are an HMAC of (seed, key), so the same key gets the same
answer in every process, as a real gateway's idempotency promises. A lost reply also depends on the attempt, because a second call
may get through where the first did not.

Scenario tokens override the rates: `tok_ok`, `tok_<decline code>` for each decline, `tok_timeout_then_captured`,
`tok_timeout_then_declined`, `tok_capture_declined`, `tok_void_declined`, `tok_refund_declined`, `tok_refund_timeout`, `tok_slow`.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from payments.domain.declines import DECLINE_MESSAGES
from payments.gateway.port import Approved, Declined, GatewayRequest, Reply, Unknown

DECLINE_CODES = tuple(code for code in DECLINE_MESSAGES if code != "generic_decline")

SLOW_S = 3.0
"""`tok_slow`: long enough to watch a request in flight from a second terminal, shorter than all our time-outs."""


@dataclass(frozen=True, slots=True)
class SimulatedGateway:
    """Rates are fractions from 0 to 1. Each key has a delay between the two of `delay_ms` (lowest, highest)."""

    success_rate: float = 0.95
    delay_ms: tuple[int, int] = (50, 200)
    seed: str = "payments"
    lost_reply_rate: float = 0.0
    sleep: Callable[[float], None] = lambda delay_s: time.sleep(delay_s) if delay_s else None

    def charge(self, request: GatewayRequest) -> Reply:
        token = request.payment_token
        declined = token == "tok_timeout_then_declined" or (token == "tok_capture_declined" and request.capture)
        decline = "card_declined" if declined else self._decline(request)
        lost = token in ("tok_timeout_then_captured", "tok_timeout_then_declined")
        return self._answer(request, "charge", decline, lost)

    def capture(self, request: GatewayRequest) -> Reply:
        return self._on_charge(request, "capture")

    def void(self, request: GatewayRequest) -> Reply:
        return self._on_charge(request, "void")

    def refund(self, request: GatewayRequest) -> Reply:
        return self._on_charge(request, "refund", lost=request.payment_token == "tok_refund_timeout")

    def _on_charge(self, request: GatewayRequest, action: str, *, lost: bool = False) -> Reply:
        """Answer a call on an earlier charge, which a scenario token alone declines."""
        decline = "card_declined" if request.payment_token == f"tok_{action}_declined" else None
        return self._answer(request, action, decline, lost)

    def _decline(self, request: GatewayRequest) -> str | None:
        token = request.payment_token or ""
        if token in SCENARIO_TOKENS:
            code = token.removeprefix("tok_")
            return code if code in DECLINE_CODES else None
        if self._fraction("outcome", request.key) < self.success_rate:
            return None
        return DECLINE_CODES[int(self._fraction("decline", request.key) * len(DECLINE_CODES))]

    def _answer(self, request: GatewayRequest, action: str, decline: str | None, lost: bool) -> Reply:
        lowest, highest = self.delay_ms
        delay_s = (lowest + (highest - lowest) * self._fraction("delay", request.key)) / 1000
        if request.payment_token == "tok_slow" and action == "charge":
            delay_s = SLOW_S
        if delay_s > request.timeout_s:
            self.sleep(request.timeout_s)
            return Unknown(f"no answer within {request.timeout_s:.1f} s")
        self.sleep(delay_s)
        attempt = f"{request.key}#{request.attempt}"
        if (lost and request.attempt == 1) or self._fraction("lost", attempt) < self.lost_reply_rate:
            return Unknown("the reply was lost")
        transaction_id = request.transaction_id or "txn_" + self._hex("transaction", request.key)
        payment_intent_id = request.payment_intent_id or "pi_" + self._hex("intent", request.key)
        raw = {"gateway": "simulated", "action": action, "id": "sim_" + self._hex(action, request.key)}
        if decline is None:
            return Approved(transaction_id, payment_intent_id, raw | {"result": "approved"})
        return Declined(decline, DECLINE_MESSAGES[decline], transaction_id, payment_intent_id, raw | {"result": "declined"})

    def _hex(self, purpose: str, key: str) -> str:
        return hmac.digest(self.seed.encode(), f"{purpose}:{key}".encode(), hashlib.sha256).hex()[:24]

    def _fraction(self, purpose: str, key: str) -> float:
        """Return a number in [0, 1) that depends on the seed, the purpose and the key alone."""
        return int(self._hex(purpose, key)[:13], 16) / 16**13


_OF_CHARGES = ("ok", "slow", "timeout_then_captured", "timeout_then_declined", *DECLINE_CODES)
_OF_LATER_CALLS = ("capture_declined", "void_declined", "refund_declined", "refund_timeout")
SCENARIO_TOKENS = frozenset(f"tok_{name}" for name in _OF_CHARGES + _OF_LATER_CALLS)
