"""The sample events, and what the table in events/README.md says about each. Read from the table itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contract import documents

EVENTS = Path(__file__).resolve().parent.parent / "events"
COUNTS = {
    "relay_schedule": {"published", "unpublished", "lag_s"},
    "relay_replay": {"replayed", "resume_at"},
    "reconcile_schedule": {
        "settled",
        "unknown",
        "pending",
        "expired",
        "exhausted",
        "oldest_unknown_s",
        "gateway_events",
        "disputes_due_soon",
        "next_dispute_due_s",
    },
    "courier_schedule": {"delivered", "failed", "given_up", "disabled"},
}
"""What the scheduled functions answer."""


@dataclass(frozen=True)
class Said:
    """A cell with an answer: `201, SUCCEEDED, REFUNDED, replayed`."""

    result: str | None
    """The status code of HTTP, or the outcome of a direct invocation. A scheduled function has none."""
    statuses: list[str]
    """Of the payment or the refund; of both when there are two."""
    codes: list[str]
    """Of the problem and of the decline."""
    replayed: bool


@dataclass(frozen=True)
class Row:
    name: str
    function: str
    answer: Said
    again: Said
    topic: str | None

    @property
    def event(self) -> Any:
        return json.loads((EVENTS / f"{self.name}.json").read_text(encoding="utf-8"))


def rows() -> list[Row]:
    table = re.findall(r"^\| `(\w+)` \| (\w+)Function \|(.*)\|$", (EVENTS / "README.md").read_text("utf-8"), re.MULTILINE)
    return [_row(name, function, *(cell.strip() for cell in cells.split("|"))) for name, function, cells in table]


def _row(name: str, function: str, answer: str, again: str, topic: str) -> Row:
    second = again.replace("the same", re.split("[;:]", answer)[0])
    return Row(name, re.sub("(?<!^)(?=[A-Z])", "_", function).lower(), _said(answer), _said(second), topic.strip("`") or None)


def _said(cell: str) -> Said:
    words = re.split("[;:]", cell)[0]  # What follows explains.
    first = re.match(r"(\d{3})\b|`(succeeded|declined|unknown|refused)`", words)
    rest = words[first.end() :] if first else words
    result = (first[1] or first[2]) if first else None
    return Said(result, re.findall(r"\b[A-Z_]{4,}\b", rest), re.findall(r"`(\w+)`", rest), words.endswith("replayed"))


def check(row: Row, said: Said, answer: Mapping[str, Any]) -> None:
    """Fail unless the function answered as the table says and the API's document promises."""
    assert "errorType" not in answer
    event = row.event
    if row.name in COUNTS:
        assert answer.keys() == COUNTS[row.name]
        return
    if row.function == "gateway_events":  # Its route is Stripe's, and in no document of ours.
        assert str(answer.get("statusCode") or answer["outcome"]) == said.result
        return
    if "requestContext" in event:
        http, body = event["requestContext"]["http"], body_of(answer)
        documents.check_answer(http["method"], http["path"], answer["statusCode"], answer["headers"], body)
        result, replayed = str(answer["statusCode"]), "idempotent-replayed" in answer["headers"]
    else:
        documents.check_direct_answer(event.get("operation", row.function), answer)
        body, result, replayed = answer["body"], answer["outcome"], answer["replayed"]
    assert (result, replayed) == (said.result, said.replayed), body
    codes = [body.get("code"), body.get("decline_code")]
    assert said.codes == [code for code in codes if code], body
    if not said.codes:  # A problem's `status` is that of HTTP, and the table leaves its `payment_status` out.
        shown = (body.get("status"), body.get("payment_status"))
        assert said.statuses == [status for status in shown if status and status.isupper()], body


def body_of(answer: Mapping[str, Any]) -> Any:
    return json.loads(answer["body"])
