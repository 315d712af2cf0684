"""Amounts as people write them, and as the service counts them: integers in the currency's minor unit."""

import re


def parse_amount(text: str, currency: str | None = None) -> tuple[int, str]:
    """`19.99 USD` as (1999, "USD"). A currency that is known from elsewhere may be left out of the text.

    Raises ValueError, whose message says what to write, rather than round or guess.
    """
    match = re.fullmatch(r"([A-Za-z]{3})?\s*([0-9]+)(?:\.([0-9]+))?\s*([A-Za-z]{3})?", text.strip())
    if not match:
        raise ValueError(
            f"{text!r} is not an amount: write digits, a point before decimals, and the currency, such as 1299.50 USD"
        )
    before, whole, decimals, after = match.groups(default="")
    named = (before or after).upper()
    if before and after:
        raise ValueError(f"{text!r} names its currency twice")
    if not (named or currency):
        raise ValueError(f"{text!r} lacks its currency: write {text} USD, for example")
    if named and currency and named != currency:
        raise ValueError(f"{text!r} is in {named}, but the currency is {currency}")
    code = named or currency or ""
    digits = minor_digits(code)
    if digits is None:
        raise ValueError(f"{code} is not a currency that is paid in: use an ISO 4217 code, such as USD")
    if len(decimals) > digits:
        allowed = f"{digits} decimals" if digits else "no decimals"
        raise ValueError(f"{text!r} is finer than {code} goes: it has {allowed}")
    return int(whole + decimals.ljust(digits, "0")), code


def format_amount(amount_minor: int, currency: str) -> str:
    """`format_amount(1999, "USD")` is "19.99 USD"; a currency that is no longer in the list shows its minor units."""
    digits = minor_digits(currency)
    if digits is None:
        return f"{amount_minor} minor units of {currency}"
    number = str(amount_minor).rjust(digits + 1, "0")
    return f"{number[:-digits]}.{number[-digits:]} {currency}" if digits else f"{number} {currency}"


def minor_digits(currency: str) -> int | None:
    """How many decimals a currency has; None for a code that ISO 4217 does not list or that has no minor unit (XXX, XAU)."""
    from iso4217 import Currency  # reads its XML when it is imported

    try:
        return Currency(currency).exponent
    except ValueError:
        return None
