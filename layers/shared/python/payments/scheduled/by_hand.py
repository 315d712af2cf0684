"""Settle an operation by hand: write the outcome that a person has looked up at the gateway, as if the gateway had replied it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from payments.commands.catalog import COMMANDS
from payments.commands.command import Result, result_of
from payments.commands.service import Service
from payments.commands.settle import write_outcome
from payments.domain.declines import KNOWN_DECLINES
from payments.domain.operation import Operation, Outcome
from payments.domain.payment import Payment
from payments.gateway.port import Approved, Declined
from payments.store import claims, due
from payments.store.connection import UniqueViolation


class NotSettled(Exception):
    """The operation cannot be settled like this; the message tells the operator why. Nothing was written."""


def settle_by_hand(service: Service, found: Mapping[str, Any]) -> Result:
    """Settle an operation for which reconcile moves no money any more. An outcome that the operation has by now stands.

    `found` holds operation_id, attempt (the last one before the look-up), outcome (`succeeded` or `declined`) and by (the person
    who looked it up). For a payment it also holds the gateway's transaction_id and payment_intent_id, for a decline its
    decline_code. Raises NotSettled.
    """
    state = claims.state_of(service.db, _operation_id(found))
    if state is None:
        raise NotSettled("there is no such operation")
    operation, command = state.operation, COMMANDS.get(state.operation.kind)
    if command is None:
        raise NotSettled(f"this version of the service has no command {operation.kind}")
    if operation.outcome is not None:
        return result_of(command, state, replayed=True)
    if not due.may_be_settled(service.db, operation.operation_id):
        raise NotSettled("reconcile or another function still works on this operation, or a void has taken it over")
    if found.get("attempt") != operation.attempt:
        # The next attempt may have moved money that the gateway had not seen when the person looked.
        raise NotSettled("attempt is not the last one: read it in the database again, and only then look the key up again")
    try:
        return write_outcome(command, state, _reply(operation, state.payment, found), service).result
    except UniqueViolation:
        raise NotSettled("transaction_id or payment_intent_id belongs to another payment") from None


def _operation_id(found: Mapping[str, Any]) -> UUID:
    try:
        return UUID(str(found.get("operation_id")))
    except (ValueError, AttributeError):  # `found` may be no object.
        raise NotSettled("operation_id must be the UUID of an operation") from None


def _reply(operation: Operation, payment: Payment, found: Mapping[str, Any]) -> Approved | Declined:
    transaction_id = payment.transaction_id or found.get("transaction_id")
    payment_intent_id = payment.payment_intent_id or found.get("payment_intent_id")
    if not found.get("by"):
        raise NotSettled("by must name the person who looked the outcome up")
    raw = {"by_hand": str(found["by"])}
    if found.get("outcome") == Outcome.SUCCEEDED:
        if not payment_intent_id or not (transaction_id or operation.kind == "void"):
            raise NotSettled("transaction_id and payment_intent_id must be the gateway's")
        return Approved(str(transaction_id or ""), str(payment_intent_id), operation.amount_minor, payment.currency, raw)
    code = found.get("decline_code")
    if found.get("outcome") != Outcome.DECLINED or code not in KNOWN_DECLINES:
        raise NotSettled(f"outcome must be succeeded, or declined with a decline_code of {', '.join(KNOWN_DECLINES)}")
    return Declined(code, KNOWN_DECLINES[code], transaction_id, payment_intent_id, raw)
