"""The Luhn check as textbooks have it. It shares no code with the filter."""

from __future__ import annotations


def luhn_digit(digits: str) -> str:
    """Return the digit that makes `digits` a Luhn number."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value // 10 + value % 10
    return str(-total % 10)
