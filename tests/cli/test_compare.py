"""`payments compare`: the gateway's list beside a restored database, which knows only the first part of it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pg8000.native
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from local.servers import connect
from payments.commands.look import Look, look_at
from payments.commands.service import Deadline
from payments.domain.payment import Payment
from payments.gateway.port import Seen, SeenRefund
from payments_cli import books as restored_books
from payments_cli import compare
from payments_cli.compare import Comparison
from payments_cli.errors import Failed
from payments_cli.gateway_list import Movement, WrongList, movements
from tests.cli.terminal import Payments
from tests.fakes import Dashboard, approve, decline, lose_reply
from tests.servers import Database, Postgres, with_database
from tests.shop import Books, Shop

LIST = """
SELECT gateway_key AS key,
       CASE WHEN kind <> 'process' THEN kind WHEN capture_method = 'manual' THEN 'authorization' ELSE 'charge' END AS kind,
       operations.amount_minor AS amount, currency, transaction_id, operations.created_at AS at
FROM operations JOIN payments USING (payment_id) WHERE outcome = 'succeeded' ORDER BY operations.created_at
"""


@dataclass
class Loss:
    """`lost` has everything, `kept` what was there at the moment. `list` is what moved at the gateway."""

    lost: Database
    kept: Database

    @property
    def list(self) -> list[dict[str, Any]]:
        rows = Books(self.lost.owner_url).record(LIST)
        return [row | {"at": row["at"].isoformat()} for row in rows]

    def file(self, folder: Path, *more: dict[str, Any]) -> Path:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["key", "kind", "amount", "currency", "transaction_id", "at"])
        writer.writeheader()
        writer.writerows([*self.list, *more])
        (folder / "gateway.csv").write_text(text.getvalue())
        return folder / "gateway.csv"


class Loser:
    """Two databases: `moment()` makes the second one, a copy of the first as it is then."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres, self.first = postgres, postgres.new_database()
        self.shop = Shop.on(self.first)

    def moment(self) -> Loss:
        self.shop.close()
        name = self._postgres._create(self.first.owner_url.rpartition("/")[2])
        urls = (with_database(url, name) for url in (self.first.owner_url, self.first.service_url))
        return Loss(self.first, Database(*urls))


@pytest.fixture
def loser(postgres: Postgres) -> Iterator[Loser]:
    made = Loser(postgres)
    yield made
    made.shop.close()


class DataApi:
    """Plays RDS's Data API on PostgreSQL: it has the same `:name` parameters and answers with typed values."""

    def __init__(self, url: str) -> None:
        self.connection = connect(url)

    def execute_statement(self, *, sql: str, parameters: list[dict[str, Any]], **where: str) -> dict[str, Any]:
        assert where == {"resourceArn": CLUSTER, "secretArn": SECRET, "database": "payments"}
        values = {each["name"]: next(iter(each["value"].values())) for each in parameters}
        try:
            [[value]] = self.connection.run(sql, **values)
        except pg8000.native.DatabaseError as error:
            said = {"Code": "DatabaseErrorException", "Message": f"ERROR: {error.args[0]['M']}; SQLState: {error.args[0]['C']}"}
            raise ClientError({"Error": said}, "ExecuteStatement") from None
        return {"records": [[{"longValue": value} if isinstance(value, int) else {"stringValue": value}]]}


CLUSTER = "arn:aws:rds:us-east-1:123456789012:cluster:payments"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:payments"


@pytest.fixture(params=["PostgreSQL", "Data API"])
def way(request: pytest.FixtureRequest) -> Iterator[Callable[[str], compare.Database]]:
    """`way(url)` is the database, reached in one of the two ways."""
    with contextlib.ExitStack() as stack:

        def reach(url: str) -> compare.Database:
            if request.param == "PostgreSQL":
                database = restored_books.Postgres(url)
                stack.callback(database._connection.close)
                return database
            played = DataApi(url)
            stack.callback(played.connection.close)
            return restored_books.DataApi(CLUSTER, SECRET, played)

        yield reach


def results(database: compare.Database, file: Path, *, enter: bool = False) -> tuple[list[tuple[str, str]], int]:
    comparison = Comparison.of(database, movements(file))
    found = [(each["result"], each["kind"]) for each in comparison.results(enter=enter)]
    return found, comparison.agreed


def test_what_the_database_lacks_is_entered_and_reconcile_settles_it_with_its_old_key(
    loser: Loser, way: Any, tmp_path: Path
) -> None:
    shop = loser.shop
    paid, authorized, voided, refunded = shop.captured(), shop.authorized(), shop.authorized(), shop.captured()
    loss = loser.moment()
    shop.refund(paid.transaction_id, amount=500)
    shop.refund(paid.transaction_id, amount=700)
    shop.capture(authorized.transaction_id, amount=900)
    shop.refund(authorized.transaction_id, amount=100)
    shop.void(voided.transaction_id)
    shop.refund(refunded.transaction_id)
    file, database = loss.file(tmp_path), way(loss.kept.service_url)

    looked, agreed = results(database, file)
    missing = [("missing", kind) for kind in ("refund", "refund", "capture", "void", "refund")]
    assert (sorted(looked), agreed) == (sorted([*missing, ("waits", "refund")]), 4)
    books = Books(loss.kept.owner_url)
    assert books.query("SELECT count(*) FROM operations WHERE outcome IS NULL") == [[0]], "without --enter nothing is written"

    entered, _ = results(database, file, enter=True)
    assert sorted(entered) == sorted([*(("entered", kind) for _, kind in missing), ("waits", "refund")])
    again, _ = results(database, file, enter=True)
    assert sorted(again) == sorted([*(("open", kind) for _, kind in missing), ("waits", "refund")]), "nothing is entered twice"

    second = Shop.on(loss.kept)
    second.reconcile()
    assert results(database, file, enter=True)[0] == [("entered", "refund")]
    second.reconcile()
    assert results(database, file) == ([], 10)
    assert sorted(second.gateway.keys) == sorted(
        each["key"] for each in loss.list if each["kind"] not in ("charge", "authorization")
    )
    assert set(second.gateway.attempts) == {2}, "reconcile repeats, it does not begin"
    for payment in (paid, authorized, voided, refunded):
        old, new = (Books(each.owner_url).payment(payment.payment_id) for each in (loss.lost, loss.kept))
        assert {name: new[name] for name in ("status", "captured_minor", "refunded_minor", "refund_reserved_minor")} == {
            name: old[name] for name in ("status", "captured_minor", "refunded_minor", "refund_reserved_minor")
        }
        old_refunds, new_refunds = (Books(each.owner_url).refunds(payment.payment_id) for each in (loss.lost, loss.kept))
        assert {(row["refund_id"], row["amount_minor"], row["status"]) for row in new_refunds} == {
            (row["refund_id"], row["amount_minor"], row["status"]) for row in old_refunds
        }
        assert len(books.outbox(payment.payment_id)) == len(Books(loss.lost.owner_url).outbox(payment.payment_id))
    second.close()


def test_a_charge_that_the_database_lacks_is_taken_back_as_far_as_it_was_not(loser: Loser, way: Any, tmp_path: Path) -> None:
    shop = loser.shop
    shop.captured()
    loss = loser.moment()
    whole, part, held, freed, captured = (
        shop.captured(),
        shop.captured(),
        shop.authorized(),
        shop.authorized(),
        shop.authorized(),
    )
    shop.refund(part.transaction_id, amount=1900)
    shop.void(freed.transaction_id)
    shop.capture(captured.transaction_id, amount=1000)
    database = way(loss.kept.service_url)
    comparison = Comparison.of(database, movements(loss.file(tmp_path)))
    wanted = {each["transaction_id"]: each["take_back"] for each in comparison.results(enter=True)}
    assert wanted == {
        whole.transaction_id: 1999,
        part.transaction_id: 99,
        held.transaction_id: 0,
        captured.transaction_id: 1000,
    }
    back = [
        # The operator's own calls at the gateway, with keys of their own or none.
        movement("", "refund", 1999, whole.transaction_id),
        movement("by-hand-1", "refund", 99, part.transaction_id),
        movement("", "void", 0, held.transaction_id),
        movement("", "refund", 1000, captured.transaction_id),
    ]
    found, agreed = results(database, loss.file(tmp_path, *back))
    assert (found, agreed) == ([], 13)


def movement(key: str, kind: str, amount: int, transaction_id: str | None) -> dict[str, Any]:
    return {
        "key": key,
        "kind": kind,
        "amount": amount,
        "currency": "USD",
        "transaction_id": transaction_id,
        "at": "2026-11-29T12:00:00Z",
    }


def test_what_is_open_is_left_to_reconcile_and_what_depends_on_it_waits(loser: Loser, way: Any, tmp_path: Path) -> None:
    shop = loser.shop
    shop.captured()
    shop.gateway.answer = lose_reply
    begun = shop.authorized()
    loss = loser.moment()
    shop.hears_later(approve, Books(loss.lost.owner_url))
    transaction = Books(loss.lost.owner_url).payment(begun.payment_id)["transaction_id"]
    shop.capture(transaction)
    file, database = loss.file(tmp_path), way(loss.kept.service_url)
    assert results(database, file, enter=True) == ([("open", "authorization"), ("waits", "capture")], 1)
    second = Shop.on(loss.kept)
    second.hears_later(approve, Books(loss.kept.owner_url))
    assert results(database, file, enter=True) == ([("entered", "capture")], 2)
    second.reconcile()
    assert results(database, file) == ([], 3)
    second.close()


def test_what_contradicts_the_database_is_told_and_never_entered(loser: Loser, way: Any, tmp_path: Path) -> None:
    shop = loser.shop
    paid, voided = shop.captured(), shop.void(shop.authorized().transaction_id).payment
    shop.gateway.answer = decline
    refused = shop.captured()
    declined_key = shop.gateway.keys[-1]
    loss = loser.moment()
    more = [
        movement(declined_key, "charge", 1999, refused.transaction_id),
        movement("ref-019c0000-0000-7000-8000-000000000001", "refund", 2000, paid.transaction_id),
        movement("refunded in the gateway's console", "refund", 5, paid.transaction_id),
        movement("capture-019c0000-0000-7000-8000-000000000002", "capture", 5, voided.transaction_id),
        movement("capture-019c0000-0000-7000-8000-000000000003", "capture", 5, "txn_of_nobody"),
    ]
    file, database = loss.file(tmp_path, *more), way(loss.kept.service_url)
    found, _ = results(database, file, enter=True)
    assert found == [("differs", each["kind"]) for each in more]
    changed = loss.list
    changed[0]["amount"] -= 1
    assert results(database, written(tmp_path, changed))[0][0] == ("differs", changed[0]["kind"])


def look(shop: Shop, payment: Payment, **seen: Any) -> None:
    """Look at what the gateway did with a payment of 19.99 USD by itself."""
    state: Any = {"state": "captured", "captured_minor": 1999} | seen
    gateway = Dashboard(seen=Seen(transaction_id=payment.transaction_id, currency="USD", **state))
    assert look_at(shop.with_(gateway=gateway).service, payment, Deadline.in_s(20)) is Look.SETTLED


def refund_of(name: str, amount_minor: int, status: Any = "succeeded", key: str | None = None) -> list[SeenRefund]:
    return [SeenRefund(gateway_refund_id=name, key=key, amount_minor=amount_minor, status=status)]


def do_by_itself(shop: Shop, refunded: Payment, captured: Payment, canceled: Payment) -> None:
    look(shop, refunded, refunds=refund_of("re_1", 500))
    look(shop, captured, captured_minor=900)
    look(shop, canceled, state="canceled", captured_minor=0)


def test_what_the_gateway_did_by_itself_is_found_in_the_database(loser: Loser, way: Any, tmp_path: Path) -> None:
    shop = loser.shop
    payments = shop.captured(), shop.authorized(), shop.authorized()
    do_by_itself(shop, *payments)
    loss = loser.moment()
    intents = [payment.payment_intent_id for payment in payments[1:]]
    by_itself = ["gateway-refund-re_1", f"gateway-capture-{intents[0]}", f"gateway-void-{intents[1]}"]
    assert [row["key"] for row in loss.list[3:]] == by_itself, "as docs/operations.md asks for"
    assert results(way(loss.kept.service_url), loss.file(tmp_path), enter=True) == ([], 6)


def test_what_the_gateway_did_by_itself_and_the_database_lacks_is_entered_and_asked_for(
    loser: Loser, way: Any, tmp_path: Path
) -> None:
    shop = loser.shop
    payments = shop.captured(), shop.authorized(), shop.authorized()
    loss = loser.moment()
    do_by_itself(shop, *payments)
    file, database = loss.file(tmp_path), way(loss.kept.service_url)
    kinds = "refund", "capture", "void"
    assert results(database, file, enter=True) == ([("entered", kind) for kind in kinds], 3)
    books = Books(loss.kept.owner_url)
    books.query("UPDATE operations SET created_at = now() - interval '24 hours' WHERE outcome IS NULL")
    assert results(database, file, enter=True) == ([("open", kind) for kind in kinds], 3), (
        "no key is forgotten, for there is none"
    )
    second = Shop.on(loss.kept)
    second.gateway.found = approve
    assert second.reconcile().settled == 3
    assert results(database, file) == ([], 6)
    intents = [payment.payment_intent_id for payment in payments[1:]]
    asked = sorted((action, request.gateway_id) for action, request in second.gateway.asked)
    assert asked == sorted(("find", one) for one in ["re_1", *intents]), "nothing is sent"
    for payment in payments:
        old, new = (Books(each.owner_url) for each in (loss.lost, loss.kept))
        assert new.payment(payment.payment_id)["status"] == old.payment(payment.payment_id)["status"]
        origins = {each["kind"]: each["origin"] for each in new.operations(payment.payment_id)}
        assert {origin for kind, origin in origins.items() if kind != "process"} == {"gateway"}
        assert [one["origin"] for one in new.refunds(payment.payment_id)] == [
            one["origin"] for one in old.refunds(payment.payment_id)
        ]
    second.close()


def test_a_refund_that_failed_after_all_belongs_on_no_list(loser: Loser, way: Any, tmp_path: Path) -> None:
    shop = loser.shop
    paid = shop.captured()
    refund = shop.refund(paid.transaction_id, amount=500).refund
    assert refund
    look(shop, paid, refunds=refund_of("re_1", 500, "failed", f"ref-{refund.refund_id}"))
    loss = loser.moment()
    database = way(loss.kept.service_url)
    assert results(database, written(tmp_path, loss.list[:1])) == ([], 1)
    assert results(database, written(tmp_path, loss.list)) == ([("differs", "refund")], 1)


@pytest.mark.parametrize("kinds", [("charge",), ("refund",), ("capture", "authorization")], ids=" ".join)
def test_a_list_that_lacks_what_succeeded_is_told(
    kinds: tuple[str, ...], loser: Loser, way: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some gateways list charges and refunds apart."""
    shop = loser.shop
    paid = [shop.captured() for _ in range(3)]
    shop.refund(paid[1].transaction_id, amount=500)
    shop.capture(shop.authorized().transaction_id)
    shop.gateway.answer = decline
    shop.captured()  # no money moved, so no list has it
    loss = loser.moment()
    monkeypatch.setattr(compare, "SUCCEEDED", compare.SUCCEEDED.replace("LIMIT 200", "LIMIT 2"))
    listed = [row for n, row in enumerate(loss.list) if n == 0 or row["kind"] not in kinds]
    lacks = [row for row in loss.list if row not in listed]
    found = [*Comparison.of(way(loss.kept.service_url), movements(written(tmp_path, listed))).results(enter=False)]
    assert [(each["result"], each["kind"], each["key"]) for each in found] == [
        ("unlisted", row["kind"], row["key"]) for row in lacks
    ]
    assert lacks
    assert results(way(loss.kept.service_url), written(tmp_path, loss.list[2:]))[0] == [], "what came before the list is no part"


def test_the_currency_and_the_transaction_are_compared(loser: Loser, way: Any, tmp_path: Path) -> None:
    paid, other = loser.shop.captured(), loser.shop.captured()
    loss = loser.moment()
    loser.shop.refund(paid.transaction_id, amount=500)
    charge, second, refund = loss.list
    database = way(loss.kept.service_url)
    found, _ = results(
        database, written(tmp_path, [charge | {"currency": "JPY"}, second, refund | {"currency": "EUR"}]), enter=True
    )
    assert found == [("differs", "charge"), ("differs", "refund")]
    swapped = [charge | {"transaction_id": other.transaction_id}, second | {"transaction_id": paid.transaction_id}]
    assert results(database, written(tmp_path, swapped))[0] == [("differs", "charge")] * 2


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write the list as JSON lines."""
    file = folder / "gateway.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_refunds_are_entered_within_what_was_captured(loser: Loser, way: Any, tmp_path: Path) -> None:
    """Another refund was made in the restored database. The gateway's does not fit any more, and a person decides."""
    paid = loser.shop.captured()
    loss = loser.moment()
    loser.shop.refund(paid.transaction_id, amount=1500)
    second = replace(Shop.on(loss.kept), owner=loser.shop.owner)
    second.refund(paid.transaction_id, amount=1000)
    second.close()
    assert results(way(loss.kept.service_url), loss.file(tmp_path), enter=True)[0] == [
        ("differs", "refund"),
        ("unlisted", "refund"),
    ]


def test_a_command_in_flight_on_the_payment_makes_the_entry_wait(loser: Loser, way: Any, tmp_path: Path) -> None:
    authorized = loser.shop.authorized()
    loss = loser.moment()
    loser.shop.capture(authorized.transaction_id)
    second = replace(Shop.on(loss.kept), owner=loser.shop.owner)
    second.gateway.answer = lose_reply
    second.void(authorized.transaction_id)
    second.close()
    assert results(way(loss.kept.service_url), loss.file(tmp_path), enter=True)[0] == [("waits", "capture")]


def test_an_operation_that_the_gateway_may_have_forgotten_is_for_a_person(loser: Loser, way: Any, tmp_path: Path) -> None:
    loser.shop.captured()
    loser.shop.gateway.answer = lose_reply
    loser.shop.captured()
    loss = loser.moment()
    loser.shop.hears_later(approve, Books(loss.lost.owner_url))
    Books(loss.kept.owner_url).query("UPDATE operations SET created_at = now() - interval '24 hours' WHERE outcome IS NULL")
    assert results(way(loss.kept.service_url), loss.file(tmp_path))[0] == [("by_hand", "charge")]


def test_a_list_of_another_database_enters_nothing(loser: Loser, way: Any, tmp_path: Path) -> None:
    paid = loser.shop.captured()
    loss = loser.moment()
    file = written(tmp_path, [movement("ref-019c0000-0000-7000-8000-000000000001", "refund", 5, paid.transaction_id)])
    with pytest.raises(WrongList, match="none of these keys"):
        results(way(loss.kept.service_url), file, enter=True)


def test_a_long_list_is_asked_in_parts(loser: Loser, way: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "BATCH", 3)
    for _ in range(7):
        loser.shop.captured()
    loss = loser.moment()
    assert results(way(loss.kept.service_url), loss.file(tmp_path)) == ([], 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "payout"}, "kind must be one of"),
        ({"amount": "19.99"}, "whole number"),
        ({"amount": "1_999"}, "whole number"),
        ({"amount": "+5"}, "whole number"),
        ({"amount": "\uff11\uff19"}, "whole number"),
        ({"currency": None}, "are texts"),
        ({"transaction_id": ["a"]}, "are texts"),
        ({"amount": 0}, "more than 0"),
        ({"amount": 19.99}, "line 1: .*19.99"),
        ({"amount": float("inf")}, "line 1: .*inf"),
        ({"at": "2026-11-29T12:00:00"}, "time zone"),
        ({"transaction_id": ""}, "the transaction has an id"),
        ({"at": None}, "line 1"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = written(tmp_path, [movement("pay-1", "charge", 5, "txn_1") | change])
    with pytest.raises(WrongList, match=said):
        movements(file)


@pytest.mark.parametrize("line", ["5", "[1]", '{"key": ', "[" * 100_000], ids=["a number", "a list", "cut off", "too deep"])
def test_a_line_that_is_no_object_is_named(line: str, tmp_path: Path) -> None:
    file = written(tmp_path, [movement("pay-1", "charge", 5, "txn_1")])
    file.write_text(f"{file.read_text().rstrip()}\n{line}\n")
    with pytest.raises(WrongList, match="line 2 is no JSON object"):
        movements(file)


def test_declined_lines_and_empty_files_move_nothing(tmp_path: Path) -> None:
    line = movement("pay-1", "charge", 5, "txn_1")
    assert len(movements(written(tmp_path, [line, line | {"result": "declined"}, line | {"result": "approved"}]))) == 2
    for rows in ([], [line | {"result": "declined"}]):
        with pytest.raises(WrongList, match="no approved line"):
            movements(written(tmp_path, rows))
    (tmp_path / "headless.csv").write_text("a,b\n1,2\n")
    with pytest.raises(WrongList, match="line 2 has no 'at'"):
        movements(tmp_path / "headless.csv")
    assert isinstance(movements(written(tmp_path, [line]))[0], Movement)


def test_the_command_says_what_there_is_to_do(loser: Loser, payments_alone: Payments, tmp_path: Path) -> None:
    paid = loser.shop.captured()
    loss = loser.moment()
    loser.shop.refund(paid.transaction_id, amount=500)
    lost = loser.shop.captured()
    file = str(loss.file(tmp_path))
    where = ("--database-url", loss.kept.service_url)
    looked = payments_alone("compare", file, *where)
    assert looked.exit_code == 1
    assert f"missing    refund  5.00 USD  {paid.transaction_id}" in looked.out
    assert f"take back  charge  19.99 USD  {lost.transaction_id}" in looked.out
    assert "refund 1999 at the gateway" in looked.out
    entered = payments_alone("compare", file, *where, "--enter", "--json")
    assert [json.loads(line).get("result") for line in entered.out.splitlines()] == ["entered", "take_back", None]
    assert json.loads(entered.out.splitlines()[-1]) == {"agreed": 1, "entered": 1, "take_back": 1}
    without = payments_alone("compare", file)
    assert (without.exit_code, "--cluster-arn" in without.err) == (2, True)
    nowhere = payments_alone("compare", file, "--database-url", "postgresql://me:canary@127.0.0.1:1/payments")
    assert nowhere.exit_code == 5
    assert "canary" not in nowhere.err
    for password in ("canary/x", "x@canary/y", "x@canary#y", "x@y?canary=1"):
        unencoded = payments_alone("compare", file, "--database-url", f"postgresql://me:{password}@127.0.0.1:1/payments")
        assert unencoded.exit_code == 2
        assert "percent encoding" in unencoded.err
        assert "canary" not in unencoded.out + unencoded.err


def test_what_the_data_api_refuses_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    client = boto3.client("rds-data", region_name="us-east-1")
    stub = Stubber(client)
    stub.add_response("execute_statement", {"records": [[{"stringValue": "[]"}]]})
    stub.add_client_error("execute_statement", "ForbiddenException", "not yours")
    stub.activate()
    database = restored_books.DataApi(CLUSTER, SECRET, client)
    assert database.value("SELECT :a", a=1, b="two") == "[]"
    with pytest.raises(Failed, match="refused a statement") as error:
        database.value("SELECT 1")
    assert (error.value.exit_code, error.value.problem["code"]) == (1, "ForbiddenException")
