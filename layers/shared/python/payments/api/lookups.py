"""Look payments up: by id, order or transaction, their refunds, their history, and lists. Every answer is bounded."""

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from payments.api.callers import Caller
from payments.commands.service import Service
from payments.domain.dispute import Dispute
from payments.domain.errors import InvalidRequest, PaymentNotFound, RefundNotFound
from payments.domain.payment import Payment, PaymentName
from payments.domain.refund import Refund
from payments.domain.text import is_plain
from payments.store import lookups as store
from payments.store.lookups import ListFilter

MAX_ID_CHARACTERS = 255

SHOWN, LISTED = 20, 5
"""A payment comes with its newest 20 refunds and its newest 20 disputes, in a list with 5 of each, so that a page stays below
the 6 MB that Lambda returns. A payment's texts come from a body of 16 KB, and Lambda's JSON of our JSON at most doubles
them: 35 KB. A refund with its reason of 500 characters takes 2.5 KB. So 100 payments take 4.8 MB. Five
disputes of each, with the longest words that we take, make it 5.7 MB."""

START = datetime.fromtimestamp(0, UTC), UUID(int=0)
VERSIONS = range(2**31)


class Found(NamedTuple):
    """A payment, its newest refunds and disputes (oldest first), and whether it has older ones."""

    payment: Payment
    refunds: list[Refund]
    has_more_refunds: bool
    disputes: list[Dispute]
    has_more_disputes: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Payments with their refunds and disputes (Found), refunds or status changes. `next_cursor` is None on the last page."""

    data: list[Any]
    next_cursor: str | None


def find(service: Service, caller: Caller, name: PaymentName, value: str) -> Found:
    """Return a payment with its newest refunds and disputes. An order's payment is its live one, else its latest.

    Raises PaymentNotFound, also for a value that no payment can have.
    """
    return _with_newest(service, [_payment(service, caller, name, value)], SHOWN)[0]


def _payment(service: Service, caller: Caller, name: PaymentName, value: str) -> Payment:
    searched = _searched(name, value)
    payment = store.find_payment(service.db, _visible(caller), name, searched) if searched is not None else None
    if payment is None:
        raise PaymentNotFound(f"You have no payment with this {name}.")
    return payment


def _with_newest(service: Service, payments: list[Payment], shown: int) -> list[Found]:
    # Only a captured payment can have refunds and disputes, so the others save the statements.
    captured = [payment.payment_id for payment in payments if payment.captured_minor]
    refunds, disputes = store.newest(service.db, captured, shown + 1)
    found = [(one, refunds.get(one.payment_id, []), disputes.get(one.payment_id, [])) for one in payments]
    return [Found(one, back[-shown:], len(back) > shown, theirs[-shown:], len(theirs) > shown) for one, back, theirs in found]


def refund(service: Service, caller: Caller, refund_id: str) -> Refund:
    """Return a refund. Raises RefundNotFound, also for a value that no refund can have."""
    searched = _uuid(refund_id)
    found = store.find_refund(service.db, _visible(caller), searched) if searched else None
    if found is None:
        raise RefundNotFound("You have no refund with this refund_id.")
    return found


def refunds(service: Service, caller: Caller, payment_id: str, cursor: str | None, limit: int) -> Page:
    """Return a page of the payment's refunds, oldest first. Raises PaymentNotFound, and InvalidRequest for a foreign cursor."""
    payment = _payment(service, caller, "payment_id", payment_id)
    after = _position(cursor, _place, payment.payment_id.hex) or START
    rows = store.refunds_after(service.db, payment.payment_id, after, limit + 1)
    return _page(rows, limit, lambda last: (last.payment_id.hex, last.created_at.isoformat(), last.refund_id.hex))


def history(service: Service, caller: Caller, payment_id: str, cursor: str | None, limit: int) -> Page:
    """Return a page of the payment's status changes, oldest first. Raises PaymentNotFound, and InvalidRequest for a foreign
    cursor."""
    payment = _payment(service, caller, "payment_id", payment_id)
    after = _position(cursor, VERSIONS.__getitem__, payment.payment_id.hex) or 0
    rows = store.history_after(service.db, payment.payment_id, after, limit + 1)
    return _page(rows, limit, lambda last: (payment.payment_id.hex, last.version))


def list_payments(service: Service, caller: Caller, which: ListFilter, cursor: str | None, limit: int) -> Page:
    """Return a page of payments, newest first. It may be short or empty with others after it, which `next_cursor` says.

    Raises InvalidRequest for a cursor that no page has given out.
    """
    after_time, after_id = _position(cursor, _place) or (None, None)
    which = replace(which, after_time=after_time, after_id=after_id)
    if any(text is not None and _searched("order_id", text) is None for text in (which.order_id, which.customer_id)):
        return Page([], None)
    rows, gave_up_at = store.list_payments(service.db, _visible(caller), which, limit + 1)
    page = _page(rows, limit, _place_of)
    next_cursor = page.next_cursor or (_cursor(_place_of(gave_up_at)) if gave_up_at else None)
    return Page(_with_newest(service, page.data, LISTED), next_cursor)


def _visible(caller: Caller) -> str | None:
    """Return the owner whose rows the caller may see; None for the admin scope, which sees all rows."""
    return None if caller.sees_all else caller.owner


def _searched(name: PaymentName, value: str) -> UUID | str | None:
    """Return the value as the database compares it, or None when no payment can have it."""
    if name == "payment_id":
        return _uuid(value)
    # We never accept a longer value or one with such characters, and PostgreSQL would refuse the query.
    return value if len(value) <= MAX_ID_CHARACTERS and is_plain(value) else None


def _uuid(text: str) -> UUID | None:
    with suppress(ValueError):
        return UUID(text)
    return None


def _page(rows: list[Any], limit: int, position: Callable[[Any], tuple[object, ...]]) -> Page:
    """Return the first `limit` rows. One row more than these says that there is a next page, and `position` where it begins."""
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], _cursor(position(rows[limit - 1])))


def _cursor(position: tuple[object, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _position(cursor: str | None, read: Callable[..., Any], *of: str) -> Any:
    """Return the position in the cursor, as `read` makes it of the parts that follow `of`. Raises InvalidRequest if the cursor
    is not of this list."""
    if cursor is None:
        return None
    with suppress(ValueError, TypeError, AttributeError, LookupError):
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(parts, list) and parts[: len(of)] == list(of):
            return read(*parts[len(of) :])
    raise InvalidRequest("Start the list again without a cursor.", ("query.cursor", "must be a next_cursor of this list"))


def _place_of(payment: Payment) -> tuple[str, str]:
    return payment.created_at.isoformat(), payment.payment_id.hex


def _place(at: str, id_: str) -> tuple[datetime, UUID]:
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None or not in_calendar(moment):
        raise ValueError(at)
    return moment, UUID(id_)


def in_calendar(moment: datetime) -> bool:
    """Return whether the moment can change its zone, which overflows at either end of the calendar."""
    return 1970 <= moment.year <= 9998
