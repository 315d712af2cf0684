"""What the gateway cannot take, has not finished, says wrongly, or will not say under the key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from payments.api.answers import record, reply_to
from payments.commands.catalog import COMMANDS
from payments.commands.command import state_of
from payments.domain.errors import NotSupportedByGateway, ServiceUnavailable
from payments.domain.operation import Outcome
from payments.domain.payment import PaymentStatus
from payments.gateway.port import Alarm, Approved, Declined, GatewayRequest, Pending, Reply, Unknown
from payments.scheduled.reconcile import Reconciled
from payments.telemetry import instrumented
from tests.fakes import Answer, FakeGateway, approve, decline, lose_reply
from tests.servers import Database
from tests.shop import Books, Shop

SECOND = timedelta(seconds=1)


def pend(action: str, request: GatewayRequest) -> Reply:
    return Pending(f"begun_{request.key}", {"action": action})


def spend(action: str, request: GatewayRequest) -> Reply:
    return Unknown("it answers 500 to this key for ever", key_is_spent=True)


def actions(shop: Shop) -> list[str]:
    return [action for action, _ in shop.gateway.asked]


def begin(shop: Shop, kind: str, answer: Answer) -> Any:
    """Run the command on a new payment, with this answer of the gateway."""
    before = None if kind == "process" else shop.captured() if kind == "refund" else shop.authorized()
    shop.gateway.asked.clear()
    shop.gateway.answer = answer
    return shop.process() if before is None else getattr(shop, kind)(before.transaction_id)


AFTER = {"process": ("CAPTURED", "FAILED"), "capture": ("CAPTURED", "AUTHORIZED")}
AFTER |= {"void": ("VOIDED", "AUTHORIZED"), "refund": ("REFUNDED", "CAPTURED")}


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("found", [approve, decline])
def test_what_the_gateway_has_begun_is_asked_for_by_its_name_and_never_begun_again(
    lone_shop: Shop, lone_books: Books, kind: str, found: Answer
) -> None:
    begun = begin(lone_shop, kind, pend)
    assert (begun.outcome, begun.is_pending) == (Outcome.UNKNOWN, True)
    assert reply_to(begun, "r").status == 202
    lone_shop.gateway.found = pend
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(pending=1)
    # What it said stays known although an answer is lost in between.
    lone_shop.gateway.found = lose_reply
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(unknown=1)
    lone_shop.gateway.found = found
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(settled=1)
    first, *later = [request for _, request in lone_shop.gateway.asked]
    assert actions(lone_shop)[1:] == ["find"] * 3
    assert {(request.kind, request.key, request.gateway_id) for request in later} == {(kind, first.key, f"begun_{first.key}")}
    assert lone_books.payment(begun.payment.payment_id)["status"] == AFTER[kind][found is decline]


def test_what_is_pending_is_no_old_unknown_outcome(lone_shop: Shop, lone_books: Books) -> None:
    begin(lone_shop, "process", pend)
    lone_books.query("UPDATE operations SET created_at = now() - interval '3 days'")
    assert lone_shop.reconciled().oldest_unknown_s == 0
    begin(lone_shop, "process", lose_reply)
    lone_books.query("UPDATE operations SET created_at = now() - interval '3 days'")
    assert lone_shop.reconciled().oldest_unknown_s >= 3 * 86400


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_spent_key_is_not_used_again(lone_shop: Shop, lone_books: Books, kind: str) -> None:
    begun = begin(lone_shop, kind, spend)
    assert (begun.outcome, begun.is_pending) == (Outcome.UNKNOWN, False)
    lone_shop.gateway.answer = approve
    for _ in range(2):
        lone_books.make_due()
        assert lone_shop.reconcile() == Reconciled(unknown=1), "no trace of it is no decline"
    lone_shop.gateway.found = approve
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(settled=1)
    assert actions(lone_shop)[1:] == ["find"] * 3
    assert lone_books.payment(begun.payment.payment_id)["status"] == AFTER[kind][0]


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_key_that_the_gateway_may_have_forgotten_is_never_used_again(lone_shop: Shop, lone_books: Books, kind: str) -> None:
    begun = begin(lone_shop, kind, lose_reply)
    lone_books.make_due()
    assert lone_shop.reconcile() == Reconciled(unknown=1)
    lone_books.end_keys()
    lone_shop.gateway.answer = approve
    for _ in range(2):
        lone_books.make_due()
        assert lone_shop.reconcile() == Reconciled(unknown=1)
    assert actions(lone_shop)[1:] == [actions(lone_shop)[0], "find", "find"]
    asked_at = lone_shop.gateway.asked[-1][1].asked_at
    assert len(asked_at) == 2, "each use of the key, and no question"
    assert all(abs(at - datetime.now(UTC)) < 60 * SECOND for at in asked_at)
    assert lone_books.payment(begun.payment.payment_id)["status"] not in ("FAILED", "REFUNDED", "VOIDED")


def test_a_key_lives_as_long_as_the_gateway_says_for_its_kind(lone_shop: Shop, lone_books: Books) -> None:
    class Forgetful(FakeGateway):
        def key_lifetime_s(self, kind: str) -> float:
            return {"process": 21600.0}.get(kind, 82800.0)

    gateway = Forgetful(answer=lose_reply)
    shop = replace(lone_shop.with_(gateway=gateway), gateway=gateway)
    payment = shop.captured()
    [operation] = lone_books.operations(payment.payment_id)
    assert operation["key_ends_at"] == operation["created_at"] + timedelta(hours=6)
    # The key has to outlive the lease, so that no call with it begins in time and arrives too late.
    lone_books.query("UPDATE operations SET key_ends_at = now() + interval '15 seconds'")
    lone_books.make_due()
    assert shop.reconcile() == Reconciled(unknown=1)
    assert actions(shop) == ["charge", "find"]


def test_the_next_attempt_is_when_the_gateway_wants_it(lone_shop: Shop, lone_books: Books) -> None:
    payment = begin(lone_shop, "process", lambda action, request: Unknown("too many requests", wait_s=7)).payment
    [[wait]] = lone_books.query(
        "SELECT next_attempt_at - lease_until FROM operations WHERE payment_id = :id", id=payment.payment_id
    )
    assert wait == 7 * SECOND
    lone_books.make_due()
    assert lone_shop.with_(retry_schedule_s=()).reconcile() == Reconciled(unknown=1, exhausted=1), "a wish adds no attempt"


@pytest.mark.parametrize(("wish_s", "granted_s"), [(0, 1), (1e20, 3600)])
def test_a_wish_of_the_gateway_neither_stops_an_operation_nor_keeps_a_run_busy(
    lone_shop: Shop, lone_books: Books, wish_s: float, granted_s: int
) -> None:
    payment = begin(lone_shop, "process", lambda action, request: Unknown("too many requests", wait_s=wish_s)).payment
    [operation] = lone_books.operations(payment.payment_id)
    assert operation["next_attempt_at"] - operation["lease_until"] == granted_s * SECOND


def metrics_in(do: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the documents of metrics that an invocation writes."""

    @dataclass
    class Context:
        function_name: str = "process"
        aws_request_id: str = "r"
        memory_limit_in_mb: int = 512
        invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:process"

    capsys.readouterr()
    instrumented(lambda event, context: do())({}, Context())
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]


def metrics_of(do: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the names of the metrics that an invocation writes."""
    told = [metrics for each in metrics_in(do, capsys) for metrics in each["_aws"]["CloudWatchMetrics"]]
    return {metric["Name"] for metrics in told for metric in metrics["Metrics"]}


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("change", [{"amount_minor": 1}, {"amount_minor": 2000}, {"currency": "EUR"}])
def test_another_amount_than_ours_is_never_settled_and_raises_an_alarm(
    lone_shop: Shop, lone_books: Books, kind: str, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def approve_wrongly(action: str, request: GatewayRequest) -> Reply:
        approved = approve(action, request)
        assert isinstance(approved, Approved)
        return replace(approved, **change)

    begun: list[Any] = []
    assert Alarm.AMOUNT_MISMATCH in metrics_of(lambda: begun.append(begin(lone_shop, kind, approve_wrongly)), capsys)
    payment = begun[0].payment
    assert begun[0].outcome is Outcome.UNKNOWN
    lone_books.make_due()
    assert Alarm.AMOUNT_MISMATCH in metrics_of(lone_shop.reconcile, capsys)
    lone_books.end_keys()
    lone_shop.gateway.found = approve_wrongly
    lone_books.make_due()
    assert Alarm.AMOUNT_MISMATCH in metrics_of(lone_shop.reconcile, capsys), "also when we only ask"
    [*_, operation] = lone_books.operations(payment.payment_id)
    assert operation["outcome"] is None
    assert operation["reply"]["reason"].startswith("amount_mismatch")


@pytest.mark.parametrize("taken", [{"transaction_id": "txn_1"}, {"payment_intent_id": "pi_1"}])
def test_an_id_that_the_gateway_gave_another_payment_is_no_success(
    lone_shop: Shop, lone_books: Books, taken: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def approve_as_before(action: str, request: GatewayRequest) -> Reply:
        approved = approve(action, request)
        assert isinstance(approved, Approved)
        return replace(approved, **taken)

    begin(lone_shop, "process", approve_as_before)
    again: list[Any] = []
    assert Alarm.AMOUNT_MISMATCH in metrics_of(lambda: again.append(begin(lone_shop, "process", approve_as_before)), capsys)
    assert again[0].outcome is Outcome.UNKNOWN
    [operation] = lone_books.operations(again[0].payment.payment_id)
    assert operation["next_attempt_at"] == operation["created_at"] + 30 * SECOND, "the schedule goes on, and not each lease"


def test_an_authorization_ends_when_the_gateway_says_but_not_after_our_window(shop: Shop) -> None:
    for days, ends_after in ((5, 5), (30, 7)):

        def approve_until(action: str, request: GatewayRequest, days: int = days) -> Reply:
            approved = approve(action, request)
            assert isinstance(approved, Approved)
            return replace(approved, capture_before=datetime.now(UTC) + timedelta(days=days))

        shop.gateway.answer = approve_until
        payment = shop.authorized()
        assert payment.capture_before is not None
        assert abs(payment.capture_before - datetime.now(UTC) - timedelta(days=ends_after)) < 60 * SECOND


# What the gateway cannot take


class Choosy(FakeGateway):
    """Takes no PayPal, and multiples of ten alone."""

    def refuses(
        self, payment_method: str, amount_minor: int, currency: str, *, is_part: bool = False, has_token: bool = True
    ) -> tuple[str, str] | None:
        if payment_method == "paypal":
            return "payment_method", "must be a card"
        return ("amount", f"must end with 0 in {currency}") if amount_minor % 10 else None


@pytest.fixture
def choosy(lone_shop: Shop) -> Shop:
    gateway = Choosy()
    return replace(lone_shop.with_(gateway=gateway), gateway=gateway)


@pytest.mark.parametrize(("member", "fields"), [("payment_method", {"payment_method": "paypal"}), ("amount", {"amount": 1999})])
def test_what_the_gateway_cannot_take_is_refused_before_anything_is_written(
    choosy: Shop, lone_books: Books, member: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(NotSupportedByGateway) as refused:
        choosy.process(key="k", amount=2000, **fields) if "amount" not in fields else choosy.process(key="k", **fields)
    assert [wrong["location"] for wrong in refused.value.extra["errors"]] == [f"body.{member}"]  # type: ignore[attr-defined]
    assert lone_books.query("SELECT count(*) FROM payments") == [[0]]
    assert choosy.gateway.asked == []
    assert choosy.process(key="k", amount=2000).outcome is Outcome.SUCCEEDED, "the key is not used up"


def test_the_gateway_hears_whether_a_payment_has_a_token(lone_shop: Shop) -> None:
    class NeedsToken(FakeGateway):
        def refuses(self, *_: object, has_token: bool = True, **__: object) -> tuple[str, str] | None:
            return None if has_token else ("payment_token", "is needed")

    shop = lone_shop.with_(gateway=NeedsToken())
    with pytest.raises(NotSupportedByGateway):
        shop.process()
    assert shop.process(payment_token="pm_1").outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("kind", ["capture", "refund"])
def test_a_part_that_the_gateway_cannot_take_is_refused_before_anything_is_written(
    choosy: Shop, lone_books: Books, kind: str
) -> None:
    before = choosy.captured(amount=2000) if kind == "refund" else choosy.authorized(amount=2000)
    run = getattr(choosy, kind)
    with pytest.raises(NotSupportedByGateway) as refused:
        run(before.transaction_id, key="k", amount=15)
    assert refused.value.extra == refused.value.extra | state_of(before), "it names the payment and its order"
    assert len(lone_books.operations(before.payment_id)) == 1
    assert run(before.transaction_id, key="k", amount=10).outcome is Outcome.SUCCEEDED
    assert run(before.transaction_id, key="k", amount=10).replayed


def test_a_request_that_was_carried_out_is_replayed_although_the_gateway_would_refuse_it_now(
    lone_shop: Shop, lone_books: Books
) -> None:
    body = {"order_id": "o", "amount": 1999}
    assert lone_shop.process(key="k", **body).outcome is Outcome.SUCCEEDED
    assert lone_shop.with_(gateway=Choosy()).process(key="k", **body).replayed


class Other(FakeGateway):
    name = "other"


@pytest.mark.parametrize("name", ["payment_id", "order_id", "transaction_id"])
@pytest.mark.parametrize("kind", ["capture", "void", "refund"])
def test_a_payment_stays_with_the_gateway_that_took_it(lone_shop: Shop, lone_books: Books, kind: str, name: str) -> None:
    before = lone_shop.captured() if kind == "refund" else lone_shop.authorized()
    gateway = Other()
    shop = replace(lone_shop.with_(gateway=gateway), gateway=gateway)
    value = getattr(before, name)
    with pytest.raises(NotSupportedByGateway) as refused:
        shop.perform(kind, {name: value if isinstance(value, str) else str(value)}, "k")
    assert "simulated" in str(refused.value.extra["errors"])
    assert refused.value.extra == refused.value.extra | state_of(before), "it names the payment and its order"
    assert len(lone_books.operations(before.payment_id)) == 1
    assert gateway.asked == []


def without_functions(books: Books) -> None:
    """As before `migrate`, a function finds none of its statements' functions, and so sends what fits the older schema."""
    names = "proname ~ '_[0-9a-f]{12}$' AND pronamespace = 'public'::regnamespace"
    for [function] in books.query(f"SELECT oid::regprocedure::text FROM pg_proc WHERE {names}"):
        books.query(f"DROP FUNCTION {function}")


def test_before_its_migration_no_payment_goes_to_another_gateway_than_the_simulated_one(own_database: Database) -> None:
    """The older statement does not say who takes the payment, and the migration gives such payments to the simulated gateway."""
    books, before = Books(own_database.owner_url), Shop.on(own_database)
    begun = begin(before, "process", lose_reply)
    without_functions(books)
    gateway = Other()
    shop = replace(before.with_(gateway=gateway), gateway=gateway)
    with pytest.raises(ServiceUnavailable):
        shop.process()
    books.make_due()
    assert shop.reconcile() == Reconciled(unknown=1)
    assert gateway.asked == []
    assert books.query("SELECT payment_id FROM payments") == [[begun.payment.payment_id]]
    shop.close()


@pytest.mark.parametrize("kind", COMMANDS)
def test_an_operation_in_flight_is_not_sent_to_another_gateway(lone_shop: Shop, lone_books: Books, kind: str) -> None:
    begin(lone_shop, kind, lose_reply)
    gateway = Other()
    shop = replace(lone_shop.with_(gateway=gateway), gateway=gateway)
    lone_books.make_due()
    assert shop.reconcile() == Reconciled(unknown=1)
    assert gateway.asked == []
    assert lone_shop.hears_later(approve, lone_books) == Reconciled(settled=1), "the first one has it still"


def test_the_gateways_advice_goes_to_the_caller_unless_it_would_tell_a_thief(shop: Shop) -> None:
    for code, theirs, ours in (
        ("card_declined", "do_not_try_again", "do_not_try_again"),
        ("insufficient_funds", None, "try_again_later"),
        ("stolen_card", "confirm_card_data", "do_not_try_again"),
        ("do_not_honor", "try_again_later", "do_not_try_again"),
    ):
        shop.gateway.answer = lambda action, request, code=code, theirs=theirs: Declined(  # type: ignore[misc]
            code, "No.", None, None, {}, advice_code=theirs
        )
        answer = reply_to(shop.process(), "r").body
        assert answer["advice_code"] == ours, code
        assert answer["decline_code"] == (code if code in ("card_declined", "insufficient_funds") else "generic_decline")


def test_a_pending_payment_is_counted_as_such(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.gateway.answer = pend
    pending = shop.process()
    assert pending.payment.status is PaymentStatus.PROCESSING
    documents = metrics_in(lambda: record(pending), capsys)
    assert [each["outcome"] for each in documents if "Operations" in each] == ["pending"]
