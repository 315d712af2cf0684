from __future__ import annotations

import sys
import unicodedata

import pytest

from payments.domain.text import is_plain, is_unmistakable, is_visible
from tests.cases import case

CLEAR = [
    *("order-1042", "Order 7", "#1042/A_b.c", "é", "Zoë", "注文7", "注文\u30007", "주문-7", "заказ-7", "παραγγελία", "הזמנה-7"),
    *("\u0637\u0644\u0628-\u0667", "\uff11\uff12", "\u1eb9", "x\u0301"),
    *("ऑर्डर-७", "คำสั่ง-7", "đơn-hàng", "😀", "👍🏽", "🇳🇱", "Ⅷ", "ﬁ"),
]

MISTAKABLE = [
    *("e\u0301", "Zoe\u0308", "a\u0323\u0302", "\u1100\u1161", "\u212b", "\u2126", "\u0344", "\uf900", "か\u3099"),  # not NFC
    *(
        f"7{text}8"
        for text in ("\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u2060", "\u2063", "\u00ad", "\ufeff", "\u061c")
    ),
    *(f"7{chr(code)}8" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))),
    *(
        f"7{text}8"
        for text in ("\u034f", "\u115f", "\u1160", "\u3164", "\uffa0", "\u2800", "\u180e", "\u180b", "\u17b4", "\u2065")
    ),
    *(f"7{text}8" for text in ("\ufe0e", "\ufe0f", "\U000e0100", "\U000e0001", "\U000e0041", "\U0001d173")),
    *(f"7{text}8" for text in ("\u00a0", "\u2003", "\u2009", "\u200a", "\u202f", "\u205f", "\u2028", "\u2029")),
    *(" 7", "7 ", " ", "\u30007", "7\u3000", "\u00a0", "\u2800", "\u3164", "❤\ufe0f", "👩\u200d💻"),
]
"""Ids that look like another one, or like nothing."""


@pytest.mark.parametrize("text", CLEAR)
def test_an_id_of_any_script_is_clear(text: str) -> None:
    assert is_unmistakable(text)


@pytest.mark.parametrize("text", MISTAKABLE, ids=ascii)
def test_an_id_that_looks_like_another_is_not(text: str) -> None:
    assert not is_unmistakable(text)


def test_every_format_character_is_invisible_and_every_letter_and_number_is_not() -> None:
    fillers = {"\u115f", "\u1160", "\u3164", "\uffa0"}  # letters of Hangul that show nothing
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        with case(hex(code)):
            assert category != "Cf" or not is_visible(character)
            assert category[0] not in "LNPS" or is_visible(character) or character in fillers | {"\u2800", "\U0001d159"}


def test_normal_forms_of_one_text_are_not_two_ids() -> None:
    for text in CLEAR:
        forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
        assert sum(map(is_unmistakable, forms)) == 1


def test_plain_text_may_hold_what_an_id_may_not() -> None:
    """Look-ups take every plain text, because an old payment may have such an id."""
    assert all(map(is_plain, MISTAKABLE))
