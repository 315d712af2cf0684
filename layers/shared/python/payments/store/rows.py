"""Rows to dataclasses and back. A dataclass names its fields as the table names its columns, so it is the column list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any

from payments.domain.operation import Kind, Operation, Outcome, Refund, RefundStatus
from payments.domain.payment import Payment, PaymentStatus


def columns_of(record: type, alias: str = "") -> str:
    prefix = f"{alias}." if alias else ""
    return ", ".join(prefix + f.name for f in fields(record))


def placeholders_of(record: type) -> str:
    return ", ".join(f":{f.name}" for f in fields(record))


def values_of(record: Any) -> dict[str, object]:
    """The record's fields as statement parameters: enums by their value, mappings as JSON."""
    return {f.name: _parameter(getattr(record, f.name)) for f in fields(record)}


def _parameter(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    return json.dumps(value) if isinstance(value, Mapping) else value


PAYMENT_COLUMNS = columns_of(Payment)
OPERATION_COLUMNS = columns_of(Operation)
REFUND_COLUMNS = columns_of(Refund)
OPERATION_WIDTH = len(fields(Operation))


def payment_of(row: Sequence[Any]) -> Payment:
    record = dict(zip((f.name for f in fields(Payment)), row, strict=True))
    return Payment(**record | {"status": PaymentStatus(record["status"])})


def operation_of(row: Sequence[Any]) -> Operation:
    record = dict(zip((f.name for f in fields(Operation)), row, strict=True))
    outcome = Outcome(record["outcome"]) if record["outcome"] else None
    return Operation(**record | {"kind": Kind(record["kind"]), "outcome": outcome})


def refund_of(row: Sequence[Any]) -> Refund:
    record = dict(zip((f.name for f in fields(Refund)), row, strict=True))
    return Refund(**record | {"status": RefundStatus(record["status"])})
