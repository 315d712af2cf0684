"""An outcome that a person looked up at the gateway, written as the gateway's own answer would have been."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from payments.commands.phases import settle
from payments.commands.service import Result, Service, result_of
from payments.domain.declines import DECLINE_MESSAGES
from payments.domain.operation import Outcome
from payments.domain.payment import Payment
from payments.gateway.port import Approved, Declined
from payments.store import claims, lookups, settlement


def settle_by_hand(service: Service, told: Mapping[str, Any]) -> Result:
    """Settle an operation that nobody asks about any more. The outcome that it may have by now stands.

    `told` holds operation_id, attempt (which was the last one before the look-up), outcome (`succeeded` or `declined`) and by
    (who looked it up); for a payment also the gateway's transaction_id and payment_intent_id, for a decline its decline_code.
    Raises ValueError, with the reason in words.
    """
    state = settlement.state_of(service.db, UUID(str(told.get("operation_id"))))
    if state is None:
        raise ValueError("there is no such operation")
    operation, payment = state
    refund = lookups.refund_by_id(service.db, operation.refund_id) if operation.refund_id else None
    if operation.outcome is not None:
        return result_of(operation, operation.outcome, payment, refund, replayed=True)
    if not claims.is_given_up(service.db, operation.operation_id):
        raise ValueError("the gateway is still asked about this operation")
    if told.get("attempt") != operation.attempt:
        # What the gateway had never seen when the person looked may have moved money at the next attempt.
        raise ValueError("attempt is not the last one: read it in the books again, and only then look the key up again")
    settled = settle(service, operation, payment, refund, _reply(payment, told))
    return result_of(settled.operation, settled.outcome, settled.payment, settled.refund)


def _reply(payment: Payment, told: Mapping[str, Any]) -> Approved | Declined:
    transaction_id = payment.transaction_id or told.get("transaction_id")
    payment_intent_id = payment.payment_intent_id or told.get("payment_intent_id")
    if not told.get("by"):
        raise ValueError("by must say who looked the outcome up")
    raw = {"by_hand": str(told["by"])}
    if told.get("outcome") == Outcome.SUCCEEDED:
        if not transaction_id or not payment_intent_id:
            raise ValueError("transaction_id and payment_intent_id must be the gateway's")
        return Approved(str(transaction_id), str(payment_intent_id), raw)
    code = told.get("decline_code")
    if told.get("outcome") != Outcome.DECLINED or code not in DECLINE_MESSAGES:
        raise ValueError(f"outcome must be succeeded, or declined with a decline_code of {', '.join(DECLINE_MESSAGES)}")
    return Declined(code, DECLINE_MESSAGES[code], transaction_id, payment_intent_id, raw)
