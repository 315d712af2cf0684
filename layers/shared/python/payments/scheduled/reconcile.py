"""Scheduled: call the gateway again for operations whose outcome is unknown, and void authorizations that have run out."""

import logging
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from payments.commands.catalog import COMMANDS
from payments.commands.claim import LEASE_MARGIN_S, claim
from payments.commands.phases import GATEWAY_TIMEOUT_S, PUBLISH_TIMEOUT_S, SETTLE_RESERVE_S, charge, mark, publish
from payments.commands.service import Call, Deadline, Service
from payments.commands.settle import settle
from payments.commands.unknown import ids
from payments.commands.void import Void
from payments.domain.errors import Refused
from payments.domain.events import Event
from payments.domain.operation import Outcome
from payments.gateway.port import Reply
from payments.store import disputes, due
from payments.store.claims import Claimed

logger = logging.getLogger(__name__)

ONE_OPERATION_S = GATEWAY_TIMEOUT_S + SETTLE_RESERVE_S
"""One operation takes at most this long. A run with less time left begins no further one."""

LEASE_S = ONE_OPERATION_S + PUBLISH_TIMEOUT_S + LEASE_MARGIN_S
"""An operation whose call has ended may wait while the events of others are published."""

SIDE_BY_SIDE = 64
"""64 gateway calls of 50 to 200 ms end about as fast as one database connection settles them."""

REFILL = SIDE_BY_SIDE // 4
"""The fewest operations that we claim at once, because a claim of one costs as much as a claim of many."""

EXPIRY_REASON = "the authorization ran out"


@dataclass(slots=True)
class Reconciled:
    """The counts of one run, and the state that it leaves.

    The run settled `settled` operations, got no outcome for `unknown`, heard that the gateway has not finished `pending`, and
    voided `expired` authorizations. It leaves `exhausted` operations that a person has to settle. The oldest operation without an
    outcome, pending ones aside, is `oldest_unknown_s` seconds old. `disputes_due_soon` disputes want evidence within three days,
    the first one in `next_dispute_due_s` seconds.
    """

    settled: int = 0
    unknown: int = 0
    pending: int = 0
    expired: int = 0
    exhausted: int = 0
    oldest_unknown_s: float = 0.0
    disputes_due_soon: int = 0
    next_dispute_due_s: float = 0.0


def reconcile(service: Service, deadline: Deadline) -> Reconciled:
    """Settle operations that are due, and void what ran out, until none is left or time is short.

    Only the gateway calls run side by side, each in a thread. Each operation has its own lease.
    """
    done, calls, stuck, more = Reconciled(), dict[Future[Reply], Claimed](), list[str](), True
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        while more or calls:
            if more and len(calls) <= SIDE_BY_SIDE - REFILL:
                claimed = _claim(service, deadline, SIDE_BY_SIDE - len(calls), stuck)
                calls |= {threads.submit(charge, COMMANDS[one.operation.kind], one, service, deadline): one for one in claimed}
                more = bool(claimed)
            ended = wait(calls, return_when=FIRST_COMPLETED).done
            _finish([(calls.pop(call), call.result()) for call in ended], service, done)
    done.exhausted, done.oldest_unknown_s = due.unknown_outcomes(service.db)
    done.disputes_due_soon, done.next_dispute_due_s = disputes.due_soon(service.db)
    return done


def _claim(service: Service, deadline: Deadline, limit: int, stuck: list[str]) -> list[Claimed]:
    """Claim authorizations that ran out for half of the limit at most, and operations that are due for the rest.

    `stuck` collects the transactions that could not be claimed, which this run leaves alone.
    """
    if deadline.remaining_s() <= ONE_OPERATION_S:
        return []
    void, voids = Void(), list[Claimed]()
    for owner, transaction_id in due.authorizations_run_out(service.db, service.gateway.name, limit // 2, stuck):
        try:
            request = void.request(transaction_id=transaction_id, reason=EXPIRY_REASON)
            one = claim(void, request, Call(owner=owner, deadline=deadline), service)
            voids += [one] if isinstance(one, Claimed) else []
        except Exception as error:
            # The others must not wait for one that cannot be voided, such as a locked row, or one that was captured meanwhile.
            level = logging.INFO if isinstance(error, Refused) else logging.ERROR
            logger.log(level, "an expired authorization was not voided", exc_info=True, extra={"transaction_id": transaction_id})
            stuck.append(transaction_id)
    return voids + due.claim_due(service.db, limit - len(voids), LEASE_S)


def _finish(ended: list[tuple[Claimed, Reply]], service: Service, done: Reconciled) -> None:
    """Settle the operations whose calls have ended, and publish their events together."""
    events: list[Event] = []
    for claimed, reply in ended:
        outcome, is_pending = Outcome.UNKNOWN, False
        try:
            settled = settle(COMMANDS[claimed.operation.kind], claimed, reply, service)
            outcome, is_pending = settled.result.outcome, settled.result.is_pending
            events += [settled.event] if settled.event else []
        except Exception:
            # The others must not wait for one that cannot be settled. Its lease makes it due again.
            logger.exception("an operation could not be reconciled", extra=ids(claimed.operation))
        if claimed.operation.attempt == 1:  # We claimed it ourselves, to void what ran out.
            done.expired += outcome is Outcome.SUCCEEDED
        else:
            done.settled += outcome is not Outcome.UNKNOWN
            done.unknown += outcome is Outcome.UNKNOWN and not is_pending
            done.pending += is_pending
    mark(publish(events, service), service)
