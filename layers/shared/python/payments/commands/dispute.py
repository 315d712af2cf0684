"""Record what the gateway says of a payment's disputes. It leads them; the books and their events follow."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from payments.commands.outside import alarm
from payments.commands.phases import publish_and_mark
from payments.commands.service import Service
from payments.commands.settle import PUBLISH_LEASE_S, SETTLE_TRIES, pause
from payments.domain.dispute import Dispute, DisputeOutcome, change_to, dispute_body, next_of
from payments.domain.events import event_for
from payments.domain.payment import Payment, apply
from payments.gateway.port import SeenDispute
from payments.store import disputes
from payments.store.connection import UniqueViolation


class LookAgain(Exception):
    """The books cannot take what was seen. The payment is not captured in them yet; or somebody has recorded the dispute since
    the look began, and otherwise: nobody knows which of the two looks was the later one."""


def record(service: Service, payment: Payment, seen: Sequence[SeenDispute]) -> bool:
    """Write what is new, each change once and with its event, and publish it. Returns whether anything was.

    `payment` is as it was before the gateway was asked for what is `seen`. Raises LookAgain and Fault. What was written until
    then stands.
    """
    written = [_record(service, payment, one) for one in seen]
    return any(written)


def _record(service: Service, payment: Payment, one: SeenDispute) -> bool:
    is_new = False
    for tries in range(SETTLE_TRIES):
        pause(tries)
        now, before = disputes.standing(service.db, payment.payment_id, one.gateway_dispute_id)
        try:
            seen = _dispute(service, now, one)
        except ValueError:
            alarm(f"the gateway has a dispute that the books cannot take: {one.gateway_dispute_id}", payment.payment_id, service)
            return False
        after = next_of(before, seen)
        if after is None:
            return is_new
        # The end of an open dispute is later than whatever was recorded of it. All else may be of an older look than what is
        # recorded, unless the payment was read, and then the gateway asked, after that.
        ends = before is not None and before.outcome is None and after.outcome is not None
        if not now.captured_minor or (before is not None and before.version > payment.version and not ends):
            raise LookAgain
        change = change_to(after)
        paid = apply(now, change, service.clock())
        after = replace(after, updated_at=paid.updated_at, version=paid.version)
        event = event_for(change, paid, None, service.new_id(), None, dispute=dispute_body(after))
        try:
            done, next_event = disputes.record(service.db, now, paid, after, event, PUBLISH_LEASE_S)
        except UniqueViolation:
            alarm(f"the gateway gave this payment the dispute of another: {one.gateway_dispute_id}", payment.payment_id, service)
            return is_new
        if done:
            is_new = True
            service.later(partial(publish_and_mark, next_event, service))
    raise LookAgain


def _dispute(service: Service, payment: Payment, one: SeenDispute) -> Dispute:
    """Return what was seen as a dispute of the payment. Raises ValueError for what is no dispute."""
    told: dict[str, Any] = asdict(one) | {"outcome": one.outcome and DisputeOutcome(one.outcome)}
    ours: dict[str, Any] = {"dispute_id": service.new_id(), "payment_id": payment.payment_id, "owner": payment.owner}
    return Dispute(**told, **ours, updated_at=one.created_at, version=payment.version)
