"""Card numbers that payment services publish for tests, and the forms in which people, forms and programs write them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise

PUBLISHED: dict[str, tuple[str, ...]] = {
    "Visa": (
        *("4242424242424242", "4111111111111111", "4012888888881881", "4000056655665556", "4000002500003155", "4005519200000004"),
        *("4009348888881881", "4917610000000000", "4929123456789015", "4462030000000000", "4084084084084081", "4187427415564246"),
        *("4988438843884305", "4166676667666746", "4646464646464644", "4571736000000075", "4444333322221111", "4543059790016721"),
        *("4222222222222", "4911830000000", "4917610000000000003", "4111141011111111116"),
    ),
    "Mastercard": (
        *("5555555555554444", "5105105105105100", "5200828282828210", "5454545454545454", "5399999999999999", "5531886652142950"),
        *("2221000000000009", "2223003122003222", "2223000048410010", "2222400010000008", "2222410700000002", "2720992593319364"),
        *("2720990000000015", "5577000055770004", "5413330089099999"),
    ),
    "American Express": ("378282246310005", "371449635398431", "378734493671000", "370000000000002", "343434343434343"),
    "Discover": ("6011111111111117", "6011000990139424", "6011000400000000", "6445644564456445", "6500000000000002"),
    "Diners Club": ("30569309025904", "38520000023237", "36227206271667", "36006666333344", "30000000000004", "3056930009020004"),
    "JCB": ("3566002020360505", "3530111333300000", "3566111111111113", "3528000700000000", "213100000000001", "180000000000002"),
    "UnionPay": (
        *("6200000000000005", "6200000000000047", "6205500000000000004", "6243030000000001", "6250947000000014"),
        *("8171999927660000", "8171999900000000021", "62123456789000003", "6212345678900000003", "6221261111112650"),
    ),
    "Maestro": (
        *("6304000000000000", "6759649826438453", "6799990100000000019", "6771798021000008", "5000550000000029"),
        *("6000070736169237003", "5641820000000005", "6331101999990016", "633473060000000000", "6767676767676767671"),
    ),
    "Verve": ("5060666666666666666", "507850785078507812", "5061460410120223210", "5061020000000000094"),
    "Elo": ("6362970000457013", "5066991111111118", "5067310000000010", "6550000000000001"),
    "Hipercard": ("6062826786276634", "6062828888666688"),
    "Mir": ("2200000000000004", "2200770212727079", "2201382000000013"),
    "Troy": ("9792030394440796", "6501700139082826"),
    "RuPay": ("6074825972083818", "6527658900001005"),
    "Bancontact": ("6703444444444449",),
    "BCcard": ("6555900000604105",),
    "Dankort": ("5019717010103742",),
    "Napas": ("9704000000000018", "9704198526191432198"),
    "Humo": ("9860000000000000",),
}

ZEROS = {
    unicodedata.name(zero).removesuffix(" DIGIT ZERO"): ord(zero)
    for zero in map(chr, range(0x80, 0x20000))
    if unicodedata.decimal(zero, None) == 0
}
"""The first of the ten digits of every script, by the script's name."""


def _in_fours(gap: str) -> Callable[[str], str]:
    return lambda number: gap.join(number[place : place + 4] for place in range(0, len(number), 4))


def _in_pairs(number: str) -> str:
    return " ".join(number[place : place + 2] for place in range(0, len(number), 2))


def _in_sizes(*sizes: int) -> Callable[[str], str]:
    """Return a writer of a number of 16 digits in such groups; others are written as embossed."""
    ends = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
    return lambda number: (
        " ".join(number[start:end] for start, end in pairwise(ends)) if len(number) == 16 else _as_embossed(number)
    )


def _between(gap: str) -> Callable[[str], str]:
    return gap.join


def _as_embossed(number: str) -> str:
    """Return the groups that stand on a card: 4-6-5 on one of 15 digits, 4-6-4 on one of 14, else groups of four."""
    return f"{number[:4]} {number[4:10]} {number[10:]}" if len(number) in (14, 15) else _in_fours(" ")(number)


def _digits_of(zero: int, gap: str) -> Callable[[str], str]:
    return lambda number: _in_fours(gap)(number).translate({ord("0") + digit: zero + digit for digit in range(10)})


def _glued(before: str, behind: str) -> Callable[[str], str]:
    return lambda number: f"{before}{number}{behind}"


def _circled(number: str) -> str:
    return "".join("\u24ea" if digit == "0" else chr(0x2460 + int(digit) - 1) for digit in number)


BLANKS = " \t\n\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u205f\u3000\u2800"
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u30fc\ufe58\uff0d"
SIGNS = "!\"#$%&'()*,:;<=>?@[\\]^`{|}~"
DOTS = "._/+\u00b7\u2022\u2024\u2027\u22c5\u30fb\u3002\uff0e\uff61"
INVISIBLE = (
    "\u00ad\u034f\u115f\u1160\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202c\u2060\u2066\u2069\u3164\ufe0f\ufeff\uffa0\U000e0001"
)


def _named(characters: str) -> Iterator[tuple[str, str]]:
    return ((f"U+{ord(character):04X}", character) for character in characters)


FORMS: dict[str, Callable[[str], str]] = {
    "in one piece": str,
    "as embossed": _as_embossed,
    **{f"in fours with {name}": _in_fours(gap) for name, gap in _named(BLANKS + DASHES + DOTS + SIGNS + INVISIBLE)},
    **{
        f"in fours with {gap!r}": _in_fours(gap)
        for gap in (
            *(
                "  ",
                "   ",
                " - ",
                " . ",
                " \u2013 ",
                "\r\n",
                ". ",
                "--",
                "\u200b \u200b",
                ", ",
                " : ",
                ")(",
                "] [",
                "\uff0c",
                "\u3001",
            ),
            *(
                "%20",
                "%2D",
                "%2d",
                "%C2%A0",
                "%E2%80%AF",
                "\\u00a0",
                "\\n",
                "\\t",
                "\\r\\n",
                "\\xa0",
                "&nbsp;",
                "&#160;",
                "&#xA0;",
            ),
        )
    },
    **{f"single digits with {name}": _between(gap) for name, gap in _named(INVISIBLE + " -.\u00a0:*'~=")},
    "single digits with %20": _between("%20"),
    **{f"in sizes {sizes}": _in_sizes(*sizes) for sizes in ((4, 4, 8), (8, 4, 4), (4, 8, 4), (4, 12), (12, 4), (6, 10))},
    "pairs behind a pair": lambda number: f"17 {_in_pairs(number)}",
    "pairs behind a date": lambda number: f"2026-01-31 {_in_pairs(number)}",
    "pairs before a date": lambda number: f"{_in_pairs(number)} 12/29 123",
    "single digits in a numbered list": lambda number: f"1. {' '.join(number)}",
    "track 2 in 40 characters": lambda number: f"{number}D291220112345678901234567"[:40],
    "track 2 in 32 characters": lambda number: f"{number}D2912201123456789"[:32],
    "in pairs": _in_pairs,
    "in eights": lambda number: "-".join(number[place : place + 8] for place in range(0, len(number), 8)),
    **{f"{script} digits": _digits_of(zero, "") for script, zero in ZEROS.items()},
    **{f"{script} digits in fours": _digits_of(zero, " ") for script, zero in ZEROS.items()},
    "circled digits": _circled,
    "superscript digits": lambda number: number.translate(
        str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
    ),
    "keycaps": lambda number: "".join(f"{digit}\ufe0f\u20e3" for digit in number),
    "struck through": _between("\u0336"),
    **{
        f"behind {glued!r}": _glued(glued, "")
        for glued in (
            "VISA",
            "x",
            "CC",
            "MC",
            "MasterCard:",
            "card_",
            "txn_",
            "pi_",
            "No.",
            "#",
            "\u5361",
            "=",
            "order 17 ",
            "2026-01-31 ",
            "%B",
            "\u0441",
            "abcdef",
        )
    },
    **{
        f"before {glued!r}": _glued("", glued)
        for glued in ("x", "VISA", "^NAME", "=2912101", " 12/29 123", ".", ", thanks", "\u5186", "_")
    },
    "in a sentence": lambda number: f"My card is ({_in_fours(' ')(number)}), valid until 12/29.",
    "VISA glued to groups": lambda number: f"VISA{_in_fours(' ')(number)}",
    "letters on both sides": lambda number: f"a{number}b",
}
"""Each makes a text with a card number of its digits."""
