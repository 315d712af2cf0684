"""Stripe's amounts of all currencies. No server shows them: the tables here repeat Stripe's documents by hand."""

from __future__ import annotations

import ast

import pytest

from payments.domain.currencies import MINOR_UNIT_DIGITS
from payments.gateway.stripe_amounts import LARGEST, MULTIPLES, NOT_TAKEN, SMALLEST, from_stripe, refuses, to_stripe
from tests.cases import case
from tests.gateway.servers import SITE

ZERO_DECIMALS = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
"""Stripe's list of zero-decimal currencies without UGX, which is on it and has an exception of its own, as ISK has."""

THREE_DECIMALS = "BHD JOD KWD OMR TND"


def stripes_decimals(currency: str) -> int:
    return 0 if currency in ZERO_DECIMALS else 3 if currency in THREE_DECIMALS else 2


def test_one_whole_unit_of_each_currency_is_what_stripes_documents_say() -> None:
    for currency, digits in MINOR_UNIT_DIGITS.items():
        with case(currency):
            unit_minor = 10**digits
            refused = refuses(unit_minor, currency, is_part=True)
            if currency in NOT_TAKEN:
                assert refused and refused[0] == "currency"
                with pytest.raises(ValueError, match=currency):
                    to_stripe(unit_minor, currency)
                continue
            assert refused is None
            assert to_stripe(unit_minor, currency) == 10 ** stripes_decimals(currency)
            assert from_stripe(10 ** stripes_decimals(currency), currency) == unit_minor


def test_every_amount_that_is_not_refused_comes_back_as_it_was() -> None:
    amounts = [*range(1, 250), 17_499, 17_500, 99_999_999, 100_000_000, 9_999_999_999, 10_000_000_000, 999_999_999_999]
    for currency in MINOR_UNIT_DIGITS.keys() - NOT_TAKEN:
        for amount_minor in amounts:
            with case(currency, amount_minor):
                if refuses(amount_minor, currency, is_part=True):
                    with pytest.raises(ValueError, match="amount"):
                        to_stripe(amount_minor, currency)
                else:
                    assert from_stripe(to_stripe(amount_minor, currency), currency) == amount_minor
                    assert to_stripe(amount_minor, currency) <= LARGEST


@pytest.mark.parametrize(
    ("amount_minor", "currency", "in_stripe"),
    [
        (1999, "USD", 1999),
        (500, "JPY", 500),
        (5000, "UGX", 500_000),
        (5, "ISK", 500),
        (1500, "MGA", 15),
        (5120, "KWD", 5120),
        (80_045, "TWD", 80_045),
        (1045, "HUF", 1045),
    ],
)
def test_the_currencies_that_differ(amount_minor: int, currency: str, in_stripe: int) -> None:
    assert to_stripe(amount_minor, currency) == in_stripe
    assert from_stripe(in_stripe, currency) == amount_minor


@pytest.mark.parametrize(
    ("amount_minor", "currency", "member"),
    [
        (1550, "MGA", "amount"),
        (5124, "KWD", "amount"),
        (49, "USD", "amount"),
        (29, "GBP", "amount"),
        (17_499, "HUF", "amount"),
        (49, "JPY", "amount"),
        (10_000_000_000, "UGX", "amount"),
        (1000, "IQD", "currency"),
        (1000, "CLF", "currency"),
    ],
)
def test_what_stripe_cannot_take_is_refused_with_its_member(amount_minor: int, currency: str, member: str) -> None:
    refused = refuses(amount_minor, currency, is_part=False)
    assert refused and refused[0] == member


def test_the_smallest_charge_holds_for_no_part_of_one() -> None:
    for currency, smallest in SMALLEST.items():
        with case(currency):
            assert refuses(smallest, currency, is_part=False) is None
            assert refuses(smallest - 1, currency, is_part=False)
            assert refuses(1, currency, is_part=True) is None
    assert refuses(10, "KWD", is_part=False) is None, "Stripe's documents have no smallest charge of it"


def test_a_fraction_of_a_minor_unit_is_no_amount() -> None:
    for currency in ("UGX", "ISK"):
        with pytest.raises(ValueError, match="whole"):
            from_stripe(150, currency)


def test_the_tables_are_of_currencies_that_are_taken() -> None:
    assert MINOR_UNIT_DIGITS.keys() > NOT_TAKEN
    assert (SMALLEST.keys() | MULTIPLES.keys()) <= MINOR_UNIT_DIGITS.keys() - NOT_TAKEN


def test_the_currencies_are_those_that_stripe_named_when_stripe_world_was_recorded() -> None:
    source = SITE / "seahaven_stripe_world/dispatch/params.py"
    if not source.exists():
        pytest.skip("Stripe World is not installed (make gateways)")
    [named] = [
        node.value
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_SUPPORTED_MAP_CURRENCIES_TEXT"
    ]
    taken = {currency.strip().upper() for currency in ast.literal_eval(named).split(",")}
    assert MINOR_UNIT_DIGITS.keys() - taken == NOT_TAKEN
