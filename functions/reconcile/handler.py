"""Scheduled: operations whose outcome is unknown are asked about again, authorizations that ran out are voided."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from payments import telemetry, wiring
from payments.reconcile import reconcile
from payments.service import Deadline


@telemetry.instrumented
def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    reconciled = reconcile(wiring.service(), Deadline.in_s(context.get_remaining_time_in_millis() / 1000))
    telemetry.record_reconcile(reconciled)
    return asdict(reconciled)
