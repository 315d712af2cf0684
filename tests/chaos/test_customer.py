"""The customer of the harness's simulated gateway: whoever comes first decides, and its books say so."""

from __future__ import annotations

import uuid
from dataclasses import replace
from mmap import mmap
from pathlib import Path

import pytest

from chaos import customer, evidence, simulated
from chaos.books import TOO_LATE
from chaos.crash import SLOT, Crash
from chaos.gateway import LedgerGateway
from payments.gateway.port import ActionRequired, Approved, Declined, GatewayRequest, Reply, Unknown
from payments.gateway.simulated import SimulatedGateway


class Payment:
    """One payment at the gateway. Each call comes from another process, which shares only the ledger."""

    def __init__(self, folder: Path, token: str = "tok_action_then_captured", *, capture: bool = True) -> None:
        self.ledger = folder / "ledger"
        self.request = GatewayRequest(
            "process", "pay-1", 1, uuid.UUID(int=1), "order-1", 1999, "USD", "credit_card", token, timeout_s=5, capture=capture
        )
        self._calls = 0

    @property
    def gateway(self) -> LedgerGateway:
        self._calls += 1
        label = f"call-{self._calls}"
        return LedgerGateway(SimulatedGateway(delay_ms=(0, 0)), self.ledger, Crash(mmap(-1, SLOT.size), 0, {}), lambda: label)

    def begin(self) -> str:
        asked = self.gateway.charge(self.request)
        assert isinstance(asked, ActionRequired) and asked.next_action.client_secret
        return asked.payment_intent_id

    def found(self) -> Reply:
        return self.gateway.find(replace(self.request, attempt=2))

    def cancel(self, key: str, intent: str) -> Reply:
        return self.gateway.void(replace(self.request, kind="void", key=key, payment_intent_id=intent))

    @property
    def moved(self) -> list[tuple[str, str]]:
        return [(move.key, move.shown) for move in simulated.books(self.ledger).moves]


def test_before_the_customer_acts_nothing_moves_whoever_asks(tmp_path: Path) -> None:
    payment = Payment(tmp_path)
    assert isinstance(payment.found(), Unknown), "there was no call yet"
    intent = payment.begin()
    for reply in (payment.found(), payment.gateway.charge(replace(payment.request, attempt=2))):
        assert isinstance(reply, ActionRequired) and reply.payment_intent_id == intent
    [contradiction] = simulated.books(payment.ledger).contradictions
    assert "can still pay" in contradiction
    assert payment.moved == []


@pytest.mark.parametrize(("capture", "shown"), [(True, "charge"), (False, "authorization")])
def test_a_customer_who_acts_moves_the_money_once(tmp_path: Path, capture: bool, shown: str) -> None:
    payment = Payment(tmp_path, capture=capture)
    intent = payment.begin()
    for _ in range(2):
        customer.act(payment.ledger, intent)
        assert isinstance(payment.found(), Approved)
    assert isinstance(payment.gateway.charge(replace(payment.request, attempt=3)), ActionRequired), "a key gets its first answer"
    assert payment.moved == [("pay-1", shown)]
    assert simulated.books(payment.ledger).contradictions == []


def test_a_customer_who_fails_is_declined(tmp_path: Path) -> None:
    payment = Payment(tmp_path, "tok_action_then_declined")
    customer.act(payment.ledger, payment.begin())
    found = payment.found()
    assert isinstance(found, Declined) and found.decline_code == "card_declined"
    assert (payment.moved, simulated.books(payment.ledger).declines) == ([], {"pay-1": "card_declined"})


def test_a_customer_who_comes_after_the_cancel_cannot_pay(tmp_path: Path) -> None:
    payment = Payment(tmp_path)
    intent = payment.begin()
    assert isinstance(payment.cancel("void-1", intent), Approved)
    customer.act(payment.ledger, intent)
    for key in ("void-1", "expire-1-2"):
        assert isinstance(payment.cancel(key, intent), Approved), "it is canceled already"
    found = payment.found()
    assert isinstance(found, Declined) and found.decline_code == "payment_canceled"
    books = simulated.books(payment.ledger)
    assert (payment.moved, books.declines, books.asked["pay-1"].canceled_by) == ([], {}, "void-1")


def test_a_cancel_that_comes_after_the_customer_is_declined_and_the_money_stays(tmp_path: Path) -> None:
    payment = Payment(tmp_path)
    intent = payment.begin()
    customer.act(payment.ledger, intent)
    canceled = payment.cancel("void-1", intent)
    assert isinstance(canceled, Declined) and canceled.decline_code == TOO_LATE
    assert isinstance(payment.found(), Approved)
    assert (payment.moved, simulated.books(payment.ledger).declines) == ([("pay-1", "charge")], {"void-1": TOO_LATE})


def test_a_cancel_sets_free_what_the_customer_has_let_hold(tmp_path: Path) -> None:
    payment = Payment(tmp_path, capture=False)
    intent = payment.begin()
    customer.act(payment.ledger, intent)
    assert isinstance(payment.cancel("expire-1-2", intent), Approved)
    found = payment.found()
    assert isinstance(found, Declined) and found.decline_code == "payment_canceled"
    assert payment.moved == [("pay-1", "authorization"), ("expire-1-2", "void")]


def test_a_line_that_a_kill_tore_was_no_act_and_no_call(tmp_path: Path) -> None:
    payment = Payment(tmp_path)
    intent = payment.begin()
    whole = payment.ledger.read_bytes()
    customer.act(payment.ledger, intent)
    torn = payment.ledger.read_bytes()[: len(whole) + 20]
    payment.ledger.write_bytes(torn)
    assert isinstance(payment.cancel("void-1", intent), Approved)
    assert [call.key for call in evidence.calls(payment.ledger)] == ["pay-1", "void-1"]
