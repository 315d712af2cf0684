"""What an answer to a direct request says, when a lost database took some of the answers with it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from chaos import acknowledged
from chaos.answers import Answer
from chaos.books import Books
from chaos.evidence import Evidence

REFUSED = {"code": "amount_too_large", "retryable": True}
OPERATION = {
    "operation_id": "an-operation",
    "kind": "refund",
    "owner": "orders",
    "idempotency_key": "key",
    "traceparent": "trace",
}


def answer(label: str, status: int | None = None) -> Answer:
    return Answer(
        "9.refund",
        label,
        "refund",
        "orders",
        None,
        "trace",
        True,
        {},
        0.0,
        1.0,
        "raised" if status else "killed",
        status,
        REFUSED,
    )


@pytest.mark.parametrize("others", [[], [answer("9.refund.1")]], ids=["only delivery", "one of two deliveries"])
def test_a_refusal_is_contradicted_by_an_operation_that_no_other_delivery_made(others: list[Answer]) -> None:
    refused = answer("9.refund.0", 422)
    tables: dict[str, list[dict[str, Any]]] = {"operations": [OPERATION]}
    seen = Evidence(tables, [], Books([], {}), [], [refused], [], frozenset(), frozenset(), time.time() - time.monotonic())
    violations = list(acknowledged.check(seen, {}, [refused, *others]))
    assert [violation for violation in violations if "nothing was done" in violation] == violations
    assert bool(violations) is not bool(others)
