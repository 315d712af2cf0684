"""Scheduled: settle operations whose outcome is unknown, void authorizations that have run out, handle the gateway's events.

`{"settle": {"operation_id": …, "attempt": …, "outcome": …}}` settles one operation by hand, see docs/operations.md.
"""

from dataclasses import asdict
from typing import Any

from payments import telemetry, wiring
from payments.api.answers import record
from payments.commands.service import Deadline
from payments.scheduled.by_hand import NotSettled, settle_by_hand
from payments.scheduled.gateway_events import inbox
from payments.scheduled.reconcile import reconcile


@telemetry.instrumented
def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    if isinstance(event, dict) and "settle" in event:
        try:
            result = settle_by_hand(wiring.service(), event["settle"])
        except NotSettled as error:
            return {"refused": str(error)}
        record(result)
        return {"outcome": result.outcome.value, "payment_status": result.payment.status.value, "replayed": result.replayed}
    deadline = Deadline.of(context)
    told = inbox(wiring.service(), deadline)
    done = reconcile(wiring.service(), deadline)
    counts = {"OperationsReconciled": done.settled, "OutcomesStillUnknown": done.unknown}
    counts |= {"OutcomesPending": done.pending, "OutcomesExhausted": done.exhausted, "AuthorizationsExpired": done.expired}
    counts |= {"DisputesDueSoon": done.disputes_due_soon}
    telemetry.count_all(counts)
    telemetry.count("OldestUnknownOutcome", done.oldest_unknown_s, "Seconds")
    return asdict(done) | {"gateway_events": told}
