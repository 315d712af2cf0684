"""The columns that we read, and rows as dataclasses. Statements name their columns, so a dataclass may order fields freely."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from payments.domain.operation import Operation, Outcome
from payments.domain.payment import Payment, PaymentStatus
from payments.domain.refund import Refund, RefundStatus

PAYMENT, OPERATION, REFUND = (tuple(f.name for f in fields(kind) if f.name != "origin") for kind in (Payment, Operation, Refund))
"""The columns that we read. Each of these dataclasses has a table's columns as its fields. What is claimed is the service's, so
only look-ups, and what finds the gateway's own acts (outside.py), read who made a refund."""

AGREED = {"payment_id", "owner", "order_id", "amount_minor", "currency", "payment_method", "payment_token", "capture_method"}
AGREED |= {"customer_id", "description", "metadata", "created_at"}
"""What was agreed on is written once. The roles of the functions may update the other columns alone."""


def columns(names: Sequence[str], table: str = "") -> str:
    """Return the names as a column list, each prefixed with the table's name, if one is given."""
    return ", ".join(f"{table}.{name}" if table else name for name in names)


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
