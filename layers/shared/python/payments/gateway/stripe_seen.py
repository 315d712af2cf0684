"""What Stripe has of a payment at one moment, whoever did it: an intent with its refunds and disputes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from payments.gateway.port import Seen, SeenDispute, SeenRefund
from payments.gateway.stripe_amounts import from_stripe

Thing = Mapping[str, Any]

STATES: Mapping[str, Literal["authorized", "captured", "canceled"]] = {
    "requires_capture": "authorized",
    "succeeded": "captured",
    "canceled": "canceled",
}
"""By the status of an intent. In any other one nothing is decided."""

REFUNDS: Mapping[str, Literal["pending", "succeeded", "failed"]] = {
    "pending": "pending",
    "requires_action": "pending",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "failed",
}
"""By the status of a refund. Stripe documents that it may be null, which is not the end."""

OUTCOMES: Mapping[str, Literal["won", "lost", "closed"]] = {
    "won": "won",
    "lost": "lost",
    "warning_closed": "closed",
    "prevented": "closed",
}
"""By the status of a dispute that is over. A warning is the bank's inquiry, which takes no money."""

WAITS_FOR_EVIDENCE = frozenset({"needs_response", "warning_needs_response"})


def seen(intent: Thing, refunds: Sequence[Thing], disputes: Sequence[Thing]) -> Seen:
    """Return them in our words, newest first, as Stripe lists them.

    Raises KeyError, TypeError or ValueError for what Stripe's documents do not know.
    """
    currency = intent["currency"].upper()
    return Seen(
        state=STATES.get(intent["status"], "open"),
        transaction_id=charge_of(intent)[0],
        captured_minor=from_stripe(intent["amount_received"], currency),
        currency=currency,
        refunds=[_refund(refund) for refund in refunds],
        disputes=[_dispute(dispute) for dispute in disputes],
        cancel_reason=intent.get("cancellation_reason"),
    )


def charge_of(thing: Thing) -> tuple[str | None, Thing]:
    """Return the id of an intent's or refund's charge, and the charge itself if the answer has it."""
    charge = thing.get("latest_charge") or thing.get("charge")
    return (charge["id"], charge) if isinstance(charge, dict) else (charge, {})


def key_of(thing: Thing) -> str | None:
    """Return the key of the operation that made an intent or a refund; None if others did."""
    key: str | None = (thing["metadata"] or {}).get("gateway_key")
    return key


def end_of(refund: Thing) -> tuple[Literal["pending", "succeeded", "failed"], str | None]:
    """Return how a refund stands, and why it failed, if it has. Raises KeyError for a status that Stripe does not document."""
    status = REFUNDS[refund["status"] or "pending"]
    return status, refund.get("failure_reason") or "processing_error" if status == "failed" else None


def _refund(refund: Thing) -> SeenRefund:
    status, failure_code = end_of(refund)
    return SeenRefund(
        gateway_refund_id=refund["id"],
        key=key_of(refund),
        amount_minor=from_stripe(refund["amount"], refund["currency"].upper()),
        status=status,
        failure_code=failure_code,
        reason=refund.get("reason"),
    )


def _dispute(dispute: Thing) -> SeenDispute:
    currency = dispute["currency"].upper()
    # The date stays when the evidence is in, and is 0 if the bank takes none.
    due_by = (dispute["evidence_details"] or {}).get("due_by") if dispute["status"] in WAITS_FOR_EVIDENCE else None
    return SeenDispute(
        gateway_dispute_id=dispute["id"],
        amount_minor=from_stripe(dispute["amount"], currency),
        currency=currency,
        reason=dispute["reason"],
        status=dispute["status"],
        outcome=OUTCOMES.get(dispute["status"]),
        due_by=datetime.fromtimestamp(due_by, UTC) if due_by else None,
        is_refundable=dispute["is_charge_refundable"],
        created_at=datetime.fromtimestamp(dispute["created"], UTC),
    )
