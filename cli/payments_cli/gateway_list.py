"""The gateway's list of what moved there: CSV with a header, or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
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

    line: int
    key: str
    kind: str
    amount: int
    currency: str
    transaction_id: str
    at: datetime


def movements(path: Path) -> list[Movement]:
    """Read the list: CSV with a header, or JSON lines. Declined lines are left out, because no money moved. Raises WrongList."""
    try:
        text = path.read_text("utf-8-sig")
        is_json = text.lstrip().startswith("{")
        rows: Iterable[tuple[int, dict[str, Any]]]
        if is_json:
            rows = [(n, json.loads(line)) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        else:
            rows = enumerate(csv.DictReader(text.splitlines()), 2)
        found = [_movement(n, row) for n, row in rows if str(row.get("result") or "approved") == "approved"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise WrongList(f"{path}: {what}") from None
    if not found:
        raise WrongList(f"{path} has no approved line")
    return found


def _movement(line: int, row: dict[str, Any]) -> Movement:
    try:
        at = datetime.fromisoformat(row["at"])
        made = Movement(line, str(row["key"] or ""), row["kind"], int(row["amount"]), row["currency"], row["transaction_id"], at)
    except KeyError as error:
        raise WrongList(f"line {line} has no {error}") from None
    except (ValueError, TypeError) as error:
        raise WrongList(f"line {line}: {error}") from None
    if made.kind not in KINDS:
        raise WrongList(f"line {line}: kind must be one of {', '.join(KINDS)}")
    if at.tzinfo is None or not made.transaction_id or made.amount < (made.kind != "void"):
        raise WrongList(f"line {line}: `at` needs a time zone, the amount is more than 0, and the transaction has an id")
    return made
