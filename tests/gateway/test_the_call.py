"""Whether the gateway is called or asked, and what of its answer is believed. tests/commands shows the same with the books."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from payments.commands.catalog import COMMANDS
from payments.commands.phases import charge
from payments.commands.service import Deadline, Service
from payments.domain.operation import Operation
from payments.domain.payment import PaymentStatus
from payments.gateway.port import Alarm, Approved, GatewayRequest, Reply, Unknown
from payments.store.claims import Claimed
from tests.domain.examples import NOON, payment
from tests.fakes import FakeGateway, FakePublisher, approve

CALLS = {"process": "charge", "capture": "capture", "void": "void", "refund": "refund"}


def operation(kind: str, **changes: Any) -> Operation:
    fields: dict[str, Any] = {
        "operation_id": UUID(int=1),
        "payment_id": UUID(int=2),
        "owner": "shop",
        "kind": kind,
        "amount_minor": 1999,
    }
    fields |= {"request_hash": "h", "gateway_key": f"{kind}-1", "created_at": NOON}
    return Operation(**fields | changes)


def called(to: FakeGateway, kind: str, reply: dict[str, Any] | None = None, **claimed: Any) -> Reply:
    service = Service(db=cast(Any, None), gateway=to, publisher=FakePublisher())
    held = Claimed(operation(kind, reply=reply), payment(PaymentStatus.PROCESSING), **claimed)
    return charge(COMMANDS[kind], held, service, Deadline.in_s(30))


def asked(gateway: FakeGateway) -> list[str]:
    return [action for action, _ in gateway.asked]


@pytest.mark.parametrize("kind", CALLS)
def test_a_key_that_lives_is_used(kind: str) -> None:
    gateway = FakeGateway()
    assert isinstance(called(gateway, kind), Approved)
    assert asked(gateway) == [CALLS[kind]]


@pytest.mark.parametrize("kind", CALLS)
def test_a_key_that_has_ended_is_only_asked_about(kind: str) -> None:
    gateway = FakeGateway()
    assert isinstance(called(gateway, kind, key_lives=False, asked_at=[NOON]), Unknown)
    assert asked(gateway) == ["find"]
    assert gateway.asked[0][1].asked_at == [NOON]


@pytest.mark.parametrize("kind", CALLS)
def test_what_the_gateway_has_named_is_only_asked_about(kind: str) -> None:
    gateway = FakeGateway(found=approve)
    assert isinstance(called(gateway, kind, {"result": "pending", "gateway_id": "begun"}), Approved)
    assert [(action, request.gateway_id) for action, request in gateway.asked] == [("find", "begun")]


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("change", [{"amount_minor": 1998}, {"currency": "EUR"}])
@pytest.mark.parametrize("key_lives", [True, False])
def test_another_amount_is_no_approval(kind: str, change: dict[str, Any], key_lives: bool) -> None:
    def approve_wrongly(action: str, request: GatewayRequest) -> Reply:
        return replace(cast(Approved, approve(action, request)), **change)

    reply = called(FakeGateway(approve_wrongly, approve_wrongly), kind, key_lives=key_lives)
    assert isinstance(reply, Unknown)
    assert reply.alarm is Alarm.AMOUNT_MISMATCH


@pytest.mark.parametrize("kind", CALLS)
def test_another_gateways_payment_is_neither_called_for_nor_asked_about(kind: str) -> None:
    gateway = FakeGateway()
    assert isinstance(called(gateway, kind, gateway="other"), Unknown)
    assert asked(gateway) == []
