"""Rows that the schema refuses from every writer, and the history that its trigger writes."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints
from uuid import UUID

import pg8000.native
import pytest
from pg8000.exceptions import DatabaseError

from payments.domain.changes import ProcessingStarted
from payments.domain.dispute import Dispute, DisputeOutcome
from payments.domain.events import Event
from payments.domain.ids import uuid7
from payments.domain.operation import Operation, Outcome
from payments.domain.payment import TRANSITIONS, Payment, PaymentStatus, apply
from payments.domain.refund import Refund, RefundStatus
from tests.cases import case
from tests.domain.examples import MONEY, NOON, dispute, payment, refund, row_values

S = PaymentStatus

WAY_TO: dict[PaymentStatus, list[PaymentStatus]] = {
    S.PENDING: [],
    S.PROCESSING: [S.PROCESSING],
    S.REQUIRES_ACTION: [S.PROCESSING, S.REQUIRES_ACTION],
    S.AUTHORIZED: [S.PROCESSING, S.AUTHORIZED],
    S.CAPTURED: [S.PROCESSING, S.CAPTURED],
    S.PARTIALLY_REFUNDED: [S.PROCESSING, S.CAPTURED, S.PARTIALLY_REFUNDED],
    S.REFUNDED: [S.PROCESSING, S.CAPTURED, S.REFUNDED],
    S.FAILED: [S.PROCESSING, S.FAILED],
    S.VOIDED: [S.PROCESSING, S.AUTHORIZED, S.VOIDED],
}


def insert(connection: pg8000.native.Connection, table: str, values: Mapping[str, object]) -> None:
    names = ", ".join(values)
    connection.run(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})", **values)


def pay(connection: pg8000.native.Connection, **changes: Any) -> UUID:
    """Insert a PENDING payment of a new order, and return its id."""
    payment_id = uuid7()
    insert(connection, "payments", row_values(payment(payment_id=payment_id, **{"order_id": str(payment_id)} | changes)))
    return payment_id


def move(connection: pg8000.native.Connection, payment_id: UUID, statuses: Iterable[PaymentStatus]) -> None:
    """Change the status step by step, with the amounts of each status and the next version."""
    for status in statuses:
        connection.run(
            "UPDATE payments SET status = :status, status_reason = :reason, version = version + 1, captured_minor = :captured,"
            " refunded_minor = :refunded, transaction_id = :txn, payment_intent_id = 'pi_1', updated_at = :at"
            " WHERE payment_id = :payment_id",
            status=status.value,
            reason=f"now {status}",
            captured=MONEY.get(status, {}).get("captured_minor", 0),
            refunded=MONEY.get(status, {}).get("refunded_minor", 0),
            txn=f"txn_{payment_id}",
            at=NOON,
            payment_id=payment_id,
        )


@contextlib.contextmanager
def undone(connection: pg8000.native.Connection) -> Iterator[None]:
    """Undo the block, so that the transaction goes on also after an error of the database."""
    connection.run("SAVEPOINT before")
    yield
    connection.run("ROLLBACK TO SAVEPOINT before")


def refused_by(error: pytest.ExceptionInfo[DatabaseError]) -> tuple[str, str]:
    """Return SQLSTATE and constraint."""
    told = error.value.args[0]
    return told["C"], told.get("n", "")


@pytest.mark.parametrize("from_", S)
def test_the_database_guards_the_same_transitions_as_the_code(owner: pg8000.native.Connection, from_: S) -> None:
    payment_id = pay(owner)
    move(owner, payment_id, WAY_TO[from_])
    for to in S:
        with case(to), undone(owner):
            if to in TRANSITIONS[from_] or to is from_:  # a row may change without its status changing
                move(owner, payment_id, [to])
                assert owner.run("SELECT status FROM payments WHERE payment_id = :id", id=payment_id) == [[to]]
            else:
                with pytest.raises(DatabaseError) as error:
                    move(owner, payment_id, [to])
                assert refused_by(error) == ("23514", "payments_legal_transition")


@pytest.mark.parametrize("status", S)
@pytest.mark.parametrize("version", [1, 2])
def test_a_payment_starts_pending_or_processing_as_version_2(owner: pg8000.native.Connection, status: S, version: int) -> None:
    if status is S.PENDING or (status, version) == (S.PROCESSING, 2):
        pay(owner, status=status, version=version)
    else:
        with pytest.raises(DatabaseError) as error:
            pay(owner, status=status, version=version, **MONEY.get(status, {}))
        assert refused_by(error) == ("23514", "payments_legal_transition")


def test_a_payment_that_starts_processing_has_the_history_of_one_that_becomes_it(owner: pg8000.native.Connection) -> None:
    pending = payment(payment_id=uuid7(), order_id="in two", status_reason="payment requested", version=1)
    begun = apply(replace(pending, payment_id=uuid7(), order_id="in one"), ProcessingStarted(), NOON)
    for first in (pending, begun):
        insert(owner, "payments", row_values(first))
    move(owner, pending.payment_id, [S.PROCESSING])
    in_two, in_one = (
        owner.run(
            "SELECT version, from_status, to_status, at FROM payment_status_history WHERE payment_id = :id ORDER BY version",
            id=one.payment_id,
        )
        for one in (pending, begun)
    )
    assert in_two == in_one
    assert owner.run(
        "SELECT reason FROM payment_status_history WHERE payment_id = :id ORDER BY version", id=begun.payment_id
    ) == [["payment requested"], [begun.status_reason]]


@pytest.mark.parametrize("status", S)
def test_every_status_that_a_payment_has_had_is_in_its_history(owner: pg8000.native.Connection, status: S) -> None:
    payment_id = pay(owner)
    move(owner, payment_id, WAY_TO[status])
    way = [S.PENDING, *WAY_TO[status]]
    assert owner.run(
        "SELECT from_status, to_status, version, reason, at FROM payment_status_history WHERE payment_id = :id ORDER BY version",
        id=payment_id,
    ) == [
        [before, after, version, "as the test needs it" if before is None else f"now {after}", NOON]
        for version, (before, after) in enumerate(zip([None, *way], way, strict=False), start=1)
    ]


def test_what_owes_an_event_is_in_the_history_and_other_changes_are_not(owner: pg8000.native.Connection) -> None:
    payment_id = pay(owner)
    move(owner, payment_id, WAY_TO[S.PARTIALLY_REFUNDED])
    for change in ("refunded_minor = 600, event_sequence = 3", "refund_reserved_minor = 5", "event_sequence = 4"):
        owner.run(f"UPDATE payments SET version = version + 1, {change} WHERE payment_id = :id", id=payment_id)
    rows = owner.run(
        "SELECT from_status, to_status FROM payment_status_history WHERE payment_id = :id ORDER BY version", id=payment_id
    )
    partly = S.PARTIALLY_REFUNDED.value
    assert rows[-3:] == [["CAPTURED", partly], [partly, partly], [partly, partly]]
    assert len(rows) == 6


def operation_row(**changes: Any) -> dict[str, Any]:
    payment_id = changes.get("payment_id", uuid7())
    row = {
        "operation_id": uuid7(),
        "owner": "shop",
        "kind": "process",
        "payment_id": payment_id,
        "amount_minor": 1999,
        "request_hash": "h",
        "gateway_key": f"pay-{payment_id}" if changes.get("kind", "process") == "process" else f"other-{uuid7()}",
        "attempt": 1,
        "lease_until": NOON,
        "created_at": NOON,
    }
    return row | changes


def outbox_row(**changes: Any) -> dict[str, Any]:
    row = {"event_id": uuid7(), "sequence": 1, "type": "t", "data": "{}", "created_at": NOON, "lease_until": NOON}
    return row | changes


CHECKS: list[tuple[str, str, dict[str, Any]]] = [
    ("payments", "payments_status_known", {"status": "NEW"}),
    ("payments", "payments_status_known", {"status": "captured"}),
    ("payments", "payments_method_known", {"payment_method": "bitcoin"}),
    ("payments", "payments_capture_method_known", {"capture_method": "later"}),
    ("payments", "payments_currency_is_a_code", {"currency": "usd"}),
    ("payments", "payments_currency_is_a_code", {"currency": "USDX"}),
    ("payments", "payments_amount_in_range", {"amount_minor": 0}),
    ("payments", "payments_amount_in_range", {"amount_minor": -1}),
    ("payments", "payments_amount_in_range", {"amount_minor": 10**12}),
    ("payments", "payments_captured_within_authorized", {"status": "CAPTURED", "captured_minor": 2000}),
    ("payments", "payments_captured_within_authorized", {"status": "AUTHORIZED", "captured_minor": -1}),
    ("payments", "payments_refunds_within_captured", {"status": "CAPTURED", "captured_minor": 10, "refund_reserved_minor": 11}),
    ("payments", "payments_refunds_within_captured", {"status": "CAPTURED", "captured_minor": 10, "refund_reserved_minor": -1}),
    ("payments", "payments_refunds_within_captured",
     {"status": "PARTIALLY_REFUNDED", "captured_minor": 10, "refunded_minor": 6, "refund_reserved_minor": 5}),
    ("payments", "payments_money_says_what_status_says", {"captured_minor": 1}),
    ("payments", "payments_money_says_what_status_says", {"status": "CAPTURED", "captured_minor": 0}),
    ("payments", "payments_money_says_what_status_says", {"status": "CAPTURED", "captured_minor": 10, "refunded_minor": 1}),
    ("payments", "payments_money_says_what_status_says", {"status": "AUTHORIZED", "captured_minor": 10}),
    ("payments", "payments_money_says_what_status_says", {"status": "VOIDED", "captured_minor": 10}),
    ("payments", "payments_money_says_what_status_says", {"status": "FAILED", "captured_minor": 10}),
    ("payments", "payments_money_says_what_status_says", {"status": "PARTIALLY_REFUNDED", "captured_minor": 10}),
    ("payments", "payments_money_says_what_status_says",
     {"status": "PARTIALLY_REFUNDED", "captured_minor": 10, "refunded_minor": 10}),
    ("payments", "payments_money_says_what_status_says", {"status": "REFUNDED", "captured_minor": 10, "refunded_minor": 9}),
    ("payments", "payments_money_says_what_status_says", {"status": "REFUNDED"}),
    ("payments", "payments_gateway_ids_present", {"status": "CAPTURED", "captured_minor": 10, "transaction_id": None}),
    ("payments", "payments_gateway_ids_present", {"status": "AUTHORIZED", "payment_intent_id": None}),
    ("payments", "payments_gateway_ids_present", {"status": "VOIDED", "payment_intent_id": None}),
    ("payments", "payments_gateway_ids_present", {"status": "REQUIRES_ACTION", "payment_intent_id": None}),
    ("refunds", "refunds_status_known", {"status": "DONE"}),
    ("refunds", "refunds_amount_in_range", {"amount_minor": 0}),
    ("refunds", "refunds_amount_in_range", {"amount_minor": 10**12}),
    ("disputes", "disputes_amount_in_range", {"amount_minor": -1}),
    ("disputes", "disputes_amount_in_range", {"amount_minor": 10**12}),
    ("disputes", "disputes_currency_known", {"currency": "usd"}),
    ("disputes", "disputes_outcome_known", {"outcome": "drawn"}),
    ("gateway_events", "gateway_events_door_known", {"door": "window"}),
    ("gateway_events", "gateway_events_outcome_known", {"outcome": "lost", "handled_at": NOON, "next_attempt_at": None}),
    ("gateway_events", "gateway_events_handled_with_outcome", {"outcome": "settled"}),
    ("gateway_events", "gateway_events_handled_with_outcome", {"next_attempt_at": None}),
    ("operations", "operations_kind_is_a_name", {"kind": "Pay out"}),
    ("operations", "operations_outcome_known", {"outcome": "unknown", "settled_at": NOON}),
    ("operations", "operations_settled_when_known", {"outcome": "succeeded"}),
    ("operations", "operations_settled_when_known", {"settled_at": NOON}),
    ("operations", "operations_process_has_the_payments_key", {"gateway_key": "pay-of-another-payment"}),
    ("operations", "operations_refund_has_refund", {"kind": "refund", "gateway_key": "ref-1"}),
    ("operations", "operations_refund_has_refund", {"refund_id": UUID(int=1)}),
]  # fmt: skip


def row_of(table: str) -> dict[str, Any]:
    rows = {
        "payments": row_values(
            payment(
                payment_id=uuid7(),
                order_id=f"order-{uuid7()}",
                transaction_id=f"txn_{uuid7()}",
                payment_intent_id=f"pi_{uuid7()}",
            )
        ),
        "refunds": row_values(refund(refund_id=uuid7())),
        "gateway_events": {
            "gateway": "simulated",
            "event_id": f"evt_{uuid7()}",
            "type": "refund.failed",
            "created_at": NOON,
            "received_at": NOON,
            "door": "pull",
            "next_attempt_at": NOON,
        },
        "disputes": row_values(dispute(dispute_id=uuid7(), gateway_dispute_id=f"dp_{uuid7()}")) | {"gateway": "simulated"},
        "operations": operation_row(),
    }
    return dict(rows[table])


@pytest.mark.parametrize(("table", "constraint", "wrong"), CHECKS, ids=lambda value: str(value).replace("'", "")[:90])
def test_a_check_refuses_what_breaks_it(
    owner: pg8000.native.Connection, table: str, constraint: str, wrong: dict[str, Any]
) -> None:
    # Without triggers and references, so that the CHECK alone can refuse.
    owner.run("SET LOCAL session_replication_role = replica")
    insert(owner, table, row_of(table))
    with pytest.raises(DatabaseError) as error:
        insert(owner, table, row_of(table) | {"order_id": "other"} | wrong if table == "payments" else row_of(table) | wrong)
    assert refused_by(error) == ("23514", constraint)


def test_every_check_of_the_schema_is_in_the_table_above(owner: pg8000.native.Connection) -> None:
    rows = owner.run("SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace")
    assert {name for (name,) in rows} == {constraint for _, constraint, _ in CHECKS}


@pytest.mark.parametrize("first", S)
def test_an_order_has_one_payment_that_did_not_fail(owner: pg8000.native.Connection, first: S) -> None:
    move(owner, pay(owner, order_id="one"), WAY_TO[first])
    pay(owner, order_id="another order")
    pay(owner, order_id="one", owner="another shop")
    if first in (S.FAILED, S.VOIDED):
        pay(owner, order_id="one")
    with pytest.raises(DatabaseError) as error:
        pay(owner, order_id="one")
    assert refused_by(error) == ("23505", "payments_one_live_per_order")


def test_a_transaction_belongs_to_one_payment(owner: pg8000.native.Connection) -> None:
    pay(owner, transaction_id="txn_1")
    with pytest.raises(DatabaseError) as error:
        pay(owner, transaction_id="txn_1")
    assert refused_by(error) == ("23505", "payments_one_of_transaction")


def test_an_intent_of_a_gateway_belongs_to_one_payment(owner: pg8000.native.Connection) -> None:
    owner.run("UPDATE payments SET gateway = 'stripe' WHERE payment_id = :id", id=pay(owner, payment_intent_id="pi_1"))
    pay(owner, payment_intent_id="pi_1")
    with pytest.raises(DatabaseError) as error:
        pay(owner, payment_intent_id="pi_1")
    assert refused_by(error) == ("23505", "payments_one_per_intent")


def test_a_gateways_refund_is_one_of_ours(owner: pg8000.native.Connection) -> None:
    payment_id = pay(owner)
    insert(owner, "refunds", row_values(refund(refund_id=uuid7(), payment_id=payment_id)) | {"gateway_refund_id": "re_1"})
    with pytest.raises(DatabaseError) as error:
        insert(owner, "refunds", row_values(refund(refund_id=uuid7(), payment_id=payment_id)) | {"gateway_refund_id": "re_1"})
    assert refused_by(error) == ("23505", "refunds_one_per_gateway_refund")


SETTLED = {"outcome": "declined", "settled_at": NOON}
KEYED = {"kind": "capture", "idempotency_key": "k"} | SETTLED
# Both operations are of one payment.
UNIQUE: list[tuple[str | None, dict[str, Any], dict[str, Any]]] = [
    ("operations_gateway_key_unique", {"kind": "capture", "gateway_key": "g"} | SETTLED, {"kind": "void", "gateway_key": "g"}),
    ("operations_idempotency_key_unique", KEYED, KEYED),
    (None, KEYED, KEYED | {"owner": "another shop"}),
    (None, KEYED, KEYED | {"kind": "void"}),
    (None, KEYED, KEYED | {"idempotency_key": "l"}),
    (None, KEYED | {"idempotency_key": None}, KEYED | {"idempotency_key": None}),
    ("operations_gateway_key_unique", {}, {}),
    ("operations_gateway_key_unique", SETTLED, {}),
    ("operations_one_in_flight_after_process", {"kind": "capture"}, {"kind": "capture"}),
    ("operations_one_in_flight_after_process", {"kind": "capture"}, {"kind": "void"}),
    ("operations_one_in_flight_after_process", {"kind": "void"}, {"kind": "void"}),
    ("operations_one_in_flight_after_process", {"kind": "void"}, {"kind": "of_tomorrow"}),
    (None, {"kind": "capture"} | SETTLED, {"kind": "capture"}),
    (None, {}, {"kind": "void"}),
    (None, SETTLED, {"kind": "capture"}),
    (None, {"kind": "refund", "refund_id": uuid7()}, {"kind": "refund", "refund_id": uuid7()}),
]  # fmt: skip


@pytest.mark.parametrize(("constraint", "first", "second"), UNIQUE)
def test_operations_stand_in_each_others_way_as_the_table_says(
    owner: pg8000.native.Connection, constraint: str | None, first: dict[str, Any], second: dict[str, Any]
) -> None:
    owner.run("SET LOCAL session_replication_role = replica")
    payment_id = uuid7()
    insert(owner, "operations", operation_row(payment_id=payment_id, **first))
    if constraint is None:
        insert(owner, "operations", operation_row(payment_id=payment_id, **second))
    else:
        with pytest.raises(DatabaseError) as error:
            insert(owner, "operations", operation_row(payment_id=payment_id, **second))
        assert refused_by(error) == ("23505", constraint)


def test_a_sequence_number_is_given_to_one_event(owner: pg8000.native.Connection) -> None:
    payment_id = pay(owner)
    insert(owner, "outbox", outbox_row(payment_id=payment_id))
    insert(owner, "outbox", outbox_row(payment_id=payment_id, sequence=2))
    with pytest.raises(DatabaseError) as error:
        insert(owner, "outbox", outbox_row(payment_id=payment_id))
    assert refused_by(error) == ("23505", "outbox_one_event_per_sequence")


def test_a_gateways_dispute_is_recorded_once(owner: pg8000.native.Connection) -> None:
    one = row_of("disputes")
    insert(owner, "disputes", one)
    insert(owner, "disputes", one | {"dispute_id": uuid7(), "gateway": "another"})
    with pytest.raises(DatabaseError) as error:
        insert(owner, "disputes", one | {"dispute_id": uuid7(), "payment_id": uuid7()})
    assert refused_by(error) == ("23505", "disputes_one_per_gateway_dispute")


ONLY_IN_THE_TABLE = {
    "payments": {"gateway"},
    "refunds": {"gateway_refund_id"},
    "disputes": {"gateway"},
    "operations": {"lease_until", "next_attempt_at", "settled_at", "key_ends_at", "attempted_at", "parameters", "origin"},
    "outbox": {"lease_until", "published_at"},
}


@pytest.mark.parametrize(
    ("table", "record"),
    [("payments", Payment), ("refunds", Refund), ("disputes", Dispute), ("operations", Operation), ("outbox", Event)],
)
def test_a_dataclass_is_its_table_column_for_column(owner: pg8000.native.Connection, table: str, record: type[Any]) -> None:
    columns = owner.run(
        "SELECT column_name, is_nullable = 'YES' FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = :table",
        table=table,
    )
    hints = get_type_hints(record)
    assert {name: nullable for name, nullable in columns if name not in ONLY_IN_THE_TABLE[table]} == {
        f.name: types.NoneType in getattr(hints[f.name], "__args__", ()) for f in fields(record)
    }
    assert {name for name, _ in columns} >= ONLY_IN_THE_TABLE[table]


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ("payments_status_known", set(PaymentStatus)),
        ("refunds_status_known", set(RefundStatus)),
        ("disputes_outcome_known", set(DisputeOutcome)),
        ("operations_outcome_known", set(Outcome) - {Outcome.UNKNOWN}),
    ],
)
def test_the_words_that_a_column_knows_are_those_of_the_code(
    owner: pg8000.native.Connection, constraint: str, words: set[str]
) -> None:
    [[definition]] = owner.run("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name", name=constraint)
    assert set(definition.split("'")[1::2]) == {str(word) for word in words}
