"""The texts that we take from a caller: plain ones, and ids that look different when they are different."""

import re
import unicodedata

# Unicode's default ignorable characters that are in none of the categories below, and the empty pattern of Braille.
_HIDDEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")


def is_plain(text: str) -> bool:
    """Return whether the text holds no control character, NUL or lone surrogate. PostgreSQL refuses
    such text, and a terminal may act on it."""
    return not re.search("[\0-\x1f\x7f-\x9f\ud800-\udfff]", text)


def shown_name(name: str, signs: str = "_") -> str:
    """Return the name of a member if it is safe to show in an answer, else `?`. Letters, digits and `signs` are safe."""
    return name if re.fullmatch(rf"[A-Za-z_][A-Za-z0-9{signs}]{{0,39}}", name) else "?"


def is_in_order(text: str) -> bool:
    """Return whether the text holds no embedding or override. They show text in another order than it is stored, to its end if
    nothing closes them. Arabic and Hebrew need none: they have the marks U+200E, U+200F and U+061C, and isolates."""
    return not re.search("[\u202a-\u202e]", text)


def is_visible(character: str) -> bool:
    """Return whether a reader of an id sees the character and knows it from others. Of the white space, the narrow and the wide
    space (U+3000) count: the others look like the narrow one."""
    return character in " \u3000" or not (unicodedata.category(character) in ("Cf", "Zs", "Zl", "Zp") or _HIDDEN.match(character))


def is_unmistakable(text: str) -> bool:
    """Return whether no other text looks the same because of its normal form, or of characters that nobody sees."""
    return text == text.strip() and (text.isascii() or (unicodedata.is_normalized("NFC", text) and all(map(is_visible, text))))
