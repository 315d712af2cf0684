"""No row is of a payment that is not there. No foreign key says so (migration 012 has the reasons), so we look."""

from __future__ import annotations

import contextlib

import pg8000.native

from payments.domain.errors import PaymentsError
from payments.domain.ids import uuid7
from payments.domain.payment import PaymentStatus
from tests.shop import Books, Shop
from tests.store.test_schema import insert, operation_row

ORPHANS = " UNION ALL ".join(
    f"SELECT '{table}' FROM {table} LEFT JOIN payments USING (payment_id) WHERE payments.payment_id IS NULL"
    for table in ("payment_status_history", "operations", "refunds", "disputes")
)


def test_no_command_leaves_a_row_without_its_payment(lone_shop: Shop, lone_books: Books) -> None:
    taken = [lone_shop.in_status(status) for status in PaymentStatus if status is not PaymentStatus.PENDING]
    for payment in taken:
        for command in (lone_shop.capture, lone_shop.void, lone_shop.refund):
            for transaction_id in (payment.transaction_id or "txn_of_nobody", "txn_of_nobody"):
                with contextlib.suppress(PaymentsError):
                    command(transaction_id)
        with contextlib.suppress(PaymentsError):
            lone_shop.process(order_id=payment.order_id)
    lone_shop.reconcile()
    assert lone_books.query("SELECT count(*) FROM operations")[0][0] > len(taken)
    assert lone_books.query(ORPHANS) == []


def test_an_orphan_is_seen(owner: pg8000.native.Connection) -> None:
    insert(owner, "operations", operation_row(payment_id=uuid7()))
    assert ["operations"] in owner.run(ORPHANS)
