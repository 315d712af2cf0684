"""The gateway's list of what moved there: CSV with a header, or JSON lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

KINDS = ("authorization", "charge", "capture", "void", "refund")
"""What moved at the gateway. A charge takes the money at once; an authorization only holds it."""


class WrongList(Exception):
    """The list cannot be read, or is of another database. The message says where and why."""


@dataclass(frozen=True)
class Movement:
    """One approved line of the list. `at` has a time zone; `amount` is in the currency's minor unit."""

    key: str
    kind: str
    amount: int
    currency: str
    transaction_id: str
    at: datetime


def movements(path: Path) -> list[Movement]:
    """Read the list. Declined lines are left out, because no money moved. Raises WrongList."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: it is not UTF-8
        raise WrongList(f"{path}: {error}") from None
    found = [_movement(n, row) for n, row in _rows(text) if str(row.get("result") or "approved") == "approved"]
    if not found:
        raise WrongList(f"{path} has no approved line")
    return found


def _rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each row with the number of its line."""
    lines = text.splitlines()
    if not text.lstrip().startswith("{"):
        yield from enumerate(csv.DictReader(lines), 2)
        return
    for n, line in enumerate(lines, 1):
        if line.strip():
            yield n, _object(n, line)


def _object(n: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise WrongList(f"line {n} is no JSON object")
    return row


def _movement(n: int, row: dict[str, Any]) -> Movement:
    try:
        at = datetime.fromisoformat(row["at"])
        amount = str(row["amount"])
        if not re.fullmatch("[0-9]+", amount):  # int alone would make 19 of the number 19.99, and 1999 of 1_999
            raise ValueError(f"amount {amount!r} is not a whole number in the minor unit")
        if not all(isinstance(row[name], str) for name in ("kind", "currency", "transaction_id")):
            raise ValueError("kind, currency and transaction_id are texts")
        made = Movement(str(row["key"] or ""), row["kind"], int(amount), row["currency"], row["transaction_id"], at)
    except KeyError as error:
        raise WrongList(f"line {n} has no {error}") from None
    except (ValueError, TypeError) as error:
        raise WrongList(f"line {n}: {error}") from None
    if made.kind not in KINDS:
        raise WrongList(f"line {n}: kind must be one of {', '.join(KINDS)}")
    if at.tzinfo is None or not made.transaction_id or made.amount < (made.kind != "void"):
        raise WrongList(f"line {n}: `at` needs a time zone, the amount is more than 0, and the transaction has an id")
    return made
