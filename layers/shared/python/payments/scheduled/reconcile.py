"""Scheduled: find out what became of operations whose outcome nobody knows, and void authorizations that ran out."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from payments.commands.phases import GATEWAY_TIMEOUT_S, LEASE_MARGIN_S, SETTLE_RESERVE_S, carry_out
from payments.commands.requests import VoidRequest
from payments.commands.service import Call, Deadline, Service
from payments.commands.void import void
from payments.domain.errors import Refused
from payments.domain.operation import Operation, Outcome
from payments.domain.payment import Payment
from payments.store import claims, lookups

logger = logging.getLogger(__name__)

ONE_OPERATION_S = GATEWAY_TIMEOUT_S + SETTLE_RESERVE_S
"""What one operation may take at worst; no further one is begun with less time left."""

EXPIRIES_PER_RUN = 500
"""More than a run has time for at the gateway's usual pace, so that time is the only bound."""

EXPIRY_REASON = "the authorization ran out"


@dataclass(slots=True)
class Reconciled:
    """How many operations were settled and are still unknown, and how many authorizations were voided because they ran out; and
    of all operations how many wait for a person (`exhausted`) and how old the oldest without an outcome is."""

    settled: int = 0
    unknown: int = 0
    expired: int = 0
    exhausted: int = 0
    oldest_unknown_s: float = 0.0


def reconcile(service: Service, deadline: Deadline) -> Reconciled:
    """Work through what is due until nothing is, or time is short. One at a time, so that each has a lease of its own."""
    done = Reconciled()
    while deadline.remaining_s() > ONE_OPERATION_S:
        due = claims.claim_due(service.db, 1, ONE_OPERATION_S + LEASE_MARGIN_S)
        if not due:
            break
        for operation, payment in due:
            if _settle(service, operation, payment, deadline):
                done.settled += 1
            else:
                done.unknown += 1
    _void_what_ran_out(service, deadline, done)
    done.exhausted, done.oldest_unknown_s = claims.unknown_outcomes(service.db)
    return done


def _settle(service: Service, operation: Operation, payment: Payment, deadline: Deadline) -> bool:
    """Whether the operation has an outcome now."""
    try:
        refund = lookups.refund_by_id(service.db, operation.refund_id) if operation.refund_id else None
        return carry_out(service, operation, payment, refund, deadline).outcome is not Outcome.UNKNOWN
    except Exception:
        # One operation that cannot be settled must not keep the others waiting; its lease makes it due again.
        logger.exception("an operation could not be reconciled", extra={"operation_id": str(operation.operation_id)})
        return False


def _void_what_ran_out(service: Service, deadline: Deadline, done: Reconciled) -> None:
    for owner, transaction_id in claims.authorizations_run_out(service.db, EXPIRIES_PER_RUN):
        if deadline.remaining_s() <= ONE_OPERATION_S:
            break
        try:
            result = void(
                VoidRequest(transaction_id=transaction_id, reason=EXPIRY_REASON),
                Call(owner=owner, deadline=deadline),
                service,
            )
            done.expired += result.outcome is Outcome.SUCCEEDED
        except Refused:
            logger.info("the authorization was captured or voided meanwhile", extra={"transaction_id": transaction_id})
        except Exception:
            # One that cannot be voided, a locked row for example, must not keep the others waiting.
            logger.exception("an authorization that ran out could not be voided", extra={"transaction_id": transaction_id})
