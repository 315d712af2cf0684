"""Numbers that are no card numbers: what shops, marketplaces, banks, telephones and tracing put into requests."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from random import Random

from tests.luhn import luhn_digit

SIZE = 20_000
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

Make = Callable[[Random], str]

# The account part behind the check digits: 0 is a digit, A a letter, X either.
_ACCOUNTS = """
DE:000000000000000000 AT:0000000000000000 CH:00000XXXXXXXXXXXX FR:0000000000XXXXXXXXXXX00 GB:AAAA00000000000000 NL:AAAA0000000000
ES:00000000000000000000 IT:A0000000000XXXXXXXXXXXX BE:000000000000 PL:000000000000000000000000 DK:00000000000000 FI:00000000000000
NO:00000000000 SE:00000000000000000000 PT:000000000000000000000 IE:AAAA00000000000000 CZ:00000000000000000000 EE:0000000000000000
HU:000000000000000000000000 LT:0000000000000000 SI:000000000000000 HR:00000000000000000 TR:000000XXXXXXXXXXXXXXXX
SA:00XXXXXXXXXXXXXXXXXX GR:0000000XXXXXXXXXXXXXXXX RO:AAAAXXXXXXXXXXXXXXXX MT:AAAA00000XXXXXXXXXXXXXXXXXX
BR:00000000000000000000000AX
"""
ACCOUNTS = [row.split(":") for row in _ACCOUNTS.split()]


def _digits(random: Random, count: int) -> str:
    return str(random.randrange(10**count)).zfill(count)


def _pick(random: Random, alphabet: str, count: int) -> str:
    return "".join(random.choices(alphabet, k=count))


def _moment(random: Random) -> datetime:
    return datetime.fromtimestamp(random.uniform(1.68e9, 1.9e9), UTC)


def _dated(form: str, digits: int = 0, prefix: str = "") -> Make:
    return lambda random: prefix + _moment(random).strftime(form) + (_digits(random, digits) if digits else "")


def _day_first(form: str, digits: int) -> Make:
    """Without the 22nd: 2201 to 2205 are Mir's, so one in ten order numbers of these days is refused."""

    def make(random: Random) -> str:
        moment = next(moment for _ in range(100) if (moment := _moment(random)).day != 22)
        return moment.strftime(form) + (_digits(random, digits) if digits else "")

    return make


def _iban(random: Random) -> str:
    country, account = random.choice(ACCOUNTS)
    kinds = {"0": "0123456789", "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "X": "0123456789"}
    bban = "".join(random.choice(kinds[kind]) for kind in account)
    number = int("".join(str(int(character, 36)) for character in f"{bban}{country}00"))
    return f"{country}{98 - number % 97:02}{bban}"


def _in_fours(text: str, gap: str = " ") -> str:
    return gap.join(text[place : place + 4] for place in range(0, len(text), 4))


def _imei(random: Random, start: str) -> str:
    body = start + _digits(random, 14 - len(start))
    return body + luhn_digit(body)


def _bar_code(random: Random) -> str:
    code = _digits(random, 12)
    return code + str(-sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(code)) % 10)


def _hex(count: int) -> Make:
    return lambda random: random.randbytes(count).hex()


def _uuid4(random: Random) -> str:
    return str(uuid.UUID(bytes=random.randbytes(16), version=4))


def _uuid7(random: Random) -> str:
    value = int(_moment(random).timestamp() * 1000).to_bytes(6, "big") + random.randbytes(10)
    return str(uuid.UUID(int=int.from_bytes(value, "big") & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62)))


def _grouped(*sizes: int, gap: str = "-") -> Make:
    return lambda random: gap.join(_digits(random, size) for size in sizes)


def _list(separator: str, least: int, most: int, item: Make) -> Make:
    return lambda random: separator.join(item(random) for _ in range(random.randint(least, most)))


def _price(random: Random) -> str:
    return f"{random.randint(1, random.choice([9, 99, 300]))}.{random.choice(['00', '99', '95', '50', _digits(random, 2)])}"


def _place(random: Random) -> str:
    return str(random.uniform(-180, 180))


def _time(random: Random) -> str:
    return _moment(random).strftime("%H:%M:%S")


CORPORA: dict[str, tuple[Make, ...]] = {
    "order numbers by date": (
        *(_dated("%Y%m%d%H%M%S", digits) for digits in range(6)),
        *(_dated("%Y%m%d", digits) for digits in range(5, 12)),
        *(_dated("%y%m%d%H%M%S", digits) for digits in range(8)),
        *(_day_first("%d%m%Y%H%M%S", digits) for digits in range(4)),
        *(_day_first("%d%m%y%H%M%S", digits) for digits in range(6)),
        lambda random: f"{_digits(random, 4)}-{_moment(random):%Y%m%d}-{_digits(random, 4)}",
        *(_dated("%m%d%Y%H%M%S", digits) for digits in range(4)),
        *(
            _dated("%Y%m%d-%H%M%S-", 4),
            _dated("%Y-%m-%d-", 6),
            _dated("%Y/%m/%d/", 8),
            _dated("%Y%m%d_", 8),
            _dated("%Y-%m%d-%H%M-", 4),
        ),
        *(
            _dated("%Y%m%d%H%M%S", 2, "ORD"),
            _dated("%y%m%d%H%M%S", 4, "PO-"),
            _dated("%Y%m%d-", 6, "R"),
            _dated("%d.%m.%Y-%H.%M.%S-", 3),
        ),
        *(_dated("%Y%j", 9), _dated("%y%m-%d%H-%M%S-", 4)),
        lambda random: _moment(random).strftime("%y%m%d") + _digits(random, 5).zfill(10),
        lambda random: str(int(_moment(random).timestamp() * random.choice([1_000, 1_000_000, 1_000_000_000]))),
    ),
    "times": (
        *(_list(sign, 1, 6, _time) for sign in (" ", ", ", " - ")),
        _list(", ", 1, 7, lambda random: f"{_time(random)[:5]}-{_time(random)[:5]}"),
        _list(" --> ", 2, 2, lambda random: f"{_time(random)},{_digits(random, 3)}"),
        _list(" - ", 2, 2, _dated("%d.%m.%y %H:%M")),
        _list(" - ", 2, 2, _dated("%y/%m/%d %H:%M:%S")),
    ),
    "dates with times": (
        *map(
            _dated, ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%fZ", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%Y%m%dT%H%M%SZ")
        ),
        *map(_dated, ("%Y.%m.%d %H.%M.%S", "%d-%m-%y %H-%M-%S", "%Y-%m-%d-%H-%M-%S-%f", "%Y%m%d %H%M%S", "%y%m%d-%H%M%S.%f")),
        *map(_dated, ("%a, %d %b %Y %H:%M:%S GMT", "%d/%m/%Y-%H/%M", "%Y-%m-%d %H:%M:%S.%f+00:00", "%Y_%m_%d_%H_%M_%S")),
        lambda random: " - ".join(sorted(_moment(random).strftime("%Y-%m-%d %H.%M") for _ in range(2))),
    ),
    "marketplace ids": (
        _grouped(3, 7, 7),  # Amazon
        lambda random: f"D01-{_digits(random, 7)}-{_digits(random, 7)}",
        _grouped(2, 5, 5),  # eBay
        lambda random: f"2000{_digits(random, 12)}",  # Mercado Libre
        lambda random: f"2000{_digits(random, 3)}-{_digits(random, 8)}",  # Walmart
        lambda random: f"{_digits(random, 6)}-{_moment(random):%Y%m%d}-{_digits(random, 10)}",  # Rakuten
        lambda random: f"57{_digits(random, 16)}",  # TikTok Shop
        lambda random: f"{random.randint(55, 66)}{_digits(random, 11)}",  # Shopify
        lambda random: f"8{random.choice('0123')}{_digits(random, 14)}",  # AliExpress
        lambda random: f"OD{random.choice('1234')}{_digits(random, 17)}",  # Flipkart
        lambda random: f"{_moment(random):%y%m%d}{_pick(random, BASE62[:36], 8)}",  # Shopee
        lambda random: _digits(random, 10),  # Etsy
        lambda random: f"gid://shopify/Order/{random.randint(55, 66)}{_digits(random, 11)}",
    ),
    "IBANs": (
        _iban,
        lambda random: _in_fours(_iban(random)),
        lambda random: _iban(random).lower(),
        lambda random: _in_fours(_iban(random), "-"),
        lambda random: f"from {_in_fours(_iban(random))} to {_in_fours(_iban(random))}, {_moment(random):%d.%m.%Y}",
        lambda random: f"IBAN:{_in_fours(_iban(random), chr(0xA0))}",
        *((lambda random, gap=gap: _in_fours(_iban(random), gap)) for gap in ("\t", "\n", "  ", "\u202f", "\u200b", "%20", "/")),
    ),
    "IMEIs": (
        lambda random: _imei(random, random.choice(["35", "86", "01", "99"])),
        lambda random: _imei(random, "35"),
        lambda random: "IMEI" + _imei(random, "35"),
        lambda random: "35-{}{}-{}{}{}{}{}{}-{}{}{}{}{}{}-{}".format(*_imei(random, "")),
        lambda random: "35{}{}{}{} {}{} {}{}{}{}{}{} {}".format(*_imei(random, "")),
        lambda random: "35{}{}{}{}{}{} {}{}{}{}{}{} {}".format(*_imei(random, "")),
    ),
    "telephone numbers": (
        lambda random: f"+{random.randint(1, 99)}{_digits(random, 10)}",
        lambda random: f"+{random.randint(1, 99)} {_digits(random, 3)} {_digits(random, 3)} {_digits(random, 4)}",
        lambda random: f"+49 (0){_digits(random, 3)} / {_digits(random, 4)}-{_digits(random, 4)}",
        lambda random: f"00{random.randint(20, 99)} {_digits(random, 4)} {_digits(random, 4)}",
    ),
    "bar codes": (_bar_code,),
    "random UUIDs": (_uuid4,),
    "UUIDs by time": (_uuid7,),
    "UUIDs in a text": (
        lambda random: f"order 17 pay-{_uuid4(random)} 4711 {_uuid7(random)}".replace("-", random.choice("--\u2010")),
    ),
    "UUIDs without dashes": (lambda random: _uuid4(random).replace("-", ""),),
    "ULIDs": (lambda random: _pick(random, CROCKFORD, 26),),
    "KSUIDs": (lambda random: _pick(random, BASE62, 27),),
    "ids of gateways": (
        lambda random: f"{random.choice(['txn', 'pi', 'sim'])}_{random.randbytes(12).hex()}",
        lambda random: f"{random.choice(['ch', 'pi', 're', 'cus'])}_3{_pick(random, BASE62, 23)}",
    ),
    "digests": (_hex(20), _hex(28), _hex(32), _hex(64), lambda random: f'W/"{random.randbytes(16).hex()}"'),
    "base64": (lambda random: base64.b64encode(random.randbytes(48)).decode(),),
    "traceparents": (lambda random: f"00-{random.randbytes(16).hex()}-{random.randbytes(8).hex()}-01",),
    "X-Ray's headers": (lambda random: f"Root=1-{_hex(4)(random)}-{_hex(12)(random)};Parent={_hex(8)(random)}",),
    "fractions": (
        *(lambda random: str(random.random()), _place, lambda random: str(random.uniform(0, 10_000))),
        lambda random: f"{_place(random)}, {_place(random)}",
        lambda random: f"[[{_place(random)},{_place(random)}],[{_place(random)},{_place(random)}]]",
        lambda random: f"POINT({random.uniform(0, 90):.6f} {random.uniform(0, 180):.6f})",
    ),
    "lists": (
        *(_list(sign, 2, 12, _price) for sign in (",", ", ", ";", "|", " ", " + ", "\n")),
        *(_list(sign, 2, 15, lambda random: str(random.randint(1, 20))) for sign in (",", ", ", ";", "|")),
        *(_list(sign, 2, 8, lambda random: str(random.randint(1950, 2030))) for sign in (",", ", ", "-", "/", " ")),
        *(_list(sign, 2, 30, lambda random: random.choice("12345")) for sign in (",", ", ", ";")),
        *(_list(sign, 2, 20, lambda random: _digits(random, 2)) for sign in (",", ", ", "/", "% ")),
        *(_list(", ", 2, 8, partial(_digits, count=count)) for count in (3, 5, 6, 7, 8, 9, 10)),
        _list(" ", 2, 12, lambda random: f"${_price(random)}"),
        _list(", ", 2, 8, lambda random: f"{random.randint(1, 20)} x {_price(random)}"),
        lambda random: json.dumps([{"id": random.randint(1, 10**8), "qty": 2, "price": float(_price(random))} for _ in range(5)]),
        lambda random: ",".join([_digits(random, 5), "2", _price(random), "1", _digits(random, 4), _price(random)]),
    ),
    "addresses and versions": (
        _list(" ", 1, 4, lambda random: ".".join(str(random.randint(1, 255)) for _ in range(4))),
        _list(", ", 1, 4, lambda random: f"10.{'.'.join(str(random.randint(0, 99)) for _ in range(3))}"),
        _list(", ", 1, 3, lambda random: ":".join(f"{random.getrandbits(16):x}" for _ in range(8))),
        _list(", ", 1, 3, lambda random: random.randbytes(6).hex(":")),
        _list(", ", 1, 6, lambda random: ".".join(str(random.randint(0, 40)) for _ in range(random.randint(2, 4)))),
    ),
}


def sample(name: str, make: Make) -> list[str]:
    """Return texts of one maker of a corpus, the same ones each time: 20,000 of the corpus, and 4,000 of each maker at least."""
    random = Random(name)
    return [make(random) for _ in range(max(SIZE // len(CORPORA[name]), 4_000))]
