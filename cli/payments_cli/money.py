"""Convert amounts between people's notation and the service's: integers in the currency's minor unit."""

import re


def parse_amount(text: str, currency: str | None = None) -> tuple[int, str]:
    """Parse `19.99 USD` as (1999, "USD"). The text may leave out the currency if `currency` gives it.

    Never round or guess. Raises ValueError; its message says what to write.
    """
    match = re.fullmatch(r"([A-Za-z]{3})?\s*([0-9]+)(?:\.([0-9]+))?\s*([A-Za-z]{3})?", text.strip())
    if not match:
        raise ValueError(
            f"{text!r} is not an amount. Write digits, a point before decimals, and the currency, such as 1299.50 USD"
        )
    before, whole, decimals, after = match.groups(default="")
    named = (before or after).upper()
    if before and after:
        raise ValueError(f"{text!r} names its currency twice")
    if not (named or currency):
        raise ValueError(f"{text!r} lacks its currency. Example: {text} USD")
    if named and currency and named != currency:
        raise ValueError(f"{text!r} is in {named}, but the currency is {currency}")
    code = named or currency or ""
    digits = minor_digits(code)
    if digits is None:
        raise ValueError(f"{code} is not a currency for payments. Use an ISO 4217 code, such as USD")
    if len(decimals) > digits:
        allowed = f"{digits} decimals" if digits else "no decimals"
        raise ValueError(f"{text!r} has too many decimals: {code} has {allowed}")
    return int(whole + decimals.ljust(digits, "0")), code


def format_amount(amount_minor: int, currency: str) -> str:
    """Format (1999, "USD") as "19.99 USD". For a currency that is no longer in the list, name the minor units."""
    digits = minor_digits(currency)
    if digits is None:
        return f"{amount_minor} minor units of {currency}"
    number = str(amount_minor).rjust(digits + 1, "0")
    return f"{number[:-digits]}.{number[-digits:]} {currency}" if digits else f"{number} {currency}"


def minor_digits(currency: str) -> int | None:
    """Return a currency's number of decimals; None if ISO 4217 does not list it or gives it no minor unit (XXX, XAU)."""
    from iso4217 import Currency  # its import reads an XML file, so only commands with amounts pay for it

    try:
        return Currency(currency).exponent
    except ValueError:
        return None
