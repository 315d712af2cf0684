from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from payments.domain.changes import (
    ActionNeeded,
    Authorized,
    Captured,
    CaptureFailed,
    Change,
    Failed,
    ProcessingStarted,
    RefundFailed,
    RefundReserved,
    RefundReversed,
    RefundSucceeded,
    Voided,
    VoidFailed,
)
from payments.domain.declines import CONFIDENTIAL_DECLINES
from payments.domain.payment import REFUNDABLE, TRANSITIONS, IllegalTransition, Payment, PaymentStatus, apply
from tests.cases import case
from tests.domain.examples import NOON, payment

S = PaymentStatus
LATER = NOON + timedelta(minutes=5)

# Rows: from. Columns: to, in the same order. Written a second time, so that a mistake in TRANSITIONS is found.
MATRIX = """
    PENDING             . x . . . . . . .
    PROCESSING          . . x x x . . x .
    REQUIRES_ACTION     . . . x x . . x x
    AUTHORIZED          . . . . x . . . x
    CAPTURED            . . . . . x x . .
    PARTIALLY_REFUNDED  . . . . x x x . .
    REFUNDED            . . . . x x . . .
    FAILED              . . . . . . . . .
    VOIDED              . . . . . . . . .
"""
ROWS = [line.split() for line in MATRIX.strip().splitlines()]
PAIRS = [(S(row[0]), S(to[0]), mark == "x") for row in ROWS for to, mark in zip(ROWS, row[1:], strict=True)]


def change_to(status: PaymentStatus, before: Payment) -> Change | None:
    """Return the change that leads to a status, whether or not `before` allows it. No change leads to PENDING."""
    left_minor = before.captured_minor - before.refunded_minor
    back_to = {S.CAPTURED: 0, S.PARTIALLY_REFUNDED: 1}.get(status)
    if back_to is not None and before.refunded_minor > back_to:
        return RefundReversed(before.refunded_minor - back_to, "card_declined")
    changes: dict[PaymentStatus, Change] = {
        S.REQUIRES_ACTION: ActionNeeded("pi_1", None),
        S.PROCESSING: ProcessingStarted(),
        S.AUTHORIZED: Authorized("txn_1", "pi_1", LATER + timedelta(days=7)),
        S.CAPTURED: Captured(before.amount_minor, "txn_1", "pi_1"),
        S.PARTIALLY_REFUNDED: RefundSucceeded(left_minor - 1),
        S.REFUNDED: RefundSucceeded(left_minor),
        S.FAILED: Failed("card_declined", "The card was declined.", "txn_1", "pi_1"),
        S.VOIDED: Voided("changed their mind"),
    }
    return changes.get(status)


def test_the_matrix_holds_every_pair_of_statuses_once() -> None:
    assert [(from_, to) for from_, to, _ in PAIRS] == [(from_, to) for from_ in S for to in S]
    assert len(PAIRS) == 81


@pytest.mark.parametrize("from_", S)
def test_a_payment_changes_its_status_only_as_the_table_allows(from_: S) -> None:
    for to, allowed in [(to, allowed) for start, to, allowed in PAIRS if start is from_]:
        with case(to):
            assert (to in TRANSITIONS[from_]) == allowed
            before = payment(from_)
            change = change_to(to, before)
            if change is None:
                assert not allowed
            elif allowed:
                after = apply(before, change, LATER)
                assert (after.status, after.version, after.updated_at) == (to, before.version + 1, LATER)
            else:
                with pytest.raises(IllegalTransition):
                    apply(before, change, LATER)


@pytest.mark.parametrize(("refunded", "reversed_", "status"), [(1999, 1999, S.CAPTURED), (1999, 500, S.PARTIALLY_REFUNDED)])
def test_a_refund_that_failed_after_all_gives_its_amount_back(refunded: int, reversed_: int, status: S) -> None:
    before = payment(S.REFUNDED, refunded_minor=refunded, captured_minor=refunded)
    after = apply(before, RefundReversed(reversed_, "expired_card"), LATER)
    assert (after.status, after.refunded_minor, after.refundable_minor) == (status, refunded - reversed_, reversed_)
    assert (after.status_reason, after.event_sequence) == ("refund failed: expired_card", before.event_sequence + 1)


def test_terminal_statuses_lead_nowhere() -> None:
    assert {status for status in S if not TRANSITIONS[status]} == {S.FAILED, S.VOIDED}
    assert frozenset({S.CAPTURED, S.PARTIALLY_REFUNDED}) == REFUNDABLE


def test_a_change_leaves_the_payment_that_it_starts_from_as_it_was() -> None:
    before = payment()
    apply(before, ProcessingStarted(), LATER)
    assert before == payment()


def test_an_authorization_notes_until_when_it_holds_and_a_capture_forgets_it() -> None:
    until = LATER + timedelta(days=7)
    authorized = apply(payment(S.PROCESSING), Authorized("txn_9", "pi_9", until), LATER)
    assert (authorized.authorized_at, authorized.capture_before, authorized.captured_minor) == (LATER, until, 0)
    assert (authorized.transaction_id, authorized.payment_intent_id) == ("txn_9", "pi_9")
    captured = apply(authorized, Captured(500, "txn_9", "pi_9"), LATER)
    assert (captured.captured_at, captured.captured_minor, captured.capture_before) == (LATER, 500, None)
    assert captured.authorized_at == LATER, "when it was authorized stays known"
    voided = apply(authorized, Voided("too late"), LATER)
    assert (voided.voided_at, voided.capture_before, voided.status_reason) == (LATER, None, "too late")


def test_a_failure_keeps_the_gateways_words_and_ids() -> None:
    failed = apply(payment(S.PROCESSING), Failed("expired_card", "The card has expired.", "txn_2", "pi_2"), LATER)
    assert (failed.decline_code, failed.error_message, failed.failed_at) == ("expired_card", "The card has expired.", LATER)
    assert (failed.transaction_id, failed.payment_intent_id) == ("txn_2", "pi_2")


@pytest.mark.parametrize("code", sorted(CONFIDENTIAL_DECLINES))
def test_the_reason_in_the_history_does_not_tell_of_stolen_cards(code: str) -> None:
    failed = apply(payment(S.PROCESSING), Failed(code, "Ask the bank.", "txn_2", "pi_2"), LATER)
    assert code not in failed.status_reason
    assert failed.decline_code == code, "support staff see the real one"


@pytest.mark.parametrize("status", S)
def test_only_a_captured_payment_is_refundable_up_to_what_is_left(status: S) -> None:
    reserved = 300 if status in REFUNDABLE else 0
    left_minor = {S.CAPTURED: 1699, S.PARTIALLY_REFUNDED: 1199}.get(status, 0)
    before = payment(status, refund_reserved_minor=reserved)
    assert before.refundable_minor == left_minor
    for amount_minor in (-1, 0, left_minor + 1):
        with pytest.raises(IllegalTransition):
            apply(before, RefundReserved(amount_minor), LATER)
    for amount_minor in {1, left_minor} if left_minor else set[int]():
        after = apply(before, RefundReserved(amount_minor), LATER)
        reserved_minor, version = reserved + amount_minor, before.version + 1
        assert after == replace(before, refund_reserved_minor=reserved_minor, version=version, updated_at=LATER)


def test_refunds_use_up_their_reservations_until_nothing_is_left() -> None:
    before = payment(S.CAPTURED, refund_reserved_minor=1999)
    first = apply(before, RefundSucceeded(500), LATER)
    assert (first.status, first.refunded_minor, first.refund_reserved_minor) == (S.PARTIALLY_REFUNDED, 500, 1499)
    second = apply(first, RefundSucceeded(499), LATER)
    assert (second.status, second.refunded_minor, second.refund_reserved_minor) == (S.PARTIALLY_REFUNDED, 999, 1000)
    last = apply(second, RefundSucceeded(1000), LATER)
    assert (last.status, last.refunded_minor, last.refund_reserved_minor) == (S.REFUNDED, 1999, 0)


@pytest.mark.parametrize("status", sorted(REFUNDABLE))
def test_a_declined_refund_frees_what_was_reserved_and_nothing_else(status: S) -> None:
    before = payment(status, refund_reserved_minor=500)
    after = apply(before, RefundFailed(500, "expired_card"), LATER)
    assert after == replace(
        before,
        refund_reserved_minor=0,
        status_reason="refund declined: expired_card",
        event_sequence=before.event_sequence + 1,
        version=before.version + 1,
        updated_at=LATER,
    )


@pytest.mark.parametrize(("change", "what"), [(CaptureFailed, "capture"), (VoidFailed, "void")])
def test_an_authorization_shows_why_its_capture_or_void_was_declined(change: type[CaptureFailed | VoidFailed], what: str) -> None:
    before = payment(S.AUTHORIZED)
    after = apply(before, change("stolen_card", "Ask the bank."), LATER)
    assert (after.status, after.status_reason) == (S.AUTHORIZED, f"{what} declined: generic_decline")
    assert (after.decline_code, after.error_message) == ("stolen_card", "Ask the bank."), "support staff see the real one"
    assert (after.version, after.event_sequence, after.updated_at) == (before.version + 1, before.event_sequence + 1, LATER)
    for ended in (apply(after, Captured(1999, "txn_1", "pi_1"), LATER), apply(after, Voided("asked for"), LATER)):
        assert (ended.decline_code, ended.error_message) == (None, None)


@pytest.mark.parametrize("status", [status for status in S if status not in (S.AUTHORIZED, S.REQUIRES_ACTION)])
def test_only_an_authorization_has_a_capture_or_void_that_fails(status: S) -> None:
    for change in (CaptureFailed("card_declined", "No."), VoidFailed("card_declined", "No.")):
        with pytest.raises(IllegalTransition):
            apply(payment(status), change, LATER)


def test_a_payments_story_never_goes_backwards_on_a_machine_whose_clock_is_slow() -> None:
    after = apply(payment(S.PROCESSING), Captured(1999, "txn_1", "pi_1"), NOON - timedelta(seconds=3))
    assert (after.updated_at, after.captured_at) == (NOON, NOON)


def test_the_payment_token_is_not_shown_by_repr() -> None:
    assert "tok_secret" not in repr(payment(payment_token="tok_secret"))
