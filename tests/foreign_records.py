"""Records of a topic that are no payment event of ours, for everything that reads the topic."""

from __future__ import annotations

import json
import math
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
    "100,000 brackets": (b"[" * 100_000, headers()),
    "100,000 objects": (b'{"a":' * 100_000, headers()),
    "brackets in a payment": (b'{"payment_id": ' + b"[" * 100_000, headers()),
    "a number of 5,000 digits": (value(amount="N", amount_captured="N").replace(b'"N"', b"9" * 5000), headers()),
    "a number of 40 digits": (value(amount=10**40, amount_captured=10**40), headers()),
    "an amount that is NaN": (value(amount=math.nan, amount_captured=math.nan), headers()),
    "an amount that is infinite": (value(amount=math.inf, amount_captured=math.inf), headers()),
    "an amount with decimals": (value(amount=19.99, amount_captured=19.99), headers()),
    "an amount that is true": (value(amount=True, amount_captured=True), headers()),
    "an amount below zero": (value(amount=-5, amount_captured=-5), headers()),
    "an amount that is null": (value(amount=None, amount_captured=None), headers()),
    "an amount that is a list": (value(amount=[1], amount_captured=[1]), headers()),
    "half a character in the order": (value(order_id="\ud800"), headers()),
    "half a character in the currency": (value(currency="\udfff"), headers()),
    "half a character in the status": (value(status="\ud800"), headers()),
    "a payment that is a number": (value(payment_id=7), headers()),
    "a payment that is a list": (value(payment_id=["p"]), headers()),
    "a currency that is a list": (value(currency=["USD"]), headers()),
    "a currency that is null": (value(currency=None), headers()),
    "a currency that is a number, the second time": (value()[:-1] + b', "currency": 7}', headers()),
}
"""Value and headers by a name."""

ODD: dict[str, tuple[bytes | None, Headers]] = {
    "a time that is none": (value(), headers(time="yesterday")),
    "an amount that is text": (value(amount="1999", amount_captured="1999"), headers()),
    "an order that is a number": (value(order_id=7), headers()),
    "a refund that is text": (value(refund="5"), headers()),
    "a status that is null": (value(status=None), headers()),
    "a time at the end of the calendar": (value(), headers(time="9999-12-31T23:59:59.999999Z")),
    "a time at its beginning": (value(), headers(time="0001-01-01T00:00:00+14:00")),
    "no subject": (value(), [header for header in headers() if header[0] != "ce_subject"]),
    "NaN somewhere": (value(metadata={"a": math.nan}), headers()),
    "half a character somewhere": (value(metadata={"a": "\ud800"}), headers()),
    "an order that acts on a terminal": (value(order_id="\x1b[2J\nfake"), headers()),
    "a type that acts on a terminal": (value(), headers(type="\x1b[31m")),
    "a refund that is a list": (value(refund=[]), headers()),
    "a refund that is null": (value(refund=None), headers()),
    "a refund whose amount is true": (value(refund={"amount": True, "currency": "USD"}), headers(type="payment.refunded")),
    "a refund whose currency is a list": (value(refund={"amount": 1, "currency": []}), headers(type="payment.refunded")),
}
"""Records that are nearly events. A reader may skip them or show what it can; it must go on."""

REFUSAL = {
    "type": "urn:payments:problem:invalid_request", "title": "The request is not valid", "status": 422,
    "detail": "Correct the fields in `errors`.", "code": "invalid_request", "request_id": "r", "retryable": False,
    "errors": [{"location": "currency", "message": "must be an ISO 4217 currency code"}],
    "operation": "process", "order_id": "o", "idempotency_key": "k",
}  # fmt: skip
"""The value of a payment.refused, which has no payment."""
EVENTS: dict[str, tuple[bytes | None, Headers]] = {
    "as we send it": (value(), headers()),
    "a number without leading zeros": (value(), headers(sequence="12")),
    "another program's header that is no UTF-8": (value(), [*headers(), ("trace-bin", b"\xff\xfe")]),
    "another program's header that is null": (value(), [*headers(), ("x", None)]),
    "headers twice": (value(), [*headers(), *headers()]),
    "members that we do not know yet": (value(loyalty={"points": [1]}), headers()),
    "a type that we do not know yet": (value(), headers(type="payment.disputed")),
}
"""Records that every reader reads."""

UNKNOWN_CURRENCY = (value(currency="BGN"), headers(id="e-bgn"))

SENDABLE = [record for record in (FOREIGN | ODD).values() if all(text is not None for _, text in record[1])]
"""All of these that kafka-python sends: it has no null header, which other clients do have."""
