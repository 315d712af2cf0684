"""Scheduled: call the gateway again for operations whose outcome is unknown, and void authorizations that have run out."""

import logging
from dataclasses import dataclass

from payments.commands.catalog import COMMANDS
from payments.commands.claim import LEASE_MARGIN_S
from payments.commands.phases import GATEWAY_TIMEOUT_S, SETTLE_RESERVE_S, move_money, perform
from payments.commands.service import Call, Deadline, Service
from payments.commands.void import Void
from payments.domain.errors import Refused
from payments.domain.operation import Outcome
from payments.store import due
from payments.store.claims import Claimed

logger = logging.getLogger(__name__)

ONE_OPERATION_S = GATEWAY_TIMEOUT_S + SETTLE_RESERVE_S
"""One operation takes at most this long. A run with less time left begins no further one."""

EXPIRIES_PER_RUN = 500
"""A run has time for fewer than this, so time is the only bound."""

EXPIRY_REASON = "the authorization ran out"


@dataclass(slots=True)
class Reconciled:
    """The counts of one run, and the state that it leaves.

    The run settled `settled` operations, got no outcome for `unknown`, and voided `expired` authorizations. It leaves `exhausted`
    operations that a person has to settle; the oldest operation without an outcome is `oldest_unknown_s` seconds old.
    """

    settled: int = 0
    unknown: int = 0
    expired: int = 0
    exhausted: int = 0
    oldest_unknown_s: float = 0.0


def reconcile(service: Service, deadline: Deadline) -> Reconciled:
    """Settle operations that are due until none is left or time is short. One at a time, so that each has its own lease."""
    done = Reconciled()
    while deadline.remaining_s() > ONE_OPERATION_S:
        batch = due.claim_due(service.db, 1, ONE_OPERATION_S + LEASE_MARGIN_S)
        if not batch:
            break
        for claimed in batch:
            if _has_outcome(claimed, service, deadline):
                done.settled += 1
            else:
                done.unknown += 1
    _void_what_ran_out(service, deadline, done)
    done.exhausted, done.oldest_unknown_s = due.unknown_outcomes(service.db)
    return done


def _has_outcome(claimed: Claimed, service: Service, deadline: Deadline) -> bool:
    """Carry the operation through its phases. Returns whether it has an outcome now."""
    operation = claimed.operation
    try:
        result = move_money(COMMANDS[operation.kind], lambda: claimed, service, deadline)
        return result.outcome is not Outcome.UNKNOWN
    except Exception:
        # The other operations must not wait for one that cannot be settled. Its lease makes it due again.
        logger.exception("an operation could not be reconciled", extra={"operation_id": str(operation.operation_id)})
        return False


def _void_what_ran_out(service: Service, deadline: Deadline, done: Reconciled) -> None:
    void = Void()
    for owner, transaction_id in due.authorizations_run_out(service.db, EXPIRIES_PER_RUN):
        if deadline.remaining_s() <= ONE_OPERATION_S:
            break
        try:
            request = void.request(transaction_id=transaction_id, reason=EXPIRY_REASON)
            result = perform(void, request, Call(owner=owner, deadline=deadline), service)
            done.expired += result.outcome is Outcome.SUCCEEDED
        except Refused:
            logger.info("the authorization was captured or voided meanwhile", extra={"transaction_id": transaction_id})
        except Exception:
            # The other authorizations must not wait for one that cannot be voided, such as a locked row.
            logger.exception("an authorization that ran out could not be voided", extra={"transaction_id": transaction_id})
