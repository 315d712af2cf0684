from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from payments.domain.changes import EVENT_TYPES, DisputeClosed, Disputed
from payments.domain.dispute import Dispute, DisputeOutcome, change_to, dispute_body, next_of
from payments.domain.events import event_for, payment_body
from payments.domain.payment import IllegalTransition, PaymentStatus, apply
from tests.domain.examples import MONEY, NOON, dispute, payment

LATER = NOON + timedelta(days=3)
OTHER_ID = UUID("019c1234-5678-7abc-8def-0123456789ff")

# Rows: what is recorded. Columns: what is seen. The event that is owed next; a point stands for none.
TABLE = """
            open     won     lost    closed
    new     disputed disputed disputed disputed
    open    .        closed  closed  closed
    won     disputed .       closed  closed
    lost    disputed closed  .       closed
    closed  disputed closed  closed  .
"""


def outcome_of(word: str) -> DisputeOutcome | None:
    return None if word == "open" else DisputeOutcome(word)


def pairs() -> list[tuple[str, str, str]]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return [(before, seen, owed) for before, *marks in rows for seen, owed in zip(head, marks, strict=True)]


@pytest.mark.parametrize(("before", "seen", "owed"), pairs())
def test_what_was_seen_leads_to_the_next_event_of_the_table(before: str, seen: str, owed: str) -> None:
    recorded = None if before == "new" else dispute(outcome=outcome_of(before))
    after = next_of(recorded, dispute(dispute_id=OTHER_ID, outcome=outcome_of(seen), version=9))
    if owed == ".":
        assert after is None
        return
    assert after is not None
    assert EVENT_TYPES[type(change_to(after))] == {"disputed": "payment.disputed", "closed": "payment.dispute_closed"}[owed]
    assert after.outcome == (None if before == "new" else outcome_of(seen))
    assert after.dispute_id == (OTHER_ID if before == "new" else dispute().dispute_id), "its id stays"


DIFFERENT: dict[str, Any] = {
    "amount_minor": 5,
    "currency": "EUR",
    "reason": "duplicate",
    "status": "under_review",
    "due_by": None,
    "is_refundable": True,
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_the_gateway_changes_is_news_while_a_dispute_is_open_and_not_after_its_end(name: str) -> None:
    changed = {name: DIFFERENT[name]}
    assert next_of(dispute(), dispute(**changed)) == dispute(**changed)
    ended = dispute(outcome=DisputeOutcome.LOST)
    assert next_of(ended, replace(ended, **changed)) is None


@pytest.mark.parametrize("name", ["dispute_id", "owner", "created_at", "updated_at", "version"])
def test_what_is_ours_is_no_news(name: str) -> None:
    ours: dict[str, Any] = {"dispute_id": OTHER_ID, "owner": "another", "created_at": LATER, "updated_at": LATER, "version": 9}
    assert next_of(dispute(), dispute(**{name: ours[name]})) is None


@pytest.mark.parametrize("change", [Disputed("disputed: duplicate"), DisputeClosed("dispute won")])
@pytest.mark.parametrize("status", PaymentStatus)
def test_a_dispute_leaves_a_captured_payment_as_it_is_but_for_its_history(
    status: PaymentStatus, change: Disputed | DisputeClosed
) -> None:
    before = payment(status)
    if status not in MONEY:
        with pytest.raises(IllegalTransition):
            apply(before, change, LATER)
        return
    numbers: dict[str, Any] = {"version": before.version + 1, "event_sequence": before.event_sequence + 1}
    assert apply(before, change, LATER) == replace(before, status_reason=change.reason, updated_at=LATER, **numbers)


@pytest.mark.parametrize(
    ("outcome", "type_"), [(None, "payment.disputed"), *((outcome, "payment.dispute_closed") for outcome in DisputeOutcome)]
)
def test_an_event_holds_the_payment_and_the_dispute(outcome: DisputeOutcome | None, type_: str) -> None:
    one = dispute(outcome=outcome)
    change = change_to(one)
    after = apply(payment(PaymentStatus.CAPTURED), change, LATER)
    event = event_for(change, after, None, OTHER_ID, None, dispute=dispute_body(one))
    assert (event.type, event.sequence) == (type_, 1)
    assert json.loads(event.data) == payment_body(after) | {"dispute": dispute_body(one)}


def test_neither_owner_nor_version_of_a_dispute_leaves_the_service() -> None:
    assert "canary" not in str(dispute_body(dispute(owner="owner-canary")))
    ours = {"owner", "version", "amount_minor"}
    assert dispute_body(dispute()).keys() == Dispute.__dataclass_fields__.keys() - ours | {"amount"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_minor": -1},
        {"amount_minor": 10**12},
        {"currency": "usd"},
        {"currency": "USDX"},
        {"reason": "a\0b"},
        {"status": "\ud800"},
        {"gateway_dispute_id": "x" * 101},
    ],
    ids=lambda wrong: ascii(wrong)[:40],
)
def test_what_the_table_does_not_take_is_no_dispute(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a dispute has"):
        dispute(**wrong)
