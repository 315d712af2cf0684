"""What the gateway did by itself: its present state beside our books, the next thing to enter, and how it is entered."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from payments import telemetry
from payments.commands.service import Service
from payments.commands.settle import PUBLISH_LEASE_S
from payments.domain.card_data import redact
from payments.domain.changes import Captured, Ended, RefundFailed, RefundReserved, RefundReversed, RefundSucceeded, Voided
from payments.domain.events import event_for
from payments.domain.operation import Operation, Outcome
from payments.domain.payment import REFUNDABLE, PaymentStatus, apply
from payments.domain.refund import Origin, Refund, RefundStatus
from payments.domain.text import is_in_order, is_plain
from payments.gateway.port import Alarm, Seen, SeenRefund
from payments.store import outside
from payments.store.outside import Booked, Books
from payments.store.settlement import Written

logger = logging.getLogger(__name__)

KEY_PREFIX = "gateway-"
"""Of the key of an operation that nobody asked us for. Such a key was never sent to the gateway."""

MONEY_TAKEN = REFUNDABLE | {PaymentStatus.REFUNDED}


@dataclass(frozen=True, slots=True)
class Adopted:
    """A capture, void or refund to enter. `gateway_id` is the gateway's name of it; `refund` is what it says of a refund."""

    kind: str
    change: Ended
    amount_minor: int
    gateway_id: str
    reason: str | None = None
    refund: SeenRefund | None = None


@dataclass(frozen=True, slots=True)
class Reversed:
    """A refund that had succeeded and has failed since."""

    refund: Refund
    change: RefundReversed


@dataclass(frozen=True, slots=True)
class Misfit:
    """What the gateway has cannot follow from our books, so a person has to look, and nothing is written."""

    why: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An operation of ours has to end first."""


Difference = Adopted | Reversed | Misfit | Unfinished


def difference(books: Books, seen: Seen) -> Difference | None:
    """Return the next thing that the gateway has and our books lack, or None.

    The gateway was asked before the books were read, so the books may be ahead, and never lack what an operation of ours did.
    """
    payment, status = books.payment, books.payment.status
    given_back_minor = sum(refund.amount_minor for refund in seen.refunds if refund.status == "succeeded")
    if seen.currency != payment.currency:
        return Misfit(f"the gateway has the payment in {seen.currency}")
    if status is PaymentStatus.AUTHORIZED and seen.state in ("captured", "canceled"):
        return Unfinished() if books.is_busy else _end_of_authorization(books, seen)
    if status in MONEY_TAKEN and seen.state == "canceled":
        return Misfit("the gateway has canceled it")
    if status in MONEY_TAKEN and seen.state == "captured":
        if seen.captured_minor != payment.captured_minor:
            return Misfit(f"the gateway has captured {seen.captured_minor}")
        return _of_refunds(books, seen.refunds)
    # A payment that failed or was voided is over at the gateway, too. Money that it took there all the same may be back. (It may
    # have been asked before a void, and then it showed the authorization.)
    if status in (PaymentStatus.FAILED, PaymentStatus.VOIDED) and seen.captured_minor > given_back_minor:
        return Misfit(f"the gateway has captured {seen.captured_minor}")
    if status is PaymentStatus.FAILED and seen.state == "authorized":
        return Misfit("the gateway holds the money")
    return None


def alarm(why: str, payment_id: UUID, service: Service) -> None:
    """Tell what of the gateway's the books cannot take: each thing once a day for a payment, however often its owner or the
    gateway makes us look, and not once for ever, because a function that is killed has written no metric. Raises Fault."""
    if outside.is_news(service.db, payment_id, printable(why) or ""):
        telemetry.count(Alarm.AMOUNT_MISMATCH)
        logger.error("the gateway and the books differ: %s", why, extra={"payment_id": payment_id})


def _end_of_authorization(books: Books, seen: Seen) -> Difference:
    payment = books.payment
    assert payment.transaction_id and payment.payment_intent_id  # the database sees to it
    if seen.state == "canceled":
        has_lapsed = payment.capture_before is not None and payment.capture_before <= books.at
        reason = "the authorization lapsed at the gateway" if has_lapsed else "canceled at the gateway"
        reason += f": {said}" if (said := printable(seen.cancel_reason)) else ""
        return Adopted("void", Voided(reason), payment.amount_minor, payment.payment_intent_id, reason)
    if not 1 <= seen.captured_minor <= payment.amount_minor:
        return Misfit(f"the gateway has captured {seen.captured_minor}")
    captured = Captured(seen.captured_minor, payment.transaction_id, payment.payment_intent_id)
    return Adopted("capture", captured, seen.captured_minor, payment.payment_intent_id)


def _of_refunds(books: Books, seen: Sequence[SeenRefund]) -> Difference | None:
    payment, new, failed = books.payment, list[SeenRefund](), list[SeenRefund]()
    for one in seen:
        booked = _booked(books, one)
        if booked is None:
            new += [one] if one.status == "succeeded" else []
            failed += [one] if one.status == "failed" else []
        elif booked.refund.status is RefundStatus.SUCCEEDED:
            if one.amount_minor != booked.refund.amount_minor:
                return Misfit(f"the gateway has a refund of {one.amount_minor}: {one.gateway_refund_id}")
            if one.status == "failed":
                change = RefundReversed(booked.refund.amount_minor, one.failure_code or "generic_decline")
                return Reversed(booked.refund, change)
        elif booked.was_declined and one.status == "succeeded":
            return Misfit(f"the gateway has made a refund that it had declined: {one.gateway_refund_id}")
    new_minor = sum(one.amount_minor for one in new)
    if any(one.amount_minor < 1 for one in new + failed) or new_minor > payment.captured_minor - payment.refunded_minor:
        return Misfit(f"the gateway has refunds of {new_minor} that we do not know")
    if failed:
        # It moved nothing. But a look that is slow, and saw it succeed before, must find it here, and not enter it as done.
        first = failed[0]
        return _refund(first, RefundFailed(0, first.failure_code or "generic_decline"))
    # What our own refunds have reserved comes free if the gateway declines them, which it may, because others took the money.
    if new and new_minor <= payment.refundable_minor:
        return _refund(new[0], RefundSucceeded(new[0].amount_minor))
    return Unfinished() if new else None  # What is under way there may take days, and the gateway tells its end.


def _refund(seen: SeenRefund, change: RefundSucceeded | RefundFailed) -> Adopted:
    return Adopted("refund", change, seen.amount_minor, seen.gateway_refund_id, printable(seen.reason), seen)


def _booked(books: Books, seen: SeenRefund) -> Booked | None:
    # By its name, or by its key, while the books know no other name under that: a key makes one refund.
    name, key = seen.gateway_refund_id, seen.key or _key("refund", seen.gateway_refund_id)
    same = (one for one in books.refunds if one.gateway_refund_id == name or (one.key == key and not one.gateway_refund_id))
    return next(same, None)


def _key(kind: str, gateway_id: str) -> str:
    return f"{KEY_PREFIX}{kind}-{gateway_id}"


def printable(text: str | None) -> str | None:
    """Return a text of the gateway's as ours are: without control characters, card numbers and what reorders it, and not long."""
    return redact("".join(sign for sign in text or "" if is_plain(sign) and is_in_order(sign)))[:500] or None


def enter(found: Adopted | Reversed, books: Books, service: Service) -> Written:
    """Write the difference, unless the payment has changed. Raises Fault, and UniqueViolation for another payment's refund."""
    return _reverse(found, books, service) if isinstance(found, Reversed) else _adopt(found, books, service)


def _reverse(found: Reversed, books: Books, service: Service) -> Written:
    code, after = found.change.decline_code, apply(books.payment, found.change, books.at)
    refund = replace(found.refund, status=RefundStatus.FAILED, decline_code=code, updated_at=after.updated_at)
    event = event_for(found.change, after, refund, service.new_id(), None)
    return outside.reverse(service.db, books, refund, after, event, PUBLISH_LEASE_S)


def _adopt(found: Adopted, books: Books, service: Service) -> Written:
    payment, refund, recorded = books.payment, None, {"result": "seen"}
    failed = found.change if isinstance(found.change, RefundFailed) else None
    before = apply(payment, RefundReserved(found.amount_minor), books.at) if found.refund and not failed else payment
    after = apply(before, found.change, books.at)
    if found.refund:
        assert payment.transaction_id  # the database sees to it
        refund = Refund(
            refund_id=service.new_id(),
            payment_id=payment.payment_id,
            owner=payment.owner,
            transaction_id=payment.transaction_id,
            amount_minor=found.amount_minor,
            currency=payment.currency,
            status=RefundStatus.FAILED if failed else RefundStatus.SUCCEEDED,
            reason=found.reason,
            decline_code=failed.decline_code if failed else None,
            created_at=books.at,
            updated_at=after.updated_at,
            origin=Origin.GATEWAY,
        )
        recorded["refund_id"] = found.gateway_id
    operation = Operation(
        operation_id=service.new_id(),
        owner=payment.owner,
        kind=found.kind,
        payment_id=payment.payment_id,
        refund_id=refund.refund_id if refund else None,
        amount_minor=found.amount_minor,
        reason=found.reason,
        request_hash="",
        gateway_key=(found.refund and found.refund.key) or _key(found.kind, found.gateway_id),
        created_at=books.at,
        outcome=Outcome.SUCCEEDED,
        reply=recorded,
    )
    event = event_for(found.change, after, refund, service.new_id(), None)
    return outside.adopt(service.db, books, operation, refund, after, event, PUBLISH_LEASE_S)
