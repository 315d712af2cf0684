"""The errors that a caller can receive, as a tree.

PaymentsError
├── Refused                       the request is wrong or came at the wrong time; no money moved and nothing was written
│   ├── MalformedJson             not JSON as RFC 8259 reads it, or too deep
│   ├── IdempotencyKeyInvalid     the header is empty, too long, repeated or not visible ASCII
│   ├── Unauthenticated           no claims that identify the caller
│   ├── Forbidden                 the claims lack the scope, or name a subject that is another kind of caller's
│   ├── PaymentNotFound           the caller has no such payment
│   ├── RefundNotFound            the caller has no such refund
│   ├── WebhookNotFound           the caller has no such webhook
│   ├── WebhookConflict           the caller has a webhook at this url, or as many as it may have
│   ├── OrderAlreadyPaid          another payment of the order is authorized, captured or refunded
│   ├── OrderInProgress           another payment of the order is being processed
│   ├── PaymentStateConflict      the payment's status does not allow the command, or another command holds the payment
│   ├── PaymentDisputed           the customer disputes the payment, and the gateway refuses refunds of it
│   ├── IdempotencyKeyInUse       the first request with this key is being worked on
│   ├── BodyTooLarge
│   ├── UnsupportedMediaType
│   ├── MembersRefused            some members of the request are wrong, and `errors` names them
│   │   ├── InvalidRequest        a field is missing, unknown or has the wrong type or value
│   │   ├── CardDataNotAccepted   something looks like a card number or a security code
│   │   └── NotSupportedByGateway the gateway has no such payment method, currency or amount, or another one took the payment
│   ├── AmountTooLarge            more than is authorized, or more than is left to refund
│   └── IdempotencyKeyReused      the key was used for another request
└── Fault                         our servers or our code failed; the caller may try again, unless `retryable` is false
    ├── ServiceUnavailable        the database cannot be reached or does not answer in time
    └── InternalError             everything else

A gateway's decline is no error: it is one of the gateway's answers (gateway/port.py) and part of a Result.
"""

from collections.abc import Mapping
from typing import ClassVar


class PaymentsError(Exception):
    """An error with a stable `code` and the `title` of its kind. `detail` says what happened and what the caller can do.

    `retryable` says that the same request may succeed later; the class says what is usual. `extra` holds further members of the
    problem document, such as `payment_status` or `amount_available`. Details for our log alone, such as a SQLSTATE, go into a
    note (`add_note`), which the log's traceback shows.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    retryable: bool = False

    def __init__(
        self, detail: str, *, retryable: bool | None = None, retry_after_s: int | None = None, extra: Mapping[str, object] = {}
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retryable = type(self).retryable if retryable is None else retryable
        self.retry_after_s = retry_after_s
        self.extra = dict(extra)


class Refused(PaymentsError):
    """The request is wrong or came at the wrong time. Nothing was written."""


class MalformedJson(Refused):
    code, title = "malformed_json", "The body is not well-formed JSON"


class IdempotencyKeyInvalid(Refused):
    code, title = "idempotency_key_invalid", "The Idempotency-Key is not valid"


class Unauthenticated(Refused):
    code, title = "unauthenticated", "The caller is not authenticated"


class Forbidden(Refused):
    code, title = "forbidden", "The caller lacks a permission"


class PaymentNotFound(Refused):
    code, title = "payment_not_found", "The payment does not exist"


class RefundNotFound(Refused):
    code, title = "refund_not_found", "The refund does not exist"


class WebhookNotFound(Refused):
    code, title = "webhook_not_found", "The webhook does not exist"


class WebhookConflict(Refused):
    code, title = "webhook_conflict", "The webhook cannot be registered beside those that are"


class OrderAlreadyPaid(Refused):
    code, title = "order_already_paid", "The order is already paid"


class OrderInProgress(Refused):
    code, title = "order_in_progress", "Another payment for this order is in progress"
    retryable = True


class PaymentStateConflict(Refused):
    """`retryable` is true while an operation is in flight whose outcome may change the status to one that allows the command."""

    code, title = "payment_state_conflict", "The payment's status does not allow this"


class PaymentDisputed(Refused):
    code, title = "payment_disputed", "The payment is disputed"


class IdempotencyKeyInUse(Refused):
    code, title = "idempotency_key_in_use", "The Idempotency-Key is in use"
    retryable = True


class BodyTooLarge(Refused):
    code, title = "body_too_large", "The body is too large"


class UnsupportedMediaType(Refused):
    code, title = "unsupported_media_type", "The body is not JSON"


class MembersRefused(Refused):
    """Some members are wrong. `wrong` holds pairs of location and message, and never the input."""

    def __init__(self, detail: str, *wrong: tuple[str, str], extra: Mapping[str, object] = {}) -> None:
        super().__init__(detail, extra={**extra, "errors": [{"location": place, "message": why} for place, why in wrong]})


class InvalidRequest(MembersRefused):
    code, title = "invalid_request", "The request is not valid"


class CardDataNotAccepted(MembersRefused):
    code, title = "card_data_not_accepted", "Card data is not accepted"


class NotSupportedByGateway(MembersRefused):
    code, title = "not_supported_by_gateway", "The gateway does not support this"

    def __init__(self, member: str, why: str, extra: Mapping[str, object] = {}) -> None:
        super().__init__("The gateway cannot take this.", (f"body.{member}", why), extra=extra)


class AmountTooLarge(Refused):
    """`retryable` is true while a refund in flight holds what is missing: a decline would free it again."""

    code, title = "amount_too_large", "The amount is larger than what is available"


class IdempotencyKeyReused(Refused):
    code, title = "idempotency_key_reused", "The Idempotency-Key was used for another request"


class Fault(PaymentsError):
    retryable = True


class ServiceUnavailable(Fault):
    code, title = "service_unavailable", "The service is unavailable"


class InternalError(Fault):
    """`retryable` is false where the same request would fail again, such as a constraint that the database refused."""

    code, title = "internal_error", "Internal error"
