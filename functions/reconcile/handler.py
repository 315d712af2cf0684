"""Scheduled: operations whose outcome is unknown are asked about again, authorizations that ran out are voided.

`{"settle": {"operation_id": …, "attempt": …, "outcome": …}}` writes an outcome that a person looked up, see docs/operations.md.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from payments import telemetry, wiring
from payments.commands.service import Deadline
from payments.scheduled.by_hand import settle_by_hand
from payments.scheduled.reconcile import reconcile


@telemetry.instrumented
def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    if isinstance(event, dict) and "settle" in event:
        try:
            result = settle_by_hand(wiring.service(), event["settle"])
        except ValueError as error:
            return {"refused": str(error)}
        telemetry.record_result(result)
        return {"outcome": result.outcome.value, "payment_status": result.payment.status.value, "replayed": result.replayed}
    reconciled = reconcile(wiring.service(), Deadline.in_s(context.get_remaining_time_in_millis() / 1000))
    telemetry.record_reconcile(reconciled)
    return asdict(reconciled)
