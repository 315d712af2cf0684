"""What the harness's quiet period waits for."""

from __future__ import annotations

from chaos.quiet import LEFT
from tests.fakes import decline
from tests.shop import Books, Shop


def test_an_expired_authorization_is_waited_for_until_its_void_is_declined(lone_shop: Shop, lone_books: Books) -> None:
    def left() -> int:
        [[count]] = lone_books.query(LEFT)
        return int(count)

    paid = lone_shop.authorized()
    assert left() == 0
    lone_books.query("UPDATE payments SET capture_before = now()")
    assert left() == 1
    lone_shop.gateway.answer = decline
    lone_shop.reconcile()
    assert (lone_books.payment(paid.payment_id)["status"], left()) == ("AUTHORIZED", 0)
