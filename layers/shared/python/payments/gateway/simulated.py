"""A gateway without a network, for trying things out and for tests. `payments/gateway/stripe.py` is a real one.

It keeps no state and draws no random numbers. Outcome, delay and ids are an HMAC of (seed, key), so the same key gets the same
answer in every process, as a real gateway's idempotency promises. A lost reply also depends on the attempt, because a second call
may get through where the first did not.

Scenario tokens override the rates (simulated_scenarios.py).
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from payments.domain.declines import KNOWN_DECLINES
from payments.domain.operation import GATEWAY_KEY_LIFETIME_S
from payments.gateway import simulated_scenarios as scenarios
from payments.gateway.port import Approved, Declined, GatewayRequest, Hint, Reply, Seen, Unknown
from payments.gateway.simulated_scenarios import DECLINE_CODES, RAW, SCENARIO_TOKENS


@dataclass(frozen=True, slots=True)
class SimulatedGateway:
    """Rates are fractions from 0 to 1. Each key has a delay between the two of `delay_ms` (lowest, highest)."""

    success_rate: float = 0.95
    delay_ms: tuple[int, int] = (50, 200)
    seed: str = "payments"
    lost_reply_rate: float = 0.0
    sleep: Callable[[float], None] = lambda delay_s: time.sleep(delay_s) if delay_s else None
    name: ClassVar[str] = "simulated"

    def key_lifetime_s(self, kind: str) -> float:  # noqa: ARG002
        """It knows its keys for ever, but the functions do as with most gateways."""
        return GATEWAY_KEY_LIFETIME_S

    def refuses(self, *_: object, **__: object) -> tuple[str, str] | None:
        """It takes everything."""

    def charge(self, request: GatewayRequest) -> Reply:
        return self._call(request, "charge")

    def capture(self, request: GatewayRequest) -> Reply:
        return self._call(request, "capture")

    def void(self, request: GatewayRequest) -> Reply:
        return self._call(request, "void")

    def refund(self, request: GatewayRequest) -> Reply:
        return self._call(request, "refund")

    def find(self, request: GatewayRequest) -> Reply:
        """Return what a call with the key comes to. It keeps no state, so it cannot tell whether there was one."""
        action = "charge" if request.kind == "process" else request.kind
        requires_action = request.payment_token == scenarios.REQUIRES_ACTION_TOKEN
        return (requires_action and scenarios.unfinished(request, action, self._hex)) or self.outcome(request, action)

    def look(self, payment_intent_id: str, timeout_s: float) -> Seen | None:  # noqa: ARG002
        """It keeps no state, so nobody can have done anything to a payment."""
        return None

    def undelivered(self, *_: object) -> Iterable[Hint]:
        return ()

    def _call(self, request: GatewayRequest, action: str) -> Reply:
        lowest, highest = self.delay_ms
        delay_s = (lowest + (highest - lowest) * self._fraction("delay", request.key)) / 1000
        if request.payment_token == "tok_slow" and action == "charge":
            delay_s = scenarios.SLOW_S
        if delay_s > request.timeout_s:
            self.sleep(request.timeout_s)
            return Unknown(f"no answer within {request.timeout_s:.1f} s")
        self.sleep(delay_s)
        if self._fraction("lost", f"{request.key}#{request.attempt}") < self.lost_reply_rate:
            return Unknown("the reply was lost")
        is_scenario = request.payment_token in SCENARIO_TOKENS
        return (is_scenario and scenarios.unfinished(request, action, self._hex)) or self.outcome(request, action)

    def outcome(self, request: GatewayRequest, action: str) -> Approved | Declined:
        """Return what the call comes to in the end."""
        decline = self._decline(request, action)
        transaction_id = request.transaction_id or ("" if action == "void" else "txn_" + self._hex("transaction", request.key))
        ids = transaction_id, request.payment_intent_id or "pi_" + self._hex("intent", request.key)
        raw = RAW | {"action": action, "id": "sim_" + self._hex(action, request.key)}
        if decline is None:
            amount_minor = request.amount_minor + (action == "charge" and request.payment_token == "tok_wrong_amount")
            refund_id = "re_" + self._hex("refund", request.key) if action == "refund" else None
            return Approved(*ids, amount_minor, request.currency, raw | {"result": "approved"}, refund_id=refund_id)
        return Declined(decline, KNOWN_DECLINES[decline], *ids, raw | {"result": "declined"})

    def _decline(self, request: GatewayRequest, action: str) -> str | None:
        if action != "charge":  # A scenario token alone declines a call on an earlier charge.
            return "card_declined" if request.payment_token == f"tok_{action}_declined" else None
        if request.payment_token in SCENARIO_TOKENS:
            return scenarios.decline_of(request)
        if self._fraction("outcome", request.key) < self.success_rate:
            return None
        return DECLINE_CODES[int(self._fraction("decline", request.key) * len(DECLINE_CODES))]

    def _hex(self, purpose: str, key: str) -> str:
        return hmac.digest(self.seed.encode(), f"{purpose}:{key}".encode(), hashlib.sha256).hex()[:24]

    def _fraction(self, purpose: str, key: str) -> float:
        """Return a number in [0, 1) that depends on the seed, the purpose and the key alone."""
        return int(self._hex(purpose, key)[:13], 16) / 16**13
