"""What the gateway did by itself is entered once, and what cannot follow from the books is never written."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from local.servers import connect
from payments.api import lookups
from payments.api.callers import Caller
from payments.commands.look import Look, look_at
from payments.commands.service import Deadline
from payments.domain.errors import ServiceUnavailable
from payments.domain.operation import Outcome
from payments.domain.payment import Payment, PaymentStatus
from payments.domain.scopes import Scope
from payments.domain.times import rfc3339
from payments.gateway.port import Alarm, Approved, Pending, Seen, SeenRefund
from payments.store import outside
from payments.store.connection import Bound, Database, Row
from payments.store.lookups import ListFilter, list_payments
from tests import card_number, seen_disputes, servers
from tests.commands.test_finding_out import metrics_of
from tests.fakes import Answer, Dashboard, Killed, approve, decline, kill, lose_reply
from tests.shop import Books, Shop, at_once


@dataclass(frozen=True, kw_only=True)
class Watched(Shop):
    """A shop that looks at what the gateway did."""

    gateway: Dashboard

    @classmethod
    def of(cls, database: servers.Database) -> Watched:
        gateway = Dashboard()
        shop = Shop.on(database, gateway=gateway)
        return cls(owner=shop.owner, service=shop.service, gateway=gateway, publisher=shop.publisher, url=shop.url)

    def look(self, payment: Payment, seen: Seen | None = None, time_s: float = 20.0) -> Look:
        self.gateway.seen = seen or self.gateway.seen
        return look_at(self.service, payment, Deadline.in_s(time_s))

    def types(self, payment: Payment) -> list[str]:
        return [event.type for event in self.publisher.published if event.payment_id == payment.payment_id]


@pytest.fixture
def watched(database: servers.Database) -> Iterator[Watched]:
    shop = Watched.of(database)
    yield shop
    shop.close()


def of(payment: Payment, *refunds: SeenRefund, **changes: Any) -> Seen:
    """Return that the gateway has captured the payment, unless the changes say otherwise."""
    captured_minor = changes.pop("captured_minor", payment.captured_minor)
    seen = Seen(state="captured", transaction_id="txn", captured_minor=captured_minor, currency="USD", refunds=refunds)
    return replace(seen, **changes)


def refunded(name: str, amount_minor: int, status: Any = "succeeded", **fields: Any) -> SeenRefund:
    return SeenRefund(gateway_refund_id=name, key=fields.pop("key", None), amount_minor=amount_minor, status=status, **fields)


def name(what: str, payment: Payment) -> str:
    """Return an id of the gateway's that no other test uses."""
    return f"{what}_{payment.payment_id}"


def check(books: Books, payment: Payment) -> dict[str, Any]:
    """Check that the rows agree with each other, and return the payment's."""
    row, refunds, told = books.payment(payment.payment_id), books.refunds(payment.payment_id), books.outbox(payment.payment_id)
    for status, column in ("SUCCEEDED", "refunded_minor"), ("PENDING", "refund_reserved_minor"):
        assert row[column] == sum(refund["amount_minor"] for refund in refunds if refund["status"] == status)
    assert [event["sequence"] for event in told] == list(range(1, row["event_sequence"] + 1)), "without gaps"
    operations = books.operations(payment.payment_id)
    assert len({each["gateway_key"] for each in operations}) == len(operations)
    assert Counter(each["refund_id"] for each in operations if each["refund_id"]) == Counter(
        each["refund_id"] for each in refunds
    )
    return row


S = PaymentStatus
Sees = Callable[[Payment], Seen]


def held(payment: Payment, **changes: Any) -> Seen:
    return of(payment, **{"state": "authorized", "captured_minor": 0} | changes)


def canceled(payment: Payment, **changes: Any) -> Seen:
    return of(payment, **{"state": "canceled", "captured_minor": 0} | changes)


# Before, what the gateway shows, what comes of the look, the status after it, and the events that it adds. Payments are of 19.99.
TABLE: dict[str, tuple[PaymentStatus, Sees, Look, PaymentStatus, Sequence[str]]] = {
    "all agree, captured": (S.CAPTURED, of, Look.NOTHING_NEW, S.CAPTURED, ()),
    "all agree, authorized": (S.AUTHORIZED, held, Look.NOTHING_NEW, S.AUTHORIZED, ()),
    "all agree, voided": (S.VOIDED, canceled, Look.NOTHING_NEW, S.VOIDED, ()),
    "all agree, failed": (S.FAILED, canceled, Look.NOTHING_NEW, S.FAILED, ()),
    "the gateway is behind": (S.CAPTURED, held, Look.NOTHING_NEW, S.CAPTURED, ()),
    "the gateway is behind a void": (S.VOIDED, held, Look.NOTHING_NEW, S.VOIDED, ()),
    "a part refunded there": (
        S.CAPTURED, lambda p: of(p, refunded(name("re", p), 500)), Look.SETTLED, S.PARTIALLY_REFUNDED, ["payment.refunded"],
    ),
    "all refunded there": (
        S.CAPTURED, lambda p: of(p, refunded(name("re", p), 1999)), Look.SETTLED, S.REFUNDED, ["payment.refunded"],
    ),
    "two refunded there": (
        S.CAPTURED, lambda p: of(p, refunded(name("re", p), 999), refunded(name("rf", p), 1000)), Look.SETTLED, S.REFUNDED,
        ["payment.refunded"] * 2,
    ),
    "the rest refunded there": (
        S.PARTIALLY_REFUNDED, lambda p: of(p, refunded(name("re", p), 1499)), Look.SETTLED, S.REFUNDED, ["payment.refunded"],
    ),
    "a refund under way there": (
        S.CAPTURED, lambda p: of(p, refunded(name("re", p), 500, "pending")), Look.NOTHING_NEW, S.CAPTURED, (),
    ),
    "one done and one under way there": (
        S.CAPTURED, lambda p: of(p, refunded(name("re", p), 500), refunded(name("rf", p), 500, "pending")), Look.SETTLED,
        S.PARTIALLY_REFUNDED, ["payment.refunded"],
    ),
    "a refund that failed there": (
        S.CAPTURED, lambda p: of(p, refunded(name("re", p), 500, "failed")), Look.SETTLED, S.CAPTURED, ["payment.refund_failed"],
    ),
    "a refund that failed there of what was refunded since": (
        S.REFUNDED, lambda p: of(p, refunded(name("re", p), 500, "failed")), Look.SETTLED, S.REFUNDED, ["payment.refund_failed"],
    ),
    "captured there": (
        S.AUTHORIZED, lambda p: of(p, captured_minor=1999), Look.SETTLED, S.CAPTURED, ["payment.successful"],
    ),
    "a part captured there": (
        S.AUTHORIZED, lambda p: of(p, captured_minor=900), Look.SETTLED, S.CAPTURED, ["payment.successful"],
    ),
    "captured and refunded there": (
        S.AUTHORIZED, lambda p: of(p, refunded(name("re", p), 900), captured_minor=900), Look.SETTLED, S.REFUNDED,
        ["payment.successful", "payment.refunded"],
    ),
    "canceled there": (S.AUTHORIZED, canceled, Look.SETTLED, S.VOIDED, ["payment.voided"]),
    "captured and given back there after a void here": (
        S.VOIDED, lambda p: of(p, refunded(name("re", p), 1999), captured_minor=1999), Look.NOTHING_NEW, S.VOIDED, (),
    ),
}  # fmt: skip

MISFITS: dict[str, tuple[PaymentStatus, Sees]] = {
    "more refunded there than captured": (S.CAPTURED, lambda p: of(p, refunded(name("re", p), 2000))),
    "two of which only one fits": (S.CAPTURED, lambda p: of(p, refunded(name("re", p), 1999), refunded(name("rf", p), 1))),
    "refunded there again": (S.REFUNDED, lambda p: of(p, refunded(name("re", p), 1))),
    "more than is left": (S.PARTIALLY_REFUNDED, lambda p: of(p, refunded(name("re", p), 1500))),
    "a refund of nothing that failed": (S.CAPTURED, lambda p: of(p, refunded(name("re", p), 0, "failed"))),
    "a refund of nothing": (S.CAPTURED, lambda p: of(p, refunded(name("re", p), 0))),
    "another currency": (S.CAPTURED, lambda p: of(p, refunded(name("re", p), 500), currency="EUR")),
    "another currency of an authorization": (S.AUTHORIZED, lambda p: canceled(p, currency="EUR")),
    "less captured there": (S.CAPTURED, lambda p: of(p, refunded(name("re", p), 500), captured_minor=900)),
    "more captured there than authorized": (S.AUTHORIZED, lambda p: of(p, captured_minor=2000)),
    "nothing captured there": (S.AUTHORIZED, lambda p: of(p, captured_minor=0)),
    "captured here and canceled there": (S.CAPTURED, canceled),
    "captured there after a void here": (S.VOIDED, lambda p: of(p, captured_minor=1999)),
    "captured there after a decline here": (S.FAILED, lambda p: of(p, captured_minor=1999)),
    "held there after a decline here": (S.FAILED, held),
    "captured there after a void here, and a part given back": (
        S.VOIDED, lambda p: of(p, refunded(name("re", p), 1998), captured_minor=1999),
    ),
}  # fmt: skip


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("case", TABLE)
def test_what_the_gateway_shows_is_in_the_books_once_however_often_it_is_told(
    watched: Watched, books: Books, case: str, times: int
) -> None:
    before, sees, expected, after, told = TABLE[case]
    payment = watched.in_status(before)
    known = watched.types(payment)
    looks = [watched.look(payment, sees(payment)) for _ in range(times)]
    again = Look.NOTHING_NEW if expected is Look.SETTLED else expected
    assert looks == [expected, *[again] * (times - 1)]
    row = check(books, payment)
    assert row["status"] == after
    assert watched.types(payment) == [*known, *told]
    assert watched.gateway.looks == [payment.payment_intent_id] * times


@pytest.mark.parametrize("case", MISFITS)
def test_an_amount_that_does_not_fit_is_never_written_and_raises_the_alarm(
    watched: Watched, books: Books, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, sees = MISFITS[case]
    payment = watched.in_status(before)
    row = check(books, payment)
    known = watched.types(payment)
    assert metrics_of(lambda: watched.look(payment, sees(payment)), capsys) - {"ColdStart"} == {Alarm.AMOUNT_MISMATCH}
    assert watched.look(payment, sees(payment)) is Look.NOTHING_NEW
    assert check(books, payment) == row
    assert watched.types(payment) == known


def test_what_does_not_fit_is_told_once_a_day(watched: Watched, books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    """Its owner may make us look every two seconds."""

    def tells(payment: Payment, sees: Seen) -> bool:
        return Alarm.AMOUNT_MISMATCH in metrics_of(lambda: watched.look(payment, sees), capsys)

    first, second = watched.captured(), watched.captured()
    assert [tells(first, canceled(first)) for _ in range(3)] == [True, False, False]
    assert tells(second, canceled(second)), "of another payment"
    more = of(first, captured_minor=2000)
    assert [tells(first, more), tells(first, more), tells(first, canceled(first))] == [True, False, False]
    process, *_ = books.operations(first.payment_id)
    assert (process["outcome"], process["reply"]["result"]) == ("succeeded", "approved"), "what the gateway replied stays"
    told = "UPDATE operations SET reply = replace(reply::text, :old, :new)::jsonb WHERE payment_id = :id"
    [[today, yesterday]] = books.query("SELECT current_date::text, (current_date - 1)::text")
    books.query(told, old=today, new=yesterday, id=first.payment_id)
    assert [tells(first, canceled(first)) for _ in range(2)] == [True, False]


def test_nothing_else_raises_the_alarm(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    for case, (before, sees, *_) in TABLE.items():
        payment = watched.in_status(before)
        for _ in range(2):
            assert Alarm.AMOUNT_MISMATCH not in metrics_of(lambda: watched.look(payment, sees(payment)), capsys), case  # noqa: B023


def test_an_adopted_refund_says_that_the_gateway_made_it(watched: Watched, books: Books) -> None:
    payment = watched.captured()
    ours = watched.refund(payment.transaction_id, amount=100, reason="ours").refund
    assert ours
    theirs = refunded(name("re", payment), 500, reason="requested_by_customer")
    assert watched.look(payment, of(payment, theirs)) is Look.SETTLED
    caller = Caller(watched.owner, frozenset({Scope.READ}))
    _, refunds, *_ = lookups.find(watched.service, caller, "payment_id", str(payment.payment_id))
    shown = [(refund.amount_minor, refund.origin, refund.reason, refund.status) for refund in refunds]
    assert shown == [(100, "service", "ours", "SUCCEEDED"), (500, "gateway", "requested_by_customer", "SUCCEEDED")]
    assert [lookups.refund(watched.service, caller, str(one.refund_id)) for one in refunds] == refunds
    page = lookups.refunds(watched.service, caller, str(payment.payment_id), None, 10)
    assert page.data == refunds
    told = [json.loads(event.data)["refund"] for event in watched.publisher.published[-2:]]
    assert [refund["origin"] for refund in told] == ["service", "gateway"]
    assert told[1]["created_at"] == rfc3339(refunds[1].created_at), "as the look-up says"
    operation = books.operations(payment.payment_id)[-1]
    assert (operation["kind"], operation["outcome"], operation["origin"]) == ("refund", "succeeded", "gateway")
    assert operation["gateway_key"] == f"gateway-refund-{theirs.gateway_refund_id}"
    assert books.refunds(payment.payment_id)[-1]["gateway_refund_id"] == theirs.gateway_refund_id
    assert {each["origin"] for each in books.operations(payment.payment_id)[:-1]} == {"service"}


def test_a_text_of_the_gateways_is_kept_as_ours_would_be(watched: Watched, books: Books) -> None:
    payment = watched.captured()
    said = f"\x00\u202eof {card_number.CARD}\n" + "x" * 1000
    assert watched.look(payment, of(payment, refunded(name("re", payment), 500, reason=said))) is Look.SETTLED
    [refund] = books.refunds(payment.payment_id)
    assert refund["reason"].startswith("of [card number removed]x")
    assert len(refund["reason"]) == 500


@pytest.mark.parametrize(
    ("has_lapsed", "said", "reason"),
    [
        (False, None, "canceled at the gateway"),
        (False, "abandoned", "canceled at the gateway: abandoned"),
        (True, "automatic", "the authorization lapsed at the gateway: automatic"),
    ],
)
def test_the_history_says_that_the_gateway_ended_the_authorization(
    watched: Watched, books: Books, has_lapsed: bool, said: str | None, reason: str
) -> None:
    payment = watched.authorized()
    if has_lapsed:
        books.query("UPDATE payments SET capture_before = now() WHERE payment_id = :id", id=payment.payment_id)
    assert watched.look(payment, canceled(payment, cancel_reason=said)) is Look.SETTLED
    assert books.history(payment.payment_id)[-1] == ("AUTHORIZED", "VOIDED", reason)
    operation = books.operations(payment.payment_id)[-1]
    assert (operation["kind"], operation["origin"], operation["reason"]) == ("void", "gateway", reason)
    assert watched.process(order_id=payment.order_id).outcome is Outcome.SUCCEEDED, "the order can be paid again"


def test_a_part_captured_there_can_be_refunded_here_up_to_that_part(watched: Watched, books: Books) -> None:
    payment = watched.authorized()
    assert watched.look(payment, of(payment, captured_minor=900)) is Look.SETTLED
    row = check(books, payment)
    assert (row["captured_minor"], row["transaction_id"]) == (900, payment.transaction_id)
    assert books.operations(payment.payment_id)[-1]["kind"] == "capture"
    assert watched.refund(payment.transaction_id).refund.amount_minor == 900  # type: ignore[union-attr]


def test_the_disputes_that_the_gateway_shows_are_recorded(watched: Watched, books: Books) -> None:
    payment = watched.captured()
    shown = seen_disputes.seen(gateway_dispute_id=name("dp", payment), due_by=None, created_at=payment.created_at)
    seen = of(payment, refunded(name("re", payment), 500), disputes=[shown])
    assert [watched.look(payment, seen) for _ in range(2)] == [Look.SETTLED, Look.NOTHING_NEW]
    closed = replace(shown, status="lost", outcome="lost")
    assert watched.look(payment, replace(seen, disputes=[closed])) is Look.SETTLED
    check(books, payment)
    assert watched.types(payment)[1:] == ["payment.refunded", "payment.disputed", "payment.dispute_closed"]
    authorized = watched.authorized()
    assert watched.look(authorized, held(authorized, disputes=[shown])) is Look.LATER, "the books do not know of the capture yet"


# A refund that fails after it had succeeded.


def ours_failed(shop: Watched, payment: Payment, books: Books, **fields: Any) -> SeenRefund:
    """Return the payment's newest refund as the gateway shows it when it has failed."""
    refund = books.refunds(payment.payment_id)[-1]
    shown = refunded("re_ours", refund["amount_minor"], "failed", key=f"ref-{refund['refund_id']}")
    return replace(shown, **{"failure_code": "expired_card"} | fields)


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize(("amounts", "after"), [([1999], "CAPTURED"), ([500], "CAPTURED"), ([500, 1499], "PARTIALLY_REFUNDED")])
def test_a_refund_that_fails_after_all_is_given_back_to_the_payment_once(
    watched: Watched, books: Books, amounts: Sequence[int], after: str, times: int
) -> None:
    payment = watched.captured()
    for amount in amounts:
        watched.refund(payment.transaction_id, amount=amount)
    before = books.payment(payment.payment_id)["status"]
    failed = ours_failed(watched, payment, books)
    looks = [watched.look(payment, of(payment, failed)) for _ in range(times)]
    assert looks == [Look.SETTLED, *[Look.NOTHING_NEW] * (times - 1)]
    row = check(books, payment)
    assert (row["status"], row["refunded_minor"]) == (after, sum(amounts[:-1]))
    assert [refund["decline_code"] for refund in books.refunds(payment.payment_id)] == [None] * (len(amounts) - 1) + [
        "expired_card"
    ]
    assert watched.types(payment) == ["payment.successful", *["payment.refunded"] * len(amounts), "payment.refund_failed"]
    assert books.history(payment.payment_id)[-1] == (before, after, "refund failed: expired_card")
    told = json.loads(watched.publisher.published[-1].data)
    assert (told["status"], told["refund"]["status"], told["refund"]["decline_code"]) == (after, "FAILED", "expired_card")
    assert watched.refund(payment.transaction_id).outcome is Outcome.SUCCEEDED, "what came back can be refunded again"


def test_a_refund_of_the_dashboards_that_fails_after_all_is_given_back_too(watched: Watched, books: Books) -> None:
    payment, refund = watched.captured(), refunded("", 500)
    refund = replace(refund, gateway_refund_id=name("re", payment))
    assert watched.look(payment, of(payment, refund)) is Look.SETTLED
    assert watched.look(payment, of(payment, replace(refund, status="failed"))) is Look.SETTLED
    assert watched.look(payment, of(payment, refund)) is Look.NOTHING_NEW, "a look that began before it failed"
    assert check(books, payment)["status"] == "CAPTURED"
    assert watched.types(payment) == ["payment.successful", "payment.refunded", "payment.refund_failed"]
    assert books.refunds(payment.payment_id)[0]["decline_code"] == "generic_decline"


def test_what_came_back_makes_room_for_a_refund_of_the_dashboards(watched: Watched, books: Books) -> None:
    payment = watched.captured()
    watched.refund(payment.transaction_id)
    failed, again = ours_failed(watched, payment, books), refunded(name("re", payment), 1999)
    assert watched.look(payment, of(payment, again, failed)) is Look.SETTLED
    assert check(books, payment)["status"] == "REFUNDED"
    assert watched.types(payment)[1:] == ["payment.refunded", "payment.refund_failed", "payment.refunded"]


def test_a_refund_of_ours_whose_amount_is_another_there_is_not_given_back(
    watched: Watched, books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    payment = watched.captured()
    watched.refund(payment.transaction_id, amount=500)
    row, failed = check(books, payment), ours_failed(watched, payment, books, amount_minor=400)
    assert Alarm.AMOUNT_MISMATCH in metrics_of(lambda: watched.look(payment, of(payment, failed)), capsys)
    assert check(books, payment) == row


def test_a_refund_that_was_declined_and_succeeded_there_is_for_a_person(
    watched: Watched, books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    payment = watched.captured()
    watched.gateway.answer = decline
    watched.refund(payment.transaction_id, amount=500)
    row, made = check(books, payment), ours_failed(watched, payment, books, status="succeeded")
    assert Alarm.AMOUNT_MISMATCH in metrics_of(lambda: watched.look(payment, of(payment, made)), capsys)
    assert check(books, payment) == row


@pytest.mark.parametrize("amount_minor", [500, 400])
def test_a_second_refund_under_a_key_of_ours_is_for_a_person(
    watched: Watched, books: Books, amount_minor: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gateway has made ours twice, or somebody has copied its metadata. The money went, and no operation of ours did it."""
    payment = watched.captured()
    approved = Approved(
        str(payment.transaction_id), str(payment.payment_intent_id), 500, "USD", {}, refund_id=name("re", payment)
    )
    watched.gateway.answer = lambda action, request: approved
    ours = watched.refund(payment.transaction_id, amount=500).refund
    assert ours
    row, key = check(books, payment), f"ref-{ours.refund_id}"
    first = refunded(name("re", payment), 500, key=key)
    second = refunded(name("rf", payment), amount_minor, key=key)
    for seen in ([first, second], [second, first]):
        assert Alarm.AMOUNT_MISMATCH in metrics_of(lambda: watched.look(payment, of(payment, *seen)), capsys)  # noqa: B023
        assert check(books, payment) == row
        books.query("UPDATE operations SET reply = reply - 'misfits'")


def test_a_refund_of_another_payment_is_for_a_person(watched: Watched, books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    payment, other = watched.captured(), watched.captured()
    refund = refunded(name("re", payment), 500)
    assert watched.look(payment, of(payment, refund)) is Look.SETTLED
    row = check(books, other)
    assert Alarm.AMOUNT_MISMATCH in metrics_of(lambda: watched.look(other, of(other, refund)), capsys)
    assert check(books, other) == row


# Our own operations come first.


def begin(shop: Watched, kind: str, answer: Answer) -> Payment:
    """Run the command on a new payment, with this answer of the gateway, and return the payment."""
    before = None if kind == "process" else shop.captured() if kind == "refund" else shop.authorized()
    shop.gateway.answer = answer
    try:
        done = shop.process() if before is None else getattr(shop, kind)(before.transaction_id)
    except Killed:
        [payment], _ = list_payments(shop.service.db, shop.owner, ListFilter(), 1)
        return payment
    return done.payment


AFTER = {"process": "CAPTURED", "capture": "CAPTURED", "void": "VOIDED", "refund": "REFUNDED"}
DECLINED = {"process": "FAILED", "capture": "AUTHORIZED", "void": "AUTHORIZED", "refund": "CAPTURED"}


@pytest.mark.parametrize("kind", AFTER)
@pytest.mark.parametrize("given_up", [False, True])
def test_an_operation_without_an_outcome_is_settled_one_attempt_on(
    watched: Watched, books: Books, kind: str, given_up: bool
) -> None:
    payment = begin(watched, kind, lose_reply)
    if given_up:
        books.query("UPDATE operations SET next_attempt_at = NULL WHERE payment_id = :id", id=payment.payment_id)
    watched.gateway.answer = approve
    watched.gateway.sees = lambda: shown(books, payment)
    assert watched.look(payment) is Look.SETTLED
    assert check(books, payment)["status"] == AFTER[kind]
    operation = books.operations(payment.payment_id)[-1]
    assert (operation["attempt"], operation["outcome"], operation["origin"]) == (2, "succeeded", "service")
    assert watched.gateway.keys[-2:] == [operation["gateway_key"]] * 2
    assert watched.look(payment) is Look.NOTHING_NEW
    assert len(watched.types(payment)) == check(books, payment)["event_sequence"]


def shown(books: Books, payment: Payment) -> Seen:
    """Return what the gateway shows when it has what the books say."""
    row = books.payment(payment.payment_id)
    state: Any = {"AUTHORIZED": "authorized", "VOIDED": "canceled", "FAILED": "canceled"}.get(row["status"], "captured")
    refunds = [
        refunded("", each["amount_minor"], key=f"ref-{each['refund_id']}")
        for each in books.refunds(payment.payment_id)
        if each["status"] == "SUCCEEDED"
    ]
    return of(payment, *refunds, state=state, captured_minor=row["captured_minor"])


@pytest.mark.parametrize("kind", AFTER)
@pytest.mark.parametrize(
    ("answer", "look"),
    [(lose_reply, Look.LATER), (lambda action, request: Pending("begun", {}), Look.NOTHING_NEW)],
    ids=["lost", "pending"],
)
def test_an_operation_that_the_gateway_does_not_decide_is_left_to_reconcile(
    watched: Watched, books: Books, kind: str, answer: Answer, look: Look
) -> None:
    """What it has begun may take it days, and it tells the end. So no person has to look after a day."""
    payment = begin(watched, kind, lose_reply)
    watched.gateway.answer = watched.gateway.found = answer
    watched.gateway.sees = lambda: shown(books, payment)
    known = watched.types(payment)
    assert [watched.look(payment) for _ in range(2)] == [look] * 2
    operation = books.operations(payment.payment_id)[-1]
    assert (operation["attempt"], operation["outcome"]) == (3, None)
    assert operation["next_attempt_at"], "reconcile goes on with it"
    assert watched.types(payment) == known


@pytest.mark.parametrize("kind", AFTER)
def test_a_live_lease_is_left_alone(watched: Watched, books: Books, kind: str) -> None:
    payment = begin(watched, kind, kill)
    watched.gateway.answer = approve
    watched.gateway.sees = lambda: shown(books, payment)
    asked = len(watched.gateway.asked)
    assert watched.look(payment) is Look.LATER
    operation = books.operations(payment.payment_id)[-1]
    assert (operation["attempt"], operation["outcome"], len(watched.gateway.asked)) == (1, None, asked)
    books.query("UPDATE operations SET lease_until = now() WHERE payment_id = :id", id=payment.payment_id)
    assert watched.look(payment) is Look.SETTLED
    assert check(books, payment)["status"] == AFTER[kind]


def test_an_operation_that_a_void_has_taken_over_is_left_to_the_void(watched: Watched, books: Books) -> None:
    payment = begin(watched, "process", lose_reply)
    taken = """UPDATE operations SET reply = reply || '{"taken_by": "a void"}' WHERE payment_id = :id"""
    books.query(taken, id=payment.payment_id)
    asked = len(watched.gateway.asked)
    assert watched.look(payment) is Look.NOTHING_NEW
    assert len(watched.gateway.asked) == asked


@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("status", ["pending", "succeeded", "failed"])
def test_a_refund_of_ours_is_never_adopted_while_its_own_call_has_no_outcome(
    watched: Watched, books: Books, status: Any, is_held: bool
) -> None:
    payment = watched.captured()
    watched.gateway.answer = kill if is_held else lose_reply
    with contextlib.suppress(Killed):
        watched.refund(payment.transaction_id, amount=500)
    watched.gateway.answer = lose_reply
    [refund] = books.refunds(payment.payment_id)
    seen = refunded(name("re", payment), 500, status, key=f"ref-{refund['refund_id']}")
    assert [watched.look(payment, of(payment, seen)) for _ in range(2)] == [Look.LATER] * 2
    assert check(books, payment)["status"] == "CAPTURED"
    assert books.refunds(payment.payment_id) == [refund]


@pytest.mark.parametrize("kind", ["capture", "void"])
def test_an_authorization_with_an_operation_in_flight_ends_by_its_operation_alone(
    watched: Watched, books: Books, kind: str
) -> None:
    payment = begin(watched, kind, lose_reply)
    for seen in of(payment, captured_minor=1999), canceled(payment):
        assert watched.look(payment, seen) is Look.LATER
    assert check(books, payment)["status"] == "AUTHORIZED"
    watched.gateway.answer = decline
    assert watched.look(payment, of(payment, captured_minor=1999)) is Look.SETTLED
    assert check(books, payment)["status"] == "CAPTURED", "the operation has ended, and somebody else has captured it there"
    assert watched.types(payment)[1:] == [f"payment.{kind}_failed", "payment.successful"]


def test_a_refund_there_waits_while_a_refund_of_ours_has_reserved_the_money(watched: Watched, books: Books) -> None:
    payment = begin(watched, "refund", lose_reply)
    theirs = of(payment, refunded(name("re", payment), 500))
    assert watched.look(payment, theirs) is Look.LATER
    watched.gateway.answer = decline
    assert watched.look(payment, theirs) is Look.SETTLED
    assert check(books, payment)["refunded_minor"] == 500
    assert watched.types(payment)[1:] == ["payment.refund_failed", "payment.refunded"]


# The gateway does not answer, or is not the payment's.


def test_without_an_answer_or_the_time_for_one_it_is_for_later(watched: Watched, books: Books) -> None:
    payment = watched.captured()

    def raises() -> Seen:
        raise RuntimeError

    watched.gateway.seen = None
    assert watched.look(payment) is Look.LATER
    watched.gateway.sees = raises
    assert watched.look(payment) is Look.LATER
    watched.gateway.sees = lambda: of(payment, refunded(name("re", payment), 500))
    assert watched.look(payment, time_s=1) is Look.LATER
    assert len(watched.gateway.looks) == 2
    assert check(books, payment)["status"] == "CAPTURED"


def test_with_too_little_time_no_operation_is_claimed(watched: Watched, books: Books) -> None:
    payment = begin(watched, "process", lose_reply)
    assert watched.look(payment, time_s=1) is Look.LATER
    assert books.operations(payment.payment_id)[0]["attempt"] == 1


def test_a_payment_that_another_gateway_took_is_not_looked_for_at_this_one(watched: Watched, books: Books) -> None:
    payment = begin(watched, "process", lose_reply)
    asked = len(watched.gateway.asked)
    watched.gateway.name = "another"
    assert watched.look(payment) is Look.NOTHING_NEW
    assert (watched.gateway.looks, len(watched.gateway.asked)) == ([], asked)
    assert books.operations(payment.payment_id)[0]["attempt"] == 1


# Others at work on the same payment.


class Interrupted(Database):
    """Does something else before it sends the statements that enter what the gateway did, each time that there is something."""

    def __init__(self, inner: Database, things: list[Callable[[], object]]) -> None:
        super().__init__(inner._connect)
        self.things = things

    def _flush(self, statements: Sequence[Bound]) -> list[list[Row]]:
        if statements[0].sql == outside.LOCK.sql and self.things:
            self.things.pop(0)()
        return super()._flush(statements)


Meanwhile = Callable[..., Watched]


@pytest.fixture
def interrupted(watched: Watched) -> Iterator[Meanwhile]:
    """`interrupted(*things)` is the shop in another environment, in whose looks the first environment does these things."""
    with contextlib.ExitStack() as stack:

        def made(*things: Callable[[Watched], object]) -> Watched:
            shop = watched.with_(db=Interrupted(Database.at(watched.url), [partial(do, watched) for do in things]))
            stack.callback(shop.close)
            return shop

        yield made


def test_a_refund_of_ours_that_begins_while_the_gateway_is_asked_is_known(watched: Watched, books: Books) -> None:
    payment = watched.captured()

    def sees() -> Seen:
        watched.refund(payment.transaction_id, amount=500)
        return shown(books, payment)

    watched.gateway.sees = sees
    assert watched.look(payment) is Look.NOTHING_NEW
    assert check(books, payment)["refunded_minor"] == 500


def test_a_refund_of_ours_in_between_is_counted_and_the_adoption_tries_again(
    watched: Watched, books: Books, interrupted: Meanwhile
) -> None:
    payment = watched.captured()
    busy = interrupted(*[lambda shop: shop.refund(payment.transaction_id, amount=300)] * 5)
    assert busy.look(payment, of(payment, refunded(name("re", payment), 499))) is Look.SETTLED
    row = check(books, payment)
    assert (row["status"], row["refunded_minor"]) == ("REFUNDED", 1999)
    assert len(watched.types(payment)) == 7


def test_a_refund_of_ours_that_takes_the_money_in_between_leaves_a_misfit_and_no_wrong_sum(
    watched: Watched, books: Books, interrupted: Meanwhile
) -> None:
    payment = watched.captured()
    busy = interrupted(lambda shop: shop.refund(payment.transaction_id))
    assert busy.look(payment, of(payment, refunded(name("re", payment), 500))) is Look.NOTHING_NEW
    assert check(books, payment)["refunded_minor"] == 1999


def test_two_who_look_at_once_adopt_once(watched: Watched, books: Books, interrupted: Meanwhile) -> None:
    payment = watched.captured()
    seen = of(payment, refunded(name("re", payment), 500))
    busy = interrupted(lambda shop: shop.look(payment, seen))
    assert busy.look(payment, seen) is Look.NOTHING_NEW
    assert check(books, payment)["refunded_minor"] == 500
    assert watched.types(payment) == ["payment.successful", "payment.refunded"]


def test_a_look_that_is_slow_does_not_enter_a_refund_that_has_failed_since(
    watched: Watched, books: Books, interrupted: Meanwhile
) -> None:
    """It saw the refund succeed. A faster look has seen it fail, and no further event will come."""
    payment = watched.captured()
    succeeded, failed = (of(payment, refunded(name("re", payment), 500, status)) for status in ("succeeded", "failed"))
    slow = interrupted(lambda shop: shop.look(payment, failed))
    slow.look(payment, succeeded)
    assert check(books, payment)["status"] == "CAPTURED"
    assert [refund["status"] for refund in books.refunds(payment.payment_id)] == ["FAILED"]


def test_a_payment_that_keeps_changing_is_for_later(watched: Watched, books: Books, interrupted: Meanwhile) -> None:
    payment = watched.captured()
    busy = interrupted(*[lambda shop: shop.refund(payment.transaction_id, amount=1)] * 20)
    assert busy.look(payment, of(payment, refunded(name("re", payment), 500))) is Look.LATER
    assert check(books, payment)["refunded_minor"] == 10


@pytest.mark.parametrize("kind", ["capture", "void"])
@pytest.mark.parametrize("sees", [canceled, lambda payment: of(payment, captured_minor=1999)], ids=["canceled", "captured"])
def test_a_capture_or_void_that_is_claimed_in_between_ends_the_authorization_and_not_the_look(
    watched: Watched, books: Books, interrupted: Meanwhile, kind: str, sees: Sees
) -> None:
    """Its claim does not change the payment, so the payment's version would not show it."""
    payment = watched.authorized()
    watched.gateway.answer = lose_reply
    busy = interrupted(lambda shop: getattr(shop, kind)(payment.transaction_id))
    assert busy.look(payment, sees(payment)) is Look.LATER
    assert check(books, payment)["status"] == "AUTHORIZED"
    watched.gateway.answer = approve
    assert watched.look(payment, held(payment)) is Look.SETTLED
    assert check(books, payment)["status"] == AFTER[kind]


def test_a_claim_that_is_not_committed_yet_is_waited_for(watched: Watched, books: Books, database: servers.Database) -> None:
    payment = watched.authorized()
    claims = """
        WITH payment AS (SELECT * FROM payments WHERE payment_id = :id FOR UPDATE)
        INSERT INTO operations (operation_id, owner, kind, payment_id, amount_minor, request_hash, gateway_key, attempt,
                                created_at, lease_until)
        SELECT payment_id, owner, 'void', payment_id, 1, '', :key, 1, now(), now() FROM payment
    """
    with contextlib.closing(connect(database.owner_url)) as claimer, ThreadPoolExecutor(1) as other:
        claimer.run("BEGIN")
        claimer.run(claims, id=payment.payment_id, key=name("void", payment))
        looking = other.submit(watched.look, payment, canceled(payment))
        while not books.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"):
            assert not looking.done()
        claimer.run("COMMIT")
        assert looking.result() is Look.LATER
    assert books.payment(payment.payment_id)["status"] == "AUTHORIZED"


def test_told_shuffled_and_from_threads_at_once_each_outcome_is_written_once(watched: Watched, books: Books) -> None:
    """Each look shows one of the moments that the gateway went through, as if it had begun then, and the last one the present."""
    for seed in range(5):
        payment = watched.captured()
        first, second, third = (name(f"re{n}", payment) for n in range(3))
        moments = [
            of(payment),
            of(payment, refunded(first, 500, "pending")),
            of(payment, refunded(first, 500)),
            of(payment, refunded(first, 500), refunded(second, 999)),
            of(payment, refunded(first, 500, "failed"), refunded(second, 999)),
            of(payment, refunded(first, 500, "failed"), refunded(second, 999), refunded(third, 1000)),
        ]
        chosen = random.Random(seed)
        told = [moment for moment in moments for _ in range(chosen.randint(1, 5))]
        chosen.shuffle(told)

        def look(number: int, told: Sequence[Seen] = told, payment: Payment = payment) -> Look:
            gateway = Dashboard(seen=told[number])
            elsewhere = watched.with_(db=Database.at(watched.url), gateway=gateway)
            try:
                return look_at(elsewhere.service, payment, Deadline.in_s(20))
            except (
                ServiceUnavailable
            ):  # On a busy machine so many may wait too long for one payment. The inbox looks again later.
                return Look.LATER
            finally:
                elsewhere.close()

        assert [one for one in at_once(len(told), look) if not isinstance(one, Look)] == []
        watched.look(payment, moments[-1])
        row = check(books, payment)
        assert (row["status"], row["refunded_minor"]) == ("REFUNDED", 1999)
        refunds = books.record("SELECT gateway_refund_id, status FROM refunds WHERE payment_id = :id", id=payment.payment_id)
        statuses = {refund["gateway_refund_id"]: refund["status"] for refund in refunds}
        assert len(statuses) == len(refunds)
        assert statuses.pop(first, "FAILED") == "FAILED"
        assert statuses == {second: "SUCCEEDED", third: "SUCCEEDED"}
        told_types = Counter(each["type"] for each in books.outbox(payment.payment_id))
        failed, entered_as_done = told_types["payment.refund_failed"], told_types["payment.refunded"] - 2
        assert 0 <= entered_as_done <= failed <= 1, "who saw it only after it had failed entered it as failed"
        assert told_types.keys() <= {"payment.successful", "payment.refunded", "payment.refund_failed"}


def test_an_end_of_an_authorization_is_written_once_from_threads_at_once(watched: Watched, books: Books) -> None:
    for sees, status in (canceled, "VOIDED"), (lambda p: of(p, captured_minor=900), "CAPTURED"):
        payment = watched.authorized()

        def look(_: int, payment: Payment = payment, sees: Sees = sees) -> Look:
            elsewhere = watched.with_(db=Database.at(watched.url), gateway=Dashboard(seen=sees(payment)))
            try:
                return look_at(elsewhere.service, payment, Deadline.in_s(20))
            finally:
                elsewhere.close()

        looks = at_once(8, look)
        assert sorted(Counter(looks).items()) == [(Look.NOTHING_NEW, 7), (Look.SETTLED, 1)]
        assert check(books, payment)["status"] == status
        assert len(books.operations(payment.payment_id)) == 2
