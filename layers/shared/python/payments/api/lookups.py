"""Look payments up: by id, order or transaction, their history, and lists."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from payments.api.callers import Caller
from payments.commands.requests import is_plain
from payments.commands.service import Service
from payments.domain.errors import InvalidRequest, PaymentNotFound
from payments.domain.operation import Refund
from payments.domain.payment import Payment
from payments.store import lookups as store
from payments.store.lookups import ListFilter, StatusChange

MAX_ID_CHARACTERS = 255

Found = tuple[Payment, list[Refund]]


def payment_by_id(service: Service, caller: Caller, payment_id: str) -> Found:
    """The payment and its refunds. Raises PaymentNotFound, also for an id that is no UUID."""
    try:
        uuid = UUID(payment_id)
    except ValueError:
        raise PaymentNotFound("No payment of yours has this payment_id.") from None
    return _found(service, store.payment_by_id(service.db, _visible(caller), uuid), "payment_id")


def payment_by_order(service: Service, caller: Caller, order_id: str) -> Found:
    """The order's live payment, else its latest, and its refunds. Raises PaymentNotFound."""
    payment = store.payment_by_order(service.db, _visible(caller), order_id) if _can_exist(order_id) else None
    return _found(service, payment, "order_id")


def payment_by_transaction(service: Service, caller: Caller, transaction_id: str) -> Found:
    """The payment with this transaction id, and its refunds. Raises PaymentNotFound."""
    payment = store.payment_by_transaction(service.db, _visible(caller), transaction_id) if _can_exist(transaction_id) else None
    return _found(service, payment, "transaction_id")


def history(service: Service, caller: Caller, payment_id: str) -> list[StatusChange]:
    """The payment's status changes, oldest first. Raises PaymentNotFound."""
    payment, _ = payment_by_id(service, caller, payment_id)
    return store.history_of(service.db, payment.payment_id)


@dataclass(frozen=True, slots=True)
class Page:
    """`next_cursor` is None on the last page."""

    payments: list[Found]
    next_cursor: str | None


def list_payments(service: Service, caller: Caller, which: ListFilter, cursor: str | None, limit: int) -> Page:
    """A page of payments, newest first. Raises InvalidRequest for a cursor that no page has given out."""
    if cursor is not None:
        which = replace(which, after=_position(cursor))
    if which.order_id is not None and not _can_exist(which.order_id):
        return Page([], None)
    _check_moment("query.created_from", which.created_from)
    _check_moment("query.created_to", which.created_to)
    rows = store.list_payments(service.db, _visible(caller), which, limit + 1)  # one more tells whether there is a next page
    page = rows[:limit]
    refunds = store.refunds_of_all(service.db, [payment.payment_id for payment in page if payment.captured_minor])
    next_cursor = _cursor(page[-1]) if len(rows) > limit else None
    return Page([(payment, refunds.get(payment.payment_id, [])) for payment in page], next_cursor)


def _visible(caller: Caller) -> str | None:
    """The owner whose rows may be seen; None for the admin scope, which sees all."""
    return None if caller.sees_all else caller.owner


def _can_exist(text: str) -> bool:
    # No id longer or with such characters was ever accepted, and PostgreSQL would refuse the question.
    return len(text) <= MAX_ID_CHARACTERS and is_plain(text)


def _found(service: Service, payment: Payment | None, name: str) -> Found:
    if payment is None:
        raise PaymentNotFound(f"No payment of yours has this {name}.")
    # Only what was captured can have refunds: a payment that was not saves the second statement.
    return payment, store.refunds_of(service.db, payment.payment_id) if payment.captured_minor else []


def _cursor(payment: Payment) -> str:
    position = json.dumps([payment.created_at.isoformat(), payment.payment_id.hex])
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, payment_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        position = datetime.fromisoformat(at), UUID(payment_id)
        if position[0].tzinfo is None:
            raise ValueError("a cursor's time has a zone")
    except (ValueError, TypeError, AttributeError):
        error = {"location": "query.cursor", "message": "must be a next_cursor that this list gave out"}
        raise InvalidRequest("Begin the list anew without a cursor.", errors=[error]) from None
    _check_moment("query.cursor", position[0])
    return position


def _check_moment(location: str, moment: datetime | None) -> None:
    # At either end of the calendar a change of zone overflows.
    if moment is not None and not 1970 <= moment.year <= 9998:
        error = {"location": location, "message": "must lie between the years 1970 and 9998"}
        raise InvalidRequest("Mend the field that `errors` names and send the request again.", errors=[error])
