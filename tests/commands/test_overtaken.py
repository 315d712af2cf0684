"""A capture, void or refund that the gateway declines because somebody was faster: the caller is told so, and the payment is
looked at soon."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from payments.api.answers import reply_to
from payments.commands.service import Deadline
from payments.domain.declines import KNOWN_DECLINES, OVERTAKEN, PUBLIC_DECLINES
from payments.domain.operation import Outcome
from payments.domain.payment import Payment, PaymentStatus
from payments.gateway.port import Declined, GatewayRequest, Reply, Seen, SeenRefund
from payments.scheduled.gateway_events import inbox
from tests import seen_disputes
from tests.fakes import Answer, Dashboard, approve
from tests.shop import Books, Shop

S = PaymentStatus


def refusing(code: str) -> Answer:
    def refuse(action: str, request: GatewayRequest) -> Reply:
        message = KNOWN_DECLINES.get(code, f"Stripe refused the request: {code}.")
        return Declined(code, message, request.transaction_id, request.payment_intent_id, {"action": action})

    return refuse


def seen(**changes: Any) -> Seen:
    return replace(Seen(state="captured", transaction_id="t", captured_minor=1999, currency="USD"), **changes)


def refunded(amount_minor: int) -> Seen:
    return seen(refunds=[SeenRefund(gateway_refund_id="re_theirs", key=None, amount_minor=amount_minor, status="succeeded")])


def dashboard_of(shop: Shop) -> tuple[Shop, Dashboard]:
    gateway = Dashboard()
    return replace(shop.with_(gateway=gateway), gateway=gateway), gateway


def look(shop: Shop) -> dict[str, int]:
    """Do what reconcile's next run does first."""
    return inbox(shop.service, Deadline.in_s(55))


STATE = "payment_intent_unexpected_state"
CASES: dict[str, tuple[PaymentStatus, str, str, Seen, PaymentStatus]] = {
    "a void after a capture at the dashboard": (S.AUTHORIZED, "void", STATE, seen(), S.CAPTURED),
    "a capture after a cancel there": (S.AUTHORIZED, "capture", STATE, seen(state="canceled", captured_minor=0), S.VOIDED),
    "a capture after the authorization lapsed": (
        S.AUTHORIZED, "capture", "charge_expired", seen(state="canceled", captured_minor=0), S.VOIDED,
    ),
    "a refund after one there left too little": (
        S.CAPTURED, "refund", "invalid_request_error", refunded(500), S.PARTIALLY_REFUNDED,
    ),
    "a refund after one there left nothing": (S.CAPTURED, "refund", "charge_already_refunded", refunded(1999), S.REFUNDED),
    "a refund of what the customer disputes": (
        S.CAPTURED, "refund", "charge_disputed", seen(disputes=[seen_disputes.seen()]), S.CAPTURED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_who_was_overtaken_is_told_so_and_the_payment_is_brought_up_to_date_by_the_next_run(
    lone_shop: Shop, lone_books: Books, case: str
) -> None:
    before, kind, code, there, after = CASES[case]
    shop, gateway = dashboard_of(lone_shop)
    payment = shop.in_status(before)
    gateway.answer, gateway.seen = refusing(code), there
    result = shop.perform(kind, {"payment_id": str(payment.payment_id)}, None)
    reply = reply_to(result, "r")
    assert (reply.status, reply.body["code"], reply.body["decline_code"]) == (402, f"{kind}_declined", code)
    assert (reply.body["detail"], "advice_code" in reply.body) == (KNOWN_DECLINES[code], False)
    assert gateway.looks == [], "nobody asks while the caller waits"
    assert look(shop) == {"pulled": 0, "settled": 1}
    assert lone_books.payment(payment.payment_id)["status"] == after
    assert lone_books.query("SELECT status FROM disputes") == ([["needs_response"]] if there.disputes else [])
    assert (look(shop), gateway.looks) == ({"pulled": 0}, [payment.payment_intent_id])


def test_a_void_that_the_customer_overtook_is_told_so_and_the_payment_is_captured_by_the_next_run(
    lone_shop: Shop, lone_books: Books
) -> None:
    shop, gateway = dashboard_of(lone_shop)
    payment = shop.in_status(S.REQUIRES_ACTION)
    gateway.answer, gateway.found, gateway.seen = refusing(STATE), approve, seen()
    declined = shop.perform("void", {"payment_id": str(payment.payment_id)}, None)
    body = reply_to(declined, "r").body
    assert (body["payment_status"], body["decline_code"], body["detail"]) == ("REQUIRES_ACTION", STATE, KNOWN_DECLINES[STATE])
    assert look(shop) == {"pulled": 0, "settled": 1}
    row = lone_books.payment(payment.payment_id)
    assert (row["status"], row["decline_code"]) == ("CAPTURED", None)


@pytest.mark.parametrize(("before", "kind"), [(S.AUTHORIZED, "capture"), (S.AUTHORIZED, "void"), (S.CAPTURED, "refund")])
@pytest.mark.parametrize("code", ["card_declined", "insufficient_funds", "processing_error"])
def test_a_decline_of_the_banks_makes_nobody_look(
    lone_shop: Shop, lone_books: Books, before: PaymentStatus, kind: str, code: str
) -> None:
    payment = lone_shop.in_status(before)
    lone_shop.gateway.answer = refusing(code)
    assert lone_shop.perform(kind, {"payment_id": str(payment.payment_id)}, None).outcome is Outcome.DECLINED
    assert lone_books.query("SELECT event_id FROM gateway_events") == []


def test_a_payment_that_was_refused_has_nothing_to_look_at(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = refusing("invalid_request_error")
    assert lone_shop.process().outcome is Outcome.DECLINED
    assert lone_books.query("SELECT event_id FROM gateway_events") == []


def test_a_settle_that_writes_no_decline_makes_nobody_look(lone_shop: Shop, lone_books: Books) -> None:
    """Another worker has settled the operation meanwhile, as a success."""
    payment, other = lone_shop.authorized(), lone_shop.elsewhere()

    def captured_meanwhile(action: str, request: GatewayRequest) -> Reply:
        lone_books.make_due()
        other.gateway.answer = approve
        assert other.reconcile().settled == 1
        return refusing(STATE)(action, request)

    lone_shop.gateway.answer = captured_meanwhile
    assert lone_shop.capture(payment.transaction_id).payment.status is S.CAPTURED
    assert lone_books.query("SELECT event_id FROM gateway_events") == []


@pytest.mark.parametrize("code", ["stolen_card", "some_new_code_of_the_gateways"])
@pytest.mark.parametrize(("before", "kind"), [(S.AUTHORIZED, "void"), (S.CAPTURED, "refund")])
def test_what_callers_must_not_learn_is_not_said_to_be_the_cards_fault(
    shop: Shop, before: PaymentStatus, kind: str, code: str
) -> None:
    payment: Payment = shop.in_status(before)
    shop.gateway.answer = refusing(code)
    body = reply_to(shop.perform(kind, {"payment_id": str(payment.payment_id)}, None), "r").body
    assert (body["decline_code"], body["detail"]) == ("generic_decline", "The bank or the gateway declined it.")


def test_each_code_of_one_who_was_overtaken_is_public() -> None:
    assert not OVERTAKEN - PUBLIC_DECLINES
