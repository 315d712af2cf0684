"""When the gateway's answer is no outcome: the lease ends, and reconcile goes on."""

import logging
from typing import Any

from payments import telemetry
from payments.commands.service import Service
from payments.domain.operation import Operation
from payments.gateway.port import ActionRequired, Pending, Unknown
from payments.store import due

logger = logging.getLogger(__name__)

SHORTEST_WAIT_S, LONGEST_WAIT_S = 1.0, 3600.0
"""The bounds of the wait that a gateway asks for. If it asked for 0 s, a run of reconcile would call again and again until the
run ends. If it asked for a year, the operation would wait a year."""


def give_back(operation: Operation, reply: Pending | ActionRequired | Unknown, service: Service) -> None:
    """End the lease. The schedule says when reconcile goes on; after its last moment a person has to look."""
    db, schedule_s = service.db, service.retry_schedule_s
    if isinstance(reply, ActionRequired):
        what, recorded = "the gateway waits for the customer", {"result": "requires_action"}
        given_up = due.give_back(db, operation, schedule_s, recorded)
    elif isinstance(reply, Pending):
        what, recorded = "the gateway has not finished", {"result": "pending", **vars(reply)}
        given_up = due.give_back(db, operation, schedule_s, recorded)
    else:
        what, recorded = f"the outcome is unknown: {reply.reason}", {"result": "unknown", "reason": reply.reason}
        wait_s = None if reply.wait_s is None else min(max(reply.wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S)
        given_up = due.give_back(db, operation, schedule_s, recorded, wait_s, reply.key_is_spent)
        if reply.alarm:
            telemetry.count(reply.alarm)
    log = logger.error if given_up else logger.warning
    log("%s", what, extra=ids(operation) | {"given_up": given_up})


def ids(operation: Operation) -> dict[str, Any]:
    """Return what a log line needs to name the operation."""
    return {name: getattr(operation, name) for name in ("payment_id", "operation_id", "kind", "attempt")}
