"""Writes a payment as it stands in the example, whatever its status."""

from __future__ import annotations

from payments.store.connection import Statement
from payments.store.rows import PAYMENT, columns

INSERT_PAYMENT = Statement(f"INSERT INTO payments ({columns(PAYMENT)}) VALUES ({', '.join(f':{name}' for name in PAYMENT)})")
