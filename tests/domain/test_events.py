from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import get_args
from uuid import UUID

import pytest

from payments.domain.changes import (
    EVENT_TYPES,
    ActionNeeded,
    Authorized,
    Captured,
    CaptureFailed,
    DisputeClosed,
    Disputed,
    Failed,
    ProcessingStarted,
    Published,
    RefundFailed,
    RefundReserved,
    RefundReversed,
    RefundSucceeded,
    Voided,
    VoidFailed,
)
from payments.domain.declines import CONFIDENTIAL_DECLINES, DECLINE_MESSAGES, public_decline_code
from payments.domain.events import event_for, payment_body
from payments.domain.payment import PaymentStatus, apply
from payments.domain.refund import refund_body
from payments.domain.times import rfc3339
from tests.domain.examples import NOON, PAYMENT_ID, payment, refund

S = PaymentStatus
EVENT_ID = UUID("019c1234-5678-7abc-8def-0123456789ad")
LATER = NOON + timedelta(seconds=1)
UNTIL = NOON + timedelta(days=7)

OWED: list[tuple[PaymentStatus, Published, str]] = [
    (S.PROCESSING, ActionNeeded("pi_1", None), "payment.requires_action"),
    (S.REQUIRES_ACTION, Captured(1999, "txn_1", "pi_1"), "payment.successful"),
    (S.REQUIRES_ACTION, Authorized("txn_1", "pi_1", UNTIL), "payment.authorized"),
    (S.REQUIRES_ACTION, Failed("card_declined", "The card was declined.", None, "pi_1"), "payment.failed"),
    (S.REQUIRES_ACTION, Voided("nobody came"), "payment.voided"),
    (S.REQUIRES_ACTION, VoidFailed("card_declined", "The card was declined."), "payment.void_failed"),
    (S.PROCESSING, Captured(1999, "txn_1", "pi_1"), "payment.successful"),
    (S.PROCESSING, Authorized("txn_1", "pi_1", UNTIL), "payment.authorized"),
    (S.PROCESSING, Failed("card_declined", "The card was declined.", "txn_1", "pi_1"), "payment.failed"),
    (S.AUTHORIZED, Captured(500, "txn_1", "pi_1"), "payment.successful"),
    (S.AUTHORIZED, Voided("asked for"), "payment.voided"),
    (S.AUTHORIZED, CaptureFailed("card_declined", "The card was declined."), "payment.capture_failed"),
    (S.AUTHORIZED, VoidFailed("card_declined", "The card was declined."), "payment.void_failed"),
    (S.CAPTURED, RefundSucceeded(500), "payment.refunded"),
    (S.CAPTURED, RefundFailed(500, "card_declined"), "payment.refund_failed"),
    (S.REFUNDED, RefundReversed(1999, "card_declined"), "payment.refund_failed"),
    (S.CAPTURED, Disputed("disputed: duplicate"), "payment.disputed"),
    (S.REFUNDED, DisputeClosed("dispute won"), "payment.dispute_closed"),
]


@pytest.mark.parametrize(("before", "change", "type_"), OWED, ids=lambda value: str(value)[:20])
def test_every_outcome_owes_the_event_that_the_table_says(before: S, change: Published, type_: str) -> None:
    after = apply(payment(before, refund_reserved_minor=500 if before is S.CAPTURED else 0), change, LATER)
    event = event_for(change, after, None, EVENT_ID, "00-trace")
    assert (event.event_id, event.payment_id, event.type, event.sequence) == (EVENT_ID, PAYMENT_ID, type_, 1)
    assert (json.loads(event.data), event.created_at, event.traceparent) == (payment_body(after), LATER, "00-trace")


def test_every_outcome_is_in_the_table_above() -> None:
    assert {type(change) for _, change, _ in OWED} == set(get_args(Published)) == set(EVENT_TYPES)


@pytest.mark.parametrize(("before", "change"), [(S.PENDING, ProcessingStarted()), (S.CAPTURED, RefundReserved(500))])
def test_the_beginning_of_a_command_takes_no_number_of_an_event(before: S, change: ProcessingStarted | RefundReserved) -> None:
    assert apply(payment(before), change, LATER).event_sequence == 0, "a sequence number without an event is a gap"


def test_a_payments_events_are_numbered_from_1_without_gaps() -> None:
    current, numbers = payment(), []
    current = apply(current, ProcessingStarted(), LATER)
    story: list[Published] = [
        Authorized("txn_1", "pi_1", UNTIL),
        CaptureFailed("card_declined", "The card was declined."),
        VoidFailed("card_declined", "The card was declined."),
        Captured(1999, "txn_1", "pi_1"),
        RefundSucceeded(500),
        RefundFailed(300, "card_declined"),
        RefundSucceeded(1499),
    ]
    for change in story:
        current = apply(current, change, LATER)
        numbers.append(event_for(change, current, None, EVENT_ID, None).sequence)
    assert numbers == [1, 2, 3, 4, 5, 6, 7]


def test_a_payment_as_others_see_it() -> None:
    seen = payment(
        S.PARTIALLY_REFUNDED,
        refund_reserved_minor=100,
        customer_id="c-1",
        description="Boots",
        metadata={"size": "44"},
        authorized_at=NOON,
        captured_at=LATER,
        updated_at=LATER,
    )
    assert payment_body(seen) == {
        "payment_id": str(PAYMENT_ID),
        "order_id": "order-1",
        "status": "PARTIALLY_REFUNDED",
        "amount": 1999,
        "currency": "USD",
        "payment_method": "credit_card",
        "capture_method": "automatic",
        "amount_captured": 1999,
        "amount_refunded": 500,
        "amount_refund_pending": 100,
        "transaction_id": "txn_1",
        "payment_intent_id": "pi_1",
        "decline_code": None,
        "error_message": None,
        "customer_id": "c-1",
        "description": "Boots",
        "metadata": {"size": "44"},
        "created_at": "2026-01-31T12:00:00.000000Z",
        "updated_at": "2026-01-31T12:00:01.000000Z",
        "authorized_at": "2026-01-31T12:00:00.000000Z",
        "captured_at": "2026-01-31T12:00:01.000000Z",
        "failed_at": None,
        "voided_at": None,
        "capture_before": None,
    }
    assert payment_body(seen, refunds=[refund()]) == payment_body(seen) | {"refunds": [refund_body(refund())]}
    assert payment_body(seen, refunds=[])["refunds"] == []


def test_a_refund_as_others_see_it_and_inside_its_event() -> None:
    body = refund_body(refund())
    assert body == {
        "refund_id": str(refund().refund_id),
        "payment_id": str(PAYMENT_ID),
        "transaction_id": "txn_1",
        "amount": 500,
        "currency": "USD",
        "status": "SUCCEEDED",
        "reason": "too small",
        "decline_code": None,
        "created_at": "2026-01-31T12:00:00.000000Z",
        "updated_at": "2026-01-31T12:00:00.000000Z",
        "origin": "service",
    }
    after = apply(payment(S.CAPTURED, refund_reserved_minor=500), RefundSucceeded(500), LATER)
    event = event_for(RefundSucceeded(500), after, refund(), EVENT_ID, None)
    assert event is not None
    assert json.loads(event.data) == payment_body(after) | {"refund": body}


def test_neither_owner_nor_token_leaves_the_service() -> None:
    text = str(payment_body(payment(owner="owner-canary", payment_token="tok_canary"), confidential=True))
    assert "canary" not in text


@pytest.mark.parametrize("code", sorted(CONFIDENTIAL_DECLINES))
def test_stolen_lost_and_fraud_are_a_plain_decline_to_all_but_the_admin_scope(code: str) -> None:
    change = Failed(code, DECLINE_MESSAGES[code], "txn_1", "pi_1")
    after = apply(payment(S.PROCESSING), change, LATER)
    event = event_for(change, after, None, EVENT_ID, None)
    assert event is not None
    assert code not in event.data
    assert DECLINE_MESSAGES[code] not in event.data
    assert (json.loads(event.data)["decline_code"], json.loads(event.data)["error_message"]) == (
        "generic_decline",
        "The bank or the gateway declined it.",
    )
    shown = payment_body(after, confidential=True)
    assert (shown["decline_code"], shown["error_message"]) == (code, DECLINE_MESSAGES[code])
    assert refund_body(refund(decline_code=code))["decline_code"] == "generic_decline"
    assert refund_body(refund(decline_code=code), confidential=True)["decline_code"] == code


@pytest.mark.parametrize("code", sorted(DECLINE_MESSAGES.keys() - CONFIDENTIAL_DECLINES))
def test_other_declines_are_told_as_they_are(code: str) -> None:
    assert public_decline_code(code) == code


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (NOON, "2026-01-31T12:00:00.000000Z"),
        (NOON.replace(microsecond=5), "2026-01-31T12:00:00.000005Z"),
        (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))), "2026-01-31T06:30:00.000000Z"),
        (None, None),
    ],
)
def test_times_are_rfc_3339_in_utc_and_of_one_width(at: datetime | None, text: str | None) -> None:
    assert rfc3339(at) == text
