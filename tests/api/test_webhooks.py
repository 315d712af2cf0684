"""Webhooks as their owner registers them: the routes, the limits, the secrets, and what another owner sees of them."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contract import plans
from local.servers import connect
from payments.commands.look import Look, look_at
from payments.commands.service import Deadline, Service
from payments.domain.ids import uuid7
from payments.gateway.port import Seen, SeenRefund
from payments.store import outside, webhooks
from payments.store.connection import Statement
from payments.webhooks.target import TargetRefused, target_of
from tests.api_client import WEBHOOKS, Answer, Api, order
from tests.cases import case
from tests.fakes import Dashboard
from tests.seen_disputes import disputed, present
from tests.servers import Database
from tests.shop import Books


@pytest.fixture
def owner() -> str:
    return f"shop-{uuid7()}"


def created(api: Api, owner: str, url: str = "https://shop.example.com/payments", **fields: object) -> Answer:
    return api.call("POST", WEBHOOKS, {"url": url} | fields, owner=owner)


def test_a_webhook_is_registered_listed_looked_up_and_deleted(api: Api, owner: str) -> None:
    answer = created(api, owner, description="orders", event_types=["payment.failed"])
    assert answer.status == 201
    secret, webhook = answer.body["secret"], {name: value for name, value in answer.body.items() if name != "secret"}
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert (webhook["url"], webhook["description"]) == ("https://shop.example.com/payments", "orders")
    assert (webhook["event_types"], webhook["waiting"], webhook["failed"]) == (["payment.failed"], 0, 0)
    assert api.call("GET", WEBHOOKS, owner=owner).body == {"data": [webhook]}
    path = f"{WEBHOOKS}/{webhook['webhook_id']}"
    assert api.call("GET", path, owner=owner).body == webhook
    assert api.call("DELETE", path, owner=owner).status == 204
    assert api.call("DELETE", path, owner=owner).code == "webhook_not_found"
    assert api.call("GET", path, owner=owner).code == "webhook_not_found"
    assert api.call("GET", WEBHOOKS, owner=owner).body == {"data": []}


def test_a_secret_is_shown_when_it_is_made_and_never_again(api: Api, owner: str) -> None:
    webhook = created(api, owner).body
    path, secrets = f"{WEBHOOKS}/{webhook['webhook_id']}", {webhook["secret"]}
    rotated = api.call("POST", f"{path}/rotate", owner=owner)
    secrets.add(rotated.body["secret"])
    assert len(secrets) == 2
    until = datetime.fromisoformat(rotated.body["previous_until"])
    assert timedelta(hours=23) < until - datetime.now(until.tzinfo) <= timedelta(hours=24)
    others = [
        api.call("GET", path, owner=owner),
        api.call("GET", WEBHOOKS, owner=owner),
        api.call("POST", f"{path}/enable", owner=owner),
        api.call("POST", f"{path}/redeliver", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}, owner=owner),
        api.call("POST", f"{path}/redeliver", {"event_id": str(uuid4())}, owner=owner),
        created(api, owner),
        api.call("DELETE", path, owner=owner),
    ]
    for answer in others:
        assert not any(secret[6:20] in answer.text for secret in secrets)


def test_nobody_sees_or_touches_the_webhooks_of_another_owner(api: Api, owner: str) -> None:
    webhook = created(api, owner).body
    path = f"{WEBHOOKS}/{webhook['webhook_id']}"
    assert api.call("GET", WEBHOOKS, owner="somebody-else").body == {"data": []}
    for method, at, body in [
        ("GET", path, None),
        ("DELETE", path, None),
        ("POST", f"{path}/rotate", None),
        ("POST", f"{path}/enable", None),
        ("POST", f"{path}/redeliver", {"event_id": str(uuid4())}),
        ("POST", f"{path}/redeliver", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}),
    ]:
        with case(method, at):
            answer = api.call(method, at, body, owner="somebody-else")
            assert (answer.status, answer.code) == (404, "webhook_not_found")
    same = api.call("GET", path, owner=owner).body
    assert same == {name: value for name, value in webhook.items() if name != "secret"}


@pytest.mark.parametrize("scopes", ["payments/write payments/refund payments/read", "payments/admin"])
def test_only_the_scope_for_webhooks_opens_them(scopes: str, api: Api, owner: str) -> None:
    for method, path, body in [("GET", WEBHOOKS, None), ("POST", WEBHOOKS, {"url": "https://shop.example.com/"})]:
        assert api.call(method, path, body, owner=owner, scopes=scopes).code == "forbidden"
    assert api.call("GET", WEBHOOKS, owner=None).code == "unauthenticated"


def test_an_url_is_registered_once_and_an_owner_has_ten_webhooks(api: Api, owner: str) -> None:
    assert created(api, owner).status == 201
    assert created(api, owner).code == "webhook_conflict"
    for number in range(webhooks.MOST - 1):
        assert created(api, owner, f"https://shop.example.com/{number}").status == 201
    assert created(api, owner, "https://shop.example.com/more").code == "webhook_conflict"
    assert created(api, "somebody-else-" + owner).status == 201


REFUSED = [
    "http://shop.example.com/",
    "ftp://shop.example.com/",
    "https://localhost/",
    "http://localhost:8000/",
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://0x7f.0.0.1/",
    "https://1.1.1.1/",
    "https://[::1]/",
    "https://[2606:4700::1111]/",
    "https://shop.example.com:22/",
    "https://shop.example.com:8080/",
    "https://user:password@shop.example.com/",
    "https://shop.example.com@127.0.0.1/",
    "https://shop.example.com#@127.0.0.1/",
    "https://shop.example.com\\@127.0.0.1/",
    "https://shop.example.com?x=1",
    "https://shop.example.com/a b",
    "https://shop.example.com/#there",
    "https://shop.example.com./",
    "https://shöp.example.com/",
    # Without regard to case, these are an s and a k too.
    "http\u017f://shop.example.com/",
    "https://\u017fhop.example.com/",
    "https://shop.example.com/\u212a",
    "https://shop.example.com/\r\nHost: internal",
    "https://" + "a" * 64 + ".example.com/",
    "https://.example.com/",
    "//shop.example.com/",
    "shop.example.com",
    "",
    "https://shop.example.com/" + "a" * 500,
]


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_that_is_not_https_on_the_public_internet_is_refused(url: str, api: Api, owner: str) -> None:
    answer = created(api, owner, url)
    assert (answer.status, answer.code) == (422, "invalid_request")
    [error] = answer.body["errors"]
    assert error["location"] == "body.url"
    assert api.call("GET", WEBHOOKS, owner=owner).body == {"data": []}


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"),
        *("198.18.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"),
        *("2001:db8::1", "2002:a00:1::", "2001:0:a00:1::", "64:ff9b:1::1"),
    ],
)
def test_a_name_that_leads_into_a_network_of_ours_is_refused(address: str, service: Service, owner: str) -> None:
    def resolve(host: str, port: int) -> list[Any]:
        assert (host, port) == ("shop.example.com", 443)
        return [(0, 0, 0, "", ("1.1.1.1", port)), (0, 0, 0, "", (address, port))]

    answer = created(Api(service, resolve=resolve), owner)
    assert answer.body["errors"] == [{"location": "body.url", "message": "leads to no public address"}]


def test_a_name_that_nobody_has_is_refused_in_the_same_words(service: Service, owner: str) -> None:
    """Who could tell it from a name of our network would learn what that has."""

    def resolve(host: str, port: int) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME)

    answer = created(Api(service, resolve=resolve), owner)
    assert answer.body["errors"] == [{"location": "body.url", "message": "leads to no public address"}]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://shop.example.com", (True, "shop.example.com", 443, "/")),
        ("HTTPS://Shop.Example.com:8443/A?b=%2F", (True, "shop.example.com", 8443, "/A?b=%2F")),
        ("https://xn--shp-sna.example.com/", (True, "xn--shp-sna.example.com", 443, "/")),
    ],
)
def test_a_public_address_has_these_parts(url: str, parts: tuple[bool, str, int, str]) -> None:
    target = target_of(url)
    assert (target.is_tls, target.host, target.port, target.path) == parts


def test_this_machine_is_an_address_of_a_local_run_alone() -> None:
    for url in ("http://localhost:9000/hook", "http://127.0.0.1:9000"):
        assert target_of(url, is_local=True).port == 9000
        with pytest.raises(TargetRefused):
            target_of(url)
    with pytest.raises(TargetRefused):
        target_of("http://10.0.0.1:9000/", is_local=True)


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"event_types": []}, "body.event_types"),
        ({"event_types": ["payment.refused"]}, "body.event_types.0"),
        ({"event_types": ["payment.paid"]}, "body.event_types.0"),
        ({"event_types": "payment.failed"}, "body.event_types"),
        ({"description": ""}, "body.description"),
        ({"secret": "whsec_mine"}, "body.secret"),
        ({"url": 1}, "body.url"),
    ],
)
def test_other_wrong_fields_are_named(fields: dict[str, Any], location: str, api: Api, owner: str) -> None:
    answer = api.call("POST", WEBHOOKS, {"url": "https://shop.example.com/"} | fields, owner=owner)
    assert (answer.status, [error["location"] for error in answer.body["errors"]]) == (422, [location])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from": "2026-01-01T00:00:00Z"},
        {"to": "2026-01-01T00:00:00Z"},
        {"event_id": str(uuid4()), "from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"event_id": "one"},
        {"event_id": 1},
        {"from": 1767225600, "to": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-01", "to": "2026-01-02"},
        {"from": "2026-01-01T00:00:00", "to": "2026-01-02T00:00:00"},
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T23:59:59Z"},
    ],
)
def test_a_redelivery_is_of_one_event_or_of_a_range(body: dict[str, Any], api: Api, owner: str) -> None:
    webhook = created(api, owner).body
    answer = api.call("POST", f"{WEBHOOKS}/{webhook['webhook_id']}/redeliver", body, owner=owner)
    assert (answer.status, answer.code) == (422, "invalid_request")


def test_a_webhook_id_that_cannot_be_is_not_found(api: Api, owner: str) -> None:
    for id_ in ("1", "null", "019c139e-4c00-7b52-a4d1-90e2cf7a6b3z", str(uuid4())):
        assert api.call("GET", f"{WEBHOOKS}/{id_}", owner=owner).code == "webhook_not_found"


def test_card_data_in_an_url_is_refused(api: Api, owner: str) -> None:
    answer = created(api, owner, "https://shop.example.com/4242424242424242")
    assert answer.code == "card_data_not_accepted"


def _waiting(books: Books, webhook_id: str) -> list[tuple[str, int]]:
    sql = "SELECT payment_id, sequence FROM webhook_deliveries WHERE webhook_id = :id ORDER BY payment_id, sequence"
    return [(str(payment_id), sequence) for payment_id, sequence in books.query(sql, id=webhook_id)]


def test_an_event_is_owed_to_the_webhooks_of_its_owner_that_want_it(api: Api, owner: str, books: Books) -> None:
    everything = created(api, owner, "https://shop.example.com/all").body["webhook_id"]
    refunds = created(api, owner, "https://shop.example.com/refunds", event_types=["payment.refunded"]).body["webhook_id"]
    others = created(api, "else-" + owner).body["webhook_id"]
    payment_id = api.pay(owner=owner)["payment_id"]
    api.post("refund", {"payment_id": payment_id, "amount": 500}, owner=owner)
    assert _waiting(books, everything) == [(payment_id, 1), (payment_id, 2)]
    assert _waiting(books, refunds) == [(payment_id, 2)]
    assert _waiting(books, others) == []
    assert api.call("GET", f"{WEBHOOKS}/{everything}", owner=owner).body["waiting"] == 2


def test_a_disabled_or_deleted_webhook_is_owed_nothing_until_it_is_enabled(api: Api, owner: str, books: Books) -> None:
    webhook_id = created(api, owner).body["webhook_id"]
    books.query("UPDATE webhooks SET disabled_at = now(), disabled_reason = 'failing' WHERE webhook_id = :id", id=webhook_id)
    api.pay(owner=owner)
    assert _waiting(books, webhook_id) == []
    enabled = api.call("POST", f"{WEBHOOKS}/{webhook_id}/enable", owner=owner).body
    assert (enabled["disabled_at"], enabled["disabled_reason"]) == (None, None)
    payment_id = api.pay(owner=owner)["payment_id"]
    assert _waiting(books, webhook_id) == [(payment_id, 1)]
    api.call("DELETE", f"{WEBHOOKS}/{webhook_id}", owner=owner)
    api.pay(owner=owner)
    assert _waiting(books, webhook_id) == []


def test_an_event_of_the_owner_is_sent_again_and_nobody_elses(api: Api, owner: str, books: Books) -> None:
    payment_id, foreign_id = api.pay(owner=owner)["payment_id"], api.pay(owner="else-" + owner)["payment_id"]
    webhook_id = created(api, owner, event_types=["payment.successful"]).body["webhook_id"]
    path = f"{WEBHOOKS}/{webhook_id}/redeliver"
    [[event_id], [foreign]] = (
        books.query("SELECT event_id FROM outbox WHERE payment_id = :id", id=i)[0] for i in (payment_id, foreign_id)
    )
    assert api.call("POST", path, {"event_id": str(event_id)}, owner=owner).body == {"events": 1, "resume_at": None}
    assert api.call("POST", path, {"event_id": str(event_id)}, owner=owner).status == 202, "again, while it waits"
    assert _waiting(books, webhook_id) == [(payment_id, 1)]
    for not_ours in (foreign, uuid4()):
        answer = api.call("POST", path, {"event_id": str(not_ours)}, owner=owner)
        assert answer.body["errors"][0]["location"] == "body.event_id"
    assert _waiting(books, webhook_id) == [(payment_id, 1)]


def test_a_range_is_sent_again_in_bounded_steps(api: Api, owner: str, books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("payments.api.webhook_routes.RANGE", 2)
    [[begun_at]] = books.query("SELECT now()")
    ids = sorted(api.pay(owner=each)["payment_id"] for each in (owner, "else-" + owner, owner, owner) if each)
    [[ended_at]] = books.query("SELECT now()")
    webhook_id = created(api, owner).body["webhook_id"]
    asked, counts = {"from": begun_at.isoformat(), "to": ended_at.isoformat()}, list[int]()
    while asked["from"]:
        answer = api.call("POST", f"{WEBHOOKS}/{webhook_id}/redeliver", asked, owner=owner).body
        counts.append(answer["events"])
        asked["from"] = answer["resume_at"]
    assert all(count <= 2 for count in counts) and len(counts) >= 2
    ours = {str(i) for [i] in books.query("SELECT payment_id FROM payments WHERE owner = :owner", owner=owner)}
    assert {payment_id for payment_id, _ in _waiting(books, webhook_id)} == ours
    assert len(ours) == 3 and ours < set(ids)


def test_a_range_says_nothing_of_the_events_of_others(
    api: Api, owner: str, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts would tell an owner how much the whole service does."""
    monkeypatch.setattr("payments.api.webhook_routes.RANGE", 2)
    [[begun_at]] = books.query("SELECT now()")
    for each in ("else-", "", "else-", "else-", "else-"):
        payment_id = api.pay(owner=each + owner)["payment_id"]
        api.post("refund", {"payment_id": payment_id, "amount": 500}, owner=each + owner)
    asked = {"from": begun_at.isoformat(), "to": "2100-01-01T00:00:00Z"}
    path = f"{WEBHOOKS}/{created(api, owner).body['webhook_id']}/redeliver"
    [[ours]] = books.query("SELECT max(settled_at) FROM operations WHERE owner = :owner", owner=owner)
    part = api.call("POST", path, asked, owner=owner).body
    assert (part["events"], datetime.fromisoformat(part["resume_at"])) == (2, ours)
    assert api.call("POST", path, asked | {"from": part["resume_at"]}, owner=owner).body == {"events": 1, "resume_at": None}


@pytest.mark.parametrize("status", ["declined", "voided"])
def test_every_event_of_a_payment_is_in_a_range(status: str, api: Api, owner: str, books: Books) -> None:
    """Each has an operation that was settled when the event was written."""
    if status == "declined":
        api.pay("tok_card_declined", owner=owner)
    else:
        body = order(payment_token="tok_ok", capture_method="manual")
        payment_id = api.post("process", body, owner=owner).body["payment_id"]
        api.post("void", {"payment_id": payment_id}, owner=owner)
    told = books.query("SELECT sequence FROM outbox JOIN payments USING (payment_id) WHERE owner = :owner", owner=owner)
    asked = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    path = f"{WEBHOOKS}/{created(api, owner).body['webhook_id']}/redeliver"
    assert api.call("POST", path, asked, owner=owner).body == {"events": len(told), "resume_at": None}


def waits(api: Api, service: Service, paid: dict[str, Any], owner: str) -> None:
    assert api.post("process", order(payment_token="tok_requires_action"), owner=owner).body["status"] == "REQUIRES_ACTION"


def is_disputed(api: Api, service: Service, paid: dict[str, Any], owner: str) -> None:
    disputed(service, paid["payment_id"], outcome="lost")


def refund_fails_later(api: Api, service: Service, paid: dict[str, Any], owner: str) -> None:
    payment_id = UUID(paid["payment_id"])
    [ours] = outside.books_of(service.db, payment_id).refunds
    assert ours.gateway_refund_id
    failed = SeenRefund(gateway_refund_id=ours.gateway_refund_id, key=ours.key, amount_minor=500, status="failed")
    there = Seen(state="captured", transaction_id="txn", captured_minor=1999, currency="USD", refunds=[failed])
    look = look_at(replace(service, gateway=Dashboard(seen=there)), present(service, paid["payment_id"]), Deadline.in_s(20))
    assert look is Look.SETTLED


@pytest.mark.parametrize(("happens", "events"), [(waits, 1), (is_disputed, 2), (refund_fails_later, 1)])
def test_an_event_that_was_no_operations_outcome_is_in_a_range(
    happens: Callable[..., None], events: int, api: Api, service: Service, owner: str, books: Books
) -> None:
    """Nothing that the owner asked for was settled in the range."""
    payment_id = api.pay(owner=owner)["payment_id"]
    paid = api.post("refund", {"payment_id": payment_id, "amount": 500}, owner=owner).body
    [[begun_at]] = books.query("SELECT now()")
    happens(api, service, paid, owner)
    path = f"{WEBHOOKS}/{created(api, owner).body['webhook_id']}/redeliver"
    asked = {"from": begun_at.isoformat(), "to": "2100-01-01T00:00:00Z"}
    assert api.call("POST", path, asked, owner=owner).body == {"events": events, "resume_at": None}
    of_another = f"{WEBHOOKS}/{created(api, 'else-' + owner).body['webhook_id']}/redeliver"
    assert api.call("POST", of_another, asked, owner="else-" + owner).body == {"events": 0, "resume_at": None}


def test_before_migration_064_a_range_has_the_operations_outcomes(
    make_service: Callable[..., Service], own_database: Database, owner: str
) -> None:
    """`migrate` is not invoked yet: no column, and no function that names it."""
    with contextlib.closing(connect(own_database.owner_url)) as migrator:
        migrator.run("ALTER TABLE payment_status_history DROP COLUMN owner, DROP COLUMN told_at")
        migrator.run("DROP TRIGGER payments_write_history_of_update ON payments")
        for name in plans.named():
            migrator.run(f"DROP FUNCTION {name}")
    older = Api(make_service(url=own_database.service_url))
    webhook_id = created(older, owner).body["webhook_id"]
    asked = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    older.pay(owner=owner)
    answer = older.call("POST", f"{WEBHOOKS}/{webhook_id}/redeliver", asked, owner=owner)
    assert answer.body == {"events": 1, "resume_at": None}


def test_a_range_with_both_kinds_of_events_goes_on_without_a_gap(
    api: Api, service: Service, owner: str, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("payments.api.webhook_routes.RANGE", 3)
    [[begun_at]] = books.query("SELECT now()")
    for number in range(4):
        paid = api.pay(owner=owner)
        disputed(service, paid["payment_id"], outcome="lost" if number % 2 else None)
        api.pay("tok_card_declined", owner=owner)
    told = books.query(
        "SELECT payment_id, sequence FROM outbox JOIN payments USING (payment_id) WHERE owner = :owner", owner=owner
    )
    webhook_id = created(api, owner).body["webhook_id"]
    asked = {"from": begun_at.isoformat(), "to": "2100-01-01T00:00:00Z"}
    while asked["from"]:
        asked["from"] = api.call("POST", f"{WEBHOOKS}/{webhook_id}/redeliver", asked, owner=owner).body["resume_at"]
    assert _waiting(books, webhook_id) == sorted((str(payment_id), sequence) for payment_id, sequence in told)


def test_a_reply_that_was_lost_leaves_one_webhook(make_service: Callable[..., Service], owner: str) -> None:
    """The store sends a phase once more on a new connection: the second one finds what the first has written."""
    service = make_service()
    webhook_id = uuid7()
    told = {"url": "https://shop.example.com/", "description": None, "event_types": None}
    first = webhooks.create(service.db, owner, webhook_id, "whsec_a", **told)
    assert webhooks.create(service.db, owner, webhook_id, "whsec_a", **told) == first is not None
    rotated = webhooks.rotate(service.db, owner, webhook_id, "whsec_b", 60)
    again = webhooks.rotate(service.db, owner, webhook_id, "whsec_b", 60)
    assert rotated == again is not None
    [[secret, previous]] = service.db.run(
        Statement("SELECT secret, previous_secret FROM webhooks WHERE webhook_id = :id")(id=webhook_id)
    )[0]
    assert (secret, previous) == ("whsec_b", "whsec_a")


def test_no_secret_reaches_the_log(api: Api, owner: str, capsys: pytest.CaptureFixture[str]) -> None:
    webhook = created(api, owner).body
    api.call("POST", f"{WEBHOOKS}/{webhook['webhook_id']}/rotate", owner=owner)
    created(api, owner)
    out, err = capsys.readouterr()
    assert "whsec_" not in out + err
    assert webhook["secret"][6:] not in json.dumps([out, err])
