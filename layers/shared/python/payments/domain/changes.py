"""What can happen to a payment. `apply` in payment.py says what it does to one, and the table below which event tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ProcessingStarted:
    """The claim is written; the gateway will be called next."""


@dataclass(frozen=True, slots=True)
class ActionNeeded:
    """No money has moved: the gateway waits for the customer."""

    payment_intent_id: str
    transaction_id: str | None


# Those without slots name their fields as the payment does, and `apply` copies them with `vars`.


@dataclass(frozen=True)
class Authorized:
    transaction_id: str
    payment_intent_id: str
    capture_before: datetime


@dataclass(frozen=True)
class Captured:
    """The gateway took the money, at once or from an authorization. It releases the rest of an authorization."""

    captured_minor: int
    transaction_id: str
    payment_intent_id: str


@dataclass(frozen=True)
class Failed:
    decline_code: str
    error_message: str
    transaction_id: str | None
    payment_intent_id: str | None


@dataclass(frozen=True, slots=True)
class Voided:
    """`decline_code` says why nobody paid, if the payment waited for its customer and no void of ours ended it."""

    reason: str
    decline_code: str | None = None


@dataclass(frozen=True, slots=True)
class RefundReserved:
    """A refund claimed this amount, before the gateway is called. CLAIM_REFUND (store/claims_on_payment.py) writes the same."""

    amount_minor: int


@dataclass(frozen=True, slots=True)
class RefundSucceeded:
    amount_minor: int


@dataclass(frozen=True, slots=True)
class RefundFailed:
    """The gateway declined the refund, so its amount is no longer reserved."""

    amount_minor: int
    decline_code: str


@dataclass(frozen=True, slots=True)
class RefundReversed:
    """A refund that had succeeded failed after all, so the gateway has its amount again."""

    amount_minor: int
    decline_code: str


# The next two leave the payment as it is. It shows why, until a later capture or void succeeds.


@dataclass(frozen=True)
class CaptureFailed:
    decline_code: str
    error_message: str


@dataclass(frozen=True)
class VoidFailed:
    decline_code: str
    error_message: str


# A dispute leaves the payment as it is: the gateway leads it, and the table of disputes shows it. The reason is for the history.


@dataclass(frozen=True, slots=True)
class Disputed:
    """The customer's bank asks for money back, or for something else than before."""

    reason: str


@dataclass(frozen=True, slots=True)
class DisputeClosed:
    reason: str


Ended = Authorized | Captured | Failed | Voided | RefundSucceeded | RefundFailed | RefundReversed | CaptureFailed | VoidFailed
"""The changes of a settle. Each is an outcome that somebody waits for."""

Published = ActionNeeded | Disputed | DisputeClosed | Ended
"""Each of these has its event and its entry in the history."""

Change = ProcessingStarted | RefundReserved | Published
"""The first two are the changes of a claim, which nobody waits for."""

EVENT_TYPES: Mapping[type[Published], str] = {
    ActionNeeded: "payment.requires_action",
    Authorized: "payment.authorized",
    Captured: "payment.successful",
    Failed: "payment.failed",
    Voided: "payment.voided",
    RefundSucceeded: "payment.refunded",
    RefundFailed: "payment.refund_failed",
    RefundReversed: "payment.refund_failed",
    CaptureFailed: "payment.capture_failed",
    VoidFailed: "payment.void_failed",
    Disputed: "payment.disputed",
    DisputeClosed: "payment.dispute_closed",
}
"""A test fails when one is missing."""
