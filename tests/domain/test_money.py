from __future__ import annotations

import iso4217
import pytest

from payments.domain.currencies import MINOR_UNIT_DIGITS
from payments.domain.money import MAX_AMOUNT_MINOR, format_amount


@pytest.mark.parametrize(
    ("amount_minor", "currency", "shown"),
    [
        (1999, "USD", "19.99 USD"),
        (1, "USD", "0.01 USD"),
        (10, "EUR", "0.10 EUR"),
        (100, "EUR", "1.00 EUR"),
        (0, "EUR", "0.00 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (-1999, "USD", "-19.99 USD"),
        (1999, "JPY", "1999 JPY"),
        (0, "JPY", "0 JPY"),
        (1999, "KWD", "1.999 KWD"),
        (7, "KWD", "0.007 KWD"),
        (12345, "CLF", "1.2345 CLF"),
        (MAX_AMOUNT_MINOR, "USD", "9999999999.99 USD"),
        (1001, "BGN", "1001 minor units of BGN"),  # Bulgaria has the euro since 2026
    ],
)
def test_an_amount_is_shown_with_the_currencys_own_decimals(amount_minor: int, currency: str, shown: str) -> None:
    assert format_amount(amount_minor, currency) == shown


def test_currencies_are_those_of_iso_4217_that_have_a_minor_unit() -> None:
    official = {currency.code: currency.exponent for currency in iso4217.Currency if currency.exponent is not None}
    by_digits: dict[int, list[str]] = {}
    for code, digits in sorted(official.items()):
        by_digits.setdefault(digits, []).append(code)
    table = "\n".join(f"{digits}: {' '.join(codes)}" for digits, codes in sorted(by_digits.items()))
    assert official == MINOR_UNIT_DIGITS, f"paste this into currencies.py:\n{table}"


@pytest.mark.parametrize("code", ["XXX", "XTS", "XAU", "XDR", "usd", "US", "DEM"])
def test_what_nobody_can_pay_in_is_not_a_currency(code: str) -> None:
    assert code not in MINOR_UNIT_DIGITS
