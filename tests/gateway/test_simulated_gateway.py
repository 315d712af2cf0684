from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from payments.domain.declines import DECLINE_MESSAGES
from payments.gateway.port import ActionRequired, Approved, Declined, GatewayRequest, Pending, Reply, Unknown
from payments.gateway.simulated import SimulatedGateway
from payments.gateway.simulated_scenarios import DECLINE_CODES, SCENARIO_TOKENS, SLOW_S

KEYS = [f"pay-{number}" for number in range(10_000)]


def gateway(**changes: Any) -> SimulatedGateway:
    fields: dict[str, Any] = {"success_rate": 1.0, "delay_ms": (0, 0), "sleep": lambda seconds: None}
    return SimulatedGateway(**fields | changes)


def request(key: str = "pay-1", token: str | None = "tok_ok", **changes: Any) -> GatewayRequest:
    fields: dict[str, Any] = {
        "kind": "process",
        "key": key,
        "attempt": 1,
        "payment_id": UUID(int=1),
        "order_id": "order-1",
        "amount_minor": 1999,
        "currency": "USD",
        "payment_method": "credit_card",
        "payment_token": token,
        "timeout_s": 10.0,
    }
    return GatewayRequest(**fields | changes)


def within(count: int, of: int, rate: float) -> bool:
    """Return whether the count is within 5 standard deviations of its mean. One fair draw in two million is not."""
    return abs(count - of * rate) <= 5 * math.sqrt(of * rate * (1 - rate))


def test_the_declines_are_those_that_were_agreed() -> None:
    assert set(DECLINE_CODES) == {
        "insufficient_funds", "card_declined", "expired_card", "incorrect_cvc",
        "processing_error", "lost_card", "stolen_card", "fraudulent",
    }  # fmt: skip


def test_the_same_key_always_gets_the_same_answer() -> None:
    keys = KEYS[:500]
    first, other_process = gateway(success_rate=0.5), gateway(success_rate=0.5)
    answers = [first.charge(request(key, None)) for key in keys]
    assert [other_process.charge(request(key, None, attempt=3)) for key in reversed(keys)] == answers[::-1]
    assert len({type(answer) for answer in answers}) == 2


def test_another_seed_gives_other_answers() -> None:
    def answers(seed: str) -> list[Reply]:
        return [gateway(success_rate=0.5, seed=seed).charge(request(key, None)) for key in KEYS[:100]]

    assert answers("a") == answers("a")
    assert [type(answer) for answer in answers("a")] != [type(answer) for answer in answers("b")]


def test_the_success_rate_is_kept_over_many_keys() -> None:
    answers = [gateway(success_rate=0.95).charge(request(key, None)) for key in KEYS]
    declines = Counter(answer.decline_code for answer in answers if isinstance(answer, Declined))
    assert within(declines.total(), len(KEYS), 0.05)
    for code in DECLINE_CODES:
        assert within(declines[code], declines.total(), 1 / len(DECLINE_CODES)), code


@pytest.mark.parametrize(("rate", "kind"), [(1.0, Approved), (0.0, Declined)])
def test_a_rate_of_0_or_1_has_no_exception(rate: float, kind: type[Reply]) -> None:
    assert {type(gateway(success_rate=rate).charge(request(key, None))) for key in KEYS[:2000]} == {kind}


def test_ids_are_distinct_and_come_with_declines_too() -> None:
    answers = [gateway(success_rate=0.5).charge(request(key, None)) for key in KEYS]
    ids = [(answer.transaction_id, answer.payment_intent_id) for answer in answers if isinstance(answer, Approved | Declined)]
    assert len(set(ids)) == len({txn for txn, _ in ids}) == len({pi for _, pi in ids}) == len(KEYS)
    assert all(str(txn).startswith("txn_") and str(pi).startswith("pi_") for txn, pi in ids)


CHARGES: list[tuple[str, type[Reply] | str, type[Reply] | str]] = [
    ("tok_ok", Approved, Approved),
    *((f"tok_{code}", code, code) for code in DECLINE_CODES),
    ("tok_timeout_then_captured", Unknown, Approved),
    ("tok_timeout_then_declined", Unknown, "card_declined"),
    ("tok_capture_declined", "card_declined", "card_declined"),
    ("tok_void_declined", Approved, Approved),
    ("tok_refund_declined", Approved, Approved),
    ("tok_refund_timeout", Approved, Approved),
    ("tok_slow", Approved, Approved),
    ("tok_429", Unknown, Approved),
    ("tok_pending", Pending, Approved),
    ("tok_refund_pending", Approved, Approved),
    ("tok_500_remembered", Unknown, Unknown),
    ("tok_key_refused", Unknown, Unknown),
    ("tok_wrong_amount", Approved, Approved),
    ("tok_requires_action", ActionRequired, ActionRequired),
    ("tok_action_then_captured", ActionRequired, Approved),
    ("tok_action_then_declined", ActionRequired, "card_declined"),
]


def is_(reply: Reply, expected: type[Reply] | str) -> bool:
    if isinstance(expected, str):
        return isinstance(reply, Declined) and (reply.decline_code, reply.message) == (expected, DECLINE_MESSAGES[expected])
    return isinstance(reply, expected)


def test_every_scenario_token_is_in_the_table() -> None:
    assert {token for token, _, _ in CHARGES} == SCENARIO_TOKENS


@pytest.mark.parametrize(("token", "first", "later"), CHARGES)
@pytest.mark.parametrize("success_rate", [0.0, 1.0])
def test_a_scenario_token_overrides_the_rate(
    token: str, first: type[Reply] | str, later: type[Reply] | str, success_rate: float
) -> None:
    simulated = gateway(success_rate=success_rate)
    assert is_(simulated.charge(request(token=token)), first)
    assert is_(simulated.charge(request(token=token, attempt=2)), later)
    assert is_(simulated.charge(request(token=token, attempt=3)), later)


@pytest.mark.parametrize("token", [None, "tok_visa", "tok_", "", "ok", "insufficient_funds", "stolen_card", "TOK_OK"])
def test_other_tokens_follow_the_rate(token: str | None) -> None:
    assert isinstance(gateway(success_rate=1.0).charge(request(token=token)), Approved)
    assert isinstance(gateway(success_rate=0.0).charge(request(token=token)), Declined)


FOLLOW_UPS: list[tuple[str, str, type[Reply] | str, type[Reply] | str]] = [
    ("capture", "tok_ok", Approved, Approved),
    ("capture", "tok_capture_declined", "card_declined", "card_declined"),
    ("capture", "tok_refund_declined", Approved, Approved),
    ("void", "tok_ok", Approved, Approved),
    ("void", "tok_capture_declined", Approved, Approved),
    ("refund", "tok_ok", Approved, Approved),
    ("refund", "tok_refund_declined", "card_declined", "card_declined"),
    ("refund", "tok_refund_timeout", Unknown, Approved),
    ("refund", "tok_timeout_then_captured", Approved, Approved),
    ("refund", "tok_refund_pending", Pending, Approved),
    ("refund", "tok_pending", Approved, Approved),
]


@pytest.mark.parametrize(("action", "token", "first", "later"), FOLLOW_UPS)
def test_what_follows_a_charge_has_its_own_scenarios(
    action: str, token: str, first: type[Reply] | str, later: type[Reply] | str
) -> None:
    call = getattr(gateway(success_rate=0.0), action)
    ids = {"transaction_id": "txn_1", "payment_intent_id": "pi_1"}
    assert is_(call(request("cap-1", token, **ids)), first)
    reply = call(request("cap-1", token, attempt=2, **ids))
    assert is_(reply, later)
    assert isinstance(reply, Approved | Declined)
    assert (reply.transaction_id, reply.payment_intent_id) == ("txn_1", "pi_1"), "the reply names the charge's transaction"


FOUND: dict[str, type[Reply] | str] = {
    "tok_ok": Approved,
    "tok_card_declined": "card_declined",
    "tok_timeout_then_captured": Approved,
    "tok_timeout_then_declined": "card_declined",
    "tok_pending": Approved,
    "tok_500_remembered": Approved,
    "tok_key_refused": "processing_error",
    "tok_429": Approved,
}


@pytest.mark.parametrize("token", FOUND)
def test_a_question_says_what_the_call_came_to(token: str) -> None:
    asked = request(token=token)
    reply = gateway(success_rate=0.0).find(asked)
    assert is_(reply, FOUND[token])
    if isinstance(charged := gateway(success_rate=0.0).charge(replace(asked, attempt=2)), Approved | Declined):
        assert reply == charged


def test_scenarios_say_what_a_person_or_reconcile_needs() -> None:
    assert gateway().charge(request(token="tok_429")) == Unknown("too many requests", wait_s=2.0)
    spent = [gateway().charge(request(token=token)) for token in ("tok_500_remembered", "tok_key_refused")]
    assert all(isinstance(reply, Unknown) and reply.key_is_spent for reply in spent)
    wrong, right = (gateway().charge(request(token=token)) for token in ("tok_wrong_amount", "tok_ok"))
    assert isinstance(wrong, Approved)
    assert isinstance(right, Approved)
    assert (right.amount_minor, wrong.amount_minor) == (1999, 2000)


def test_a_manual_charge_is_authorized_although_its_capture_will_be_declined() -> None:
    assert isinstance(gateway().charge(request(token="tok_capture_declined", capture=False)), Approved)


def test_replies_are_lost_at_their_rate_and_the_next_attempt_may_get_through() -> None:
    lossy = gateway(lost_reply_rate=0.3)
    first = [isinstance(lossy.charge(request(key)), Unknown) for key in KEYS]
    second = [isinstance(lossy.charge(request(key, attempt=2)), Unknown) for key in KEYS]
    assert within(sum(first), len(KEYS), 0.3)
    assert within(sum(second), len(KEYS), 0.3)
    assert within(sum(a and b for a, b in zip(first, second, strict=True)), len(KEYS), 0.09), "the two attempts are independent"


def test_a_lost_reply_changes_nothing_about_the_answer() -> None:
    sure, lossy = gateway(success_rate=0.5), gateway(success_rate=0.5, lost_reply_rate=0.5)
    for key in KEYS[:500]:
        reply = lossy.charge(request(key, None, attempt=2))
        assert isinstance(reply, Unknown) or reply == sure.charge(request(key, None))


def test_the_delay_is_drawn_evenly_from_its_range() -> None:
    waits: list[float] = []
    slow = gateway(delay_ms=(50, 200), sleep=waits.append)
    for key in KEYS:
        slow.charge(request(key))
    assert all(0.05 <= wait <= 0.2 for wait in waits)
    assert within(sum(wait < 0.125 for wait in waits), len(KEYS), 0.5)
    assert min(waits) < 0.06
    assert max(waits) > 0.19


def test_tok_slow_takes_three_seconds_for_the_charge_alone() -> None:
    waits: list[float] = []
    slow = gateway(sleep=waits.append)
    slow.charge(request(token="tok_slow"))
    slow.refund(request(token="tok_slow"))
    assert waits == [SLOW_S, 0.0]
    assert SLOW_S == 3


def test_no_answer_in_time_is_unknown_and_takes_no_longer_than_that() -> None:
    waits: list[float] = []
    slow = gateway(sleep=waits.append)
    assert isinstance(slow.charge(request(token="tok_slow", timeout_s=1.5)), Unknown)
    assert waits == [1.5]


def test_the_raw_reply_names_the_action() -> None:
    simulated = gateway()
    raws = [call(request()).raw for call in (simulated.charge, simulated.capture, simulated.void, simulated.refund)]  # type: ignore[union-attr]
    assert [raw["action"] for raw in raws] == ["charge", "capture", "void", "refund"]
    assert len({raw["id"] for raw in raws}) == 4


def test_the_payment_token_is_not_shown_by_repr() -> None:
    assert "tok_secret" not in repr(request(token="tok_secret"))


def test_nobody_is_there_to_act_off_session() -> None:
    """Neither the call nor the question what became of it waits for a customer."""
    simulated = gateway()
    for token in ("tok_requires_action", "tok_action_then_captured", "tok_action_then_declined"):
        asked = request(token=token, off_session=True)
        for reply in (simulated.charge(asked), simulated.find(asked)):
            assert isinstance(reply, Declined)
            assert reply.decline_code in ("authentication_required", "card_declined"), token


def test_a_customer_who_has_to_act_is_found_to_wait_until_a_scenario_says_what_was_done() -> None:
    simulated = gateway()
    waits = simulated.find(request(token="tok_requires_action"))
    assert isinstance(waits, ActionRequired)
    assert waits.next_action.client_secret is not None
    assert waits.next_action.client_secret not in repr(waits)
    assert isinstance(simulated.find(request(token="tok_action_then_captured")), Approved)
    assert is_(simulated.find(request(token="tok_action_then_declined")), "card_declined")
