"""Whose a capture, a cancel or a decline is in Stripe's books, after somebody at the dashboard was faster than a call of ours."""

from __future__ import annotations

from typing import Any

from chaos.books import Books
from chaos.stripe_books import Refusal, books

CALL = "capture-1"


def known(status: str, captured: int = 0, refunds: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """One authorization of 1000, which the dashboard has ended."""
    intent = {"id": "pi_1", "status": status, "capture_method": "manual", "amount_received": captured, "last_payment_error": None}
    charge = {"id": "ch_1", "payment_intent": "pi_1", "status": "succeeded", "amount": 1000, "currency": "eur"}
    charge |= {"captured": captured > 0, "amount_captured": captured, "amount_refunded": 0}
    events = [{"type": f"payment_intent.{status}", "data": {"object": {"id": "pi_1"}}, "request": {"idempotency_key": None}}]
    return {
        "payment_intents": [intent | {"metadata": {"gateway_key": "pay-1"}}],
        "charges": [charge],
        "refunds": list(refunds),
        "disputes": [],
        "events": events,
        "balance": {"available": [], "pending": []},
        "balance_transactions": [],
    }


def came_too_late(status: str, path: str = "capture", amount: int = 600) -> Refusal:
    error = {"type": "invalid_request_error", "code": "payment_intent_unexpected_state", "payment_intent": {"status": status}}
    return Refusal(CALL, f"/v1/payment_intents/pi_1/{path}", {"amount_to_capture": str(amount)}, error)


def keys_of(found: Books, action: str) -> list[str]:
    return [move.key for move in found.moves if move.action == action]


def test_a_capture_of_the_dashboards_is_that_of_a_call_which_found_its_own_amount_and_else_theirs() -> None:
    theirs = "gateway-capture-pi_1"
    assert keys_of(books(known("succeeded", 600)), "capture") == [theirs]
    assert keys_of(books(known("succeeded", 600), [came_too_late("succeeded")]), "capture") == [CALL]
    other = books(known("succeeded", 600), [came_too_late("succeeded", amount=1000)])
    assert keys_of(other, "capture") == [theirs]
    assert other.declines[CALL] == "payment_intent_unexpected_state"


def test_a_cancel_of_the_dashboards_is_that_of_a_void_which_found_it_and_declines_a_capture() -> None:
    assert keys_of(books(known("canceled")), "void") == ["gateway-void-pi_1"]
    assert keys_of(books(known("canceled"), [came_too_late("canceled", "cancel")]), "void") == [CALL]
    late = books(known("canceled"), [came_too_late("canceled")])
    assert (keys_of(late, "void"), late.declines[CALL]) == (["gateway-void-pi_1"], "payment_intent_unexpected_state")


def test_a_refund_after_the_dashboards_has_the_code_that_stripe_gave_or_the_errors_type() -> None:
    def code(**error: Any) -> str:
        return books(known("succeeded", 1000), [Refusal("ref-1", "/v1/refunds", {}, error)]).declines["ref-1"]

    assert code(type="invalid_request_error", code="charge_already_refunded") == "charge_already_refunded"
    assert code(type="invalid_request_error", param="amount") == "invalid_request_error"
    assert code(type="card_error", code="card_declined", decline_code="stolen_card") == "stolen_card"
    assert code(type="card_error", code="card_declined", decline_code="generic_decline") == "card_declined"


def test_a_refund_that_failed_moves_nothing_and_is_a_decline_whoever_made_it() -> None:
    ours = {
        "id": "re_1",
        "status": "canceled",
        "charge": "ch_1",
        "amount": 5,
        "currency": "eur",
        "metadata": {"gateway_key": "ref-1"},
    }
    theirs = ours | {"id": "re_2", "metadata": {}, "failure_reason": "lost_or_stolen_card"}
    found = books(known("succeeded", 1000, (ours, theirs)), of_dashboard={"re_2"})
    assert keys_of(found, "refund") == []
    assert {key: found.declines[key] for key in ("ref-1", "gateway-refund-re_2")} == {
        "ref-1": "processing_error",
        "gateway-refund-re_2": "lost_or_stolen_card",
    }
