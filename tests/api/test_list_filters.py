"""The filters of a list: each alone, each with each other, on pages that a bounded look-up cuts short."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from urllib.parse import quote
from uuid import UUID

import pytest

from bench.fill import fill
from payments.domain.payment import Payment, PaymentStatus
from payments.store.lookups import SCANNED, ListFilter, list_payments
from tests import servers
from tests.api_client import ADMIN, Api
from tests.cases import case
from tests.fakes import approve, decline
from tests.servers import Postgres
from tests.shop import Shop

S = PaymentStatus


def _fits(payment: Payment, which: ListFilter) -> bool:
    equal = ("order_id", "customer_id", "status", "payment_method", "currency")
    return (
        all(getattr(which, name) in (None, getattr(payment, name)) for name in equal)
        and (which.amount_from or 0) <= payment.amount_minor <= (which.amount_to or payment.amount_minor)
        and (which.created_from is None or which.created_from <= payment.created_at)
        and (which.created_to is None or payment.created_at < which.created_to)
    )


@pytest.fixture
def two_shops(lone_shop: Shop, lone_database: servers.Database) -> Iterator[tuple[list[str], list[Payment]]]:
    """Two owners, whose orders and customers have the same names, and all their payments."""
    other = Shop.on(lone_database)
    made: list[Payment] = []
    kinds = product(("guest", "rare", None), ("paypal", "stripe"), ((500, "USD"), (2000, "USD"), (2000, "JPY")))
    for number, (customer, method, (amount, currency)) in enumerate(kinds):
        for shop in (lone_shop, other):
            shop.gateway.answer = decline if number % 5 == 4 else approve
            order = "o-1" if number % 5 == 4 else f"order-{number}"
            made.append(
                shop.captured(order_id=order, customer_id=customer, payment_method=method, amount=amount, currency=currency)
            )
    yield [lone_shop.owner, other.owner], made
    other.close()


FILTERS = list(
    product(
        (None, "o-1"),
        (None, "guest", "rare"),
        (None, S.CAPTURED, S.FAILED),
        (None, "paypal"),
        (None, "JPY"),
        ((None, None), (500, 1999), (2000, None), (None, 500)),
        (False, True),
    )
)


def test_every_combination_of_filters_finds_what_fits_page_by_page(
    lone_shop: Shop, two_shops: tuple[list[str], list[Payment]]
) -> None:
    owners, made = two_shops
    begin, end = made[4].created_at, made[-4].created_at
    for order_id, customer_id, status, method, currency, (low, high), between in random.Random(30).sample(FILTERS, 80):
        which = ListFilter(
            order_id=order_id, customer_id=customer_id, status=status, payment_method=method, currency=currency,
            amount_from=low, amount_to=high, created_from=begin if between else None, created_to=end if between else None,
        )  # fmt: skip
        for owner, scanned in product((owners[0], None), (1, 5, SCANNED)):
            fit = [p for p in made if owner in (None, p.owner) and _fits(p, which)]
            with case(owner, which, scanned):
                assert list(_walk(lone_shop, owner, which, scanned)) == sorted((p.payment_id for p in fit), reverse=True)


def _walk(shop: Shop, owner: str | None, which: ListFilter, scanned: int) -> Iterator[UUID]:
    while True:
        found, gave_up_at = list_payments(shop.service.db, owner, which, 3, scanned)
        assert len(found) <= 3
        yield from (payment.payment_id for payment in found)
        last = gave_up_at or (found[-1] if len(found) == 3 else None)
        if last is None:
            return
        which = replace(which, after_time=last.created_at, after_id=last.payment_id)


def test_the_admin_scopes_page_of_a_customer_is_full(lone_shop: Shop, two_shops: tuple[list[str], list[Payment]]) -> None:
    _, made = two_shops
    found, _ = list_payments(lone_shop.service.db, None, ListFilter(customer_id="rare"), 11)
    assert [p.payment_id for p in found] == sorted((p.payment_id for p in made if p.customer_id == "rare"), reverse=True)[:11]


@pytest.fixture(scope="module")
def thirty_shops(postgres: Postgres) -> Iterator[Shop]:
    """A shop beside thirty others. Each of these has twenty payments, and five of a customer `guest`."""
    database = postgres.new_database()
    fill(database.owner_url, 600, owners=30)
    shop = Shop.on(database)
    yield shop
    shop.close()


@pytest.mark.parametrize("scanned", [10, 31, 100, SCANNED])
def test_the_admin_scope_finds_a_customer_of_thirty_owners_page_by_page(thirty_shops: Shop, scanned: int) -> None:
    """Of more owners than it may read it goes through all payments. Else it reads those of three owners for a page of three."""
    made, _ = list_payments(thirty_shops.service.db, None, ListFilter(), 600)
    begin, end = made[450].created_at, made[150].created_at
    for checked in {}, {"status": S.FAILED}, {"payment_method": "paypal"}, {"created_from": begin, "created_to": end}:
        which = replace(ListFilter(customer_id="guest"), **checked)
        with case(which):
            read = list(_walk(thirty_shops, None, which, scanned))
            assert read == [payment.payment_id for payment in made if _fits(payment, which)] != []


@pytest.fixture(scope="module")
def large(postgres: Postgres) -> servers.Database:
    """Two owners have each a few payments more than one page may read. None is paid with stripe."""
    database = postgres.new_database()
    fill(database.owner_url, 2 * (SCANNED + 50), owners=2)
    return database


@pytest.fixture
def large_api(large: servers.Database) -> Iterator[Api]:
    shop = Shop.on(large)
    yield Api(shop.service)
    shop.close()


@pytest.mark.parametrize("filters", ["payment_method=stripe", "amount_from=2000", "currency=EUR&amount_to=1998"])
def test_a_filter_that_nothing_fits_gives_an_empty_page_and_a_cursor_to_the_end(large_api: Api, filters: str) -> None:
    first = large_api.get("", owner="owner-0", query=filters).body
    assert (first["data"], first["has_more"]) == ([], True)
    second = large_api.get("", owner="owner-0", query=f"{filters}&cursor={first['next_cursor']}").body
    assert second == {"data": [], "has_more": False, "next_cursor": None}


def test_the_admin_scope_reads_as_many_for_a_page(large_api: Api) -> None:
    answers, cursor = 0, ""
    while True:
        page = large_api.get("", owner="support", scopes=ADMIN, query=f"payment_method=stripe{cursor}").body
        answers, cursor = answers + 1, f"&cursor={page['next_cursor']}"
        assert page["data"] == []
        if not page["has_more"]:
            break
    assert answers == 3, "4,100 payments, 2,000 a page"


def test_a_filter_that_many_fit_fills_its_pages(large_api: Api) -> None:
    seen, cursor = list[str](), ""
    while True:
        page = large_api.get("", owner="owner-0", query="payment_method=paypal&limit=100" + cursor).body
        seen += [payment["payment_id"] for payment in page["data"]]
        assert {payment["payment_method"] for payment in page["data"]} == {"paypal"}
        assert len(page["data"]) == 100 or not page["has_more"]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == 683
    assert seen == sorted(seen, reverse=True)


def test_another_owners_customer_of_the_same_name_is_neither_found_nor_counted(large_api: Api) -> None:
    """A page that another owner's payments had shortened would tell that there are some."""
    assert large_api.get("", owner="new-shop", query="customer_id=guest&payment_method=stripe").body == {
        "data": [],
        "has_more": False,
        "next_cursor": None,
    }


def test_a_range_is_inclusive_and_of_the_amount_that_was_asked_for(api: Api) -> None:
    owner = "ranger"
    paid = [
        api.pay(owner=owner, amount=amount, currency=currency)
        for amount, currency in ((999, "USD"), (1000, "USD"), (1000, "JPY"))
    ]
    api.post("refund", {"payment_id": paid[1]["payment_id"], "amount": 500}, owner=owner)

    def found(query: str) -> list[int]:
        ids = [payment["payment_id"] for payment in api.get("", owner=owner, query=query).body["data"]]
        return [number for number, payment in enumerate(paid) if payment["payment_id"] in ids]

    assert found("amount_from=1000&amount_to=1000") == [1, 2], "in any currency"
    assert found("amount_from=1000&amount_to=1000&currency=USD") == [1]
    assert found("amount_to=999") == [0]
    assert found("amount_from=0&amount_to=999999999999") == [0, 1, 2]
    assert found("currency=JPY") == [2]
    assert found("currency=XXX") == []
    assert found("amount_from=1001") == []


def test_customers_are_found_by_their_id_as_it_is(api: Api) -> None:
    for customer in ("客 7", "a/b", "a%2Fb", "CAPTURED", "' --"):
        paid = api.pay(owner="keeper", customer_id=customer)
        with case(customer):
            [found] = api.get("", owner="keeper", query=f"customer_id={quote(customer, safe='')}").body["data"]
            assert (found["payment_id"], found["customer_id"]) == (paid["payment_id"], customer)
            assert api.get("", owner="stranger", query=f"customer_id={quote(customer, safe='')}").body["data"] == []
