from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from payments.api.callers import Caller
from payments.api.lookups import (
    Found,
    Page,
    find,
    history,
    list_payments,
    refunds,
)
from payments.domain.errors import InvalidRequest, PaymentNotFound
from payments.domain.events import payment_body
from payments.domain.ids import uuid7
from payments.domain.payment import Payment, PaymentStatus
from payments.domain.scopes import Scope
from payments.gateway.port import Declined, GatewayRequest, Reply
from payments.store.lookups import ListFilter
from tests import servers
from tests.cases import case
from tests.fakes import decline
from tests.impossible_ids import IMPOSSIBLE_IDS
from tests.shop import Books, Shop

S = PaymentStatus
ADMIN = Caller("support", frozenset({Scope.ADMIN}))


def reader(shop: Shop) -> Caller:
    return Caller(shop.owner, frozenset({Scope.READ}))


LookUp = Callable[[Shop, Caller, Payment], object]

EVERY_LOOK_UP: list[LookUp] = [
    lambda shop, caller, payment: find(shop.service, caller, "payment_id", str(payment.payment_id)),
    lambda shop, caller, payment: find(shop.service, caller, "order_id", payment.order_id),
    lambda shop, caller, payment: find(shop.service, caller, "transaction_id", str(payment.transaction_id)),
    lambda shop, caller, payment: refunds(shop.service, caller, str(payment.payment_id), None, 20),
    lambda shop, caller, payment: history(shop.service, caller, str(payment.payment_id), None, 20),
]
NAMES = ["id", "order", "transaction", "refunds", "history"]
every_look_up = pytest.mark.parametrize("look_up", EVERY_LOOK_UP, ids=NAMES)


@every_look_up
def test_what_is_ones_own_is_found_and_the_admin_scope_finds_all(shop: Shop, look_up: LookUp) -> None:
    payment = shop.captured()
    for caller in (reader(shop), ADMIN):
        found = look_up(shop, caller, payment)
        assert found
        if isinstance(found, tuple):
            assert found == Found(payment, [], False, [], False)


@every_look_up
@pytest.mark.parametrize("scopes", [{Scope.READ}, {Scope.READ, Scope.WRITE, Scope.REFUND}])
def test_another_owners_payment_is_not_found(shop: Shop, database: servers.Database, look_up: LookUp, scopes: set[Scope]) -> None:
    other = Shop.on(database)
    payment = other.captured()
    with pytest.raises(PaymentNotFound) as refused:
        look_up(shop, Caller(shop.owner, frozenset(scopes)), payment)
    assert refused.value.extra == {}
    assert payment.order_id not in refused.value.detail
    other.close()


@pytest.mark.parametrize("name", ["payment_id", "order_id", "transaction_id", "refunds", "history"])
def test_an_id_that_is_not_there_or_cannot_be_is_not_found(lone_shop: Shop, name: Any) -> None:
    def look_up(caller: Caller, id_: str) -> object:
        if name in ("refunds", "history"):
            return {"refunds": refunds, "history": history}[name](lone_shop.service, caller, id_, None, 20)
        return find(lone_shop.service, caller, name, id_)

    lone_shop.captured()  # ADMIN sees every shop, and a shop of another test may have an order with such an id
    for form, id_ in ({"empty": ""} | IMPOSSIBLE_IDS).items():
        for caller in (reader(lone_shop), ADMIN):
            with case(form, caller), pytest.raises(PaymentNotFound):
                look_up(caller, id_)


@pytest.mark.parametrize("order_id", ["o 1", "注文\u30007", "\ue000", "é" * 64, "😀" * 64, "100 %", "' -- \\"])
def test_every_order_that_can_be_paid_can_be_found(shop: Shop, order_id: str) -> None:
    payment = shop.captured(order_id=order_id)
    assert find(shop.service, reader(shop), "order_id", order_id) == Found(payment, [], False, [], False)
    page = list_payments(shop.service, reader(shop), ListFilter(order_id=order_id), None, 10)
    assert page == Page([Found(payment, [], False, [], False)], None)


def test_a_payment_comes_with_its_refunds_in_their_order(shop: Shop) -> None:
    payment = shop.captured()
    first = shop.refund(payment.transaction_id, amount=500)
    shop.gateway.answer = decline
    second = shop.refund(payment.transaction_id, amount=1)
    expected = [refund for refund in (first.refund, second.refund) if refund]
    for found in (
        find(shop.service, reader(shop), "payment_id", str(payment.payment_id)),
        find(shop.service, reader(shop), "order_id", payment.order_id),
        find(shop.service, reader(shop), "transaction_id", str(payment.transaction_id)),
        list_payments(shop.service, reader(shop), ListFilter(), None, 10).data[0],
    ):
        assert found == Found(second.payment, expected, False, [], False)
    assert refunds(shop.service, reader(shop), str(payment.payment_id), None, 10) == Page(expected, None)


def test_an_order_shows_its_live_payment_else_its_latest(shop: Shop) -> None:
    def shown() -> UUID:
        return find(shop.service, reader(shop), "order_id", "o")[0].payment_id

    approve = shop.gateway.answer
    shop.gateway.answer = decline
    first = shop.captured(order_id="o")
    assert shown() == first.payment_id
    second = shop.captured(order_id="o")
    assert shown() == second.payment_id, "both failed, so the latest is shown"
    shop.gateway.answer = approve
    third = shop.authorized(order_id="o")
    assert shown() == third.payment_id
    shop.void(third.transaction_id)
    assert shown() == third.payment_id
    fourth = shop.captured(order_id="o")
    # A slow clock must not hide the live payment.
    earlier = shop.with_(clock=lambda: datetime.now(UTC) - timedelta(days=1))
    earlier.refund(fourth.transaction_id)
    assert shown() == fourth.payment_id
    old = earlier.captured(order_id="o-2")
    shop.gateway.answer = decline
    assert find(shop.service, reader(shop), "order_id", "o-2")[0].payment_id == old.payment_id


def test_a_live_payment_is_shown_even_when_a_failed_one_is_younger(shop: Shop, books: Books) -> None:
    live = shop.captured(order_id="o")
    shop.gateway.answer = decline
    failed = shop.captured(order_id="o-other")
    books.query("UPDATE payments SET order_id = 'o' WHERE payment_id = :id", id=failed.payment_id)
    assert failed.created_at > live.created_at
    assert find(shop.service, reader(shop), "order_id", "o")[0].payment_id == live.payment_id


def test_the_history_tells_a_payments_life(shop: Shop) -> None:
    payment = shop.authorized()
    shop.capture(payment.transaction_id)
    shop.refund(payment.transaction_id, amount=500)
    shop.refund(payment.transaction_id, amount=500)
    shop.refund(payment.transaction_id)
    told = history(shop.service, reader(shop), str(payment.payment_id), None, 20).data
    partly = "PARTIALLY_REFUNDED"
    assert [(change.from_status, change.to_status) for change in told] == [
        (None, "PENDING"),
        ("PENDING", "PROCESSING"),
        ("PROCESSING", "AUTHORIZED"),
        ("AUTHORIZED", "CAPTURED"),
        ("CAPTURED", partly),
        (partly, partly),
        (partly, "REFUNDED"),
    ]
    assert [change.at for change in told] == sorted(change.at for change in told)
    assert all(change.reason for change in told)


@pytest.mark.parametrize("code", ["stolen_card", "lost_card", "fraudulent"])
def test_neither_look_up_nor_history_tells_a_reader_that_a_card_is_stolen(shop: Shop, code: str) -> None:
    def confidential(action: str, request: GatewayRequest) -> Reply:
        return Declined(code, "Keep the card.", f"txn_{request.key}", f"pi_{request.key}", {})

    shop.gateway.answer = confidential
    payment = shop.process().payment
    found, *_ = find(shop.service, reader(shop), "payment_id", str(payment.payment_id))
    assert code not in json.dumps(payment_body(found))
    assert payment_body(found, confidential=True)["decline_code"] == code
    assert code not in str(history(shop.service, reader(shop), str(payment.payment_id), None, 20))


# Lists


def pages(
    shop: Shop, caller: Caller, which: ListFilter, limit: int, after_each: Callable[[], object] = lambda: None
) -> list[Page]:
    read = [list_payments(shop.service, caller, which, None, limit)]
    while cursor := read[-1].next_cursor:
        assert cursor not in [page.next_cursor for page in read[:-1]], "the pages repeat"
        after_each()
        read.append(list_payments(shop.service, caller, which, cursor, limit))
    return read


def ids(read: list[Page]) -> list[UUID]:
    return [payment.payment_id for page in read for payment, *_ in page.data]


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_a_list_is_read_page_by_page_newest_first(shop: Shop, limit: int, sizes: list[int]) -> None:
    made = [shop.captured().payment_id for _ in range(7)]
    read = pages(shop, reader(shop), ListFilter(), limit)
    assert [len(page.data) for page in read] == sizes
    assert ids(read) == made[::-1]


def test_a_list_without_payments_is_one_empty_page(shop: Shop) -> None:
    assert pages(shop, reader(shop), ListFilter(), 20) == [Page([], None)]


def test_pages_stay_correct_while_payments_are_made_and_changed(shop: Shop) -> None:
    made = [shop.captured() for _ in range(9)]

    def meanwhile() -> None:
        shop.captured()
        shop.refund(made[0].transaction_id, amount=1)

    read = pages(shop, reader(shop), ListFilter(), 2, meanwhile)
    assert ids(read) == [payment.payment_id for payment in reversed(made)]


def test_pages_stay_correct_while_another_invocation_keeps_writing(shop: Shop) -> None:
    made = [shop.captured().payment_id for _ in range(30)]
    writer, stop = shop.elsewhere(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            writer.captured()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(5):
            read = ids(pages(shop, reader(shop), ListFilter(), 4))
            assert len(set(read)) == len(read)
            assert [one for one in read if one in made] == made[::-1]
    finally:
        stop.set()
        writing.join()
        writer.close()


def test_payments_of_one_moment_are_neither_lost_nor_doubled_at_the_edge_of_a_page(shop: Shop) -> None:
    moment = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    frozen = shop.with_(clock=lambda: moment)
    made = {frozen.captured().payment_id for _ in range(7)}
    read = ids(pages(frozen, reader(shop), ListFilter(), 2))
    assert len(read) == 7
    assert set(read) == made
    assert read == sorted(read, reverse=True)


def test_a_list_shows_what_the_filter_says(shop: Shop) -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    minutes = iter(range(100))

    def at(minute: int) -> Shop:
        return shop.with_(clock=lambda: noon + timedelta(minutes=minute))

    made = [at(next(minutes)).captured(order_id=f"o-{number}") for number in range(5)]
    shop.refund(made[1].transaction_id)
    shop.gateway.answer = decline
    made.append(at(5).captured(order_id="o-5"))
    made.append(at(6).captured(order_id="o-5"))

    def numbers(**conditions: Any) -> list[int]:
        found = ids(pages(shop, reader(shop), ListFilter(**conditions), 2))
        return sorted(index for index, payment in enumerate(made) if payment.payment_id in found)

    assert numbers() == [0, 1, 2, 3, 4, 5, 6]
    assert numbers(order_id="o-5") == [5, 6]
    assert numbers(order_id="o-9") == []
    assert numbers(status=S.FAILED) == [5, 6]
    assert numbers(status=S.REFUNDED) == [1]
    assert numbers(status=S.CAPTURED) == [0, 2, 3, 4]
    assert numbers(created_from=noon + timedelta(minutes=3)) == [3, 4, 5, 6], "from is inclusive"
    assert numbers(created_to=noon + timedelta(minutes=3)) == [0, 1, 2], "to is exclusive"
    assert numbers(created_from=noon + timedelta(minutes=2), created_to=noon + timedelta(minutes=4)) == [2, 3]
    assert numbers(created_from=(noon + timedelta(minutes=3)).astimezone(timezone(timedelta(hours=-5)))) == [3, 4, 5, 6]
    assert numbers(created_from=noon, created_to=noon) == []
    assert numbers(status=S.CAPTURED, order_id="o-2", created_from=noon) == [2]
    assert numbers(status=S.FAILED, order_id="o-2") == []


@pytest.mark.parametrize("which", [ListFilter(), ListFilter(status=S.CAPTURED), ListFilter(order_id="same")])
def test_a_list_holds_ones_own_and_the_admin_scopes_holds_all(
    lone_shop: Shop, lone_database: servers.Database, which: ListFilter
) -> None:
    other = Shop.on(lone_database)
    own, foreign = lone_shop.captured(order_id="same"), other.captured(order_id="same")
    assert ids(pages(lone_shop, reader(lone_shop), which, 1)) == [own.payment_id]
    assert ids(pages(lone_shop, reader(other), which, 1)) == [foreign.payment_id]
    assert ids(pages(lone_shop, ADMIN, which, 1)) == [foreign.payment_id, own.payment_id]
    other.close()


def test_the_admin_scopes_range_is_exact_although_ids_bound_it(lone_shop: Shop) -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def made(at: datetime, id_at: datetime) -> Payment:
        def new_id() -> UUID:
            return UUID(int=int(id_at.timestamp() * 1000) << 80 | uuid7().int & (1 << 80) - 1)

        return lone_shop.with_(clock=lambda: at, new_id=new_id).captured()

    moments = [noon + timedelta(seconds=seconds) for seconds in (0, 1, 59, 61, 120, 3600)]
    payments = [made(at, at) for at in moments] + [made(at, at + timedelta(seconds=50)) for at in moments]
    for begin, end in product([None, *moments], repeat=2):
        which = ListFilter(created_from=begin, created_to=end)
        with case(begin, end):
            found = ids(pages(lone_shop, ADMIN, which, 3))
            fit = [p for p in payments if (begin is None or begin <= p.created_at) and (end is None or p.created_at < end)]
            assert found == sorted((p.payment_id for p in fit), reverse=True)


def test_a_cursor_does_not_open_another_owners_list(shop: Shop, database: servers.Database) -> None:
    other = Shop.on(database)
    for _ in range(3):
        other.captured()
    cursor = list_payments(shop.service, reader(other), ListFilter(), None, 1).next_cursor
    assert cursor is not None
    assert list_payments(shop.service, reader(shop), ListFilter(), cursor, 10) == Page([], None)
    other.close()


def locations(error: InvalidRequest) -> list[str]:
    errors = error.extra["errors"]
    assert isinstance(errors, list)
    return [one["location"] for one in errors]


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


ID, MOMENT = "019c139e-4c00-7a41-9b0f-2d6c31e0a7f1", "2026-01-31T12:00:00+00:00"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "====",
        "é",
        "\0",
        "null",
        "A" * 199,
        encoded(None),
        encoded(5),
        encoded("text"),
        encoded({}),
        encoded([]),
        encoded([MOMENT]),
        encoded([MOMENT, ID, ID]),
        encoded([MOMENT, 5]),
        encoded([MOMENT, None]),
        encoded([MOMENT, "x"]),
        encoded([5, ID]),
        encoded([None, ID]),
        encoded(["yesterday", ID]),
        encoded(["2026-01-31T12:00:00", ID]),
        encoded(["0001-01-01T00:00:00+14:00", ID]),
        encoded(["9999-12-31T23:59:59-14:00", ID]),
        encoded(["infinity", ID]),
        encoded([[MOMENT], ID]),
        encoded("[" * 60),
    ],
)
def test_a_cursor_that_no_page_gave_out_is_refused(shop: Shop, cursor: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        list_payments(shop.service, reader(shop), ListFilter(), cursor, 10)
    assert locations(refused.value) == ["query.cursor"]


@pytest.mark.parametrize("order_id", ["a\0b", "\ud800", "\n"])
def test_a_list_of_an_order_that_cannot_be_is_empty(shop: Shop, order_id: str) -> None:
    assert list_payments(shop.service, reader(shop), ListFilter(order_id=order_id), None, 10) == Page([], None)
