"""A failed invocation, as the record that Lambda leaves of it tells: whom it was for, and with which payload."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Before there was the alias `direct`, direct invocations came through `live`, which is API Gateway's now and refuses them.
MOVED = {"live": "direct"}

ALIAS = re.compile(
    r"arn:(aws[a-z-]*):lambda:([a-z0-9-]+):([0-9]{12}):function:[A-Za-z0-9_-]{1,64}:(?![0-9]+$)[A-Za-z0-9_-]{1,128}"
)


class Unreadable(Exception):
    """A message is no record of a failed invocation of ours. The message says why, and quotes nothing of it."""


@dataclass(frozen=True)
class Invocation:
    """What a record asks for: the alias to invoke, and the payload."""

    function: str
    payload: Any

    @property
    def facts(self) -> dict[str, Any]:
        """The members that may be shown. Never the others: the payload holds a payment token and customers' data."""
        return {"function": self.function} | self._shown("operation", "order_id", "idempotency_key")

    @property
    def may_refund(self) -> bool:
        """Whether it may give money back. Without `operation` the function decides, and only a payment has a method."""
        operation = self._fields.get("operation")
        return operation == "refund" or (operation is None and "payment_method" not in self._fields)

    @property
    def refund_facts(self) -> dict[str, Any]:
        """What finds a refund on the gateway's list and in the comparison. An amount of None is all that is left."""
        amount = self._fields.get("amount")
        return self.facts | self._shown("transaction_id", "payment_id") | {"amount": amount if isinstance(amount, int) else None}

    @property
    def _fields(self) -> dict[str, Any]:
        return self.payload if isinstance(self.payload, dict) else {}

    def _shown(self, *names: str) -> dict[str, str | None]:
        return {name: _shown(self._fields.get(name)) for name in names}


def read(body: object, place: tuple[str, ...], instead: Mapping[str, str] | None = None) -> Invocation:
    """Return the invocation that Lambda's record describes, for the alias that replaces its own. Raises Unreadable.

    `place` is the queue's partition, region and account.
    """
    try:
        record = json.loads(body, parse_constant=_refuse) if isinstance(body, str) else None
    except (ValueError, RecursionError):
        raise Unreadable("It is not JSON.") from None
    context = record.get("requestContext") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(context, dict) or "requestPayload" not in record:
        raise Unreadable("It is not Lambda's record of an invocation.")
    condition = context.get("condition")
    if not isinstance(condition, str) or condition == "Success":
        raise Unreadable("It does not record a failure.")
    function = context.get("functionArn")
    if not isinstance(function, str) or not (found := ALIAS.fullmatch(function)):
        # Without an alias the code would be another one than that which the order service calls.
        raise Unreadable("It does not name the alias of a function.")
    if found.groups() != place:
        raise Unreadable("The function is in another account or region than the queue.")
    try:
        # 1e400 is read as infinity, which no JSON can hold; too many levels can be read and not written.
        json.dumps(record["requestPayload"], allow_nan=False)
    except (ValueError, RecursionError):
        raise Unreadable("Its payload cannot be sent as JSON.") from None
    name, _, alias = function.rpartition(":")
    moved = f"{name}:{MOVED.get(alias, alias)}"
    if not instead:
        return Invocation(moved, record["requestPayload"])
    # The outputs of a stack of an older release still name `live`.
    other = instead.get(function) or instead.get(moved)
    if other is None:
        raise Unreadable("--instead names no other function for its own.")
    return Invocation(other, record["requestPayload"])


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _shown(value: object) -> str | None:
    """Return a text of the payload that may be shown. The card filter has not passed on every payload that failed."""
    if not isinstance(value, str):
        return None
    for digits in re.findall(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)", value):
        numbers = [int(digit) for digit in reversed(digits) if digit.isdigit()]
        if sum(numbers[0::2] + [sum(divmod(2 * number, 10)) for number in numbers[1::2]]) % 10 == 0:
            return "(hidden: like a card number)"
    return value if len(value) <= 255 else value[:254] + "…"
