"""A settle writes once, and only for the worker that holds the operation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from payments.domain.changes import Captured, Failed, ProcessingStarted
from payments.domain.events import Event, event_for
from payments.domain.ids import uuid7
from payments.domain.operation import Draft, Operation, Outcome
from payments.domain.payment import Payment, PaymentStatus, apply
from payments.store.claims import Claimed, claim_process
from payments.store.connection import Database, Statement
from payments.store.due import give_back
from payments.store.settlement import settle
from tests.domain.examples import NOON, payment

LATER = NOON + timedelta(seconds=1)


@pytest.fixture
def claimed(db: Database) -> tuple[Operation, Payment]:
    """A payment that is being processed, and its operation."""
    payment_id = uuid7()
    pending = payment(payment_id=payment_id, order_id=str(payment_id))
    processing = apply(pending, ProcessingStarted(), NOON)
    draft = Draft(
        operation_id=uuid7(),
        owner="shop",
        kind="process",
        request_hash="h",
        gateway_key=f"pay-{payment_id}",
        created_at=NOON,
        lease_s=60,
        gateway="simulated",
        key_lifetime_s=82800,
    )
    written = claim_process(db, draft, pending, processing)
    assert isinstance(written, Claimed)
    return written.operation, processing


def rows(db: Database, operation: Operation) -> list[Any]:
    """Return all rows of the operation's payment."""
    return db.run(
        Statement("SELECT * FROM payments WHERE payment_id = :id")(id=operation.payment_id),
        Statement("SELECT * FROM operations WHERE payment_id = :id")(id=operation.payment_id),
        Statement("SELECT * FROM outbox WHERE payment_id = :id")(id=operation.payment_id),
        Statement("SELECT * FROM payment_status_history WHERE payment_id = :id")(id=operation.payment_id),
    )


def capture(db: Database, operation: Operation, before: Payment) -> tuple[bool, Event | None]:
    change = Captured(1999, f"txn_{before.payment_id}", f"pi_{before.payment_id}")
    after = apply(before, change, LATER)
    event = event_for(change, after, None, uuid7(), None)
    done = replace(operation, outcome=Outcome.SUCCEEDED, reply={"result": "approved"})
    return settle(db, Claimed(operation, before), Claimed(done, after), event, 6)


def captured(db: Database, operation: Operation, before: Payment) -> bool:
    return capture(db, operation, before)[0]


def declined(db: Database, operation: Operation, before: Payment) -> bool:
    """Settle with a decline, but leave the payment's version as it was, so that only the operation's outcome guards."""
    done = replace(operation, outcome=Outcome.DECLINED, reply={"result": "declined"})
    change = Failed("card_declined", "The card was declined.", None, None)
    event = event_for(change, before, None, uuid7(), None)
    return settle(db, Claimed(operation, before), Claimed(done, before), event, 6)[0]


def test_a_settle_writes_all_and_a_second_one_nothing(db: Database, claimed: tuple[Operation, Payment]) -> None:
    operation, before = claimed
    assert captured(db, operation, before)
    written = rows(db, operation)
    assert written[0][0][3] == PaymentStatus.CAPTURED
    assert [len(table) for table in written] == [1, 1, 1, 3]
    assert not captured(db, operation, before)
    after = apply(before, Captured(1999, f"txn_{before.payment_id}", f"pi_{before.payment_id}"), LATER)
    assert not declined(db, operation, after)
    assert rows(db, operation) == written


def test_an_outcome_is_never_replaced_although_the_payment_is_as_it_was(db: Database, claimed: tuple[Operation, Payment]) -> None:
    operation, before = claimed
    assert declined(db, operation, before)
    written = rows(db, operation)
    assert not captured(db, operation, before)
    assert not declined(db, operation, before)
    assert rows(db, operation) == written


@pytest.mark.parametrize(
    "stale",
    [
        lambda operation, before: (replace(operation, attempt=2), before),
        lambda operation, before: (replace(operation, attempt=0), before),
        lambda operation, before: (replace(operation, operation_id=uuid7()), before),
        lambda operation, before: (operation, replace(before, version=before.version - 1)),
        lambda operation, before: (operation, replace(before, version=before.version + 1)),
    ],
    ids=["a later attempt", "an earlier attempt", "another operation", "an older payment", "a newer payment"],
)
def test_a_worker_that_does_not_hold_the_operation_as_it_is_writes_nothing(
    db: Database, claimed: tuple[Operation, Payment], stale: Any
) -> None:
    written = rows(db, claimed[0])
    assert not captured(db, *stale(*claimed))
    assert rows(db, claimed[0]) == written


def test_the_lease_of_another_attempt_is_not_given_back(db: Database, claimed: tuple[Operation, Payment]) -> None:
    operation, before = claimed
    written = rows(db, operation)
    for attempt in (0, 2):
        give_back(db, replace(operation, attempt=attempt), [30], {"result": "unknown"})
        assert rows(db, operation) == written
    give_back(db, operation, [30], {"result": "unknown"})
    assert rows(db, operation) != written
    assert captured(db, operation, before), "the attempt may write its outcome until another one takes over"
    written = rows(db, operation)
    give_back(db, operation, [30], {"result": "unknown"})
    assert rows(db, operation) == written, "a known outcome stays known"


@pytest.mark.parametrize(("published_at", "expected"), [("now()", True), ("NULL", False)])
def test_an_event_is_next_when_no_older_one_of_its_payment_waits(
    db: Database, claimed: tuple[Operation, Payment], published_at: str, expected: bool
) -> None:
    operation, before = claimed
    db.run(
        Statement(
            "INSERT INTO outbox (event_id, payment_id, sequence, type, data, created_at, lease_until, published_at)"
            f" VALUES (:event_id, :id, 0, 't', '{{}}', now(), now(), {published_at})"
        )(event_id=uuid7(), id=operation.payment_id)
    )
    done, event = capture(db, operation, before)
    assert (done, event is not None) == (True, expected)
