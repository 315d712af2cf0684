"""What the simulated gateway knows of payments beside our books: customers who act, a dashboard's refunds, a bank's disputes.

It keeps in memory what the simulated gateway tells it of (payments/gateway/simulated_bank.py), and what a person does at its
pages (bank_pages.py). What a run has forgotten begins anew: a payment that waits, waits again. No deployment has it.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from local.bank_questions import Call
from payments.domain.money import format_amount

MOST_PAYMENTS = 10_000  # of about 1 kB each; the oldest go
EVIDENCE_TIME = timedelta(days=7)  # the time that Stripe gives for an answer to a dispute

WHEN = {"approve": "waiting", "decline": "waiting", "lapse": "authorized"}
WHEN |= dict.fromkeys(("refund", "fail_refund", "dispute", "won", "lost"), "captured")
"""What a button needs the payment to be."""

AFTER = {"approve": ("authorized", "captured"), "decline": ("declined",), "lapse": ("canceled",)}
"""What it is when somebody has pressed the button already."""


class NotPossible(Exception):
    """The payment is in no state for what a person wants. The message says why."""


@dataclass
class Refund:
    gateway_refund_id: str
    key: str | None  # None: made at the dashboard
    amount_minor: int
    status: str = "succeeded"
    failure_code: str | None = None
    reason: str | None = None


@dataclass
class Dispute:
    gateway_dispute_id: str
    amount_minor: int
    currency: str
    created_at: str
    due_by: str | None
    reason: str = "fraudulent"
    status: str = "needs_response"
    outcome: str | None = None
    is_refundable: bool = False


@dataclass
class Payment:
    """`state` is waiting, declined, canceled, authorized or captured. Amounts are in the currency's minor unit."""

    payment_intent_id: str
    payment_id: str
    order_id: str
    amount_minor: int
    currency: str
    transaction_id: str
    captures: bool
    return_url: str | None
    state: str
    captured_minor: int = 0
    refunds: dict[str, Refund] = field(default_factory=dict)  # by the gateway's id
    disputes: list[Dispute] = field(default_factory=list)

    @property
    def left_minor(self) -> int:
        return self.captured_minor - sum(refund.amount_minor for refund in self.refunds.values() if refund.status != "failed")

    @property
    def is_disputed(self) -> bool:
        """Whether a bank has taken the money back, or may yet."""
        return any(not dispute.is_refundable for dispute in self.disputes)


class Bank:
    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._payments: dict[str, Payment] = {}
        self._events: list[tuple[datetime, dict[str, str]]] = []

    def payment(self, intent: str) -> Payment | None:
        return self._payments.get(intent)

    def payments(self) -> list[Payment]:
        """All of them, the newest last."""
        return list(self._payments.values())

    # What the functions ask.

    def called(self, call: Call) -> dict[str, str | None]:
        """Take a call of the gateway's down. Repeated, it changes nothing. Returns the payment's state, and why it is refused."""
        payment = self._payments.get(call.payment_intent_id)
        if call.kind == "process":
            payment = payment or self._begin(call)
            return {"state": payment.state, "refused": _REFUSES.get(payment.state)}
        if payment is None:  # An earlier run had it.
            return {"state": None, "refused": None}
        act = {"capture": self._capture, "void": self._void, "refund": self._refund}[call.kind]
        return {"refused": act(payment, call), "state": payment.state}

    def _begin(self, call: Call) -> Payment:
        names = {"payment_intent_id", "payment_id", "order_id", "amount_minor", "currency", "transaction_id", "return_url"}
        payment = Payment(**call.model_dump(include=names), captures=call.capture, state="waiting")
        if not call.waits:
            _approve(payment)
        while len(self._payments) >= MOST_PAYMENTS:
            del self._payments[next(iter(self._payments))]
        self._payments[payment.payment_intent_id] = payment
        return payment

    def _capture(self, payment: Payment, call: Call) -> str | None:
        if payment.state == "authorized":
            payment.state, payment.captured_minor = "captured", call.amount_minor
        if payment.captured_minor == call.amount_minor:
            return None
        return "payment_intent_unexpected_state" if payment.captured_minor else "charge_expired"

    def _void(self, payment: Payment, call: Call) -> str | None:  # noqa: ARG002
        if payment.state != "captured":
            payment.state = "canceled"
            return None
        return "payment_intent_unexpected_state"

    def _refund(self, payment: Payment, call: Call) -> str | None:
        refund_id = str(call.refund_id)
        if refund_id in payment.refunds:
            return None
        if payment.is_disputed:
            return "charge_disputed"
        if call.amount_minor > payment.left_minor:
            return "invalid_request_error" if payment.left_minor else "charge_already_refunded"
        payment.refunds[refund_id] = Refund(refund_id, call.key, call.amount_minor)
        return None

    def seen(self, intent: str) -> dict[str, Any] | None:
        if (payment := self._payments.get(intent)) is None:
            return None
        states = {"waiting": "open", "declined": "canceled"}
        return {
            "state": states.get(payment.state, payment.state),
            "transaction_id": payment.transaction_id,
            "captured_minor": payment.captured_minor,
            "currency": payment.currency,
            "refunds": [vars(refund) for refund in payment.refunds.values()],
            "disputes": [vars(dispute) for dispute in payment.disputes],
        }

    def events_since(self, moment: datetime) -> list[dict[str, str]]:
        return [event for at, event in self._events if at >= moment]

    # What a person does.

    def act(self, payment: Payment, action: str, amount: str = "", refund_id: str = "") -> None:
        """Do it, and note an event. What was decided already may be pressed again. Raises NotPossible."""
        if payment.state in AFTER.get(action, ()):
            return
        if payment.state != WHEN.get(action):
            raise NotPossible(STATES[payment.state])
        now, open_dispute = self._clock(), next((one for one in payment.disputes if one.outcome is None), None)
        match action:
            case "approve":
                _approve(payment)
                self._note(
                    payment, "payment_intent.succeeded" if payment.captures else "payment_intent.amount_capturable_updated"
                )
            case "decline":
                payment.state = "declined"
                self._note(payment, "payment_intent.payment_failed")
            case "lapse":
                payment.state = "canceled"
                self._note(payment, "payment_intent.canceled")
            case "refund":
                if why := not_refundable(payment):
                    raise NotPossible(why)
                if not (amount.isascii() and amount.isdecimal() and amount.strip("0")):
                    left = f"{payment.left_minor} is {format_amount(payment.left_minor, payment.currency)}"
                    raise NotPossible(f"The amount is a whole number in the minor unit: {left}.")
                if len(amount) > 12 or (amount_minor := int(amount)) > payment.left_minor:
                    raise NotPossible(f"At most {format_amount(payment.left_minor, payment.currency)} can be given back.")
                made = Refund(f"re_{uuid.uuid4().hex[:24]}", None, amount_minor, reason="made at the dashboard")
                payment.refunds[made.gateway_refund_id] = made
                self._note(payment, "refund.created")
            case "fail_refund":
                refund = payment.refunds.get(refund_id)
                if refund is None:
                    raise NotPossible("There is no such refund.")
                if refund.status != "failed":
                    refund.status, refund.failure_code = "failed", "expired_or_canceled_card"
                    self._note(payment, "refund.failed")
            case "dispute":
                if open_dispute:
                    return
                if not_refundable(payment):
                    raise NotPossible("Nothing is left to dispute.")
                made_at, due_by = now.isoformat(), (now + EVIDENCE_TIME).isoformat()
                gateway_dispute_id = f"dp_{uuid.uuid4().hex[:24]}"
                payment.disputes.append(Dispute(gateway_dispute_id, payment.left_minor, payment.currency, made_at, due_by))
                self._note(payment, "charge.dispute.created")
            case _:  # won, lost
                if open_dispute is None:
                    raise NotPossible("There is no open dispute.")
                open_dispute.status = open_dispute.outcome = action
                open_dispute.due_by, open_dispute.is_refundable = None, action == "won"
                self._note(payment, "charge.dispute.closed")

    def _note(self, payment: Payment, what: str) -> None:
        at = self._clock()
        event = {"event_id": f"evt_{uuid.uuid4().hex[:24]}", "type": what, "created_at": at.isoformat()}
        self._events.append((at, event | {"payment_intent_id": payment.payment_intent_id, "payment_id": payment.payment_id}))


def _approve(payment: Payment) -> None:
    payment.state = "captured" if payment.captures else "authorized"
    payment.captured_minor = payment.amount_minor if payment.captures else 0


_REFUSES = {"declined": "card_declined", "canceled": "payment_canceled"}
STATES = {
    "waiting": "The shop asks you to confirm this payment.",
    "authorized": "The payment was approved. The shop may take the money, which is held for it.",
    "captured": "The payment was approved, and the shop has the money.",
    "declined": "The payment was declined.",
    "canceled": "The payment was canceled, so nothing can be approved any more.",
}


def not_refundable(payment: Payment) -> str | None:
    if payment.is_disputed:
        return "The payment is disputed, so nothing can be given back."
    return None if payment.left_minor else "Nothing can be given back any more."
