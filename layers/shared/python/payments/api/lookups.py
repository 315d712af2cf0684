"""Look payments up: by id, order or transaction, their history, and lists."""

import base64
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from payments.api.callers import Caller
from payments.commands.service import Service
from payments.domain.errors import InvalidRequest, PaymentNotFound
from payments.domain.payment import Payment, PaymentName
from payments.domain.refund import Refund
from payments.domain.text import is_plain
from payments.store import lookups as store
from payments.store.lookups import ListFilter, StatusChange

MAX_ID_CHARACTERS = 255

Found = tuple[Payment, list[Refund]]


def find(service: Service, caller: Caller, name: PaymentName, value: str) -> Found:
    """Return a payment and its refunds. An order's payment is its live one, else its latest.

    Raises PaymentNotFound, also for a value that no payment can have.
    """
    searched = _searched(name, value)
    payment = store.find_payment(service.db, _visible(caller), name, searched) if searched is not None else None
    if payment is None:
        raise PaymentNotFound(f"You have no payment with this {name}.")
    # Only a captured payment can have refunds, so the others save the second statement.
    refunds = store.refunds_of(service.db, [payment.payment_id]) if payment.captured_minor else {}
    return payment, refunds.get(payment.payment_id, [])


def history(service: Service, caller: Caller, payment_id: str) -> list[StatusChange]:
    """Return the payment's status changes, oldest first. Raises PaymentNotFound."""
    payment, _ = find(service, caller, "payment_id", payment_id)
    return store.history_of(service.db, payment.payment_id)


@dataclass(frozen=True, slots=True)
class Page:
    """`next_cursor` is None on the last page."""

    payments: list[Found]
    next_cursor: str | None


def list_payments(service: Service, caller: Caller, which: ListFilter, cursor: str | None, limit: int) -> Page:
    """Return a page of payments, newest first. Raises InvalidRequest for a cursor that no page has given out."""
    if cursor is not None:
        which = replace(which, after=_position(cursor))
    if which.order_id is not None and _searched("order_id", which.order_id) is None:
        return Page([], None)
    rows = store.list_payments(service.db, _visible(caller), which, limit + 1)  # One row more says whether there is a next page.
    page = rows[:limit]
    refunds = store.refunds_of(service.db, [payment.payment_id for payment in page if payment.captured_minor])
    next_cursor = _cursor(page[-1]) if len(rows) > limit else None
    return Page([(payment, refunds.get(payment.payment_id, [])) for payment in page], next_cursor)


def _visible(caller: Caller) -> str | None:
    """Return the owner whose rows the caller may see; None for the admin scope, which sees all rows."""
    return None if caller.sees_all else caller.owner


def _searched(name: PaymentName, value: str) -> UUID | str | None:
    """Return the value as the database compares it, or None when no payment can have it."""
    if name == "payment_id":
        with suppress(ValueError):
            return UUID(value)
        return None
    # We never accept a longer value or one with such characters, and PostgreSQL would refuse the query.
    return value if len(value) <= MAX_ID_CHARACTERS and is_plain(value) else None


def _cursor(payment: Payment) -> str:
    position = json.dumps([payment.created_at.isoformat(), payment.payment_id.hex])
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[datetime, UUID]:
    with suppress(ValueError, TypeError, AttributeError):
        at, payment_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        position = datetime.fromisoformat(at), UUID(payment_id)
        if position[0].tzinfo is not None and in_calendar(position[0]):
            return position
    raise InvalidRequest("Start the list again without a cursor.", ("query.cursor", "must be a next_cursor of this list"))


def in_calendar(moment: datetime) -> bool:
    """Return whether the moment can change its zone, which overflows at either end of the calendar."""
    return 1970 <= moment.year <= 9998
