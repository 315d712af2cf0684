"""One key, one command. Most tests run for all four kinds of commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from payments.commands.command import Result
from payments.domain.errors import (
    AmountTooLarge,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    OrderInProgress,
    PaymentNotFound,
    PaymentStateConflict,
    Refused,
)
from payments.domain.ids import uuid7
from payments.domain.operation import Outcome
from payments.domain.payment import PaymentStatus
from payments.gateway.port import GatewayRequest, Reply
from payments.store import lookups
from tests import servers
from tests.fakes import Killed, approve, decline, kill, lose_reply
from tests.shop import Books, Shop, at_once

Fields = dict[str, Any]


@dataclass(frozen=True)
class Command:
    kind: str
    prepare: Callable[[Shop], Fields]
    """Returns the fields of a request that will succeed."""
    other: Fields
    """Changed fields, which make it another request."""
    refused: Callable[[Shop], Fields]
    """Returns the fields of a request that is refused before anything is written."""
    refusal: type[Refused]
    status: PaymentStatus
    """The payment's status after a success."""

    def run(self, shop: Shop, key: str | None, fields: Fields) -> Result:
        result: Result = getattr(shop, self.kind)(key=key, **fields)
        return result


def order_in_progress(shop: Shop) -> Fields:
    return {"order_id": shop.in_status(PaymentStatus.PROCESSING).order_id}


COMMANDS = [
    Command(
        "process",
        prepare=lambda shop: {"order_id": f"o-{uuid7()}", "payment_token": "tok_mine"},
        other={"amount": 2000},
        refused=order_in_progress,
        refusal=OrderInProgress,
        status=PaymentStatus.CAPTURED,
    ),
    Command(
        "capture",
        prepare=lambda shop: {"transaction_id": shop.authorized().transaction_id},
        other={"amount": 500},
        refused=lambda shop: {"transaction_id": shop.authorized().transaction_id, "amount": 2000},
        refusal=AmountTooLarge,
        status=PaymentStatus.CAPTURED,
    ),
    Command(
        "void",
        prepare=lambda shop: {"transaction_id": shop.authorized().transaction_id},
        other={"reason": "another"},
        refused=lambda shop: {"transaction_id": shop.captured().transaction_id},
        refusal=PaymentStateConflict,
        status=PaymentStatus.VOIDED,
    ),
    Command(
        "refund",
        prepare=lambda shop: {"transaction_id": shop.captured().transaction_id, "amount": 500},
        other={"amount": 501},
        refused=lambda shop: {"transaction_id": shop.captured().transaction_id, "amount": 2000},
        refusal=AmountTooLarge,
        status=PaymentStatus.PARTIALLY_REFUNDED,
    ),
]

every_kind = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.kind)


def same(first: Result, second: Result) -> None:
    assert second.command is first.command
    assert second.payment.payment_id == first.payment.payment_id
    assert (second.refund and second.refund.refund_id) == (first.refund and first.refund.refund_id)


@every_kind
def test_the_same_request_again_is_answered_and_not_carried_out_again(shop: Shop, books: Books, command: Command) -> None:
    fields = command.prepare(shop)
    first = command.run(shop, "k", fields)
    assert (first.outcome, first.replayed, first.payment.status) == (Outcome.SUCCEEDED, False, command.status)
    requests, events = len(shop.gateway.asked), len(shop.publisher.published)
    row = books.payment(first.payment.payment_id)
    for _ in range(3):
        again = command.run(shop, "k", fields)
        same(first, again)
        assert (again.outcome, again.replayed, again.payment.status) == (Outcome.SUCCEEDED, True, command.status)
    assert (len(shop.gateway.asked), len(shop.publisher.published)) == (requests, events)
    assert books.payment(first.payment.payment_id) == row


@every_kind
def test_another_request_with_the_key_is_refused(shop: Shop, command: Command) -> None:
    fields = command.prepare(shop)
    command.run(shop, "k", fields)
    requests = len(shop.gateway.asked)
    for other in (fields | command.other, command.prepare(shop)):
        requests = len(shop.gateway.asked)
        with pytest.raises(IdempotencyKeyReused):
            command.run(shop, "k", other)
        assert len(shop.gateway.asked) == requests


@every_kind
def test_a_field_that_is_written_out_with_its_default_makes_no_other_request(shop: Shop, command: Command) -> None:
    fields = command.prepare(shop)
    first = command.run(shop, "k", fields)
    defaults: dict[str, Fields] = {
        "process": {"capture_method": "automatic", "description": None},
        "capture": {"amount": None},
        "void": {"reason": None},
        "refund": {"reason": None},
    }
    same(first, command.run(shop, "k", fields | defaults[command.kind]))


@every_kind
def test_another_owners_key_is_another_key(shop: Shop, database: servers.Database, command: Command) -> None:
    other = Shop.on(database)
    first = command.run(shop, "k", command.prepare(shop))
    second = command.run(other, "k", command.prepare(other))
    assert (second.outcome, second.replayed) == (Outcome.SUCCEEDED, False)
    assert first.payment.payment_id != second.payment.payment_id
    other.close()


@every_kind
def test_a_key_does_not_lead_to_another_owners_payment(shop: Shop, database: servers.Database, command: Command) -> None:
    fields = command.prepare(shop)
    command.run(shop, "k", fields)
    other = Shop.on(database)
    if command.kind == "process":
        assert not command.run(other, "k", fields).replayed
    else:
        with pytest.raises(PaymentNotFound):
            command.run(other, "k", fields)
    other.close()


@pytest.mark.parametrize("second", ["capture", "void", "refund"])
def test_a_key_of_one_kind_is_free_for_another(shop: Shop, second: str) -> None:
    manual = second != "refund"
    first = shop.process("k", capture_method="manual" if manual else "automatic")
    result: Result = getattr(shop, second)(first.payment.transaction_id, "k")
    assert (result.command.kind, result.outcome, result.replayed) == (second, Outcome.SUCCEEDED, False)


@every_kind
def test_a_request_that_is_repeated_after_a_decline_gets_the_decline_again(shop: Shop, books: Books, command: Command) -> None:
    fields = command.prepare(shop)
    shop.gateway.answer = decline
    first = command.run(shop, "k", fields)
    shop.gateway.answer = approve
    requests = len(shop.gateway.asked)
    again = command.run(shop, "k", fields)
    same(first, again)
    for result in (first, again):
        assert (result.outcome, result.decline_code, result.decline_message) == (
            Outcome.DECLINED,
            "card_declined",
            "The card was declined.",
        )
    assert (again.replayed, len(shop.gateway.asked)) == (True, requests)
    assert not command.run(shop, "k-2", fields).replayed, "a new key is a new operation"


@every_kind
def test_while_the_outcome_is_unknown_so_is_the_answer_and_then_it_is_known(
    lone_shop: Shop, lone_books: Books, command: Command
) -> None:
    fields = command.prepare(lone_shop)
    lone_shop.gateway.answer = lose_reply
    first = command.run(lone_shop, "k", fields)
    again = command.run(lone_shop, "k", fields)
    same(first, again)
    assert [(result.outcome, result.replayed) for result in (first, again)] == [(Outcome.UNKNOWN, False), (Outcome.UNKNOWN, True)]
    lone_shop.hears_later(approve, lone_books)
    known = command.run(lone_shop, "k", fields)
    same(first, known)
    assert (known.outcome, known.replayed, known.payment.status) == (Outcome.SUCCEEDED, True, command.status)


@every_kind
def test_while_the_first_request_runs_the_key_is_in_use(shop: Shop, command: Command) -> None:
    fields, other, errors = command.prepare(shop), shop.elsewhere(), list[IdempotencyKeyInUse]()

    def repeat_meanwhile(action: str, request: GatewayRequest) -> Reply:
        for _ in range(2):
            with pytest.raises(IdempotencyKeyInUse) as refused:
                command.run(other, "k", fields)
            errors.append(refused.value)
        with pytest.raises(IdempotencyKeyReused):
            command.run(other, "k", fields | command.other)
        return approve(action, request)

    shop.gateway.answer = repeat_meanwhile
    assert command.run(shop, "k", fields).outcome is Outcome.SUCCEEDED
    assert len(errors) == 2
    assert all(error.retry_after_s is not None and 1 <= error.retry_after_s <= 5 for error in errors)


@every_kind
def test_of_eight_duplicates_at_once_one_is_carried_out(shop: Shop, books: Books, command: Command) -> None:
    fields = command.prepare(shop)
    requests = len(shop.gateway.asked)
    shops = [shop.elsewhere() for _ in range(8)]
    results = at_once(8, lambda number: command.run(shops[number], "k", fields))
    [first] = [result for result in results if isinstance(result, Result) and not result.replayed]
    for other in results:
        assert isinstance(other, Result | IdempotencyKeyInUse), results
        if isinstance(other, Result):
            same(first, other)
            assert other.outcome is Outcome.SUCCEEDED
    assert len(shop.gateway.asked) == requests + 1
    operations = [row for row in books.operations(first.payment.payment_id) if row["kind"] == command.kind]
    assert [(row["idempotency_key"], row["outcome"]) for row in operations] == [("k", "succeeded")]


def test_what_its_duplicate_has_done_is_no_reason_to_refuse_a_request(
    lone_shop: Shop, lone_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = lone_shop.authorized()
    lone_shop.gateway.answer = lose_reply
    lone_shop.void(payment.transaction_id)
    standing, duplicate = lookups.standing, lone_shop.elsewhere()

    def late(*named: Any) -> Any:
        """Read the reason only after the void, which refused the claim, was declined and a duplicate has captured."""
        monkeypatch.undo()
        lone_shop.hears_later(decline, lone_books)
        lone_shop.gateway.answer = approve
        assert duplicate.capture(payment.transaction_id, key="k").outcome is Outcome.SUCCEEDED
        return standing(*named)

    monkeypatch.setattr(lookups, "standing", late)
    result = lone_shop.capture(payment.transaction_id, key="k")
    assert (result.outcome, result.replayed) == (Outcome.SUCCEEDED, True)


@every_kind
def test_a_request_that_was_refused_leaves_the_key_free(shop: Shop, command: Command) -> None:
    refused = command.refused(shop)
    requests = len(shop.gateway.asked)
    for _ in range(2):
        with pytest.raises(command.refusal):
            command.run(shop, "k", refused)
    assert len(shop.gateway.asked) == requests
    result = command.run(shop, "k", command.prepare(shop))
    assert (result.outcome, result.replayed) == (Outcome.SUCCEEDED, False)


@every_kind
def test_a_worker_that_was_killed_keeps_the_key_until_its_lease_runs_out(
    lone_shop: Shop, lone_books: Books, command: Command
) -> None:
    fields = command.prepare(lone_shop)
    lone_shop.gateway.answer = kill
    with pytest.raises(Killed):
        command.run(lone_shop, "k", fields)
    lone_shop.gateway.answer = approve
    with pytest.raises(IdempotencyKeyInUse):
        command.run(lone_shop, "k", fields)
    lone_books.make_due()
    unknown = command.run(lone_shop, "k", fields)
    assert (unknown.outcome, unknown.replayed) == (Outcome.UNKNOWN, True)
    assert lone_shop.reconcile().settled == 1
    known = command.run(lone_shop, "k", fields)
    assert (known.outcome, known.replayed, known.payment.status) == (Outcome.SUCCEEDED, True, command.status)
    assert lone_shop.gateway.keys[-2] == lone_shop.gateway.keys[-1]


def test_a_replay_shows_the_payment_as_it_is_now(shop: Shop) -> None:
    first = shop.process("k", order_id="o", payment_token="tok_mine")
    shop.refund(first.payment.transaction_id, amount=500)
    again = shop.process("k", order_id="o", payment_token="tok_mine")
    assert (again.outcome, again.payment.status, again.payment.refunded_minor) == (
        Outcome.SUCCEEDED,
        PaymentStatus.PARTIALLY_REFUNDED,
        500,
    )


def test_two_equal_refunds_without_a_key_are_two_refunds(shop: Shop) -> None:
    payment = shop.captured()
    first, second = (shop.refund(payment.transaction_id, amount=500) for _ in range(2))
    assert first.refund is not None
    assert second.refund is not None
    assert first.refund.refund_id != second.refund.refund_id
    assert second.payment.refunded_minor == 1000


def test_an_order_that_was_declined_is_paid_anew_under_a_new_key_only(shop: Shop) -> None:
    shop.gateway.answer = decline
    declined = shop.process("k-1", order_id="o")
    shop.gateway.answer = approve
    assert shop.process("k-1", order_id="o").payment.payment_id == declined.payment.payment_id
    paid = shop.process("k-2", order_id="o")
    assert paid.payment.status is PaymentStatus.CAPTURED
    assert shop.process("k-1", order_id="o").outcome is Outcome.DECLINED, "the first request's answer does not change"


def test_a_key_of_a_caller_with_little_time_is_held_for_little_time(shop: Shop, books: Books) -> None:
    shop.gateway.answer = kill
    for time_s in (5.0, 20.0):
        with pytest.raises(Killed):
            replace(shop, time_s=time_s).process()
        [[lease]] = books.query(
            "SELECT lease_until - created_at FROM operations WHERE owner = :owner ORDER BY created_at DESC LIMIT 1",
            owner=shop.owner,
        )
        assert time_s + 1.9 <= lease.total_seconds() < time_s + 10, "a lease outlives the invocation by a little"
