"""The API's answers as pydantic models, for its documents. The tests check every real answer against them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from payments.domain.money import MAX_AMOUNT_MINOR
from payments.domain.payment import PaymentStatus
from payments.domain.refund import RefundStatus

AmountMinor = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR, description="In the currency's minor unit")]
Currency = Annotated[str, Field(description="As in the request; an old payment may have one that ISO 4217 no longer lists")]
PaymentMethod = Annotated[str, Field(description="As in the request; an old payment may have one that is no longer accepted")]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Refund(_Answer):
    refund_id: UUID
    payment_id: UUID
    transaction_id: str
    amount: AmountMinor
    currency: Currency
    status: RefundStatus
    reason: str | None
    decline_code: str | None
    created_at: datetime
    updated_at: datetime


class RefundCreated(Refund):
    payment_status: PaymentStatus
    amount_refunded: AmountMinor


class Payment(_Answer):
    payment_id: UUID
    order_id: str
    status: PaymentStatus
    amount: AmountMinor
    currency: Currency
    payment_method: PaymentMethod
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


class PaymentWithRefunds(Payment):
    """A look-up holds the newest 20 refunds of a payment, a list the newest 5, oldest first. `has_more_refunds` says that there
    are older ones: `GET /payment/{payment_id}/refunds` has them all.
    """

    refunds: Annotated[list[Refund], Field(max_length=20)]
    has_more_refunds: bool


class PaymentWithRefund(Payment):
    """The value of a payment.refunded or payment.refund_failed event."""

    refund: Refund


class StatusChange(_Answer):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: Annotated[PaymentStatus | None, Field(alias="from")]
    to: PaymentStatus
    at: datetime
    reason: str


class _Page(_Answer):
    has_more: bool
    next_cursor: str | None


class History(_Page):
    data: Annotated[list[StatusChange], Field(max_length=100)]


class RefundList(_Page):
    data: Annotated[list[Refund], Field(max_length=100)]


class PaymentList(_Page):
    data: Annotated[list[PaymentWithRefunds], Field(max_length=100)]


class Webhook(_Answer):
    """Where an owner has its events sent. `event_types` null stands for all types."""

    webhook_id: UUID
    url: str
    description: str | None
    event_types: list[str] | None
    created_at: datetime
    previous_until: Annotated[datetime | None, Field(description="Until then the secret before the present one signs too")]
    disabled_at: Annotated[
        datetime | None, Field(description="Nothing is sent since then. Events from then on are not kept for it")
    ]
    disabled_reason: Annotated[str | None, Field(description="`gone`: it answered 410; `failing`: it failed for three days")]
    failing_since: Annotated[datetime | None, Field(description="The first failure after the last success")]
    last_error: Annotated[str | None, Field(description="Why the last attempt failed")]
    waiting: Annotated[int, Field(ge=0, le=1000, description="Events that are still to be sent, counted up to 1000")]
    failed: Annotated[int, Field(ge=0, le=1000, description="Events that were given up in the last 30 days, up to 1000")]


class WebhookWithSecret(Webhook):
    """`secret` is shown this once. Standard Webhooks' libraries take it as it is."""

    secret: Annotated[str, Field(pattern="^whsec_[A-Za-z0-9+/]{43}=$")]


class WebhookList(_Answer):
    """An owner has at most ten webhooks."""

    data: Annotated[list[Webhook], Field(max_length=20)]


class Redelivery(_Answer):
    events: Annotated[int, Field(ge=0, description="So many events are sent again")]
    resume_at: Annotated[datetime | None, Field(description="Ask again from this moment on; null at the end of the range")]


class Check(_Answer):
    ok: bool
    latency_ms: float
    error: str | None = None


class Health(_Answer):
    status: Literal["ok", "degraded"]
    version: str
    checks: dict[Literal["database", "broker"], Check] | None = None


class FieldError(_Answer):
    location: str
    message: str


class Problem(BaseModel):
    """RFC 9457. `code` is stable and meant for programs; `retryable` says whether the same request may succeed later."""

    model_config = ConfigDict(extra="forbid")

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
    advice_code: Literal["try_again_later"] | None = None
    amount_available: AmountMinor | None = None
    errors: list[FieldError] | None = None


class RequestRefused(Problem):
    """The value of a payment.refused event: the problem, and what named the request, as far as that was valid.

    `payment_id` and `transaction_id` are as the request wrote them, unless it found a payment. With the code
    `idempotency_key_reused`, the key is that of another request, which may have succeeded.
    """

    operation: str | None
    order_id: str | None
    payment_id: str | None = None  # type: ignore[assignment]  # as the request wrote it
    idempotency_key: str | None
