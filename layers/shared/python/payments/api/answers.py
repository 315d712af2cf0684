"""Answers: the HTTP status and the body of every result and every error, over HTTP and by direct invocation alike."""

from dataclasses import dataclass, field
from typing import Any

from payments import telemetry
from payments.commands.command import Result, state_of
from payments.domain import errors
from payments.domain.declines import ADVICE_CODES, public_decline_code, public_decline_message
from payments.domain.events import payment_body
from payments.domain.operation import Outcome
from payments.domain.refund import refund_body

PROBLEM_TYPE = "application/problem+json"

_ERRORS: dict[int, tuple[type[errors.PaymentsError], ...]] = {
    400: (errors.MalformedJson, errors.IdempotencyKeyInvalid),
    401: (errors.Unauthenticated,),
    403: (errors.Forbidden,),
    404: (errors.PaymentNotFound, errors.RefundNotFound, errors.WebhookNotFound),
    409: (
        *(errors.OrderAlreadyPaid, errors.OrderInProgress, errors.PaymentStateConflict, errors.IdempotencyKeyInUse),
        *(errors.PaymentDisputed, errors.WebhookConflict),
    ),
    413: (errors.BodyTooLarge,),
    415: (errors.UnsupportedMediaType,),
    422: (
        *(errors.InvalidRequest, errors.CardDataNotAccepted, errors.NotSupportedByGateway, errors.AmountTooLarge),
        errors.IdempotencyKeyReused,
    ),
    500: (errors.InternalError,),
    503: (errors.ServiceUnavailable,),
}
HTTP_STATUS = {kind: status for status, kinds in _ERRORS.items() for kind in kinds}
"""Every leaf of the error tree. A test fails when one is missing."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def reply_to(result: Result, request_id: str) -> Reply:
    """Return 201 or 200 with the payment or the refund, 202 while the outcome is unknown, 402 with a problem for a decline."""
    headers = {"Idempotent-Replayed": "true"} if result.replayed else {}
    if result.outcome is Outcome.DECLINED:
        code, title = f"{result.command.noun}_declined", f"The {result.command.noun} was declined"
        detail = public_decline_message(result.decline_code, result.decline_message) or title
        decline_code = public_decline_code(result.decline_code)
        # A code that the caller does not see has advice of ours, because the gateway's own would tell what it is.
        theirs = result.advice_code if decline_code == result.decline_code else None
        advice_code = theirs or ADVICE_CODES.get(decline_code or "")
        payment, refund_id = result.payment, str(result.refund.refund_id) if result.refund else None
        extra = state_of(payment) | {"transaction_id": payment.transaction_id, "payment_intent_id": payment.payment_intent_id}
        extra |= {"refund_id": refund_id, "decline_code": decline_code, "advice_code": advice_code}
        # A key keeps its decline: only another request, or another key, is another try.
        return Reply(402, problem(402, code, title, detail, request_id, retryable=False, **extra), headers)
    status = 202 if result.outcome is Outcome.UNKNOWN else result.command.success_status
    if result.refund is None:
        return Reply(status, payment_body(result.payment), headers)
    state = {"payment_status": result.payment.status.value, "amount_refunded": result.payment.refunded_minor}
    return Reply(status, refund_body(result.refund) | state, headers)


def record(result: Result) -> None:
    """Count the result by kind and outcome, and log it. A replay moved nothing and has a count of its own."""
    kind = result.command.kind
    outcome = "replayed" if result.replayed else "pending" if result.is_pending else result.outcome.value
    telemetry.count("Operations", kind=kind, outcome=outcome)
    if outcome == Outcome.DECLINED and result.decline_code:
        telemetry.count("Declines", kind=kind, decline_code=result.decline_code)
    state = {"payment_id": str(result.payment.payment_id), "payment_status": result.payment.status.value}
    telemetry.logger.info("operation", extra={"kind": kind, "outcome": outcome} | state)


def reply_to_error(error: errors.PaymentsError, request_id: str) -> Reply:
    status = HTTP_STATUS[type(error)]
    body = problem(status, error.code, error.title, error.detail, request_id, retryable=error.retryable, **error.extra)
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else {}
    return Reply(status, body, headers)


def problem(status: int, code: str, title: str, detail: str, request_id: str, retryable: bool, **extra: object) -> dict[str, Any]:
    """Return a problem document (RFC 9457), without the members of `extra` that are None."""
    members = {name: value for name, value in extra.items() if value is not None}
    standard = {"type": f"urn:payments:problem:{code}", "title": title, "status": status, "detail": detail}
    return standard | {"code": code, "request_id": request_id, "retryable": retryable} | members
