"""Records of a topic that are no payment event of ours, for everything that reads the topic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

HEADERS = {
    "ce_specversion": "1.0",
    "ce_id": "e1",
    "ce_source": "urn:payments:service",
    "ce_type": "payment.successful",
    "ce_time": "2026-01-31T12:00:00.000000Z",
    "ce_subject": "p",
    "ce_sequence": "0000000001",
    "content-type": "application/json",
}
PAYMENT = {"payment_id": "p", "order_id": "o", "status": "CAPTURED", "amount": 1999, "amount_captured": 1999, "currency": "USD"}

Headers = Sequence[tuple[str, bytes | None]]


def headers(**changes: str | None) -> Headers:
    """The headers of an event, changed: a name without `ce_` and its value."""
    changed = HEADERS | {f"ce_{name}": value for name, value in changes.items()}
    return [(name, None if value is None else value.encode()) for name, value in changed.items()]


def value(**changes: Any) -> bytes:
    return json.dumps(PAYMENT | changes).encode()


FOREIGN: dict[str, tuple[bytes | None, Headers]] = {
    "no headers": (value(), []),
    "no JSON": (b"not JSON", headers()),
    "other JSON": (b"[1]", headers()),
    "a JSON text": (b'"paid"', headers()),
    "an empty object": (b"{}", headers()),
    "no UTF-8": (b"\xff\xfe", headers()),
    "a tombstone": (None, headers()),
    "an id that is null": (value(), [("ce_id", None)]),
}
"""Value and headers by a name."""

ODD: dict[str, tuple[bytes | None, Headers]] = {
    "a time that is none": (value(), headers(time="yesterday")),
    "an amount that is text": (value(amount="1999", amount_captured="1999"), headers()),
    "an order that is a number": (value(order_id=7), headers()),
    "a refund that is text": (value(refund="5"), headers()),
    "a status that is null": (value(status=None), headers()),
}
"""Records that are nearly events. A reader may skip them or show what it can; it must go on."""

UNKNOWN_CURRENCY = (value(currency="BGN"), headers(id="e-bgn"))

SENDABLE = [record for record in (FOREIGN | ODD).values() if all(text is not None for _, text in record[1])]
"""All of these that kafka-python sends: it has no null header, which other clients do have."""
