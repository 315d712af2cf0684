"""Amounts as Stripe writes them: mostly, and not always, in the minor units of ISO 4217.

The source is https://docs.stripe.com/currencies, as of October 2026. A wrong line here moves a hundredfold or a hundredth of the
money, so tests/gateway walks every currency.
"""

from payments.domain.currencies import MINOR_UNIT_DIGITS

_NOT_TAKEN = "BOV CHE CHW CLF COU CUP ERN IQD IRR KPW LYD MRU MXV SDG SSP STN SYP TMT USN UYI UYW VED VES XAD ZWG"
NOT_TAKEN = frozenset(_NOT_TAKEN.split())
"""Stripe's list of currencies lacks these, so nothing says how many decimals it would read in them."""

DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}
"""Stripe's decimals where they are not those of ISO 4217: two for ISK and UGX, which have had none for years, and none for MGA.

HUF and TWD are as in ISO here. Stripe rounds them in payouts alone.
"""

MULTIPLES = dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 10)
"""Stripe takes no third decimal but 0 in these."""

LARGEST = 999_999_999_999
"""In Stripe's units: twelve digits. American Express and some countries take less, which is Stripe's to decline."""

_SMALLEST = {
    30: "GBP",
    50: "ARS AUD BRL CAD CHF COP EUR IDR ILS INR JPY KRW NZD PHP RUB SGD USD ZAR",
    200: "AED MYR PLN RON",
    250: "DKK",
    300: "NOK SEK",
    400: "HKD",
    1000: "MXN THB",
    1500: "CZK",
    17500: "HUF",
}
SMALLEST = {currency: amount for amount, currencies in _SMALLEST.items() for currency in currencies.split()}
"""The smallest charge, in Stripe's units. Stripe checks the one that is of the currency of the account's payouts."""


def _factor(currency: str) -> tuple[int, int]:
    """Return what Stripe's amounts are multiplied by against those of ISO 4217, and what they are divided by."""
    more = DIGITS.get(currency, MINOR_UNIT_DIGITS[currency]) - MINOR_UNIT_DIGITS[currency]
    return int(10 ** max(more, 0)), int(10 ** max(-more, 0))


def to_stripe(amount_minor: int, currency: str) -> int:
    """Return the amount in Stripe's units. Raises ValueError for what it cannot say, which `refuses` has refused."""
    if refused := refuses(amount_minor, currency, is_part=True):
        raise ValueError(" ".join(refused))
    times, per = _factor(currency)
    return amount_minor * times // per


def from_stripe(amount: int, currency: str) -> int:
    """Return an amount of Stripe's in minor units of ISO 4217. Raises ValueError if it is not a whole number of them."""
    times, per = _factor(currency)
    if amount % times:
        raise ValueError("not a whole number of minor units")
    return amount * per // times


def refuses(amount_minor: int, currency: str, *, is_part: bool) -> tuple[str, str] | None:
    """Return the member that Stripe cannot take, and why. The smallest charge does not hold for a part of one."""
    if currency in NOT_TAKEN:
        return "currency", f"cannot be {currency}: Stripe does not take it"
    times, per = _factor(currency)
    multiple, smallest, largest = MULTIPLES.get(currency, per), SMALLEST.get(currency, 0), LARGEST * per // times
    if amount_minor % multiple:
        return "amount", f"must be a multiple of {multiple}, because Stripe takes no smaller units of {currency}"
    if amount_minor < smallest and not is_part:
        return "amount", f"must be at least {smallest}, which is Stripe's smallest charge in {currency}"
    if amount_minor > largest:
        return "amount", f"must be at most {largest}, which is the most that Stripe takes in {currency}"
    return None
