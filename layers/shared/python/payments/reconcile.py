"""Scheduled: find out what became of operations whose outcome nobody knows, and void authorizations that ran out."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from payments.domain.errors import Refused
from payments.domain.operation import Outcome
from payments.phases import GATEWAY_TIMEOUT_S, LEASE_MARGIN_S, SETTLE_RESERVE_S, carry_out
from payments.requests import VoidRequest
from payments.service import Call, Deadline, Service
from payments.store import claims, lookups
from payments.void import void

logger = logging.getLogger(__name__)

ONE_OPERATION_S = GATEWAY_TIMEOUT_S + SETTLE_RESERVE_S
"""What one operation may take at worst; no further one is begun with less time left."""

EXPIRY_REASON = "the authorization ran out"


@dataclass(slots=True)
class Reconciled:
    """How many operations were settled, are still unknown, and how many authorizations were voided because they ran out."""

    settled: int = 0
    unknown: int = 0
    expired: int = 0


def reconcile(service: Service, deadline: Deadline) -> Reconciled:
    """Work through what is due until nothing is, or time is short. One at a time, so that each has a lease of its own."""
    done = Reconciled()
    while deadline.remaining_s() > ONE_OPERATION_S:
        due = claims.claim_due(service.db, 1, ONE_OPERATION_S + LEASE_MARGIN_S)
        if not due:
            break
        for operation, payment in due:
            refund = lookups.refund_by_id(service.db, operation.refund_id) if operation.refund_id else None
            result = carry_out(service, operation, payment, refund, deadline)
            if result.outcome is Outcome.UNKNOWN:
                done.unknown += 1
            else:
                done.settled += 1
    for owner, transaction_id in claims.authorizations_run_out(service.db, 20):
        if deadline.remaining_s() <= ONE_OPERATION_S:
            break
        try:
            void(
                VoidRequest(transaction_id=transaction_id, reason=EXPIRY_REASON),
                Call(owner=owner, deadline=deadline),
                service,
            )
            done.expired += 1
        except Refused:
            logger.info("the authorization was captured or voided meanwhile", extra={"transaction_id": transaction_id})
    return done
