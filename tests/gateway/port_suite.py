"""What an adapter must do, as a table of cases. docs/gateways.md says how an adapter is run through it.

A case gets a Subject, makes payments of its own, and fails with an AssertionError.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from payments.gateway.port import ActionRequired, Approved, Declined, Gateway, GatewayRequest, Pending, Seen, Unknown

AMOUNT = 5000

T = TypeVar("T")


class Customer(Protocol):
    """Whoever has what a NextAction holds. Each raises AssertionError where the server offers it to nobody."""

    def passes(self, action: ActionRequired) -> None:
        """Pass the bank's check, which moves the money."""

    def fails(self, action: ActionRequired) -> None:
        """Fail the bank's check."""

    def enters(self, action: ActionRequired, token: str) -> None:
        """Pay with the card of one of TOKENS, on a page of the gateway's."""


class Outside(Protocol):
    """Somebody at the gateway's dashboard. Each raises AssertionError where the server has none."""

    def captures(self, payment_intent_id: str, amount_minor: int) -> None: ...

    def cancels(self, payment_intent_id: str) -> None: ...

    def refunds(self, payment_intent_id: str, amount_minor: int) -> None: ...

    def cancels_refund(self, refund_id: str) -> None: ...

    def wins(self, dispute_id: str) -> None: ...


@dataclass(frozen=True)
class Subject:
    """An adapter in front of a server. `token` returns a new payment token for one of TOKENS.

    `gaps` names the cases that the server does not pass, and why. A case that passes all the same is a failure too.
    """

    gateway: Gateway
    token: Callable[[str], str]
    customer: Customer
    outside: Outside
    gaps: Mapping[str, str] = field(default_factory=dict)


TOKENS = ("good", "without funds", "needs its owner", "needs its owner and declines", "refunded in days", "disputed")

CASES: dict[str, Callable[[Subject], None]] = {}
"""By what the case shows."""


def case(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
    CASES[function.__name__.replace("_", " ")] = function
    return function


def _request(kind: str, key: str, amount_minor: int = AMOUNT, **fields: Any) -> GatewayRequest:
    defaults: dict[str, Any] = {
        "kind": kind,
        "key": key,
        "attempt": 1,
        "payment_id": uuid.uuid4(),
        "order_id": f"order-{uuid.uuid4().hex[:8]}",
        "amount_minor": amount_minor,
        "currency": "USD",
        "payment_method": "credit_card",
        "payment_token": None,
        "timeout_s": 10.0,
        "asked_at": [datetime.now(UTC)],
    }
    return GatewayRequest(**defaults | fields)


def charge_of(subject: Subject, token: str = "good", **fields: Any) -> GatewayRequest:
    """Return a charge that nobody has asked for yet."""
    return _request("process", f"pay-{uuid.uuid4()}", payment_token=subject.token(token), **fields)


def later_call(kind: str, charge: GatewayRequest, charged: Approved, amount_minor: int = AMOUNT) -> GatewayRequest:
    """Return a call on the charge, under a new key."""
    return replace(
        charge,
        kind=kind,
        key=f"{kind[:3]}-{uuid.uuid4()}",
        amount_minor=amount_minor,
        asked_at=[datetime.now(UTC)],
        transaction_id=charged.transaction_id,
        payment_intent_id=charged.payment_intent_id,
    )


def approved(reply: object, amount_minor: int = AMOUNT) -> Approved:
    assert isinstance(reply, Approved), reply
    assert (reply.amount_minor, reply.currency) == (amount_minor, "USD")
    assert reply.transaction_id and reply.payment_intent_id
    return reply


def declined(reply: object, *codes: str) -> Declined:
    assert isinstance(reply, Declined), reply
    assert not codes or reply.decline_code in codes, reply
    assert reply.message
    return reply


def facts(reply: Approved) -> tuple[object, ...]:
    """Return what two answers to one key have in common. The gateway may name each of its answers."""
    return (reply.transaction_id, reply.payment_intent_id, reply.amount_minor, reply.currency, reply.refund_id)


def _charged(subject: Subject, token: str = "good", *, capture: bool = True) -> tuple[GatewayRequest, Approved]:
    request = charge_of(subject, token, capture=capture)
    return request, approved(subject.gateway.charge(request))


@case
def a_charge_moves_the_amount_that_was_asked_for(subject: Subject) -> None:
    first, second = _charged(subject)[1], _charged(subject)[1]
    assert first.transaction_id != second.transaction_id
    assert first.payment_intent_id != second.payment_intent_id


@case
def a_key_gets_its_answer_again(subject: Subject) -> None:
    gateway = subject.gateway
    request, charged = _charged(subject, capture=False)
    assert facts(approved(gateway.charge(replace(request, attempt=2)))) == facts(charged)
    capture = later_call("capture", request, charged)
    assert facts(approved(gateway.capture(capture))) == facts(approved(gateway.capture(replace(capture, attempt=2))))
    refund = later_call("refund", request, charged, 700)
    assert facts(approved(gateway.refund(refund), 700)) == facts(approved(gateway.refund(replace(refund, attempt=2)), 700))
    request, charged = _charged(subject, capture=False)
    void = later_call("void", request, charged)
    assert facts(approved(gateway.void(void))) == facts(approved(gateway.void(replace(void, attempt=2))))


@case
def a_key_that_was_declined_stays_declined(subject: Subject) -> None:
    request = charge_of(subject, "without funds")
    first = declined(subject.gateway.charge(request), "insufficient_funds")
    again = declined(subject.gateway.charge(replace(request, attempt=2)), "insufficient_funds")
    assert (again.transaction_id, again.payment_intent_id) == (first.transaction_id, first.payment_intent_id)


@case
def a_key_with_other_parameters_is_spent(subject: Subject) -> None:
    request, _ = _charged(subject)
    reply = subject.gateway.charge(replace(request, amount_minor=AMOUNT + 100))
    assert isinstance(reply, Unknown) and reply.key_is_spent, reply


@case
def an_authorization_is_captured_whole(subject: Subject) -> None:
    request, charged = _charged(subject, capture=False)
    assert charged.capture_before is None or charged.capture_before > datetime.now(UTC)
    captured = approved(subject.gateway.capture(later_call("capture", request, charged)))
    assert captured.payment_intent_id == charged.payment_intent_id


@case
def an_authorization_is_captured_in_part(subject: Subject) -> None:
    request, charged = _charged(subject, capture=False)
    approved(subject.gateway.capture(later_call("capture", request, charged, 1200)), 1200)
    declined(subject.gateway.refund(later_call("refund", request, charged, 1201)))
    approved(subject.gateway.refund(later_call("refund", request, charged, 1200)), 1200)


@case
def an_authorization_is_released(subject: Subject) -> None:
    request, charged = _charged(subject, capture=False)
    approved(subject.gateway.void(later_call("void", request, charged)))


@case
def an_authorization_ends_once(subject: Subject) -> None:
    """Under other keys too: what was captured is not released, and what was released is not captured."""
    request, charged = _charged(subject, capture=False)
    approved(subject.gateway.capture(later_call("capture", request, charged)))
    declined(subject.gateway.void(later_call("void", request, charged)))
    assert facts(approved(subject.gateway.capture(later_call("capture", request, charged))))[:2] == facts(charged)[:2]
    request, charged = _charged(subject, capture=False)
    approved(subject.gateway.void(later_call("void", request, charged)))
    declined(subject.gateway.capture(later_call("capture", request, charged)))
    approved(subject.gateway.void(later_call("void", request, charged)))


@case
def refunds_of_parts_move_the_parts(subject: Subject) -> None:
    request, charged = _charged(subject)
    first = approved(subject.gateway.refund(later_call("refund", request, charged, 1000)), 1000)
    rest = approved(subject.gateway.refund(later_call("refund", request, charged, AMOUNT - 1000)), AMOUNT - 1000)
    assert first.refund_id and rest.refund_id and first.refund_id != rest.refund_id
    assert first.transaction_id == charged.transaction_id


@case
def more_than_is_left_is_not_refunded(subject: Subject) -> None:
    request, charged = _charged(subject)
    approved(subject.gateway.refund(later_call("refund", request, charged, 4000)), 4000)
    declined(subject.gateway.refund(later_call("refund", request, charged, 1001)))
    approved(subject.gateway.refund(later_call("refund", request, charged, 1000)), 1000)
    declined(subject.gateway.refund(later_call("refund", request, charged, 1)), "charge_already_refunded")


@case
def a_card_that_needs_its_owner_is_declined_off_session(subject: Subject) -> None:
    request = charge_of(subject, "needs its owner", off_session=True)
    declined(subject.gateway.charge(request), "authentication_required")
    declined(subject.gateway.charge(replace(request, attempt=2)), "authentication_required")


@case
def a_card_that_does_not_exist_is_declined(subject: Subject) -> None:
    request = replace(charge_of(subject), payment_token="pm_nobody_has_this")
    reply = declined(subject.gateway.charge(request), "resource_missing")
    assert "pm_nobody" not in f"{reply}"


@case
def a_disputed_charge_is_not_refunded(subject: Subject) -> None:
    request, charged = _charged(subject, "disputed")
    declined(subject.gateway.refund(later_call("refund", request, charged)), "charge_disputed")


@case
def a_refund_that_takes_days_is_pending_and_found_by_its_name(subject: Subject) -> None:
    request, charged = _charged(subject, "refunded in days")
    refund = later_call("refund", request, charged)
    reply = subject.gateway.refund(refund)
    assert isinstance(reply, Pending), reply
    found = subject.gateway.find(replace(refund, gateway_id=reply.gateway_id))
    assert isinstance(found, Pending | Approved), found


@case
def a_charge_is_found_by_the_moments_of_its_calls(subject: Subject) -> None:
    for capture in (True, False):
        request, charged = _charged(subject, capture=capture)
        moments = [datetime.now(UTC) - timedelta(days=2), *request.asked_at]
        assert facts(approved(subject.gateway.find(replace(request, asked_at=moments)))) == facts(charged)


@case
def a_charge_is_found_by_its_name(subject: Subject) -> None:
    request, charged = _charged(subject)
    found = approved(subject.gateway.find(replace(request, asked_at=(), gateway_id=charged.payment_intent_id)))
    assert facts(found) == facts(charged)


@case
def a_declined_charge_is_found_declined(subject: Subject) -> None:
    request = charge_of(subject, "without funds")
    declined(subject.gateway.charge(request), "insufficient_funds")
    declined(subject.gateway.find(request), "insufficient_funds")


@case
def captures_voids_and_refunds_are_found(subject: Subject) -> None:
    request, charged = _charged(subject, capture=False)
    capture = later_call("capture", request, charged, 1200)
    captured = approved(subject.gateway.capture(capture), 1200)
    assert facts(approved(subject.gateway.find(capture), 1200)) == facts(captured)
    for _ in range(2):
        refund = later_call("refund", request, charged, 500)
        refunded = approved(subject.gateway.refund(refund), 500)
        assert facts(approved(subject.gateway.find(refund), 500)) == facts(refunded)
    request, charged = _charged(subject, capture=False)
    void = later_call("void", request, charged)
    voided = approved(subject.gateway.void(void))
    assert facts(approved(subject.gateway.find(void))) == facts(voided)


@case
def what_never_came_is_not_found(subject: Subject) -> None:
    request, charged = _charged(subject)
    for never in (charge_of(subject), later_call("refund", request, charged)):
        reply = subject.gateway.find(never)
        assert isinstance(reply, Unknown), reply


@case
def a_capture_or_void_that_was_not_done_is_declined_when_it_cannot_come_any_more(subject: Subject) -> None:
    request, charged = _charged(subject, capture=False)
    for kind in ("capture", "void"):
        just_now = later_call(kind, request, charged)
        assert isinstance(subject.gateway.find(just_now), Unknown)
        long_ago = replace(just_now, asked_at=[datetime.now(UTC) - timedelta(hours=2)])
        declined(subject.gateway.find(long_ago), "processing_error")
    approved(subject.gateway.void(later_call("void", request, charged)))


# The customer acts.


def waiting(reply: object) -> ActionRequired:
    assert isinstance(reply, ActionRequired), reply
    secret = reply.next_action.client_secret or reply.next_action.url
    assert secret and reply.gateway_id and reply.payment_intent_id
    assert secret not in repr(reply) and secret not in f"{reply.raw}"
    return reply


def waits(subject: Subject, token: str = "needs its owner", **fields: Any) -> tuple[GatewayRequest, ActionRequired]:
    """Return the question about a payment that waits for its customer, and what the charge was answered."""
    request = charge_of(subject, token, **fields)
    action = waiting(subject.gateway.charge(request))
    return _asks(request, action), action


def _asks(request: GatewayRequest, action: ActionRequired) -> GatewayRequest:
    return replace(request, gateway_id=action.gateway_id, payment_intent_id=action.payment_intent_id, asked_at=())


def _without_token(subject: Subject, **fields: Any) -> tuple[GatewayRequest, ActionRequired]:
    request = _request("process", f"pay-{uuid.uuid4()}", **fields)
    action = waiting(subject.gateway.charge(request))
    assert action.next_action.type == "stripe_js"
    return _asks(request, action), action


def _void_of(asked: GatewayRequest) -> GatewayRequest:
    return replace(asked, kind="void", key=f"void-{uuid.uuid4()}", gateway_id=None, asked_at=[datetime.now(UTC)])


def is_same(first: ActionRequired, again: object) -> bool:
    return isinstance(again, ActionRequired) and (first.gateway_id, first.next_action) == (again.gateway_id, again.next_action)


@case
def a_card_that_needs_its_owner_waits_for_him(subject: Subject) -> None:
    asked, action = waits(subject)
    for _ in range(2):
        assert is_same(action, waiting(subject.gateway.find(asked)))


@case
def a_payment_that_waits_is_found_by_the_moments_of_its_calls(subject: Subject) -> None:
    asked, action = waits(subject)
    lost = replace(asked, gateway_id=None, payment_intent_id=None, asked_at=[datetime.now(UTC)])
    assert is_same(action, waiting(subject.gateway.find(lost)))


@case
def a_key_of_a_payment_that_waits_begins_no_second_one(subject: Subject) -> None:
    request = charge_of(subject, "needs its owner")
    action = waiting(subject.gateway.charge(request))
    assert is_same(action, waiting(subject.gateway.charge(replace(request, attempt=2))))


@case
def a_customer_who_passes_has_paid(subject: Subject) -> None:
    for capture in (True, False):
        asked, action = waits(subject, capture=capture)
        subject.customer.passes(action)
        paid = approved(subject.gateway.find(asked))
        assert paid.payment_intent_id == action.payment_intent_id
        assert facts(approved(subject.gateway.find(asked))) == facts(paid)


@case
def a_customer_who_fails_is_declined_and_can_no_longer_pay(subject: Subject) -> None:
    asked, action = waits(subject)
    subject.customer.fails(action)
    declined(subject.gateway.find(asked), "authentication_required", "payment_intent_authentication_failure")
    assert _sees(subject, action).state == "canceled"
    declined(subject.gateway.find(asked), "authentication_required", "payment_intent_authentication_failure")


@case
def a_card_that_is_declined_after_its_owner_has_passed_is_closed(subject: Subject) -> None:
    asked, action = waits(subject, "needs its owner and declines")
    subject.customer.passes(action)
    declined(subject.gateway.find(asked), "card_declined")
    assert _sees(subject, action).state == "canceled"


@case
def a_customer_who_does_not_come_is_given_up_by_a_void(subject: Subject) -> None:
    for asked, action in (waits(subject), _without_token(subject)):
        void = _void_of(asked)
        voided = subject.gateway.void(void)
        assert isinstance(voided, Approved), voided
        assert (voided.transaction_id, voided.payment_intent_id) == ("", action.payment_intent_id)
        assert (voided.amount_minor, voided.currency) == (AMOUNT, "USD")
        assert isinstance(subject.gateway.find(void), Approved)
        declined(subject.gateway.find(asked), "payment_canceled")


@case
def a_customer_who_is_faster_than_the_void_has_paid(subject: Subject) -> None:
    asked, action = waits(subject)
    subject.customer.passes(action)
    declined(subject.gateway.void(_void_of(asked)))
    approved(subject.gateway.find(asked))


@case
def a_payment_that_is_canceled_there_while_it_waits_is_a_cancel(subject: Subject) -> None:
    for asked, action in (waits(subject), _without_token(subject)):
        subject.outside.cancels(action.payment_intent_id)
        assert declined(subject.gateway.find(asked), "payment_canceled").payment_intent_id == action.payment_intent_id


@case
def a_customer_without_a_token_enters_a_card(subject: Subject) -> None:
    for capture in (True, False):
        asked, action = _without_token(subject, capture=capture)
        assert is_same(action, waiting(subject.gateway.find(asked)))
        subject.customer.enters(action, "good")
        approved(subject.gateway.find(asked))


@case
def a_customer_without_a_token_tries_another_card_after_a_decline(subject: Subject) -> None:
    asked, action = _without_token(subject)
    subject.customer.enters(action, "without funds")
    assert is_same(action, waiting(subject.gateway.find(asked)))
    subject.customer.enters(action, "good")
    approved(subject.gateway.find(asked))


@case
def a_customer_without_a_token_is_checked_too(subject: Subject) -> None:
    asked, action = _without_token(subject)
    subject.customer.enters(action, "needs its owner")
    again = waiting(subject.gateway.find(asked))
    assert is_same(action, again), "the page goes on with the secret that it has"
    subject.customer.passes(again)
    approved(subject.gateway.find(asked))


# What others did.


def _sees(subject: Subject, reply: Approved | ActionRequired) -> Seen:
    seen = subject.gateway.look(reply.payment_intent_id, 10.0)
    assert seen is not None
    assert seen.currency == "USD"
    return seen


def _only(things: Sequence[T]) -> T:
    assert len(things) == 1, things
    return things[0]


def _stands(seen: Seen) -> tuple[str, int]:
    return seen.state, seen.captured_minor


@case
def a_look_sees_where_a_payment_stands(subject: Subject) -> None:
    gateway = subject.gateway
    _, action = waits(subject)
    seen = _sees(subject, action)
    assert (*_stands(seen), seen.transaction_id) == ("open", 0, None)
    request, charged = _charged(subject, capture=False)
    seen = _sees(subject, charged)
    assert (*_stands(seen), seen.transaction_id) == ("authorized", 0, charged.transaction_id)
    approved(gateway.capture(later_call("capture", request, charged, 1200)), 1200)
    assert _stands(_sees(subject, charged)) == ("captured", 1200)
    request, charged = _charged(subject, capture=False)
    approved(gateway.void(later_call("void", request, charged)))
    assert _stands(_sees(subject, charged)) == ("canceled", 0)


@case
def a_look_sees_what_others_captured_and_canceled(subject: Subject) -> None:
    _, charged = _charged(subject, capture=False)
    subject.outside.captures(charged.payment_intent_id, 1200)
    assert _stands(_sees(subject, charged)) == ("captured", 1200)
    _, charged = _charged(subject, capture=False)
    subject.outside.cancels(charged.payment_intent_id)
    assert _stands(_sees(subject, charged)) == ("canceled", 0)


@case
def a_part_that_was_never_captured_is_no_refund(subject: Subject) -> None:
    request, charged = _charged(subject, capture=False)
    approved(subject.gateway.capture(later_call("capture", request, charged, 1200)), 1200)
    assert list(_sees(subject, charged).refunds) == []


@case
def a_look_sees_each_refund_and_whose_it_is(subject: Subject) -> None:
    request, charged = _charged(subject)
    assert list(_sees(subject, charged).refunds) == []
    ours = later_call("refund", request, charged, 700)
    refunded = approved(subject.gateway.refund(ours), 700)
    subject.outside.refunds(charged.payment_intent_id, 500)
    seen = {refund.key: refund for refund in _sees(subject, charged).refunds}
    assert {key: (refund.amount_minor, refund.status) for key, refund in seen.items()} == {
        ours.key: (700, "succeeded"),
        None: (500, "succeeded"),
    }
    assert seen[ours.key].gateway_refund_id == refunded.refund_id
    assert seen[None].failure_code is None


@case
def what_was_captured_stays_when_some_of_it_is_refunded(subject: Subject) -> None:
    request, charged = _charged(subject)
    approved(subject.gateway.refund(later_call("refund", request, charged, 700)), 700)
    assert _stands(_sees(subject, charged)) == ("captured", AMOUNT)


@case
def a_refund_that_others_canceled_is_seen_failed(subject: Subject) -> None:
    request, charged = _charged(subject, "refunded in days")
    refund = later_call("refund", request, charged)
    reply = subject.gateway.refund(refund)
    assert isinstance(reply, Pending), reply
    assert [seen.status for seen in _sees(subject, charged).refunds] == ["pending"]
    subject.outside.cancels_refund(reply.gateway_id)
    seen = _only(_sees(subject, charged).refunds)
    assert (seen.key, seen.status) == (refund.key, "failed") and seen.failure_code


@case
def a_look_sees_a_dispute_and_its_end(subject: Subject) -> None:
    request, charged = _charged(subject, "disputed")
    dispute = _only(_sees(subject, charged).disputes)
    assert (dispute.amount_minor, dispute.currency, dispute.outcome, dispute.is_refundable) == (AMOUNT, "USD", None, False)
    assert dispute.gateway_dispute_id and dispute.reason and dispute.status
    assert dispute.due_by and dispute.due_by > datetime.now(UTC) > dispute.created_at - timedelta(minutes=1)
    subject.outside.wins(dispute.gateway_dispute_id)
    closed = _only(_sees(subject, charged).disputes)
    assert (closed.gateway_dispute_id, closed.outcome, closed.is_refundable) == (dispute.gateway_dispute_id, "won", True)
    approved(subject.gateway.refund(later_call("refund", request, charged, 700)), 700)


@case
def what_the_gateway_does_not_know_cannot_be_looked_at(subject: Subject) -> None:
    assert subject.gateway.look("pi_nobody_has_this", 10.0) is None
    _sees(subject, _charged(subject)[1])  # and it is not that it knows nothing


@case
def what_could_not_be_delivered_is_told_newest_first(subject: Subject) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    request, charged = _charged(subject)
    approved(subject.gateway.refund(later_call("refund", request, charged, 700)), 700)
    try:
        told = list(subject.gateway.undelivered(since, 10.0))
    except OSError as error:
        raise AssertionError(error) from error
    ours = [hint for hint in told if hint.payment_id == request.payment_id]
    assert ours and {hint.payment_intent_id for hint in ours} == {charged.payment_intent_id}
    assert [hint.type for hint in ours if hint.type in ("payment_intent.succeeded", "refund.created")] == [
        "refund.created",
        "payment_intent.succeeded",
    ]
    moments = [hint.created_at for hint in told]
    assert moments == sorted(moments, reverse=True) and len({hint.event_id for hint in told}) == len(told)
    later = subject.gateway.undelivered(datetime.now(UTC) + timedelta(hours=1), 10.0)
    assert not [hint for hint in later if hint.payment_id == request.payment_id]
    earlier = subject.gateway.undelivered(since - timedelta(hours=1), 10.0, since - timedelta(seconds=2))
    assert not [hint for hint in earlier if hint.payment_id == request.payment_id]
