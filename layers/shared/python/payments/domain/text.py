"""Plain text: the only strings that we take from a caller."""

from __future__ import annotations

import re


def is_plain(text: str) -> bool:
    """Return whether the text holds no control character, NUL or lone surrogate. PostgreSQL refuses
    such text, and a terminal may act on it."""
    return not any(
        ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 or 0xD800 <= ord(character) < 0xE000 for character in text
    )


def shown_name(name: str, signs: str = "_") -> str:
    """Return the name of a member if it is safe to show in an answer, else `?`. Letters, digits and `signs` are safe."""
    return name if re.fullmatch(rf"[A-Za-z_][A-Za-z0-9{signs}]{{0,39}}", name) else "?"
