"""Rows that an older release has written: today's tables and rules judge what is new, and what is there stays usable."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pg8000.native
import pytest

from local.servers import connect
from payments.domain.ids import uuid7
from payments.domain.payment import PaymentStatus
from payments.scheduled.by_hand import NotSettled, settle_by_hand
from payments.store.rows import PAYMENT
from tests.api_client import ADMIN, Api, order
from tests.cases import case
from tests.domain.examples import payment, row_values
from tests.servers import Database, Postgres
from tests.shop import Books, Shop

S = PaymentStatus

OLD: dict[str, dict[str, Any]] = {
    "a currency that has left ISO 4217": {"currency": "BGN"},
    "a currency that never was in it": {"currency": "ZZZ"},
    "a currency that is no code": {"currency": "bitcoin"},
    "a method that is no longer accepted": {"payment_method": "cash"},
    "a decline code that we do not know": {"decline_code": "pickup_card", "error_message": None},
    "a decline message without a code": {"error_message": "no"},
    "an empty reason": {"status_reason": ""},
    "an odd reason": {"status_reason": "\u202eodd <b>"},
    "metadata that is a list": {"metadata": ["a"]},
    "metadata that is a text": {"metadata": "a"},
    "metadata that is a number": {"metadata": 7},
    "metadata that is null": {"metadata": None},
    "metadata in metadata": {"metadata": {"a": {"b": [1, None]}, "c": 10**30, "d": 1.5, "e": "ü"}},
    "a long description": {"description": "d" * 5000},
    "a customer that hides": {"customer_id": "c\u200b"},
    "a transaction that reorders": {"transaction_id": "ch/\u202e%2F"},
    "an order that reorders": {"order_id": "o\u202e7"},
    "an order in NFD": {"order_id": "e\u0301"},
    "an order with white space": {"order_id": " 7\u00a0"},
    "an order that is long": {"order_id": "o" * 200},
}


@pytest.fixture(scope="module")
def old_books(postgres: Postgres) -> Books:
    """A database without today's CHECKs on payments."""
    books = Books(postgres.new_database().owner_url)
    for (name,) in books.query("SELECT conname FROM pg_constraint WHERE conrelid = 'payments'::regclass AND contype = 'c'"):
        books.query(f"ALTER TABLE payments DROP CONSTRAINT {name}")
    return books


@pytest.fixture
def owner(old_books: Books) -> Iterator[pg8000.native.Connection]:
    with contextlib.closing(connect(old_books.owner_url)) as opened:
        yield opened


@pytest.fixture
def old_shop(old_books: Books, postgres: Postgres) -> Iterator[Shop]:
    url = postgres.service_url.rpartition("/")[0] + "/" + old_books.owner_url.rpartition("/")[2]
    opened = Shop.on(Database(old_books.owner_url, url))
    yield opened
    opened.close()


def insert(owner: pg8000.native.Connection, status: PaymentStatus, **values: Any) -> dict[str, Any]:
    """Write a payment past the triggers, with ids of its own unless the values name some."""
    payment_id = uuid7()
    ids = {"payment_id": payment_id, "order_id": f"order-{payment_id}", "capture_before": datetime.now(UTC) + timedelta(days=1)}
    if status is not S.PROCESSING:
        ids |= {"transaction_id": f"txn-{payment_id}", "payment_intent_id": f"pi-{payment_id}"}
    for name in ("order_id", "transaction_id"):
        if name in values:
            values[name] += payment_id.hex[-12:]
    row = row_values(payment(status)) | ids | values
    row["metadata"] = json.dumps(values.get("metadata", {}))
    owner.run("SET session_replication_role = replica")
    names = ", ".join(PAYMENT)
    owner.run(
        f"INSERT INTO payments ({names}) VALUES ({', '.join(f':{name}' for name in PAYMENT)})", **{n: row[n] for n in PAYMENT}
    )
    owner.run("SET session_replication_role = origin")
    return row


@pytest.mark.parametrize("name", OLD)
def test_every_look_up_shows_an_old_row(name: str, owner: pg8000.native.Connection, old_shop: Shop) -> None:
    api = Api(old_shop.service)
    for status in (S.PROCESSING, S.AUTHORIZED, S.CAPTURED, S.PARTIALLY_REFUNDED, S.REFUNDED, S.FAILED, S.VOIDED):
        with case(status):
            row = insert(owner, status, **OLD[name])
            paths = [f"/payment/{row['payment_id']}{part}" for part in ("", "/refunds", "/history")] + [
                f"/order/{row['order_id']}"
            ]
            paths += [f"/transaction/{row['transaction_id']}"] if row["transaction_id"] else []
            for scopes in ("payments/read", ADMIN):
                for path in paths:
                    assert api.get(path, scopes=scopes).status == 200
                assert api.get("", query="limit=1", scopes=scopes).body["data"][0]["payment_id"] == str(row["payment_id"])
            if len(row["order_id"]) <= 64:
                listed = api.get("", query=f"order_id={quote(row['order_id'])}").body["data"]
                assert str(row["payment_id"]) in {each["payment_id"] for each in listed}


@pytest.mark.parametrize("name", OLD)
def test_every_command_that_names_an_old_payment_works(name: str, owner: pg8000.native.Connection, old_shop: Shop) -> None:
    api = Api(old_shop.service)
    for command, amounts in (("capture", (2000, 1999)), ("void", (None,)), ("refund", (2000, 1, 1998))):
        status = S.CAPTURED if command == "refund" else S.AUTHORIZED
        row = insert(owner, status, **OLD[name])
        for amount in amounts:
            with case(command, amount):
                body = {"transaction_id": row["transaction_id"]} | ({} if amount is None else {"amount": amount})
                answer = api.post(command, body)
                assert answer.code == "amount_too_large" if amount == 2000 else answer.status < 300


@pytest.mark.parametrize("name", OLD)
def test_reconcile_settles_an_old_payment_and_voids_it_when_it_runs_out(
    name: str, owner: pg8000.native.Connection, old_shop: Shop, old_books: Books
) -> None:
    row = insert(owner, S.PROCESSING, **OLD[name])
    owner.run(
        """INSERT INTO operations (operation_id, owner, kind, payment_id, amount_minor, request_hash, gateway_key, attempt,
                                   lease_until, next_attempt_at, created_at)
           VALUES (:id, 'shop', 'process', :payment_id, 1999, 'h', :key, 1, now(), now(), now())""",
        id=uuid7(), payment_id=row["payment_id"], key=f"pay-{row['payment_id']}",
    )  # fmt: skip
    running_out = insert(owner, S.AUTHORIZED, **OLD[name] | {"capture_before": datetime.now(UTC)})
    done = old_shop.reconcile()
    assert (done.settled, done.expired) == (1, 1)
    assert old_books.payment(row["payment_id"])["status"] == S.CAPTURED
    assert old_books.payment(running_out["payment_id"])["status"] == S.VOIDED


def test_an_operation_of_a_kind_that_this_version_does_not_know_is_refused_by_hand(
    owner: pg8000.native.Connection, old_shop: Shop
) -> None:
    row, operation_id = insert(owner, S.CAPTURED), uuid7()
    owner.run(
        """INSERT INTO operations (operation_id, owner, kind, payment_id, amount_minor, request_hash, gateway_key, attempt,
                                   lease_until, created_at)
           VALUES (:id, 'shop', 'payout', :payment_id, 1, 'h', :key, 1, now(), now())""",
        id=operation_id, payment_id=row["payment_id"], key=str(operation_id),
    )  # fmt: skip
    with pytest.raises(NotSettled, match="has no command payout"):
        settle_by_hand(old_shop.service, {"operation_id": str(operation_id), "attempt": 1, "outcome": "succeeded", "by": "Kim"})
    owner.run("DELETE FROM operations WHERE operation_id = :id", id=operation_id)


def test_metadata_of_another_shape_is_shown_as_texts(owner: pg8000.native.Connection, old_shop: Shop) -> None:
    api, shown = Api(old_shop.service), {}
    for name, values in OLD.items():
        if "metadata" in values:
            row = insert(owner, S.FAILED, **values)
            shown[name.removeprefix("metadata ")] = api.get(f"/payment/{row['payment_id']}").body["metadata"]
    assert shown == {
        "that is a list": {"value": '["a"]'},
        "that is a text": {"value": "a"},
        "that is a number": {"value": "7"},
        "that is null": {},
        "in metadata": {"a": '{"b": [1, null]}', "c": str(10**30), "d": "1.5", "e": "ü"},
    }


@pytest.mark.parametrize("name", ["an order that reorders", "an order in NFD", "an order with white space"])
def test_an_old_order_is_found_and_not_paid_again_under_its_id(
    name: str, owner: pg8000.native.Connection, old_shop: Shop
) -> None:
    """The id is refused before anything is written, whether the order was paid or not."""
    api, row = (
        Api(old_shop.service),
        insert(owner, S.VOIDED, **OLD[name]),
    )
    assert api.get(f"/order/{row['order_id']}").status == 200
    assert api.post("process", order(order_id=row["order_id"])).code == "invalid_request"
