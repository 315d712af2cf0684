"""Answers stay small: Lambda returns 6 MB at most, and a payment has as many refunds as its shop makes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from payments.domain.dispute import MAX_WORD_CHARACTERS
from payments.domain.payment import PaymentStatus
from payments.domain.refund import RefundStatus, refund_body
from tests.api_client import Answer, Api, order
from tests.cases import case
from tests.fakes import approve, lose_reply
from tests.many_refunds import MANY, QUOTES, REFUND_MANY
from tests.servers import Database, Postgres
from tests.shop import Books, Shop

MB = 1_000_000
LAMBDA_RETURNS = 6 * 1024 * 1024


def size(answer: Answer) -> int:
    """Return the bytes of the answer as the function's runtime sends it (Python 3.13 escapes no letters)."""
    reply = {"statusCode": answer.status, "headers": dict(answer.headers), "body": answer.text, "isBase64Encoded": False}
    return len(json.dumps(reply, ensure_ascii=False).encode())


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Database:
    """A database of our own, because other tests read all rows of the shared one."""
    return postgres.new_database()


@pytest.fixture(scope="module")
def largest() -> dict[str, Any]:
    """The fields of a payment whose texts fill the largest body that we take."""
    fields = {"amount": 10 * MANY, "description": QUOTES, "metadata": {f"{n:02}{QUOTES[:38]}": QUOTES for n in range(14)}}
    left = 16 * 1024 - len(json.dumps(order(**fields), ensure_ascii=False).encode())
    assert 0 <= left < 2 * 1024
    return fields


@pytest.fixture
def paid(shop: Shop, books: Books, largest: dict[str, Any]) -> UUID:
    """A payment with thousands of refunds, two of each moment."""
    payment = shop.captured(**largest)
    for sql in REFUND_MANY:
        books.query(sql, id=payment.payment_id)
    return payment.payment_id


def pages(api: Api, path: str, owner: str, limit: int = 100) -> Iterator[Answer]:
    cursor = ""
    while True:
        page = api.get(path, owner=owner, query=f"limit={limit}{cursor}")
        assert page.body["has_more"] is (page.body["next_cursor"] is not None)
        yield page
        if not page.body["has_more"]:
            return
        cursor = f"&cursor={page.body['next_cursor']}"


def test_a_payment_with_thousands_of_refunds_is_read_in_bounded_answers(shop: Shop, books: Books, paid: UUID) -> None:
    api = Api(shop.service)
    all_of_them = [str(row["refund_id"]) for row in books.refunds(paid)]
    row = books.payment(paid)
    for path in (f"/payment/{paid}", f"/order/{row['order_id']}", f"/transaction/{row['transaction_id']}"):
        with case(path):
            found = api.get(path, owner=shop.owner)
            assert [refund["refund_id"] for refund in found.body["refunds"]] == all_of_them[-20:]
            assert found.body["has_more_refunds"] is True
            assert size(found) < 0.1 * MB
    listed = api.get("", owner=shop.owner)
    assert [refund["refund_id"] for refund in listed.body["data"][0]["refunds"]] == all_of_them[-5:]
    assert listed.body["data"][0]["has_more_refunds"] is True
    read = list(pages(api, f"/payment/{paid}/refunds", shop.owner))
    assert [refund["refund_id"] for page in read for refund in page.body["data"]] == all_of_them
    assert (len(read), max(map(size, read)) < 0.3 * MB) == (MANY / 100, True)
    told = list(pages(api, f"/payment/{paid}/history", shop.owner))
    assert len([entry for page in told for entry in page.body["data"]]) == len(books.history(paid)) > MANY
    assert max(map(size, told)) < 0.3 * MB
    for path in (f"/payment/{paid}/refunds", f"/payment/{paid}/history"):
        assert len(api.get(path, owner=shop.owner).body["data"]) == 20, "without parameters there is a first page too"


def test_a_payment_with_thousands_of_refunds_goes_on_like_any_other(shop: Shop, books: Books, paid: UUID) -> None:
    api, transaction_id = Api(shop.service), books.payment(paid)["transaction_id"]
    done = shop.refund(transaction_id, amount=7)
    assert done.refund and done.refund.status is RefundStatus.SUCCEEDED
    event = shop.publisher.published[-1]
    assert json.loads(event.data)["refund"] == refund_body(done.refund), "an event holds its own refund and no other"
    assert len(event.data.encode()) < 0.1 * MB
    shop.gateway.answer = lose_reply
    shop.refund(transaction_id, amount=8)
    assert api.get(f"/payment/{paid}", owner=shop.owner).body["refunds"][-1]["status"] == "PENDING"
    shop.hears_later(approve, books)
    refunds = api.get(f"/payment/{paid}", owner=shop.owner).body["refunds"]
    assert [(each["amount"], each["status"]) for each in refunds[-3:]] == [(1, "SUCCEEDED"), (7, "SUCCEEDED"), (8, "SUCCEEDED")]
    rest = shop.refund(transaction_id)
    assert rest.payment.status is PaymentStatus.REFUNDED


def test_the_largest_page_of_payments_fits_into_an_answer_of_lambda(shop: Shop, books: Books, largest: dict[str, Any]) -> None:
    first = shop.captured(**largest)
    columns = "owner, status, status_reason, amount_minor, currency, payment_method, capture_method, captured_minor, created_at"
    columns += ", description, metadata, updated_at, captured_at, version"
    books.query(
        f"INSERT INTO payments (payment_id, order_id, transaction_id, payment_intent_id, {columns})"
        " SELECT gen_random_uuid(), order_id || n, transaction_id || n, payment_intent_id || n,"
        f" {columns.replace('status,', repr('PENDING') + ',', 1).replace('captured_minor', '0')}"
        " FROM payments, generate_series(1, 99) n WHERE payment_id = :id",
        id=first.payment_id,
    )
    for version, status, captured in ((4, "PROCESSING", "0"), (5, "CAPTURED", "amount_minor")):
        books.query(
            f"UPDATE payments SET status = '{status}', captured_minor = {captured}, version = {version}"
            " WHERE owner = :owner AND payment_id <> :id",
            owner=shop.owner,
            id=first.payment_id,
        )
    books.query(
        "INSERT INTO refunds (refund_id, payment_id, owner, transaction_id, amount_minor, currency, status, reason, created_at,"
        " updated_at) SELECT gen_random_uuid(), payment_id, owner, transaction_id, 1, currency, 'SUCCEEDED', :reason,"
        " created_at, created_at FROM generate_series(1, 7) n, (SELECT * FROM payments WHERE owner = :owner) payment",
        owner=shop.owner,
        reason=QUOTES,
    )
    books.query(
        "INSERT INTO disputes (dispute_id, gateway, gateway_dispute_id, payment_id, owner, amount_minor, currency, reason,"
        " status, is_refundable, created_at, updated_at, version)"
        " SELECT gen_random_uuid(), n, left(:word, 64) || payment_id, payment_id, owner, 1, currency, :word, :word,"
        " true, created_at, created_at, 1"
        " FROM generate_series(1, 7) n, (SELECT * FROM payments WHERE owner = :owner) payment",
        owner=shop.owner,
        word=QUOTES[:MAX_WORD_CHARACTERS],
    )
    listed = Api(shop.service).get("", owner=shop.owner, query="limit=100")
    data = listed.body["data"]
    assert len(data) == 100
    assert {(len(each["refunds"]), each["has_more_refunds"]) for each in data} == {(5, True)}
    assert {(len(each["disputes"]), each["has_more_disputes"]) for each in data} == {(5, True)}
    assert {len(each["metadata"]) for each in data} == {14}
    assert 5 * MB < size(listed) < 6 * MB < LAMBDA_RETURNS


def encoded(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def test_a_cursor_of_another_payment_or_list_is_refused(shop: Shop) -> None:
    api = Api(shop.service)
    mine, other = (shop.captured(amount=100) for _ in range(2))
    for payment in (mine, other):
        for _ in range(2):
            shop.refund(payment.transaction_id, amount=1)

    def cursor(path: str) -> str:
        return str(api.get(path, owner=shop.owner, query="limit=1").body["next_cursor"])

    refunds, history, listed = (f"/payment/{mine.payment_id}/refunds", f"/payment/{mine.payment_id}/history", "")
    own = {path: cursor(path) for path in (refunds, history, listed)}
    others = {path: cursor(path.replace(str(mine.payment_id), str(other.payment_id))) for path in (refunds, history)}
    id_, at = mine.payment_id.hex, "2026-01-31T12:00:00+00:00"
    damaged = {
        refunds: [
            encoded(id_, at),
            encoded(at, id_),
            encoded(id_, at, 5),
            encoded(id_, at, id_, id_),
            encoded(id_, "infinity", id_),
        ],
        history: [
            encoded(id_),
            encoded(id_, "1"),
            encoded(id_, 1.5),
            encoded(id_, 2**31),
            encoded(id_, 10**30),
            encoded(id_, [1]),
        ],
        listed: [encoded(id_, at, id_), encoded(id_, 1)],
    }
    for path in (refunds, history, listed):
        assert api.get(path, owner=shop.owner, query=f"limit=1&cursor={own[path]}").status == 200
        foreign = [own[name] for name in own if name != path] + [others[name] for name in others if name == path]
        for wrong in [*foreign, *damaged[path], "x", "", own[path][:-3], encoded({}), "W10", "e30"]:
            with case(path, wrong):
                answer = api.get(path, owner=shop.owner, query=f"cursor={wrong}")
                assert (answer.code, answer.body["errors"][0]["location"]) == ("invalid_request", "query.cursor")
    for query in ("limit=0", "limit=101", "limit=x", f"cursor={'a' * 201}", "page=2"):
        for path in (refunds, history):
            assert api.get(path, owner=shop.owner, query=query).code == "invalid_request"
    assert api.get(refunds, owner="another", query=f"cursor={own[refunds]}").code == "payment_not_found"


def test_a_refund_that_is_made_while_the_pages_are_read_comes_last(shop: Shop) -> None:
    api, payment = Api(shop.service), shop.captured(amount=100)
    made = [shop.refund(payment.transaction_id, amount=amount).refund for amount in (1, 2, 3)]
    path, seen = f"/payment/{payment.payment_id}/refunds", list[int]()
    for number, page in enumerate(pages(api, path, shop.owner, limit=2)):
        seen += [refund["amount"] for refund in page.body["data"]]
        if number == 0:
            shop.refund(payment.transaction_id, amount=4)
    assert (seen, len(made)) == ([1, 2, 3, 4], 3)
