"""The API's answers as pydantic models, for its documents. The tests check every real answer against them.

These models are closed: they hold what this version says. The documents are open, because a later version may say more
(docs/versioning.md). contract/words.py has the descriptions of the members and the values that they know.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from payments.domain.dispute import DisputeOutcome
from payments.domain.money import MAX_AMOUNT_MINOR
from payments.domain.payment import PaymentStatus
from payments.domain.refund import Origin, RefundStatus

AmountMinor = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Refund(_Answer):
    """A refund of a payment."""

    refund_id: UUID
    payment_id: UUID
    transaction_id: str
    amount: AmountMinor
    currency: str
    status: RefundStatus
    reason: str | None
    decline_code: str | None
    created_at: datetime
    updated_at: datetime
    origin: Origin


class RefundCreated(Refund):
    """A refund, with the payment's state after it."""

    payment_status: PaymentStatus
    amount_refunded: AmountMinor


class Payment(_Answer):
    """A payment: one attempt to pay an order."""

    payment_id: UUID
    order_id: str
    status: PaymentStatus
    amount: AmountMinor
    currency: str
    payment_method: str
    capture_method: Literal["automatic", "manual"]
    amount_captured: AmountMinor
    amount_refunded: AmountMinor
    amount_refund_pending: AmountMinor
    transaction_id: str | None
    payment_intent_id: str | None
    decline_code: str | None
    error_message: str | None
    customer_id: str | None
    description: str | None
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    authorized_at: datetime | None
    captured_at: datetime | None
    failed_at: datetime | None
    voided_at: datetime | None
    capture_before: datetime | None


class NextAction(_Answer):
    """What the customer's browser needs. `client_secret` comes with the type `stripe_js`, and `url` with `redirect`."""

    type: str
    client_secret: str | None = None
    url: str | None = None
    expires_at: datetime


class PaymentInProgress(Payment):
    """A payment whose outcome is not known yet. If it is REQUIRES_ACTION, the customer has to act."""

    next_action: NextAction | None = None


class Dispute(_Answer):
    """A dispute: the customer's bank asks for the payment's money back. `status` and `reason` are the gateway's words."""

    dispute_id: UUID
    payment_id: UUID
    gateway_dispute_id: str
    amount: AmountMinor
    currency: str
    reason: str
    status: str
    outcome: DisputeOutcome | None
    due_by: datetime | None
    is_refundable: bool
    created_at: datetime
    updated_at: datetime


class PaymentWithRefunds(Payment):
    """A payment with its newest refunds and disputes."""

    refunds: Annotated[list[Refund], Field(max_length=20)]
    has_more_refunds: bool
    disputes: Annotated[list[Dispute], Field(max_length=20)]
    has_more_disputes: bool


class RefundTold(Refund):
    """A refund as its event tells it. Events of earlier releases have no `origin`: the service made those refunds."""

    origin: Origin = Origin.SERVICE


class PaymentWithRefund(Payment):
    """The value of a payment.refunded or payment.refund_failed event."""

    refund: RefundTold


class PaymentWithDispute(Payment):
    """The value of a payment.disputed or payment.dispute_closed event."""

    dispute: Dispute


class StatusChange(_Answer):
    """A change of a payment's status, a later decline, or a change of a dispute."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: Annotated[PaymentStatus | None, Field(alias="from")]
    to: PaymentStatus
    at: datetime
    reason: str


class _Page(_Answer):
    has_more: bool
    next_cursor: str | None


class History(_Page):
    """A page of a payment's history, oldest first."""

    data: Annotated[list[StatusChange], Field(max_length=100)]


class RefundList(_Page):
    """A page of a payment's refunds, oldest first."""

    data: Annotated[list[Refund], Field(max_length=100)]


class PaymentList(_Page):
    """A page of payments, newest first. With filters a page may be short, or even empty, although `has_more` is true: the service
    reads at most 2,000 payments for a page. Read on with `next_cursor`.
    """

    data: Annotated[list[PaymentWithRefunds], Field(max_length=100)]


class Webhook(_Answer):
    """Where an owner has its events sent. `event_types` null stands for all types."""

    webhook_id: UUID
    url: str
    description: str | None
    event_types: list[str] | None
    created_at: datetime
    previous_until: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    last_error: str | None
    waiting: Annotated[int, Field(ge=0, le=1000)]
    failed: Annotated[int, Field(ge=0, le=1000)]


class WebhookWithSecret(Webhook):
    """A webhook with its secret, when that was made."""

    secret: Annotated[str, Field(pattern="^whsec_[A-Za-z0-9+/]{43}=$")]


class WebhookList(_Answer):
    """An owner has at most ten webhooks."""

    data: Annotated[list[Webhook], Field(max_length=20)]


class Redelivery(_Answer):
    """What a redelivery begins. A long range is taken in parts."""

    events: Annotated[int, Field(ge=0)]
    resume_at: datetime | None


class Check(_Answer):
    """Whether a part of the service answers."""

    ok: bool
    latency_ms: float
    error: str | None = None


class Health(_Answer):
    """Whether the service runs."""

    status: Literal["ok", "degraded"]
    version: str
    checks: dict[Literal["database", "broker"], Check] | None = None


class FieldError(_Answer):
    """One place of a request that is wrong."""

    location: str
    message: str


class Message(_Answer):
    """An error that API Gateway answers by itself."""

    message: str


class Problem(_Answer):
    """A problem document (RFC 9457). `code` and `retryable` are for programs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    retryable: bool
    payment_id: UUID | None = None
    order_id: str | None = None
    payment_status: PaymentStatus | None = None
    transaction_id: str | None = None
    payment_intent_id: str | None = None
    refund_id: UUID | None = None
    decline_code: str | None = None
    advice_code: str | None = None
    amount_available: AmountMinor | None = None
    errors: list[FieldError] | None = None


class RequestRefused(Problem):
    """The value of a payment.refused event: the problem, and what named the request, as far as that was valid.

    `payment_id` and `transaction_id` are as the request wrote them, unless it found a payment. With the code
    `idempotency_key_reused`, the key is that of another request, which may have succeeded.
    """

    operation: str | None
    order_id: str | None
    payment_id: str | None  # type: ignore[assignment]  # as the request wrote it
    transaction_id: str | None
    idempotency_key: str | None
