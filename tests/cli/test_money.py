from __future__ import annotations

import pytest

from payments.domain.currencies import MINOR_UNIT_DIGITS
from payments.domain.money import format_amount as as_the_service_logs_it
from payments_cli.money import format_amount, minor_digits, parse_amount


@pytest.mark.parametrize(
    ("text", "known", "amount_minor", "currency"),
    [
        ("19.99 USD", None, 1999, "USD"),
        ("19.99USD", None, 1999, "USD"),
        ("USD 19.99", None, 1999, "USD"),
        ("  19.9 usd ", None, 1990, "USD"),
        ("19 USD", None, 1900, "USD"),
        ("0.01 EUR", None, 1, "EUR"),
        ("0.10 EUR", None, 10, "EUR"),
        ("1500 JPY", None, 1500, "JPY"),
        ("1.005 KWD", None, 1005, "KWD"),
        ("0.0001 UYW", None, 1, "UYW"),
        ("0001.50 USD", None, 150, "USD"),
        ("9999999999.99 USD", None, 999_999_999_999, "USD"),
        ("90071992547409.93 USD", None, 9_007_199_254_740_993, "USD"),  # a float would make it .92
        ("5", "USD", 500, "USD"),
        ("5.25", "EUR", 525, "EUR"),
        ("900", "JPY", 900, "JPY"),
        ("5 EUR", "EUR", 500, "EUR"),
    ],
)
def test_an_amount_is_read_exactly(text: str, known: str | None, amount_minor: int, currency: str) -> None:
    assert parse_amount(text, known) == (amount_minor, currency)


@pytest.mark.parametrize(
    ("text", "known", "reason"),
    [
        ("19.999 USD", None, "2 decimals"),
        ("19.990 USD", None, "2 decimals"),
        ("1500.0 JPY", None, "no decimals"),
        ("9.00", "JPY", "no decimals"),
        ("19.99", None, "lacks its currency"),
        ("19.99 XXX", None, "not a currency for payments"),
        ("1 XAU", None, "not a currency for payments"),
        ("19.99 QQQ", None, "not a currency for payments"),
        ("USD 19.99 USD", None, "twice"),
        ("5 EUR", "USD", "the currency is USD"),
        ("19,99 EUR", None, "a point before decimals"),
        ("1,299.00 USD", None, "a point before decimals"),
        ("1 299.00 USD", None, "a point before decimals"),
        ("$5", None, "not an amount"),
        ("-5 USD", None, "not an amount"),
        ("+5 USD", None, "not an amount"),
        ("1e3 USD", None, "not an amount"),
        (".50 USD", None, "not an amount"),
        ("5. USD", None, "not an amount"),
        ("١٢ USD", None, "not an amount"),
        ("USD", None, "not an amount"),
        ("", "USD", "not an amount"),
    ],
)
def test_an_amount_is_never_guessed_or_rounded(text: str, known: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_amount(text, known)


def test_currencies_are_those_of_the_service() -> None:
    assert {code: minor_digits(code) for code in MINOR_UNIT_DIGITS} == MINOR_UNIT_DIGITS
    assert [minor_digits(code) for code in ("XXX", "XTS", "XAU", "usd", "")] == [None] * 5


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD", "UYW"])
@pytest.mark.parametrize("amount_minor", [0, 1, 10, 99, 100, 12_345, 999_999_999_999])
def test_an_amount_is_shown_so_that_it_can_be_typed_in_again(amount_minor: int, currency: str) -> None:
    shown = format_amount(amount_minor, currency)
    assert parse_amount(shown) == (amount_minor, currency)
    assert shown == as_the_service_logs_it(amount_minor, currency)


def test_a_currency_that_is_no_more_is_shown_in_minor_units() -> None:
    assert format_amount(1999, "QQQ") == "1999 minor units of QQQ"
