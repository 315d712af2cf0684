"""What the harness's quiet period waits for."""

from __future__ import annotations

from chaos.books import TOO_LATE
from chaos.quiet import LEFT
from payments.gateway.port import Declined
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


def test_nobody_waits_for_what_the_simulated_gateway_cannot_show(lone_shop: Shop, lone_books: Books) -> None:
    paid = lone_shop.authorized()
    lone_shop.gateway.answer = lambda action, request: Declined(TOO_LATE, "somebody was faster", None, None, {"action": action})
    lone_shop.void(paid.transaction_id)
    [[door]] = lone_books.query("SELECT door FROM gateway_events WHERE handled_at IS NULL")
    [[left]] = lone_books.query(LEFT)
    assert (door, int(left)) == ("decline", 0)
