"""Rows as dataclasses. We read a column for each field, by its name, so a dataclass may order its fields freely."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from payments.domain.operation import Operation, Outcome
from payments.domain.payment import Payment, PaymentStatus
from payments.domain.refund import Refund, RefundStatus


def names_of(record: type[Any]) -> tuple[str, ...]:
    """Return the names of a dataclass's fields, which are the columns that we read."""
    return tuple(field.name for field in fields(record))


PAYMENT, OPERATION, REFUND = names_of(Payment), names_of(Operation), names_of(Refund)


def columns(names: Sequence[str], table: str = "") -> str:
    """Return the names as a column list, each prefixed with the table's name, if one is given."""
    return ", ".join(f"{table}.{name}" if table else name for name in names)


def nulls(names: Sequence[str]) -> str:
    """Return a NULL in the place of each name."""
    return ", ".join("NULL" for _ in names)


def payment_of(row: Sequence[Any]) -> Payment:
    record = dict(zip(PAYMENT, row, strict=True))
    return Payment(**record | {"status": PaymentStatus(record["status"]), "metadata": _texts(record["metadata"])})


def _texts(metadata: Any) -> dict[str, str]:
    """Return metadata as callers and consumers know it, whatever JSON an old row holds."""
    pairs = metadata if isinstance(metadata, dict) else {} if metadata is None else {"value": metadata}
    return {name: text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for name, text in pairs.items()}


def operation_of(row: Sequence[Any]) -> Operation:
    record = dict(zip(OPERATION, row, strict=True))
    return Operation(**record | {"outcome": record["outcome"] and Outcome(record["outcome"])})


def refund_of(row: Sequence[Any]) -> Refund:
    record = dict(zip(REFUND, row, strict=True))
    return Refund(**record | {"status": RefundStatus(record["status"])})
