"""The oracle's evidence. We collect it after the quiet period, without a line of the service's code."""

from __future__ import annotations

import base64
import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pg8000.native

from chaos.answers import Answer
from chaos.books import Books

Row = dict[str, Any]

TABLES = (
    "payments",
    "refunds",
    "operations",
    "payment_status_history",
    "outbox",
    "webhooks",
    "webhook_deliveries",
    "gateway_events",
    "disputes",
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the gateway, as its caller recorded it. `ended_s` is None if the caller died before the answer came.

    `transaction_id` names the earlier charge that the call is about, and `payment_intent_id` the gateway's payment.
    """

    call: str
    action: str
    key: str
    attempt: int
    amount: int
    currency: str
    token: str | None
    content: tuple[object, ...]
    """These fields must be the same in every call with this key."""
    transaction_id: str | None
    payment_intent_id: str | None
    capture: bool
    begun_s: float
    ended_s: float | None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The broker took the event at some moment between the two times (seconds since the epoch)."""

    event_id: str
    sent_s: float
    acknowledged_s: float


@dataclass(frozen=True, slots=True)
class Message:
    incarnation: int
    partition: int
    offset: int
    key: str
    headers: dict[str, str]
    value: bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook that came whole. If it was not `taken`, it got a 503. `owner` is whose address it came to."""

    owner: str
    headers: dict[str, str]
    body: str
    at_s: float
    taken: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    tables: dict[str, list[Row]]
    calls: list[Call]
    books: Books
    """The gateway's own."""
    messages: list[Message]
    answers: list[Answer]
    acknowledgements: list[Acknowledgement]
    lost_with_broker: frozenset[str]
    """event_ids that the broker acknowledged and lost in a kill before anybody read them. We replayed them, so they are late."""
    frozen: frozenset[str]
    """Labels of the invocations that we stopped for longer than their lease."""
    clock_s: float
    """The wall clock less the monotonic one, in which the clients and the calls count."""
    arrivals: list[Arrival] = field(default_factory=list)
    """In the order in which they came."""
    while_waiting: dict[str, list[Row]] = field(default_factory=dict)
    """The tables before the quiet period, when customers still had to act."""

    def calls_by_key(self) -> dict[str, list[Call]]:
        """Return the calls of each gateway key, in their order."""
        by_key: defaultdict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            by_key[call.key].append(call)
        return dict(by_key)


def tables(owner_url: str) -> dict[str, list[Row]]:
    with contextlib.closing(connect(owner_url)) as connection:
        return {table: list(_rows(connection, table)) for table in TABLES}


def connect(url: str) -> pg8000.native.Connection:
    parts = urlsplit(url)
    password = None if parts.password is None else unquote(parts.password)
    return pg8000.native.Connection(
        unquote(parts.username or ""), parts.hostname or "", parts.path.lstrip("/"), parts.port or 5432, password
    )


def calls(record: Path) -> list[Call]:
    """Return the calls in their order. If a kill tore a line, its call did not reach the gateway."""
    ended_s: dict[str, float] = {}
    lines = []
    for line in whole_lines(record):
        if "ended_s" in line:
            ended_s[line["call"]] = line["ended_s"]
        elif "begun_s" in line:
            lines.append(line)
    return [
        Call(
            call=line["call"],
            action=line["action"],
            key=line["key"],
            attempt=line["attempt"],
            amount=line["amount_minor"],
            currency=line["currency"],
            token=line["payment_token"],
            content=tuple(
                line[name] for name in ("action", "amount_minor", "currency", "payment_token", "transaction_id", "capture")
            ),
            transaction_id=line["transaction_id"],
            payment_intent_id=line["payment_intent_id"],
            capture=line["capture"],
            begun_s=line["begun_s"],
            ended_s=ended_s.get(line["call"]),
        )
        for line in lines
    ]


def acknowledgements(record: Path) -> list[Acknowledgement]:
    """Return the broker's acknowledgements, except those whose publisher died before it could record them."""
    return [
        Acknowledgement(event_id, line["sent_s"], line["acknowledged_s"])
        for line in whole_lines(record)
        for event_id in line["event_ids"]
    ]


def whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines, without those that a kill tore: a torn line lacks its end."""
    for text in filter(None, path.read_text().splitlines()) if path.exists() else ():
        if text.endswith("}") or not text.startswith("{"):
            yield json.loads(text)


def messages(topic: Path) -> list[Message]:
    """Return each message once, in the order of its partition."""
    seen = {}
    for text in topic.read_text().splitlines() if topic.exists() else ():
        line = json.loads(text)
        message = Message(**line | {"value": base64.b64decode(line["value"])})
        seen[(message.incarnation, message.partition, message.offset)] = message
    return [seen[place] for place in sorted(seen)]


def keep(seen: Evidence, folder: Path) -> None:
    """Write the tables, answers and arrivals to the folder too, so that somebody can look into a violation."""
    for table, rows in seen.tables.items():
        (folder / f"{table}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "books.json").write_text(json.dumps(asdict(seen.books)))
    for name, records in (("answers", seen.answers), ("arrivals", seen.arrivals)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))


def _rows(connection: pg8000.native.Connection, table: str) -> Iterator[Row]:
    for (text,) in connection.run(f"SELECT row_to_json(t)::text FROM {table} t"):
        yield json.loads(text)
