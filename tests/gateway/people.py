"""Who acts at a gateway besides us: the customer, and somebody at its dashboard."""

from __future__ import annotations

import contextlib
import json
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlencode

from payments.gateway.port import ActionRequired
from tests.gateway.servers import ask

CARDS = {
    "good": "4242424242424242",
    "without funds": "4000000000009995",
    "needs its owner": "4000000000003220",
    "needs its owner and declines": "4000008400001629",
    "refunded in days": "4000000000007726",
    "disputed": "4000000000000259",
}
"""Stripe's test cards. Both copies of Stripe take their numbers, which Stripe itself does not take from a shop."""


def made_of_a_card(base: str) -> Callable[[str], str]:
    def make(token: str) -> str:
        card = {"number": CARDS[token], "exp_month": "12", "exp_year": "2034", "cvc": "123"}
        form = {"type": "card"} | {f"card[{name}]": value for name, value in card.items()}
        made = ask("POST", f"{base}/v1/payment_methods", urlencode(form).encode(), Authorization="Bearer sk_test_x")
        return str(json.loads(made)["id"])

    return make


class Nobody:
    """At a gateway that has no such people."""

    def passes(self, action: ActionRequired) -> NoReturn:
        raise AssertionError("the gateway asks no customer")

    def fails(self, action: ActionRequired) -> NoReturn:
        raise AssertionError("the gateway asks no customer")

    def enters(self, action: ActionRequired, token: str) -> NoReturn:
        raise AssertionError("the gateway asks no customer")

    def captures(self, payment_intent_id: str, amount_minor: int) -> NoReturn:
        raise AssertionError("the gateway has no dashboard")

    def cancels(self, payment_intent_id: str) -> NoReturn:
        raise AssertionError("the gateway has no dashboard")

    def refunds(self, payment_intent_id: str, amount_minor: int) -> NoReturn:
        raise AssertionError("the gateway has no dashboard")

    def cancels_refund(self, refund_id: str) -> NoReturn:
        raise AssertionError("the gateway has no dashboard")

    def wins(self, dispute_id: str) -> NoReturn:
        raise AssertionError("the gateway has no dashboard")


@dataclass(frozen=True)
class AtStripe:
    """They use Stripe's API, each as far as it lets him. `token` returns a new payment token for one of TOKENS.

    The bank's check needs a browser. So a customer who passes pays with another card in its place, and one who fails is
    declined as if he were away. Both leave the intent as the check would.
    """

    base: str
    token: Callable[[str], str]
    key: str = "sk_test_x"

    def post(self, path: str, **form: Any) -> dict[str, Any]:
        said = ask("POST", f"{self.base}/v1/{path}", urlencode(form).encode(), Authorization=f"Bearer {self.key}")
        thing: dict[str, Any] = json.loads(said)
        return thing

    def passes(self, action: ActionRequired) -> None:
        self.enters(action, "good")

    def fails(self, action: ActionRequired) -> None:
        with _declined():
            self.post(f"payment_intents/{action.gateway_id}/confirm", off_session="true")

    def enters(self, action: ActionRequired, token: str) -> None:
        method = self.token(token)
        if method.startswith("tok_"):
            method = self.post("payment_methods", **{"type": "card", "card[token]": method})["id"]
        with _declined():
            self._pay(action.gateway_id, method)

    def _pay(self, intent_id: str, method: str) -> None:
        self.post(f"payment_intents/{intent_id}/confirm", payment_method=method)

    def captures(self, payment_intent_id: str, amount_minor: int) -> None:
        self.post(f"payment_intents/{payment_intent_id}/capture", amount_to_capture=amount_minor)

    def cancels(self, payment_intent_id: str) -> None:
        self.post(f"payment_intents/{payment_intent_id}/cancel")

    def refunds(self, payment_intent_id: str, amount_minor: int) -> None:
        self.post("refunds", payment_intent=payment_intent_id, amount=amount_minor)

    def cancels_refund(self, refund_id: str) -> None:
        self.post(f"refunds/{refund_id}/cancel")

    def wins(self, dispute_id: str) -> None:
        self.post(f"disputes/{dispute_id}", **{"evidence[uncategorized_text]": "winning_evidence", "submit": "true"})


class AtLocalstripe(AtStripe):
    """Its own Stripe.js passes and fails the check by one request, for which it needs the intent's secret."""

    def passes(self, action: ActionRequired) -> None:
        with _declined():
            self._is_checked(action, "true")

    def fails(self, action: ActionRequired) -> None:
        self._is_checked(action, "false")

    def _is_checked(self, action: ActionRequired, success: str) -> None:
        secret = action.next_action.client_secret
        self.post(f"payment_intents/{action.gateway_id}/_authenticate", client_secret=secret, success=success)

    def _pay(self, intent_id: str, method: str) -> None:
        self.post(f"payment_intents/{intent_id}", payment_method=method)
        self.post(f"payment_intents/{intent_id}/confirm")


@contextlib.contextmanager
def _declined() -> Any:
    """The bank may decline, which is the customer's to see and nobody else's."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 402:
                raise
