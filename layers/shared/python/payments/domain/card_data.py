"""The card filter. It refuses requests with card data, so that the database never holds a card number, and cleans log lines.

A card number begins with an issuer's prefix, has a length of this issuer and passes the Luhn check. It stands in one piece or in
groups as on a card; what is glued to it does not hide it. The digits of all scripts count, and invisible characters do not.

The table of issuers is our own: libraries know a few brands, or cost a cold start more than eight rows.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, islice

from payments.domain.errors import CardDataNotAccepted
from payments.domain.text import shown_name

REMOVED = "[card number removed]"

# The first row that fits counts. Left out is what is rather something else: UATP (1 and 14 digits: times), Maestro with 12 to 15
# digits (telephone numbers, Shopify's ids) or with 18 for 56 to 58 (TikTok's ids), 81 and 82 but for 8171 (AliExpress's ids), and
# lengths that nobody issues (Diners Club, JCB and Discover with 17 or 18: Flipkart's ids).
_ISSUERS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("4", (19, 16, 13)),  # Visa, Elo
    ("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),  # Mastercard
    ("3[47]|2131|1800", (15,)),  # American Express, JCB's first ranges
    ("30[0-5]|3095|3[689]", (19, 16, 14)),  # Diners Club, Hipercard
    ("352[89]|35[3-8]|64[4-9]|65", (19, 16)),  # JCB, Discover, RuPay, Elo, Troy
    ("220[0-5]|50(?:[67]|18|20|38)|5893|6[0237]|8171|9704", (19, 18, 17, 16)),  # Mir, Verve, Maestro, UnionPay, Hipercard, Napas
    ("50|5[6-8]|8600|9112|968[02]|9792|9860", (16,)),  # Maestro, Dankort, RuPay, Uzcard, Belkart, mada, Troy, Humo
)
_ISSUER = re.compile("|".join(f"({prefix})" for prefix, _ in _ISSUERS))
_GROUPING = re.compile(r"\d+ |(?:4 ){3}[1-4] |(?:4 ){4}[1-3] |4 6 [45] |6 13 |(?:1 )+|(?:2 )+[12] |8 [5-8] |8 8 [1-3] ")

_GAP = r"[\x00-\x20\x7f./_+-]"
_RUN = re.compile(rf"\d+(?:{_GAP}{{1,3}}\d+)*")
_ENOUGH_DIGITS = re.compile(rf"(?:\d{_GAP}{{0,3}}){{12}}\d")

# UUIDs, traceparents, digests (our own ids among them) and fractions: some hold a card number by chance. Letters around a single
# run of digits make no digest, but words around a number.
_NO_NUMBER = re.compile(
    r"(?<![\da-z])(?:[\da-f]{8}(?:-[\da-f]{4}){4}[\da-f]{8}|00-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}"
    r"|(?=[a-f]*\d+[a-f]+\d)(?:[\da-f]{8}){3,16}|0\.\d{13,})(?![\da-z])",
    re.IGNORECASE,
)
# An order number that begins with a date and a time (2608260518..., 26082026...) or a date and zeros (260826000...).
_DATED = re.compile(r"(?:2[2-9]|30)(?:0[1-9]|1[0-2])(?:20[0-3]\d|(?:0[1-9]|[12]\d|3[01])(?:000|(?:[01]\d|2[0-3])[0-5]\d))")

_IBANS = (
    "15NO 16BE 18DKFIFKFOGLNLSD 19MKSI 20ATBAEEKZLTLUMNXK 21CHHRLILV 22BGBHCRDEGBGEIEMERSVA 23AEGIILIQOMSOTL 24ADCZESMDPKROSASE"
    "SKTNVG 25AOCVGWLYMZPTST 26DZIRISTR 27BICFCGCMDJFRGAGQGRITKMMCMGMRSMTD 28ALAZBFBJBYCICYDOGTHNHULBMAMLNENIPLSNSVTG 29BREG"
    "PSQAUA 30JOKWMUYE 31MTSC 32LC 33RU"
)
_IBAN_LENGTHS = {row[place : place + 2]: int(row[:2]) for row in _IBANS.split() for place in range(2, len(row), 2)}

# By character or category. U+115F and U+1160 are letters, and invisible; a Japanese keyboard types U+30FC for a dash.
_TYPED = dict.fromkeys("CM\u115f\u1160", "") | dict.fromkeys("PSZ", " ") | {"Sc": "$", "Pd": "-", "\u2212": "-", "\u30fc": "-"}

_FIELD_NAMES = re.compile(
    "cvv2?|cvc2?|card(number|no|cvv|cvc|securitycode|verificationvalue)|cc(number|num)|securitycode|primaryaccountnumber|track([12]|data)"
)


def refuse_card_data(value: object, location: str = "body") -> None:
    """Raise CardDataNotAccepted, which names the members, when a string, number or key in a JSON value looks like card data."""
    if wrong := list(islice(_wrong(value, (location,)), 20)):
        raise CardDataNotAccepted(f"{' '.join(wrong[0])}. Send a payment_token instead of card data.", *wrong)


def contains_card_number(text: str, name: str = "") -> bool:
    """Return whether a text holds a card number. `name` is that of the member that has the text as its value."""
    return len(text) > 12 and any(_card_numbers(_as_ascii(text), name))


def redact(text: str, name: str = "") -> str:
    """Return the text with every card number replaced. Every value of a log line passes it."""
    if found := list(_card_numbers(_as_ascii(text), name)):
        places = [0, *accumulate(len(_ascii(character)) for character in text)]
        cuts = [cut for start, end in found for cut in (bisect_right(places, start) - 1, bisect_left(places, end))]
        text = REMOVED.join(text[start:end] for start, end in zip([0, *cuts[1::2]], [*cuts[::2], len(text)], strict=True))
    return text


def digits_of(value: object) -> str:
    """Return the text of a JSON value; 4242424242424242.0 loses its fraction."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _wrong(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield location and message of each member with card data."""
    if isinstance(value, dict):
        for key, item in value.items():
            is_number = contains_card_number(key)
            if is_number or _FIELD_NAMES.fullmatch(re.sub(r"[^a-z0-9]", "", key.casefold())):
                yield _shown((*path, key)), "has a name that looks like a card number" if is_number else "is named like card data"
            yield from _wrong(item, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from _wrong(item, path)
    elif contains_card_number(digits_of(value), ".".join(path)):
        yield _shown(path), "looks like a card number"


def _shown(path: tuple[str, ...]) -> str:
    return ".".join("?" if contains_card_number(name) else shown_name(name, "_-") for name in path)


def _as_ascii(text: str) -> str:
    return text if text.isascii() else "".join(map(_ascii, text))


@lru_cache(4096)
def _ascii(character: str) -> str:
    """Return an ASCII digit for a digit, a blank or dash for a sign, nothing for what is invisible."""
    if character.isascii():
        return character
    if (digit := unicodedata.digit(character, None)) is not None:
        return str(digit)
    if (plain := unicodedata.normalize("NFKC", character)) != character:
        return "".join(map(_ascii, plain))
    kind = unicodedata.category(character)
    return next((_TYPED[key] for key in (character, kind, kind[0]) if key in _TYPED), character)


def _card_numbers(text: str, name: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each card number in an ASCII text."""
    if not _ENOUGH_DIGITS.search(text):
        return
    text = _NO_NUMBER.sub(lambda match: "x" * len(match[0]), text)
    longest = 16 if re.search("trace|span|parent", name, re.IGNORECASE) else 19  # Datadog and Google write 64 bits in decimal.
    for run in _RUN.finditer(text):
        groups = [*re.compile(r"\d+").finditer(text, *run.span())]
        places = [0, *accumulate(len(group[0]) for group in groups)]
        group_at, digits, done = dict(zip(places, range(len(places)), strict=True)), "".join(group[0] for group in groups), 0
        for first, (place, group) in enumerate(zip(places, groups, strict=False)):
            # Single digits and pairs count from their beginning only: a long list of ratings holds a card number somewhere.
            in_a_list = len(group[0]) <= 2 and place > done and len(group[0]) == len(groups[first - 1][0])
            issuer = None if place < done or in_a_list or len(group[0]) > longest else _ISSUER.match(digits, place)
            for length in _ISSUERS[(issuer.lastindex or 0) - 1][1] if issuer else ():
                found = groups[first : group_at.get(place + length, 0)]
                if _is_card_number(found) and not _is_in_iban(text, found[0].start()):
                    yield found[0].start(), found[-1].end()
                    done = place + length
                    break


def _is_card_number(groups: list[re.Match[str]]) -> bool:
    digits = "".join(group[0] for group in groups)
    if not _GROUPING.fullmatch("".join(f"{len(group[0])} " for group in groups)) or _DATED.match(digits):
        return False
    odd, even = sum(map(int, digits[-1::-2])), [int(digit) for digit in digits[-2::-2]]
    # 13 digits are rather the number below a bar code, if its check digit is right: no card has been given 13 for decades.
    is_gtin = len(digits) == 13 and (odd + 3 * sum(even)) % 10 == 0
    return not is_gtin and (odd + sum(2 * digit - 9 * (digit > 4) for digit in even)) % 10 == 0


def _is_in_iban(text: str, position: int) -> bool:
    for begin in re.compile(r"[A-Za-z]{2}\d\d").finditer(text, max(0, position - 70), position + 2):
        length = _IBAN_LENGTHS.get(begin[0][:2].upper(), 0)
        whole = re.compile(rf"(?:[ .-]?[\dA-Za-z]){{{length}}}(?![\dA-Za-z])").match(text, begin.start())
        code = re.sub("[ .-]", "", whole[0]) if whole and whole.end() > position else ""
        if code and int("".join(str(int(character, 36)) for character in code[4:] + code[:4])) % 97 == 1:
            return True
    return False
