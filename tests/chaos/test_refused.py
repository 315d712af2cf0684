"""What the witness says of a refusal for good beside an operation that was in flight."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from chaos import refused
from chaos.answers import Answer
from chaos.oracle import Life
from chaos.refused import Refusal


def again(number: int, sent_s: float, **changes: Any) -> Answer:
    body = {
        "code": "order_already_paid",
        "payment_id": "payment",
        "payment_status": "AUTHORIZED",
        "request_id": f"1.again.{number}",
    }
    told: dict[str, Any] = {"status": 409, "body": body} | changes
    return Answer("1.again", f"1.again.{number}", "process", "shop", "key", "", True, {}, sent_s, sent_s + 1, "answered", **told)


def violations(*answers: Answer) -> list[str]:
    """Return what the witness says of the last answer. The gateway was asked for a void at 5 s, which never ended."""
    void = {
        "kind": "void",
        "gateway_key": "void-1",
        "settled_at": None,
        "traceparent": None,
        "owner": "shop",
        "idempotency_key": None,
    }
    life = Life({"payment_id": "payment"}, operations=[void])
    evidence: Any = SimpleNamespace(
        calls_by_key=lambda: {"void-1": [SimpleNamespace(begun_s=5.0)]},
        answers=list(answers),
        tables={"operations": [void]},
        clock_s=0.0,
    )
    last = answers[-1]
    assert last.body
    return list(refused._true([Refusal(last.label, last, last.body)], evidence, {"payment": life}))


def test_a_refusal_beside_a_void_in_flight_is_wrong() -> None:
    assert "was in flight all the time" in violations(again(0, 7.0))[0]
    assert violations(again(0, 3.0)) == [], "the void came later"


def test_a_refusal_that_repeats_what_was_told_before_the_void_is_right() -> None:
    killed = again(0, 3.0, status=None, body=None)
    assert killed.label == "1.again.0"
    repeats = again(1, 7.0)
    assert repeats.body
    repeats.body["request_id"] = killed.label
    assert violations(killed, repeats) == []
