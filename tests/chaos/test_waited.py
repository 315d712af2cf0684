"""What the witness says of a customer who acts: nothing of what is right, and each thing that can be wrong about it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from chaos import money, oracle, waited
from chaos.answers import Answer
from chaos.books import Asked, Books, Move
from chaos.evidence import Acknowledgement, Arrival, Call, Evidence, Message
from tests.cases import case

ID = "0190b5c0-0000-7000-8000-000000000001"
KEY = f"pay-{ID}"
CANCEL = f"expire-{ID}-3"
ACTION = {"type": "stripe_js", "client_secret": "pi_1_secret_x", "expires_at": "2026-01-01T01:00:00Z"}
ACTED_S, CANCELED_S = 20.0, 30.0


def answer(status: int, payment_status: str, at_s: float, kind: str = "process", **other: Any) -> Answer:
    action = {"next_action": other.pop("action")} if "action" in other else {}
    body = {"payment_id": ID, "order_id": "order-1", "status": payment_status} | action
    told = Answer("1.pay", "1.pay.0", kind, "shop", "key", "trace", False, {}, at_s - 0.1, at_s, "answered", status, body)
    return replace(told, spared=True, **other)


def event(sequence: int, kind: str, status: str) -> dict[str, Any]:
    data = json.dumps({"status": status})
    return {"payment_id": ID, "event_id": f"event-{sequence}", "sequence": sequence, "type": kind, "data": data}


def evidence(*answers: Answer, asked: Asked | None = None, taken_s: float = 99.0, **other: Any) -> Evidence:
    """Return what there is of a payment whose customer was asked and paid. Its last event was out at `taken_s`."""
    payment = {"payment_id": ID, "status": "CAPTURED", "owner": "shop"}
    operation = {"payment_id": ID, "kind": "process", "refund_id": None, "gateway_key": KEY, "outcome": "succeeded"}
    outbox = [event(1, "payment.requires_action", "REQUIRES_ACTION"), event(2, "payment.successful", "CAPTURED")]
    empty: dict[str, list[Any]] = {name: [] for name in (*waited.READ, "payment_status_history", "refunds")}
    tables = empty | {"payments": [payment], "operations": [operation], "outbox": outbox}
    books = Books([], {}, asked={KEY: asked or Asked("pi_1", ACTED_S)})
    taken = [Acknowledgement("event-1", 10.0, 10.0), Acknowledgement("event-2", taken_s, taken_s)]
    seen = Evidence(tables, [], books, [], [*answers], taken, frozenset(), frozenset(), 0.0)
    return replace(seen, **other)


def violations(seen: Evidence) -> list[str]:
    return list(waited.check(seen, oracle.lives_of(seen)))


RIGHT = (
    answer(202, "REQUIRES_ACTION", 10, action=ACTION),
    answer(202, "REQUIRES_ACTION", 12, "sync"),
    answer(202, "REQUIRES_ACTION", 12, "sync", action=ACTION),
    answer(202, "REQUIRES_ACTION", 21),  # The customer has acted, so he needs nothing.
    answer(201, "CAPTURED", 22),
    answer(200, "CAPTURED", 23, "sync"),
)


def test_what_is_right_is_not_accused() -> None:
    assert violations(evidence(*RIGHT)) == []
    hurried = replace(answer(202, "REQUIRES_ACTION", 12), spared=False)
    slow = replace(answer(202, "REQUIRES_ACTION", 12), sent_s=11.0)
    direct = replace(answer(202, "REQUIRES_ACTION", 12), direct=True)
    early = replace(answer(202, "REQUIRES_ACTION", 12), replayed=True, retry_after_s=2)
    assert violations(evidence(hurried, slow, direct, early)) == []
    assert violations(evidence(answer(402, "VOIDED", 31), asked=Asked("pi_1", None, CANCEL, CANCELED_S))) == []


OTHERS_SECRET = ACTION | {"client_secret": "pi_2_secret_y"}
ROW = {"payment_id": ID, "reply": {"raw": {"next_action": "x"}}}
WRONG: dict[str, tuple[Evidence, list[str]]] = {
    "an answer before the money": (evidence(answer(201, "CAPTURED", 19)), ["as CAPTURED, 1.00 s before"]),
    "an event before the money": (evidence(taken_s=18.0), ["event 2 (CAPTURED) was out 2.00 s before"]),
    "voided before the cancel": (
        evidence(answer(200, "VOIDED", 29, "void"), asked=Asked("pi_1", None, CANCEL, CANCELED_S)),
        ["as VOIDED, 1.00 s before"],
    ),
    "a replay without the action": (evidence(answer(202, "REQUIRES_ACTION", 12)), ["without next_action, and the gateway waits"]),
    "no action and no moment to come again": (
        evidence(replace(answer(202, "REQUIRES_ACTION", 12), replayed=True, retry_after_s=1)),
        ["without next_action, and the gateway waits"],
    ),
    "an action of what is over": (evidence(answer(201, "CAPTURED", 22, action=ACTION)), ["got 201 CAPTURED with next_action"]),
    "an action by direct invocation": (
        evidence(answer(202, "REQUIRES_ACTION", 12, action=ACTION, direct=True)),
        ["got 202 REQUIRES_ACTION with next_action"],
    ),
    "an action in a look-up": (
        evidence(answer(200, "REQUIRES_ACTION", 12, "look-up", action=ACTION)),
        ["got 200 REQUIRES_ACTION with next_action"],
    ),
    "an action without its end": (
        evidence(answer(202, "REQUIRES_ACTION", 12, action={"type": "stripe_js", "client_secret": "pi_1_secret_x"})),
        ["got a next_action with ['client_secret', 'type'] alone"],
    ),
    "a sync that calls a waiting payment done": (evidence(answer(200, "REQUIRES_ACTION", 12, "sync")), ["got 200 for a payment"]),
    "a sync that calls a payment undecided": (evidence(answer(202, "CAPTURED", 22, "sync")), ["got 202 for a payment"]),
    "another secret": (
        evidence(RIGHT[0], answer(202, "REQUIRES_ACTION", 12, action=OTHERS_SECRET)),
        ["got 2 different secrets"],
    ),
    "a secret in a row": (evidence(while_waiting={"operations": [ROW]}), ["1 of the rows of operations hold 'next_action'"]),
    "a secret on the topic": (
        evidence(messages=[Message(0, 0, 0, ID, {}, b'{"x": "pi_1_secret_x"}')]),
        ["1 of the messages on the topic hold '_secret_'"],
    ),
    "a secret in a webhook": (
        evidence(arrivals=[Arrival("shop", {}, '{"client_secret": 1}', 0.0, taken=True)]),
        ["1 of the webhooks hold 'client_secret'"],
    ),
}


def test_each_thing_that_is_wrong_is_said() -> None:
    for name, (seen, said) in WRONG.items():
        with case(name):
            found = violations(seen)
            assert len(found) == len(said), found
            assert all(part in violation for part, violation in zip(said, found, strict=True)), found


# What money.py says of a payment that ended without its customer.


def given_up(asked: Asked | None, *moves: Move) -> list[str]:
    payment = {"payment_id": ID, "status": "VOIDED", "currency": "USD", "captured_minor": 0, "refunded_minor": 0}
    process = {"payment_id": ID, "kind": "process", "refund_id": None, "gateway_key": KEY, "outcome": "declined"}
    entry = {"payment_id": ID, "version": 3, "from_status": "PROCESSING", "to_status": "REQUIRES_ACTION"}
    ended = {"payment_id": ID, "version": 4, "from_status": "REQUIRES_ACTION", "to_status": "VOIDED"}
    calls = [
        Call(f"1#{number}", action, key, 1, 5, "USD", None, (), None, "pi_1", True, 1.0, None)
        for number, (action, key) in enumerate((("charge", KEY), ("void", CANCEL)))
    ]
    books = Books([*moves], {}, asked={KEY: asked} if asked else {})
    tables = {
        "payments": [payment],
        "operations": [process],
        "payment_status_history": [entry, ended],
        "refunds": [],
        "outbox": [],
    }
    seen = evidence(tables=tables, books=books, calls=calls)
    return list(money.check(seen, oracle.lives_of(seen)))


def test_a_payment_that_ended_without_its_customer_is_canceled_at_the_gateway_and_keeps_no_money() -> None:
    canceled = Asked("pi_1", None, CANCEL, CANCELED_S)
    held, freed = Move(KEY, "charge", 5, "USD", "txn", captured=False), Move(CANCEL, "void", 5, "USD", "txn")
    assert given_up(canceled) == given_up(canceled, held, freed) == []
    for books in (None, Asked("pi_1")):
        assert ["can still pay it at the gateway" in said for said in given_up(books)] == [True]
    for moves in ([held], [replace(held, captured=True)], [replace(held, captured=True), freed]):
        assert ["is VOIDED without its customer, and the gateway has" in said for said in given_up(canceled, *moves)] == [True]
