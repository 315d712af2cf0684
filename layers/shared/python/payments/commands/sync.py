"""Ask the gateway now: what became of a payment, and what its customer's browser needs."""

import logging
from dataclasses import dataclass
from datetime import datetime

from payments.commands import customer
from payments.commands.look import look_at
from payments.commands.on_payment import PaymentRequest
from payments.commands.phases import gateway_timeout_s, request_of
from payments.commands.service import Deadline, Service
from payments.commands.unknown import ids
from payments.domain.errors import PaymentNotFound
from payments.domain.payment import Payment, PaymentStatus
from payments.gateway.port import ActionRequired, NextAction
from payments.store import lookups, waiting

logger = logging.getLogger(__name__)

PAUSE_S = 2.0
"""A payment's owner makes us ask the gateway at most once in this time: gateways limit our rate, for all owners together."""


class SyncRequest(PaymentRequest):
    """Ask the gateway what became of a payment."""


@dataclass(frozen=True, slots=True)
class Action:
    """What the customer's browser needs, and until when."""

    next_action: NextAction
    expires_at: datetime | None


def sync(service: Service, owner: str, request: SyncRequest, deadline: Deadline) -> tuple[Payment, Action | None]:
    """Return the payment as it is after a look at the gateway, and the action if it waits for its customer.

    Within PAUSE_S of the last look it is returned as it is, without an action. Raises PaymentNotFound and Fault.
    """
    name, value = request.payment
    payment = lookups.find_payment(service.db, owner, name, value)
    if payment is None:
        raise PaymentNotFound(f"You have no payment with this {name}.")
    if not waiting.may_ask(service.db, payment.payment_id, PAUSE_S):
        return payment, None
    look_at(service, payment, deadline)
    payment = lookups.find_payment(service.db, owner, "payment_id", payment.payment_id) or payment
    return payment, _action_of(payment, service, deadline)


def action_of(payment: Payment, service: Service, deadline: Deadline) -> Action | None:
    """Return the action for a replay, unless the gateway was asked about the payment within PAUSE_S. Raises Fault."""
    return _action_of(payment, service, deadline) if waiting.may_ask(service.db, payment.payment_id, PAUSE_S) else None


def _action_of(payment: Payment, service: Service, deadline: Deadline) -> Action | None:
    """Ask the gateway what the customer's browser needs; None if that is nothing, or the gateway is away. Nothing is written."""
    timeout_s = gateway_timeout_s(deadline)
    if payment.status is not PaymentStatus.REQUIRES_ACTION or timeout_s <= 0:
        return None
    if (state := waiting.waiting_operation(service.db, payment.payment_id, service.gateway.name)) is None:
        return None
    try:
        reply = service.gateway.find(request_of(state, timeout_s))
    except Exception:  # As the port says, that is no answer. The payment still waits.
        logger.exception("the gateway adapter raised", extra=ids(state.operation))
        return None
    return Action(reply.next_action, customer.expires_at(state.operation)) if isinstance(reply, ActionRequired) else None
