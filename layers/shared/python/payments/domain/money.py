"""Money: an integer amount in the currency's minor unit. There is no float and no Decimal, so nothing is ever rounded."""

from payments.domain.currencies import MINOR_UNIT_DIGITS

MAX_AMOUNT_MINOR = 999_999_999_999
"""Card networks carry twelve digits in an authorization's amount field (ISO 8583, field 4)."""


def format_amount(amount_minor: int, currency: str) -> str:
    """Return an amount for people: `format_amount(1999, "USD")` is "19.99 USD". JPY has no decimals, KWD has three.

    An old payment may have a currency that ISO 4217 no longer lists. Its decimals are not known.
    """
    digits = MINOR_UNIT_DIGITS.get(currency)
    if digits is None:
        return f"{amount_minor} minor units of {currency}"
    sign, whole = ("-" if amount_minor < 0 else ""), str(abs(amount_minor)).rjust(digits + 1, "0")
    number = f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole
    return f"{sign}{number} {currency}"
