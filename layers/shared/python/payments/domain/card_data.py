"""The card filter. It refuses requests with card data, so that the database never holds a card number, and cleans log lines.

A card number is a Luhn-valid run of 13 to 19 digits that starts with 2 to 6 (the first digits of ISO/IEC 7812). Single
spaces or dashes may divide it; no letter or digit stands beside it. A value that is wholly a UUID, a `txn_` or `pi_` id or a
trace header is exempt: 0.8 % of UUIDs would pass as card numbers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from payments.domain.errors import CardDataNotAccepted

_EXEMPT = (
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?:txn|pi)_[0-9A-Za-z_]+(?![ -]?[0-9])"
    r"|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
    r"|Root=1-[0-9a-f]{8}-[0-9a-f]{24}[0-9A-Za-z=;:-]*"
)
_IS_EXEMPT = re.compile(_EXEMPT)
_RUN = r"[0-9]+(?:[ -][0-9]+)*"
_DIGITS = re.compile(rf"(?<![0-9A-Za-z]){_RUN}(?![0-9A-Za-z])")
_IN_TEXT = re.compile(rf"(?<![0-9A-Za-z])(?:(?P<exempt>{_EXEMPT})|(?P<run>{_RUN}))(?![0-9A-Za-z])")
_FIELD_NAMES = re.compile(
    "cvv2?|cvc2?|cid|pan|card(number|no|cvv|cvc|securitycode|verificationvalue)|cc(number|num)|securitycode"
    "|primaryaccountnumber|track[12]|trackdata"
)

REMOVED = "[card number removed]"


def refuse_card_data(value: object) -> None:
    """Raise CardDataNotAccepted when a string, number or key in a JSON value looks like card data."""
    for name, text in _texts(value):
        if _FIELD_NAMES.fullmatch(re.sub(r"[^a-z0-9]", "", name.casefold())) or contains_card_number(text):
            raise CardDataNotAccepted(
                "The request holds something that looks like a card number or a security code. Send a payment_token instead."
            )


def contains_card_number(text: str) -> bool:
    if len(text) < 13 or _IS_EXEMPT.fullmatch(text):
        return False
    return any(_card_numbers(run) for run in _DIGITS.findall(_as_typed(text)))


def redact(text: str) -> str:
    """Return the text with every card number replaced. It is the last step before a log line leaves the process."""
    typed = _as_typed(text)
    cleaned = _IN_TEXT.sub(lambda match: REMOVED if match["run"] and _card_numbers(match["run"]) else match[0], typed)
    return text if cleaned == typed else cleaned


def _as_typed(text: str) -> str:
    """Return the text with plain digits, spaces and dashes in place of full-width digits, no-break spaces and long dashes."""
    return text if text.isascii() else re.sub("[\u2010-\u2015\u2212]", "-", unicodedata.normalize("NFKC", text))


def _texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield "", key
            yield from _texts(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)
    elif value is not None and not isinstance(value, bool):
        yield name, value if isinstance(value, str) else str(value)


def _card_numbers(run: str) -> bool:
    """Return whether some whole groups of the run, such as `4242 4242 4242 4242` behind an order number, are a card number."""
    if len(run) < 13:
        return False
    groups = re.split("[ -]", run)
    for start in range(len(groups)):
        digits = ""
        for group in groups[start:]:
            digits += group
            if len(digits) > 19:
                break
            if len(digits) >= 13 and digits[0] in "23456" and _passes_luhn(digits):
                return True
    return False


def _passes_luhn(digits: str) -> bool:
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (sum(int(digit) for digit in digits[-1::-2]) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0
