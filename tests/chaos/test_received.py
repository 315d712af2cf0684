"""What the witness says of webhooks: nothing of those that are right, and each thing that can be wrong about them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import standardwebhooks

from chaos import received
from chaos.books import Books
from chaos.evidence import Arrival, Evidence, Message
from chaos.oracle import Life
from chaos.receiver import Receiver
from tests.cases import case

SECRET = "whsec_" + "c2VjcmV0IG9mIGEgc2hvcA=="
NOW = datetime.now(UTC)


def row(sequence: int) -> dict[str, Any]:
    return {"event_id": f"event-{sequence}", "payment_id": "payment", "sequence": sequence, "type": "payment.successful"}


def arrival(sequence: int, *, at: datetime = NOW, secret: str = SECRET, text: str = "", **other: Any) -> Arrival:
    """Return an event as it should come, signed by the official library, with `other` attributes or another `text`."""
    event = {"id": f"event-{sequence}", "subject": "payment", "type": "payment.successful", "data": {"amount": 5}} | other
    body, event_id = text or json.dumps(event), f"event-{sequence}"
    signature = standardwebhooks.Webhook(secret).sign(event_id, at, body)
    headers = {"webhook-id": event_id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": f"v1,x {signature}"}
    return Arrival("shop", headers, body, NOW.timestamp(), taken=True)


def violations(*arrivals: Arrival, **webhook: Any) -> list[str]:
    """Return what the witness says of these, when a shop's payment has two events."""
    hook = {"owner": "shop", "secret": SECRET, "disabled_at": None, "disabled_reason": None} | webhook
    life = Life({"payment_id": "payment", "owner": "shop"}, outbox=[row(1), row(2)])
    messages = [
        Message(0, 0, n, "payment", {"ce_id": f"event-{n}", "ce_type": "payment.successful"}, b'{"amount": 5}') for n in (1, 2)
    ]
    tables: dict[str, list[dict[str, Any]]] = {"webhooks": [hook], "webhook_deliveries": []}
    seen = Evidence(tables, [], Books([], {}), messages, [], [], frozenset(), frozenset(), 0.0, list(arrivals))
    return list(received.check(seen, {"payment": life}))


def test_events_that_came_in_order_and_again_are_right() -> None:
    assert violations(arrival(1), arrival(2), arrival(1)) == []
    assert violations(replace(arrival(1), taken=False), arrival(1), arrival(2)) == []


WRONG: dict[str, tuple[list[Arrival], list[str]]] = {
    "nothing came": ([], ["1 never reached", "2 never reached"]),
    "one did not come": ([arrival(1)], ["2 never reached"]),
    "one was only refused": ([arrival(1), replace(arrival(2), taken=False)], ["2 never reached"]),
    "the second came first": ([arrival(2), arrival(1)], ["2 came to the webhook of shop before [1]"]),
    "the first was refused": ([replace(arrival(1), taken=False), arrival(2), arrival(1)], ["before [1]"]),
    "nobody owes it": ([arrival(1), arrival(2), arrival(3)], ["whose outbox does not have it"]),
    "it is another's": ([arrival(1), arrival(2), replace(arrival(1), owner="other")], ["of other, whose outbox does not"]),
    "a wrong secret": ([arrival(1, secret="whsec_YW5vdGhlcg=="), arrival(2)], ["a wrong signature"]),
    "another body": ([replace(arrival(1), body=arrival(1).body + " "), arrival(2)], ["a wrong signature"]),
    "no JSON": ([arrival(1, text="{'id': 1}"), arrival(2)], ["not JSON"]),
    "an old signature": ([arrival(1, at=NOW - timedelta(minutes=6)), arrival(2)], ["with the time"]),
    "other data": ([arrival(1, data={"amount": 6}), arrival(2)], ["another data than"]),
    "another type": ([arrival(1, type="payment.failed"), arrival(2)], ["payment.failed", "another type than"]),
    "another id": ([arrival(1, id="event-2"), arrival(2)], ["event-2", "another id than"]),
}


def test_each_thing_that_is_wrong_is_said() -> None:
    for name, (arrivals, said) in WRONG.items():
        with case(name):
            found = violations(*arrivals)
            assert len(found) == len(said), found
            assert all(part in violation for part, violation in zip(said, found, strict=True)), found


def test_a_webhook_that_was_disabled_is_said() -> None:
    assert violations(arrival(1), arrival(2), disabled_at="2026-01-01", disabled_reason="failing") == [
        "the webhook of shop was disabled: failing"
    ]


class Connection:
    """A writer that keeps the answer."""

    def __init__(self) -> None:
        self.answer = b""

    def write(self, data: bytes) -> None:
        self.answer += data

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_request_that_a_kill_tore_has_not_arrived() -> None:
    receiver = Receiver(0, refuses=1)

    async def post(text: str) -> bytes:
        reader, connection = asyncio.StreamReader(), Connection()
        reader.feed_data(text.encode())
        reader.feed_eof()
        await receiver.serve(reader, cast("asyncio.StreamWriter", connection))
        return connection.answer

    assert asyncio.run(post("POST /shop HTTP/1.1\r\nContent-Length: 4\r\n\r\n{}")) == b""
    assert asyncio.run(post("POST /shop HTTP/1.1\r\nContent-Len")) == b""
    whole = "POST /shop HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    assert [asyncio.run(post(whole)).split()[1] for _ in range(2)] == [b"503", b"204"]
    came = [(each.owner, each.body, each.taken) for each in receiver.arrivals]
    assert came == [("shop", "{}", False), ("shop", "{}", True)]
