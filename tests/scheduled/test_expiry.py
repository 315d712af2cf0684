from __future__ import annotations

import contextlib
from dataclasses import replace
from uuid import UUID

import pytest

from local.servers import connect
from payments.domain.operation import Outcome
from payments.domain.payment import PaymentStatus
from payments.scheduled.reconcile import EXPIRY_REASON, SIDE_BY_SIDE, Reconciled
from payments.store.connection import Statement
from tests.fakes import approve, decline, lose_reply
from tests.shop import Books, Shop

TIMES = ("created_at", "updated_at", "authorized_at", "capture_before")


def run_out(books: Books, payment_id: UUID) -> None:
    """Make the authorization eight days older."""
    earlier = ", ".join(f"{name} = {name} - interval '8 days'" for name in TIMES)
    books.query(f"UPDATE payments SET {earlier} WHERE payment_id = :id", id=payment_id)


def test_an_authorization_that_ran_out_is_voided(lone_shop: Shop, lone_books: Books) -> None:
    old, fresh, captured = lone_shop.authorized(), lone_shop.authorized(), lone_shop.authorized()
    lone_shop.capture(captured.transaction_id)
    for payment in (old, captured):
        run_out(lone_books, payment.payment_id)
    assert lone_shop.reconcile() == Reconciled(expired=1)
    assert [lone_books.payment(one.payment_id)["status"] for one in (old, fresh, captured)] == [
        "VOIDED",
        "AUTHORIZED",
        "CAPTURED",
    ]
    assert lone_shop.gateway.asked[-1][0] == "void"
    [*_, voided] = lone_books.query(
        "SELECT to_status, reason FROM payment_status_history WHERE payment_id = :id ORDER BY version", id=old.payment_id
    )
    assert voided == ["VOIDED", EXPIRY_REASON]
    event = lone_shop.publisher.published[-1]
    assert (event.type, event.payment_id, event.sequence) == ("payment.voided", old.payment_id, 2)
    assert lone_shop.reconcile() == Reconciled(), "an authorization is voided once"


def test_authorizations_of_every_owner_run_out(lone_shop: Shop, lone_books: Books) -> None:
    payments = [replace(lone_shop, owner=f"owner-{number}").authorized() for number in range(25)]
    for payment in payments:
        run_out(lone_books, payment.payment_id)
    assert lone_shop.reconcile().expired == 25
    assert lone_books.query("SELECT DISTINCT status FROM payments") == [["VOIDED"]]
    assert lone_books.query("SELECT count(*) FROM operations o JOIN payments p USING (payment_id) WHERE o.owner <> p.owner") == [
        [0]
    ]


def test_authorizations_of_another_gateway_are_in_nobodys_way(lone_shop: Shop, lone_books: Books) -> None:
    """After a change of the gateway the old one's stay as they are. They run out first, and there may be many."""
    others = [lone_shop.authorized() for _ in range(SIDE_BY_SIDE // 2)]
    ours = lone_shop.authorized()
    lone_books.query("UPDATE payments SET gateway = 'other' WHERE payment_id <> :id", id=ours.payment_id)
    for payment in (*others, ours):
        run_out(lone_books, payment.payment_id)
    assert lone_shop.reconcile() == Reconciled(expired=1)
    assert lone_books.payment(ours.payment_id)["status"] == "VOIDED"


@pytest.mark.parametrize("command", ["capture", "void"])
def test_one_with_a_capture_or_void_in_flight_is_left_alone(lone_shop: Shop, lone_books: Books, command: str) -> None:
    payment = lone_shop.authorized()
    lone_shop.gateway.answer = lose_reply
    getattr(lone_shop, command)(payment.transaction_id)
    run_out(lone_books, payment.payment_id)
    requests = len(lone_shop.gateway.asked)
    assert lone_shop.reconcile() == Reconciled()
    assert len(lone_shop.gateway.asked) == requests


def test_one_whose_capture_was_declined_is_voided(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.authorized()
    lone_shop.gateway.answer = decline
    assert lone_shop.capture(payment.transaction_id).outcome is Outcome.DECLINED
    lone_shop.gateway.answer = approve
    run_out(lone_books, payment.payment_id)
    assert lone_shop.reconcile().expired == 1


def test_one_that_the_gateway_will_not_release_is_tried_once_an_hour(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.authorized()
    run_out(lone_books, payment.payment_id)
    lone_shop.gateway.answer = decline
    for _ in range(3):
        assert lone_shop.reconcile() == Reconciled(expired=0)
    assert [action for action, _ in lone_shop.gateway.asked] == ["charge", "void"]
    assert lone_books.payment(payment.payment_id)["status"] == "AUTHORIZED"
    lone_books.query("UPDATE operations SET settled_at = settled_at - interval '61 minutes' WHERE kind = 'void'")
    lone_shop.gateway.answer = approve
    assert lone_shop.reconcile().expired == 1
    assert len(set(lone_shop.gateway.keys)) == 3, "a new void is a new operation with a key of its own"


def test_one_whose_void_gets_no_answer_is_reconciled_as_any_void(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.authorized()
    run_out(lone_books, payment.payment_id)
    lone_shop.gateway.answer = lose_reply
    assert lone_shop.reconcile().expired == 0
    assert lone_shop.hears_later(approve, lone_books).settled == 1
    assert lone_books.payment(payment.payment_id)["status"] == PaymentStatus.VOIDED
    assert lone_shop.gateway.keys[1] == lone_shop.gateway.keys[2]


def test_with_too_little_time_nothing_is_begun(lone_shop: Shop, lone_books: Books) -> None:
    payment = lone_shop.authorized()
    run_out(lone_books, payment.payment_id)
    assert lone_shop.reconcile(time_s=13).expired == 0
    assert [action for action, _ in lone_shop.gateway.asked] == ["charge"]


def test_one_that_cannot_be_voided_does_not_keep_the_others_waiting(lone_shop: Shop, lone_books: Books) -> None:
    locked, other = lone_shop.authorized(), lone_shop.authorized()
    for payment in (locked, other):
        run_out(lone_books, payment.payment_id)
    impatient = lone_shop.elsewhere()
    with contextlib.closing(connect(lone_books.owner_url)) as somebody:
        [[name]] = somebody.run("SELECT current_database()")
        somebody.run(f"ALTER ROLE payments_service IN DATABASE {name} SET lock_timeout = '100ms'")
        impatient.service.db.run(Statement("SELECT 1")())  # connects with that time-out
        somebody.run(f"ALTER ROLE payments_service IN DATABASE {name} RESET lock_timeout")
        somebody.run("BEGIN")
        somebody.run("SELECT 1 FROM payments WHERE payment_id = :id FOR UPDATE", id=locked.payment_id)
        assert impatient.reconcile().expired == 1
    assert lone_books.payment(other.payment_id)["status"] == "VOIDED"
    assert lone_shop.reconcile().expired == 1, "the locked one is voided when it is free"


@pytest.mark.parametrize("transaction_id", ["t" * 300, "txn\n1"])
def test_an_id_that_no_caller_could_send_does_not_keep_the_others_waiting(
    lone_shop: Shop, lone_books: Books, transaction_id: str
) -> None:
    """The gateway makes the transaction ids. We do not validate them."""
    odd, other = lone_shop.authorized(), lone_shop.authorized()
    for payment in (odd, other):
        run_out(lone_books, payment.payment_id)
    lone_books.query("UPDATE payments SET transaction_id = :txn WHERE payment_id = :id", txn=transaction_id, id=odd.payment_id)
    assert lone_shop.reconcile().expired == 1
    assert lone_books.payment(other.payment_id)["status"] == "VOIDED"
