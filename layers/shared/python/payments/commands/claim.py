"""Claim: write the operation and its lease before the gateway is called, or find out why that is not possible."""

import math
from typing import Any

from payments.commands.command import AnyRequest, Command, Result, result_of
from payments.commands.service import Call, Service
from payments.domain.errors import IdempotencyKeyInUse, IdempotencyKeyReused, ServiceUnavailable
from payments.domain.operation import Draft
from payments.domain.payment import PaymentStatus
from payments.store import claims
from payments.store.claims import Claimed
from payments.store.connection import RETRY_AFTER_S

LEASE_MARGIN_S = 2.0
"""A lease outlives the invocation that holds it, so that two workers never act on one operation; 2 s allow for the freeze."""


def claim(command: Command[AnyRequest], request: AnyRequest, call: Call, service: Service) -> Claimed | Result:
    """Write the command's operation. Returns the result of the first request instead when the idempotency key was used before.

    Raises NotSupportedByGateway, IdempotencyKeyReused, IdempotencyKeyInUse, ServiceUnavailable, and the command's own refusals.
    """
    operation_id = service.new_id()
    draft = Draft(
        operation_id=operation_id,
        owner=call.owner,
        kind=command.kind,
        idempotency_key=call.idempotency_key,
        request_hash=request.digest,
        gateway_key=f"{command.kind}-{operation_id}",
        traceparent=call.traceparent,
        created_at=service.clock(),
        lease_s=max(call.deadline.remaining_s(), 0) + LEASE_MARGIN_S,
        refusal_id=call.refusal_id,
        gateway=service.gateway.name,
        key_lifetime_s=service.gateway.key_lifetime_s(command.kind),
    )
    if unsupported := command.unsupported(request, call, service):
        if earlier := _earlier_result(command, draft, service):
            return earlier
        raise unsupported
    claimed = command.claim(request, draft, service)
    if isinstance(claimed, Claimed):
        return claimed
    # If the first sending was committed and its answer was lost, its rows refuse the second one. If our lease has run out since,
    # reconcile may hold the operation, and we leave it alone.
    if claimed.resent and (ours := claims.state_of(service.db, operation_id)):
        is_first = ours.operation.attempt == 1 and ours.operation.outcome is None
        return ours if is_first else result_of(command, ours)
    refusal = command.why_not(claimed, request, call, service)
    # The key comes before the reason: a repeated capture that succeeded gets its success, not "already captured". We look for it
    # after the reason, because a duplicate of this request may be carried out at any moment, and then be the reason itself.
    if earlier := _earlier_result(command, draft, service):
        return earlier
    if claimed.resent:
        # A server that hung may still run the first sending, so we must not answer that nothing was done. (A used key would
        # refuse the first sending too.)
        detail = "The request may have been started. Repeat it unchanged, or look the payment up."
        raise ServiceUnavailable(detail, retry_after_s=RETRY_AFTER_S)
    raise refusal


def _earlier_result(command: Command[Any], draft: Draft, service: Service) -> Result | None:
    """Return the result of the first request with this key, with the payment as it is now; None when the key is new or absent."""
    found = claims.state_by_key(service.db, draft) if draft.idempotency_key is not None else None
    if found is None:
        return None
    state, lease_left_s = found
    if state.operation.request_hash != draft.request_hash:
        raise IdempotencyKeyReused("This Idempotency-Key belongs to another request; use a new one.")
    # A payment that waits for its customer was answered. A worker that has it for a moment only asks the gateway.
    waits = command.kind == "process" and state.payment.status is PaymentStatus.REQUIRES_ACTION
    if state.operation.outcome is None and lease_left_s > 0 and not waits:
        goes_on = (
            "is still running" if state.operation.attempt == 1 else "has no outcome yet, and we are asking the gateway for it"
        )
        detail = f"The first request with this Idempotency-Key {goes_on}; try again in a moment."
        raise IdempotencyKeyInUse(detail, retry_after_s=min(math.ceil(lease_left_s), 5))
    return result_of(command, state, replayed=True)
