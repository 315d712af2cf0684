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
from itertools import accumulate, islice, takewhile

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
# A cheap first look. The shortest card number has 13 digits, and most texts have fewer. Most of the others are a UUID, or a time
# as log lines have it, whose groups are no card's.
_MAY_HOLD = re.compile(r"(?![\da-f]{8}(-[\da-f]{4}){4}[\da-f]{8}\Z|\d{4}(-\d\d){2} \d\d(:\d\d){2},\d{3}[+-]\d{4}\Z)(\D*+\d){13}")
# Sizes of groups: one piece, single digits, pairs, fours (some blanks may be forgotten), eights, a card of 14 or 15 digits as on
# the card, and the issuer's six digits before the rest.
_GROUPING = re.compile(r"\d+|1(-1)+|2(-2)+(-1)?|((4|8|12)-)+(4|8|12)|4-4-4(-4)?-[1-3]|8-[5-7]|8-8-[1-3]|4-6-[45]|6-(10|13)")

# Every ASCII character that is no letter and no digit. U+00AD, invisible and so in no text, fills the place of an escape.
_GAP = r"(?:[\0-/:-@\[-`{-\x7f]\xad*)"
_RUN = re.compile(rf"\d+(?:{_GAP}{{1,3}}\d+)*")
_ESCAPE = re.compile(r"(?i)%[\da-f]{2}|\\(?:[bfnrt]|x[\da-f]{2}|u[\da-f]{4})|&nbsp;|&#x?[\da-f]{1,4};")

# UUIDs, traceparents, fractions as programs write them (up to 17 digits) and digests, our own ids among them: some hold a card
# number by chance. Letters around a single run of digits make no digest, but words around a number. Nor do a number, a D, a month
# and a service code, which are track 2 of a card.
_NO_NUMBER = re.compile(
    r"(?i)(?<![\da-z])(?:[\da-f]{8}(?:-[\da-f]{4}){4}[\da-f]{8}|00-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}|0\.\d{13,}"
    r"|(?=[\d.]{15,18}(?!\d))\d{1,6}\.\d{10,}|(?=[a-f]*\d+[a-f]+\d)(?!\d{13,19}d\d\d[01]\d{4})(?:[\da-f]{8}){3,16})(?![\da-z])"
)
# Order numbers: 26082026..., 2608260518... or 260826000..., and 4711-20260826-0001. 22 is no year or day: 2200 to 2205 are Mir's.
_DAY_MONTH_YEAR = r"(?:2[3-9]|30)(?:0[1-9]|1[0-2])20[0-3]\d"
_YEAR_MONTH_DAY_TIME = r"(?:2[3-9]|30)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:000|(?:[01]\d|2[0-3])[0-5]\d)"
_DATED = re.compile(rf"{_DAY_MONTH_YEAR}|{_YEAR_MONTH_DAY_TIME}|[\d-]+-20(?:2\d|30)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")

_IBANS = """15 NO, 16 BE, 18 DK FI FK FO GL NL SD, 19 MK SI, 20 AT BA EE KZ LT LU MN XK, 21 CH HR LI LV, 22 BG BH CR DE GB GE IE
ME RS VA, 23 AE GI IL IQ OM SO TL, 24 AD CZ ES MD PK RO SA SE SK TN VG, 25 AO CV GW LY MZ PT ST, 26 DZ IR IS TR, 27 BI CF CG CM DJ
FR GA GQ GR IT KM MC MG MR SM TD, 28 AL AZ BF BJ BY CI CY DO GT HN HU LB MA ML NE NI PL SN SV TG, 29 BR EG PS QA UA, 30 JO KW MU
YE, 31 MT SC, 32 LC, 33 RU"""
_IBAN_LENGTHS = {country: int(length) for length, *countries in map(str.split, _IBANS.split(",")) for country in countries}

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
    return bool(_card_numbers(text, name))


def redact(text: str, name: str = "") -> str:
    """Return the text with every card number replaced. Every value of a log line passes it."""
    # Again, because a number that stood in a list may stand alone now, or has escapes for gaps.
    while found := _card_numbers(text, name):
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
    elif contains_card_number(digits_of(value), path[-1]):
        yield _shown(path), "looks like a card number"


def _shown(path: tuple[str, ...]) -> str:
    return ".".join("?" if contains_card_number(name) else shown_name(name, "_-") for name in path)


@lru_cache(4096)
def _ascii(character: str) -> str:
    """Return an ASCII digit for a digit, a blank or dash for a sign, nothing for what is invisible."""
    if character.isascii() or unicodedata.digit(character, None) is not None:
        return str(unicodedata.digit(character, character))
    if (plain := unicodedata.normalize("NFKC", character)) != character:
        return "".join(map(_ascii, plain))
    kind = unicodedata.category(character)
    return next((_TYPED[key] for key in (character, kind, kind[0]) if key in _TYPED), character)


def _card_numbers(text: str, name: str) -> list[tuple[int, int]]:
    """Return start and end in ASCII of each card number, or of each with escapes (%20) for gaps if there is no other."""
    text = text if text.isascii() else "".join(map(_ascii, text))
    if not _MAY_HOLD.match(text):
        return []
    unescaped = _ESCAPE.sub(lambda match: " ".ljust(len(match[0]), "\xad"), text)
    return [*_numbers(text, name)] or [*_numbers(unescaped if unescaped != text else "", name)]


def _numbers(text: str, name: str) -> Iterator[tuple[int, int]]:
    text = _NO_NUMBER.sub(lambda match: "x" * len(match[0]), text)
    for run in _RUN.finditer(text):
        # Datadog and Google write 64 bits in decimal.
        is_trace = re.search("(?<![a-z])(trace|span|parent)(id)?(?![a-z])", re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower())
        groups, parts, free = [*re.compile(r"\d+").finditer(text, *run.span())], re.findall(r"\d+", run[0]), 0
        for first, last in _candidates(parts, 16 if is_trace else 19):
            start, end = groups[first].start(), groups[last - 1].end()
            beside = parts[max(first - 3, free) : first][::-1], parts[last : last + 3]
            is_in_a_list = first < free or _is_in_a_list(text[start:end], len(parts[first]), *beside)
            if not is_in_a_list and _is_card_number("-".join(parts[first:last])) and not _is_in_iban(text, start):
                yield start, end
                free = last


def _candidates(parts: list[str], longest: int) -> Iterator[tuple[int, int]]:
    """Yield from which and to which group there is a prefix and the length of an issuer."""
    places, digits = [0, *accumulate(map(len, parts))], "".join(parts)
    part_at = {place: number for number, place in enumerate(places)}
    for first, part in enumerate(parts):
        issuer = _ISSUER.match(digits, places[first]) if len(part) <= longest else None
        for length in _ISSUERS[(issuer.lastindex or 0) - 1][1] if issuer else ():
            if last := part_at.get(places[first] + length):
                yield first, last


def _is_in_a_list(written: str, size: int, *sides: list[str]) -> bool:
    """Return whether a number is rather a part of a list. Long lists of ratings or ids hold a card number somewhere.

    A number with commas has groups of four, and no other four beside it. Pairs with points or colons are prices and times.
    """
    beside = sum(1 for side in sides for _ in takewhile(lambda part: len(part) == size, side))
    return size != 4 or beside > 0 if re.search(r"[^\d\s\xad-]" if size == 2 else "[,;|#$]", written) else size <= 2 < beside


def _is_card_number(written: str) -> bool:
    """Return whether groups with a dash between them are of such sizes, have the check digit and are nothing more frequent."""
    digits, sizes = written.replace("-", ""), re.sub(r"\d+", lambda part: str(len(part[0])), written)
    fits = _GROUPING.fullmatch(sizes) and not _DATED.match(digits) and not _DATED.match(written)
    odd, even = sum(map(int, digits[-1::-2])), [int(digit) for digit in digits[-2::-2]]
    # 13 digits are rather the number below a bar code, if its check digit is right: no card has been given 13 for decades.
    is_gtin = len(digits) == 13 and (odd + 3 * sum(even)) % 10 == 0
    return bool(fits) and not is_gtin and (odd + sum(2 * digit - 9 * (digit > 4) for digit in even)) % 10 == 0


def _is_in_iban(text: str, position: int) -> bool:
    for begin in re.compile(r"[A-Za-z]{2}\d\d").finditer(text, max(0, position - 100), position + 2):
        length = _IBAN_LENGTHS.get(begin[0][:2].upper(), 0)
        whole = re.compile(rf"(?:{_GAP}{{0,3}}[\dA-Za-z]){{{length}}}(?![\dA-Za-z])").match(text, begin.start())
        code = re.sub(_GAP, "", whole[0]) if whole and whole.end() > position else ""
        if code and int("".join(str(int(character, 36)) for character in code[4:] + code[:4])) % 97 == 1:
            return True
    return False
