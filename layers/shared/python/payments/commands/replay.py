"""A claim that was refused by the books: was it ours after all, a repeated request, or another one?"""

from __future__ import annotations

import math
from uuid import UUID

from payments.commands.service import Call, Result, Service, result_of
from payments.domain.errors import IdempotencyKeyInUse, IdempotencyKeyReused, ServiceUnavailable
from payments.domain.operation import Kind, Outcome
from payments.store import lookups
from payments.store.connection import RETRY_AFTER_S


def is_ours(service: Service, operation_id: UUID) -> bool:
    """Whether a claim was committed although its answer got lost and it was sent again: then its operation is there."""
    return lookups.operation_by_id(service.db, operation_id) is not None


def earlier_result(service: Service, call: Call, kind: Kind, request_hash: str, *, resent: bool) -> Result | None:
    """What the first request with this key came to, with the payment as it is now; None when the key is new (or absent).

    Raises IdempotencyKeyReused for another request, IdempotencyKeyInUse while the first one still runs, and ServiceUnavailable
    when the key is new and the claim was `resent`.
    """
    key = call.idempotency_key
    found = lookups.operation_by_key(service.db, call.owner, kind, key) if key is not None else None
    if found is None and resent:
        # The claim's first sending may be carried out yet, once what refused the second one is out of the way. So nobody is told
        # that nothing will be done; a taken key refuses the first sending too.
        raise ServiceUnavailable("Whether the request was begun is not known.", retry_after_s=RETRY_AFTER_S)
    if found is None:
        return None
    operation, lease_left_s = found
    if operation.request_hash != request_hash:
        raise IdempotencyKeyReused("Use a new Idempotency-Key for a new request; this one belongs to another.")
    if operation.outcome is None and lease_left_s > 0:
        raise IdempotencyKeyInUse(
            "Wait for the first request with this Idempotency-Key to end, then ask again.",
            retry_after_s=min(math.ceil(lease_left_s), 5),
        )
    payment = lookups.payment_by_id(service.db, call.owner, operation.payment_id)
    assert payment is not None  # an operation refers to its payment, and neither is ever deleted
    refund = lookups.refund_by_id(service.db, operation.refund_id) if operation.refund_id else None
    return result_of(operation, operation.outcome or Outcome.UNKNOWN, payment, refund, replayed=True)
