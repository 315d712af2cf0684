"""One recognisable card number, the forms in which people write it, and the search for it afterwards."""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata

from local.servers import connect
from tests.servers import Database

CARD = "4929123456789015"

FORMS = {
    "plain": CARD,
    "spaces": "4929 1234 5678 9015",
    "dashes": "4929-1234-5678-9015",
    "wide": "".join(chr(ord(digit) - ord("0") + ord("\uff10")) for digit in CARD),
    "no-break spaces": "4929\u00a01234\u00a05678\u00a09015",
    "Persian": "".join(chr(0x06F0 + int(digit)) for digit in CARD),
    "zero width spaces": "\u200b".join(CARD),
    "dots": "4929.1234.5678.9015",
    "dashes in blanks": "4929 - 1234 - 5678 - 9015",
    "behind a word": f"VISA{CARD}",
}


def holds_card_number(text: str, card: str = CARD) -> bool:
    """Return whether a text holds the number, also when it is divided, in other digits or escaped for JSON."""
    unescaped = re.sub(r"\\u[0-9a-fA-F]{4}", lambda match: codecs.decode(match[0], "unicode_escape"), text)
    digits = "".join(str(unicodedata.digit(each, each)) for each in unescaped if unicodedata.category(each) != "Cf")
    return card in re.sub(r"(?<=\d)[\s.\-\u2010-\u2015]+(?=\d)", "", digits)


def rows_with_card_number(database: Database, card: str = CARD) -> list[str]:
    """Return the table of each row that holds the number. We read as the owner, who sees all rows."""
    with contextlib.closing(connect(database.owner_url)) as connection:
        tables = [name for (name,) in connection.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") or ()]
        assert {"payments", "operations", "refunds", "outbox", "payment_status_history"} <= set(tables)
        return [
            table
            for table in tables
            for (row,) in connection.run(f"SELECT row_to_json(t)::text FROM {table} t") or ()
            if holds_card_number(row, card)
        ]
