"""Stripe's events, which we take for hints: of each we keep the ids, and ask Stripe for the present state."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from payments.gateway.port import Hint

EVENT_TYPES = (
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "payment_intent.processing",
    "payment_intent.amount_capturable_updated",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
)
"""What moves our books. Stripe tells captures and lapsed authorizations of the intent as well as of its charge, so the events of
charges are left out. So is `payment_intent.requires_action`, which our own call is told."""

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,255}", re.ASCII)


def hint_of(event: Mapping[str, Any]) -> Hint:
    """Return the ids of an event. Raises ValueError for what is none.

    Of an object that belongs to no payment, both ids of the payment are None.
    """
    try:
        thing = event["data"]["object"]
        intent_id = thing.get("id") if thing.get("object") == "payment_intent" else thing.get("payment_intent")
        return Hint(
            event_id=_word(event["id"]),
            type=_word(event["type"]),
            created_at=datetime.fromtimestamp(event["created"], UTC),
            payment_intent_id=_word(intent_id) if intent_id is not None else None,
            payment_id=_our_id((thing.get("metadata") or {}).get("payment_id")),
        )
    except (AttributeError, KeyError, OSError, OverflowError, TypeError, ValueError):
        raise ValueError("it is no event of Stripe's") from None


def _word(text: str) -> str:
    """Return an id or a type. Raises ValueError or TypeError for what our books could not hold."""
    if not _WORD.fullmatch(text):
        raise ValueError
    return text


def _our_id(text: object) -> UUID | None:
    """Return the payment's id, and None for what others have written in its place."""
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None
