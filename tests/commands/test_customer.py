"""A payment that waits for its customer: what is written, what is told to whom, and who ends it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from payments.api import direct
from payments.api.answers import reply_to
from payments.api.bodies import validate
from payments.commands.catalog import COMMANDS
from payments.commands.command import Result
from payments.commands.service import Deadline
from payments.commands.sync import Action, SyncRequest, action_of, sync
from payments.domain.errors import IdempotencyKeyInUse, InvalidRequest, OrderInProgress, PaymentNotFound, PaymentStateConflict
from payments.domain.operation import Outcome
from payments.domain.payment import Payment, PaymentStatus
from payments.gateway.port import Approved, Declined, GatewayRequest, Pending, Reply, Seen, SeenRefund
from payments.scheduled.by_hand import settle_by_hand
from payments.scheduled.reconcile import Reconciled
from tests.api_client import Context
from tests.fakes import SECRET, Answer, Dashboard, approve, ask_customer, decline, lose_reply
from tests.shop import Books, Shop

S = PaymentStatus


def waiting(shop: Shop, **fields: Any) -> Result:
    shop.gateway.answer = shop.gateway.found = ask_customer
    result = shop.process(**fields)
    assert result.payment.status is S.REQUIRES_ACTION
    return result


def void(shop: Shop, waits: Result, key: str | None = None) -> Result:
    return shop.perform("void", {"payment_id": str(waits.payment.payment_id)}, key)


def cancel(action: str, request: GatewayRequest) -> Reply:
    """Cancel what nobody has paid: there is no transaction."""
    return Approved("", request.payment_intent_id or "", request.amount_minor, request.currency, {"action": action})


def find_canceled(action: str, request: GatewayRequest) -> Reply:
    return Declined("payment_canceled", "It was canceled.", None, request.payment_intent_id, {"action": action})


def end_the_time(books: Books) -> None:
    books.query(
        "UPDATE operations SET next_attempt_at = now(), lease_until = now() - interval '1 minute',"
        " reply = reply || jsonb_build_object('action_expires_at', now()) WHERE outcome IS NULL"
    )


def types(shop: Shop) -> list[str]:
    return [event.type for event in shop.publisher.published]


def actions(shop: Shop) -> list[str]:
    return [action for action, _ in shop.gateway.asked]


def test_a_payment_that_waits_says_so_and_its_operation_keeps_no_outcome(shop: Shop, books: Books) -> None:
    result = waiting(shop)
    assert (result.outcome, result.is_pending, reply_to(result, "r").status) == (Outcome.UNKNOWN, True, 202)
    row = books.payment(result.payment.payment_id)
    assert (row["status"], row["transaction_id"], row["payment_intent_id"]) == (
        "REQUIRES_ACTION",
        None,
        f"pi_pay-{result.payment.payment_id}",
    )
    [operation] = books.operations(result.payment.payment_id)
    assert (operation["outcome"], operation["attempt"]) == (None, 1)
    assert operation["next_attempt_at"] == operation["created_at"] + timedelta(seconds=30)
    [event] = shop.publisher.published
    assert (event.type, event.sequence, json.loads(event.data)["status"]) == ("payment.requires_action", 1, "REQUIRES_ACTION")
    assert books.history(result.payment.payment_id)[-1] == ("PROCESSING", "REQUIRES_ACTION", "waiting for the customer")


def test_the_customers_secret_is_in_the_result_and_in_no_row_and_no_event(
    shop: Shop, books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    result = waiting(shop, key="once")
    assert result.next_action is not None
    assert result.next_action.client_secret == SECRET
    assert result.action_expires_at is not None
    assert timedelta(minutes=59) < result.action_expires_at - result.payment.created_at < timedelta(minutes=61)
    end_the_time(books)
    shop.gateway.answer = lose_reply
    shop.reconcile()
    for table in ("payments", "operations", "outbox", "payment_status_history", "refunds"):
        assert SECRET not in str(books.query(f"SELECT row_to_json(t)::text FROM {table} t")), table
    assert SECRET not in repr(result)
    assert SECRET not in json.dumps(reply_to(result, "r").body)
    assert SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("found", "capture_method", "status", "event"),
    [
        (approve, "automatic", S.CAPTURED, "payment.successful"),
        (approve, "manual", S.AUTHORIZED, "payment.authorized"),
        (decline, "automatic", S.FAILED, "payment.failed"),
        (find_canceled, "automatic", S.VOIDED, "payment.voided"),
    ],
)
def test_what_the_customer_did_is_found_and_settled_once(
    lone_shop: Shop, lone_books: Books, found: Answer, capture_method: str, status: PaymentStatus, event: str
) -> None:
    waits = waiting(lone_shop, key="once", capture_method=capture_method)
    lone_shop.gateway.found = found
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(settled=1)
    assert lone_books.payment(waits.payment.payment_id)["status"] == status.value
    assert (types(lone_shop), actions(lone_shop)) == (["payment.requires_action", event], ["charge", "find"])
    replay = lone_shop.process(key="once", order_id=waits.payment.order_id, capture_method=capture_method)
    assert (replay.replayed, replay.payment.status, replay.next_action) == (True, status, None)
    assert replay.outcome is (Outcome.SUCCEEDED if found is approve else Outcome.DECLINED)


def test_a_gateway_that_still_waits_changes_nothing(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop)
    for _ in range(3):
        lone_books.make_due()
        assert lone_shop.reconcile() == Reconciled(pending=1)
    assert lone_books.payment(waits.payment.payment_id)["version"] == waits.payment.version
    assert types(lone_shop) == ["payment.requires_action"]


def test_under_a_known_key_the_gateway_tells_its_first_answer_again_so_it_is_asked_what_holds_now(
    lone_shop: Shop, lone_books: Books
) -> None:
    """The first answer was lost, and the customer, whom an earlier attempt's page had reached, has paid since."""
    lone_shop.gateway.answer = lose_reply
    payment = lone_shop.process().payment
    lone_shop.gateway.found = approve
    assert lone_shop.hears_later(ask_customer, lone_books) == Reconciled(settled=1)
    assert actions(lone_shop) == ["charge", "charge", "find"]
    assert types(lone_shop) == ["payment.successful"]
    assert lone_books.payment(payment.payment_id)["status"] == "CAPTURED"


def test_the_order_cannot_be_paid_twice_while_its_customer_acts(shop: Shop) -> None:
    waits = waiting(shop)
    shop.gateway.answer = approve
    with pytest.raises(OrderInProgress, match="waits for its customer"):
        shop.process(order_id=waits.payment.order_id)


# The end of the time for the customer.


def test_a_customer_who_never_comes_is_canceled_at_the_gateway_and_then_here(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop, key="once")
    end_the_time(lone_books)
    lone_shop.gateway.answer = cancel
    assert lone_shop.reconcile() == Reconciled(settled=1)
    row, said = lone_books.payment(waits.payment.payment_id), "The customer did not confirm the payment in time."
    assert (row["status"], row["status_reason"]) == ("VOIDED", said)
    told = json.loads(lone_shop.publisher.published[-1].data)
    assert (told["decline_code"], told["error_message"]) == ("action_expired", said), "a consumer can tell it from a void"
    assert (actions(lone_shop), types(lone_shop)[1:]) == (["charge", "find", "void"], ["payment.voided"])
    replay = lone_shop.process(key="once", order_id=waits.payment.order_id)
    assert (replay.outcome, replay.decline_code, reply_to(replay, "r").status) == (Outcome.DECLINED, "action_expired", 402)
    lone_shop.gateway.answer = approve
    assert lone_shop.process(order_id=waits.payment.order_id).payment.status is S.CAPTURED, "the order can be paid anew"


@pytest.mark.parametrize("canceled", [lose_reply, decline])
def test_what_the_gateway_did_not_cancel_stays_and_is_asked_for_again(
    lone_shop: Shop, lone_books: Books, canceled: Answer
) -> None:
    """The customer may have paid at the last moment."""
    waits = waiting(lone_shop)
    end_the_time(lone_books)
    lone_shop.gateway.answer = canceled
    assert lone_shop.reconcile() == Reconciled(unknown=1)
    assert lone_books.payment(waits.payment.payment_id)["status"] == "REQUIRES_ACTION"
    lone_shop.gateway.found = approve
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(settled=1)
    assert lone_books.payment(waits.payment.payment_id)["status"] == "CAPTURED"


def test_each_cancel_has_a_key_of_its_own(lone_shop: Shop, lone_books: Books) -> None:
    """A gateway repeats its answer to a key. The customer's first card was being booked when we asked, and was declined since."""
    waiting(lone_shop)
    lone_shop.gateway.answer = lambda action, request: Pending(request.gateway_id or "", {})
    for _ in range(2):
        end_the_time(lone_books)
        assert lone_shop.reconcile() == Reconciled(pending=1)
    first, second = (request.key for action, request in lone_shop.gateway.asked if action == "void")
    assert first != second


@pytest.mark.parametrize("found", [lose_reply, ask_customer])
def test_after_its_time_a_payment_that_could_not_be_canceled_is_tried_again_each_minute_for_a_day(
    lone_shop: Shop, lone_books: Books, found: Answer
) -> None:
    """The schedule's next moment is hours away, and the customer could pay meanwhile. The function's clock may be slow."""
    waits = waiting(lone_shop)
    end_the_time(lone_books)
    lone_books.query("UPDATE operations SET created_at = now() - interval '61 minutes'")
    lone_shop.gateway.found, lone_shop.gateway.answer = found, lose_reply
    slow = lone_shop.with_(clock=lambda: waits.payment.created_at)
    slow.reconcile()
    left = "SELECT next_attempt_at - now() FROM operations"
    [[left_s]] = lone_books.query(left)
    assert timedelta(seconds=30) < left_s <= timedelta(minutes=1)
    lone_books.query(
        "UPDATE operations SET next_attempt_at = now(), created_at = now() - interval '2 days',"
        " reply = reply || jsonb_build_object('action_expires_at', now() - interval '25 hours')"
    )
    slow.reconcile()
    [[left_s]] = lone_books.query(left)
    assert left_s > timedelta(hours=1)


def test_a_payment_that_cannot_be_canceled_after_its_time_counts_as_unknown_since_the_end_of_that_time(
    lone_shop: Shop, lone_books: Books
) -> None:
    """It holds its order. While its customer has time it does not count, nor while a bank books it or a void decides."""

    def ended(minutes: int) -> None:
        lone_books.query(
            "UPDATE operations SET next_attempt_at = now(), lease_until = now() - interval '1 minute', created_at = now() -"
            f" interval '2 h', reply = reply || jsonb_build_object('action_expires_at', now() - interval '{minutes} minutes')"
            " WHERE outcome IS NULL"
        )

    waits = waiting(lone_shop)
    ended(-10)
    assert lone_shop.reconciled().oldest_unknown_s == 0
    ended(40)
    lone_shop.gateway.answer = lose_reply
    assert 2400 <= lone_shop.reconciled().oldest_unknown_s < 3600
    ended(40)
    lone_shop.gateway.found = lambda action, request: Pending(f"pi_{request.key}", {})
    assert lone_shop.reconciled().oldest_unknown_s == 0
    lone_books.query('UPDATE operations SET reply = reply || \'{"result": "unknown"}\', lease_until = now()')
    void(lone_shop, waits)
    assert lone_shop.reconciled().oldest_unknown_s < 60, "the void's age counts"


def test_a_payment_that_the_bank_still_books_is_not_canceled_when_the_time_is_over(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop)
    end_the_time(lone_books)
    lone_shop.gateway.found = lambda action, request: Pending(f"pi_{request.key}", {})
    assert lone_shop.reconcile() == Reconciled(pending=1)
    assert "void" not in actions(lone_shop)
    assert lone_books.payment(waits.payment.payment_id)["status"] == "REQUIRES_ACTION"


# Giving the payment up.


def test_a_void_gives_up_a_payment_that_waits_and_ends_both_operations(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop, key="once")
    lone_shop.gateway.answer = cancel
    voided = void(lone_shop, waits, key="void")
    assert (voided.payment.decline_code, voided.payment.error_message) == (None, None)
    assert (voided.outcome, voided.payment.status) == (Outcome.SUCCEEDED, S.VOIDED)
    process, void_ = lone_books.operations(waits.payment.payment_id)
    assert (process["outcome"], process["reply"]["decline_code"], "taken_by" in process["reply"]) == (
        "declined",
        "payment_canceled",
        False,
    )
    assert (void_["outcome"], process["next_attempt_at"]) == ("succeeded", None)
    assert types(lone_shop) == ["payment.requires_action", "payment.voided"]
    assert lone_shop.process(key="once", order_id=waits.payment.order_id).decline_code == "payment_canceled"
    assert void(lone_shop, waits, key="void").replayed
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled()


def test_a_void_that_comes_after_the_customer_paid_is_declined_and_the_payment_is_captured(
    lone_shop: Shop, lone_books: Books
) -> None:
    waits = waiting(lone_shop)
    lone_shop.gateway.answer, lone_shop.gateway.found = decline, approve
    declined = void(lone_shop, waits)
    assert (declined.outcome, declined.payment.status) == (Outcome.DECLINED, S.REQUIRES_ACTION)
    assert lone_shop.reconcile() == Reconciled(settled=1), "the process operation is due at once"
    row = lone_books.payment(waits.payment.payment_id)
    assert (row["status"], row["decline_code"]) == ("CAPTURED", None)
    assert types(lone_shop) == ["payment.requires_action", "payment.void_failed", "payment.successful"]


def test_while_a_void_is_under_way_nobody_else_settles_the_payment(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop)
    lone_shop.gateway.answer, lone_shop.gateway.found = lose_reply, find_canceled
    assert void(lone_shop, waits).outcome is Outcome.UNKNOWN
    [process, _] = lone_books.operations(waits.payment.payment_id)
    assert (process["attempt"], process["next_attempt_at"]) == (2, None)
    assert lone_shop.reconciled().exhausted == 0, "no person has to look"
    with pytest.raises(PaymentStateConflict):
        void(lone_shop, waits)
    assert lone_shop.hears_later(cancel, lone_books) == Reconciled(settled=1)
    assert lone_books.payment(waits.payment.payment_id)["status"] == "VOIDED"
    assert types(lone_shop) == ["payment.requires_action", "payment.voided"]


def test_a_void_leaves_a_worker_alone_that_asks_the_gateway_just_now(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop)
    lone_books.query("UPDATE operations SET lease_until = now() + interval '10 s'")
    with pytest.raises(PaymentStateConflict) as refused:
        void(lone_shop, waits)
    assert refused.value.retryable
    assert len(lone_books.operations(waits.payment.payment_id)) == 1


def test_a_worker_whose_lease_ended_cannot_settle_what_a_void_has_taken_over(lone_shop: Shop, lone_books: Books) -> None:
    """It asked before the void, and its answer comes after the void's claim."""
    waits, late = waiting(lone_shop), lone_shop.elsewhere()

    def void_meanwhile(action: str, request: GatewayRequest) -> Reply:
        lone_books.query("UPDATE operations SET lease_until = now() - interval '1 s'")
        late.gateway.answer = lose_reply
        assert void(late, waits).outcome is Outcome.UNKNOWN
        return approve(action, request)

    lone_books.make_due()
    lone_shop.gateway.found = void_meanwhile
    lone_shop.reconcile()
    assert lone_books.payment(waits.payment.payment_id)["status"] == "REQUIRES_ACTION"
    late.close()


def test_a_void_that_was_refused_for_good_takes_nothing_over(lone_shop: Shop, lone_books: Books) -> None:
    """The order service's event comes again: the first time, the order had no payment yet."""
    event = {"operation": "void", "order_id": "order-of-the-refusal", "idempotency_key": "once"}

    def invoke() -> dict[str, Any]:
        return direct.invoke(dict(event), Context(), lone_shop.service, lone_shop.owner, "process")

    assert invoke()["outcome"] == "refused"
    waits = waiting(lone_shop, order_id=event["order_id"])
    assert (invoke()["outcome"], invoke()["replayed"]) == ("refused", True)
    [process] = lone_books.operations(waits.payment.payment_id)
    assert ("taken_by" in process["reply"], process["attempt"]) == (False, 1)
    lone_shop.gateway.found = approve
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(settled=1)
    assert lone_books.payment(waits.payment.payment_id)["status"] == "CAPTURED"


def test_a_void_of_a_waiting_payment_can_be_settled_by_hand_without_a_transaction(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop)
    lone_shop.gateway.answer = lose_reply
    void(lone_shop, waits)
    lone_books.query("UPDATE operations SET next_attempt_at = NULL, lease_until = now()")
    _, given_up = lone_books.operations(waits.payment.payment_id)
    found = {"operation_id": str(given_up["operation_id"]), "attempt": 1, "outcome": "succeeded", "by": "a person"}
    assert settle_by_hand(lone_shop.service, found).payment.status is S.VOIDED
    assert [each["outcome"] for each in lone_books.operations(waits.payment.payment_id)] == ["declined", "succeeded"]


@pytest.mark.parametrize("kind", ["capture", "refund"])
def test_nothing_else_can_be_done_to_a_payment_that_waits(shop: Shop, kind: str) -> None:
    waits = waiting(shop)
    with pytest.raises(PaymentStateConflict):
        shop.perform(kind, {"payment_id": str(waits.payment.payment_id)}, None)


# What is asked.


def test_each_attempt_asks_the_same(lone_shop: Shop, lone_books: Books) -> None:
    lone_shop.gateway.answer = lose_reply
    lone_shop.process(return_url="https://shop.example/back")
    lone_shop.process(off_session=True, payment_token="tok_ok")
    lone_shop.hears_later(approve, lone_books)
    asked = {(request.attempt, request.off_session, request.return_url) for _, request in lone_shop.gateway.asked}
    back = "https://shop.example/back"
    assert asked == {(1, False, back), (2, False, back), (1, True, None), (2, True, None)}


ORDER = {"order_id": "o-1", "amount": 1, "currency": "USD", "payment_method": "credit_card"}


def test_a_request_that_names_the_defaults_is_the_same_request() -> None:
    process = COMMANDS["process"].request
    assert validate(process, ORDER | {"off_session": False, "return_url": None}).digest == validate(process, ORDER).digest
    assert validate(process, ORDER | {"off_session": True, "payment_token": "t"}).digest != validate(process, ORDER).digest


@pytest.mark.parametrize(
    "fields",
    [
        {"off_session": True},
        {"off_session": 1, "payment_token": "tok_ok"},
        {"return_url": ""},
        {"return_url": "shop.example/back"},
        {"return_url": "http://shop.example/back"},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "https://"},
        {"return_url": "https://[::1/back"},
        {"return_url": "https://user:secret@shop.example/"},
        {"return_url": "https://shop.example/ back"},
        {"return_url": "https://shöp.example/"},
        {"return_url": "https://shop.example/" + "a" * 1000},
        {"return_url": "http://localhost.evil.example/"},
    ],
)
def test_what_cannot_be_asked_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        validate(COMMANDS["process"].request, ORDER | fields)


@pytest.mark.parametrize("url", ["https://shop.example/back?order=1#paid", "http://localhost:3000/", "http://127.0.0.1/"])
def test_an_address_to_come_back_to_is_taken(url: str) -> None:
    assert validate(COMMANDS["process"].request, ORDER | {"return_url": url}).return_url == url


# Asking now.


def ask(shop: Shop, payment_id: object) -> tuple[PaymentStatus, str | None]:
    payment, action = sync(shop.service, shop.owner, validate(SyncRequest, {"payment_id": str(payment_id)}), Deadline.in_s(20))
    return payment.status, action.next_action.client_secret if action else None


def rested(books: Books) -> None:
    books.query("UPDATE operations SET lease_until = lease_until - interval '2.1 s'")


def test_sync_gives_the_secret_again_and_asks_at_most_once_in_two_seconds(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop)
    payment_id = waits.payment.payment_id
    assert ask(lone_shop, payment_id) == (S.REQUIRES_ACTION, None), "the gateway was asked just now"
    assert actions(lone_shop) == ["charge"]
    rested(lone_books)
    assert ask(lone_shop, payment_id) == (S.REQUIRES_ACTION, SECRET)
    asked = len(actions(lone_shop))
    assert ask(lone_shop, payment_id) == (S.REQUIRES_ACTION, None)
    assert len(actions(lone_shop)) == asked


def test_sync_settles_what_the_customer_did(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop)
    lone_shop.gateway.found = approve
    rested(lone_books)
    assert ask(lone_shop, waits.payment.payment_id) == (S.CAPTURED, None)
    assert types(lone_shop) == ["payment.requires_action", "payment.successful"]


@pytest.mark.parametrize("ended", ["by its caller", "by a sync", "by reconcile"])
def test_sync_asks_about_a_payment_that_has_its_outcome_as_soon_as_two_seconds_have_passed(
    lone_shop: Shop, lone_books: Books, ended: str
) -> None:
    """Its lease would have lasted for twenty seconds more, and somebody at the dashboard has just given the money back."""
    dashboard = Dashboard()
    shop = replace(lone_shop.with_(gateway=dashboard), gateway=dashboard)
    if ended == "by its caller":
        payment = shop.captured()
    else:
        payment = waiting(shop).payment
        dashboard.found = approve
        lone_books.make_due()
        rested(lone_books)
        assert ended == "by a sync" or shop.reconcile() == Reconciled(settled=1)
        assert ended == "by reconcile" or ask(shop, payment.payment_id) == (S.CAPTURED, None)
    refund = SeenRefund(gateway_refund_id=f"re_{payment.payment_id}", key=None, amount_minor=1999, status="succeeded")
    dashboard.seen = Seen(state="captured", transaction_id="t", captured_minor=1999, currency="USD", refunds=[refund])
    looked = len(dashboard.looks)
    assert ask(shop, payment.payment_id) == (S.CAPTURED, None), "the gateway was asked just now"
    rested(lone_books)
    assert ask(shop, payment.payment_id) == (S.REFUNDED, None)
    assert ask(shop, payment.payment_id) == (S.REFUNDED, None)
    assert len(dashboard.looks) == looked + 1


def test_sync_of_another_owners_payment_is_not_found(lone_shop: Shop) -> None:
    waits = waiting(lone_shop)
    with pytest.raises(PaymentNotFound):
        ask(replace(lone_shop, owner="somebody else"), waits.payment.payment_id)
    assert actions(lone_shop) == ["charge"]


def test_a_replay_asks_the_gateway_for_the_secret_again_and_writes_nothing(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop, key="once")
    replay = lone_shop.process(key="once", order_id=waits.payment.order_id)
    assert (replay.replayed, replay.outcome, replay.next_action) == (True, Outcome.UNKNOWN, None)
    assert action_of(replay.payment, lone_shop.service, Deadline.in_s(20)) is None, "the gateway was asked just now"
    assert actions(lone_shop) == ["charge"]
    rested(lone_books)
    action = action_of(replay.payment, lone_shop.service, Deadline.in_s(20))
    assert action is not None
    assert (action.next_action.client_secret, action.expires_at) == (SECRET, waits.action_expires_at)
    assert action_of(replay.payment, lone_shop.service, Deadline.in_s(20)) is None
    assert actions(lone_shop) == ["charge", "find"]
    lone_shop.gateway.found = lose_reply
    rested(lone_books)
    assert action_of(replay.payment, lone_shop.service, Deadline.in_s(20)) is None
    [operation] = lone_books.operations(waits.payment.payment_id)
    assert operation["attempt"] == 1


def test_a_replay_is_answered_also_while_a_worker_asks_the_gateway(lone_shop: Shop, lone_books: Books) -> None:
    """The first request was answered long ago, so its key is free: reconcile or a sync has the operation for a moment."""
    waits = waiting(lone_shop, key="once")
    lone_books.query("UPDATE operations SET lease_until = now() + interval '10 s'")
    replay = lone_shop.process(key="once", order_id=waits.payment.order_id)
    assert (replay.replayed, replay.outcome, replay.payment) == (True, Outcome.UNKNOWN, waits.payment)
    assert action_again(lone_shop, replay.payment) is None, "the worker asks already"


@pytest.mark.parametrize(("attempt", "said"), [(1, "still running"), (2, "asking the gateway")])
def test_who_repeats_a_request_that_somebody_works_on_is_told_what_is_going_on(
    lone_shop: Shop, lone_books: Books, attempt: int, said: str
) -> None:
    lone_shop.gateway.answer = lose_reply
    payment = lone_shop.process(key="once").payment
    lone_books.query(f"UPDATE operations SET lease_until = now() + interval '10 s', attempt = {attempt}")
    with pytest.raises(IdempotencyKeyInUse, match=said):
        lone_shop.process(key="once", order_id=payment.order_id)


def test_a_gateway_that_did_not_take_the_payment_is_not_asked(lone_shop: Shop, lone_books: Books) -> None:
    waits = waiting(lone_shop, key="once")
    lone_books.query("UPDATE payments SET gateway = 'stripe'")
    for again in (lambda: ask(lone_shop, waits.payment.payment_id)[1], lambda: action_again(lone_shop, waits.payment)):
        rested(lone_books)
        assert again() is None
    assert actions(lone_shop) == ["charge"]


def action_again(shop: Shop, payment: Payment) -> Action | None:
    return action_of(payment, shop.service, Deadline.in_s(20))


def test_asking_what_became_of_it_is_no_use_of_the_key(lone_shop: Shop, lone_books: Books) -> None:
    """The gateway's list is searched around each use."""
    waits = waiting(lone_shop)
    for _ in range(3):
        lone_books.make_due()
        lone_shop.reconcile()
    [operation] = lone_books.operations(waits.payment.payment_id)
    assert (operation["attempt"], operation["attempted_at"]) == (4, None)
