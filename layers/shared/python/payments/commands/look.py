"""Look: bring the books of one payment up to what the gateway has of it now, whoever did it there."""

import logging
from enum import StrEnum
from uuid import UUID

from payments.commands import dispute
from payments.commands.catalog import COMMANDS
from payments.commands.claim import LEASE_MARGIN_S
from payments.commands.outside import Misfit, Unfinished, alarm, difference, enter
from payments.commands.phases import charge, gateway_timeout_s, publish_and_mark
from payments.commands.service import Deadline, Service
from payments.commands.settle import SETTLE_TRIES, pause, settle
from payments.domain.operation import Outcome
from payments.domain.payment import Payment, PaymentStatus
from payments.gateway.port import ActionRequired, Pending, Seen
from payments.store import due, lookups, outside
from payments.store.connection import UniqueViolation

logger = logging.getLogger(__name__)

MOST_OPERATIONS = 16
"""The most operations that one look settles. Few payments ever have two without an outcome."""


class Look(StrEnum):
    """What came of a look. An event about a payment that is in the books has the same EventOutcome."""

    SETTLED = "settled"
    """Something of the gateway's was new, and the books and their events have it now."""
    NOTHING_NEW = "nothing_new"
    LATER = "later"
    """A worker holds an operation of the payment, the gateway cannot say, or time is short."""


def look_at(service: Service, payment: Payment, deadline: Deadline) -> Look:
    """Settle the payment's operations that have no outcome, and enter what the gateway has and no operation of ours did.

    Whatever made us look, only what the gateway shows now is written. Raises Fault.
    """
    payment_id = payment.payment_id
    if lookups.gateway_of(service.db, payment_id) not in (None, service.gateway.name):
        return Look.NOTHING_NEW  # The gateway that took the payment is not the one that we ask.
    if gateway_timeout_s(deadline) <= 0:
        return Look.LATER
    has_settled, is_open = _finish_operations(service, payment_id, deadline)
    books = outside.books_of(service.db, payment_id)
    is_open |= books.is_held
    # Until the payment has an outcome, its operation alone decides, and the gateway has nothing else.
    if books.payment.payment_intent_id and books.payment.status is not PaymentStatus.REQUIRES_ACTION:
        has_entered, is_unfinished = _enter_all(service, books.payment, deadline)
        has_settled, is_open = has_settled or has_entered, is_open or is_unfinished
    return Look.LATER if is_open else Look.SETTLED if has_settled else Look.NOTHING_NEW


def _finish_operations(service: Service, payment_id: UUID, deadline: Deadline) -> tuple[bool, bool]:
    """Take the operations without an outcome through charge, settle, publish and mark, as reconcile does.

    Returns whether the payment has changed, and whether an operation is left whose outcome the gateway owes. While it waits for
    the customer, or for a bank that may take days, it owes none: it will tell, and reconcile asks.
    """
    has_changed = False
    lease_s = deadline.remaining_s() + LEASE_MARGIN_S
    claims = due.claim_of_payment(service.db, payment_id, MOST_OPERATIONS, lease_s)
    is_open = len(claims) == MOST_OPERATIONS
    for claimed in claims:
        command = COMMANDS[claimed.operation.kind]
        reply = charge(command, claimed, service, deadline)
        settled = settle(command, claimed, reply, service)
        publish_and_mark(settled.event, service)
        has_changed |= settled.result.payment.version != claimed.payment.version
        is_open |= settled.result.outcome is Outcome.UNKNOWN and not isinstance(reply, ActionRequired | Pending)
    return has_changed, is_open


def _enter_all(service: Service, before: Payment, deadline: Deadline) -> tuple[bool, bool]:
    """Ask the gateway, and enter what it did by itself. Returns whether there was anything, and whether more may come later."""
    if (seen := _seen(service, before, deadline)) is None:
        return False, True
    has_entered, is_unfinished = _enter(service, before.payment_id, seen, deadline)
    try:
        return has_entered | dispute.record(service, before, seen.disputes), is_unfinished
    except dispute.LookAgain:
        return has_entered, True


def _seen(service: Service, payment: Payment, deadline: Deadline) -> Seen | None:
    """Ask the gateway. Too little time, and an adapter that raises, are no answer."""
    if (timeout_s := gateway_timeout_s(deadline)) <= 0:
        return None
    assert payment.payment_intent_id is not None  # the caller has seen to it
    try:
        return service.gateway.look(payment.payment_intent_id, timeout_s)
    except Exception:
        logger.exception("the gateway adapter raised", extra={"payment_id": payment.payment_id})
        return None


def _enter(service: Service, payment_id: UUID, seen: Seen, deadline: Deadline) -> tuple[bool, bool]:
    """Enter one difference after the other, each in a transaction of its own and on the books as they are then."""
    has_entered, tries = False, 0
    while tries < SETTLE_TRIES and gateway_timeout_s(deadline) > 0:
        pause(tries)
        # The books are read after the gateway's answer: each refund that it shows under a key of ours has its operation there.
        books = outside.books_of(service.db, payment_id)
        found = difference(books, seen)
        if isinstance(found, Misfit):  # Only a person can change it.
            alarm(found.why, payment_id, service)
            return has_entered, False
        if isinstance(found, Unfinished | None):
            return has_entered, found is not None
        try:
            is_written, event = enter(found, books, service)
        except UniqueViolation:
            alarm("the gateway shows what is another refund's or payment's", payment_id, service)
            return has_entered, False
        publish_and_mark(event, service)
        has_entered, tries = has_entered or is_written, 0 if is_written else tries + 1
    return has_entered, True
