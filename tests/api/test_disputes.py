"""A look-up shows the disputes of its payment, to its owner and the admin scope alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from contract import plans
from local.servers import connect
from payments.commands.dispute import record
from payments.commands.service import Service
from tests.api_client import ADMIN, Api
from tests.seen_disputes import disputed, present, seen
from tests.servers import Database


@pytest.mark.parametrize("path", ["/payment/{payment_id}", "/order/{order_id}", "/transaction/{transaction_id}"])
def test_each_look_up_shows_the_disputes_of_the_payment(api: Api, service: Service, path: str) -> None:
    paid, other = api.pay(), api.pay()
    assert (api.get(path.format(**paid)).body["disputes"], api.get(path.format(**paid)).body["has_more_disputes"]) == ([], False)
    one = disputed(service, paid["payment_id"], amount_minor=500)
    [shown] = api.get(path.format(**paid)).body["disputes"]
    assert shown["gateway_dispute_id"] == one.gateway_dispute_id
    assert (shown["amount"], shown["currency"], shown["status"], shown["outcome"]) == (500, "USD", "needs_response", None)
    assert (shown["due_by"], shown["is_refundable"]) == ("2026-02-09T12:00:00.000000Z", False)
    assert api.get(path.format(**other)).body["disputes"] == []
    assert api.get(path.format(**paid), owner="another").code == "payment_not_found"
    assert api.get(path.format(**paid), owner="another", scopes=ADMIN).body["disputes"] == [shown]


def test_a_list_shows_the_newest_five_and_a_look_up_the_newest_twenty(api: Api, service: Service) -> None:
    paid = api.pay()
    many = [seen(amount_minor=number) for number in range(1, 24)]
    assert record(service, present(service, paid["payment_id"]), many)
    found = api.get(f"/payment/{paid['payment_id']}").body
    assert ([each["amount"] for each in found["disputes"]], found["has_more_disputes"]) == (list(range(4, 24)), True)
    [listed] = api.get("", query=f"order_id={paid['order_id']}").body["data"]
    assert ([each["amount"] for each in listed["disputes"]], listed["has_more_disputes"]) == (list(range(19, 24)), True)


def test_the_history_shows_when_a_dispute_began_and_how_it_ended(api: Api, service: Service) -> None:
    paid = api.pay()
    disputed(service, paid["payment_id"], outcome="won", reason="duplicate")
    history = api.get(f"/payment/{paid['payment_id']}/history").body["data"]
    assert [(each["from"], each["to"], each["reason"]) for each in history[-2:]] == [
        ("CAPTURED", "CAPTURED", "disputed: duplicate"),
        ("CAPTURED", "CAPTURED", "dispute won"),
    ]


def test_before_migration_062_a_payment_has_no_disputes_and_can_be_refunded(
    make_service: Callable[..., Service], own_database: Database
) -> None:
    """`migrate` is not invoked yet: no table, and no function that names it."""
    with contextlib.closing(connect(own_database.owner_url)) as owner:
        owner.run("DROP TABLE disputes")
        for name in plans.named():
            owner.run(f"DROP FUNCTION {name}")
    api: Any = Api(make_service(url=own_database.service_url))
    paid = api.pay()
    assert api.get(f"/payment/{paid['payment_id']}").body["disputes"] == []
    assert api.get("").body["data"][0]["disputes"] == []
    assert api.post("refund", {"payment_id": paid["payment_id"], "amount": 100}).status == 201
    assert api.post("refund", {"payment_id": paid["payment_id"], "amount": 5000}).code == "amount_too_large"
    assert api.post("capture", {"payment_id": paid["payment_id"]}).code == "payment_state_conflict"
