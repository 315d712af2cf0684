"""Logs, metrics and traces. A log line is JSON, carries the request's ids, and passes the card filter as its last step."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import Any, cast

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.logging.types import LogRecord
from aws_lambda_powertools.metrics import MetricUnit

from payments.commands.service import Result
from payments.domain.card_data import REMOVED, contains_card_number, redact
from payments.domain.errors import InternalError, PaymentsError
from payments.domain.operation import Outcome
from payments.scheduled.reconcile import Reconciled
from payments.scheduled.relay import Relayed
from payments.settings import SettingsError

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class CardFreeFormatter(LambdaPowertoolsFormatter):
    """Powertools' formatter with the card filter in its last step, so that it sees tracebacks and extra fields too.

    It filters before the text becomes JSON, whose escapes put letters beside digits, and after it, for what only then is text.
    """

    def serialize(self, log: LogRecord) -> str:
        return redact(super().serialize(cast(LogRecord, _redacted(log))))


def _redacted(value: Any) -> Any:
    match value:
        case str():
            return redact(value)
        case dict():
            return {_redacted(key): _redacted(item) for key, item in value.items()}
        case list() | tuple():
            return [_redacted(item) for item in value]
        case int() if contains_card_number(str(value)):
            return REMOVED
        case None | bool() | int() | float():
            return value
    return redact(str(value))  # what is no JSON would become text after the filter; an exception does, for one


def traceparent_of(header: str | None) -> str:
    """The caller's W3C trace context, or a new one when there is none (or not a valid one)."""
    if header is not None and TRACEPARENT.fullmatch(header):
        return header
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"


logger = Logger(service="payments", logger_formatter=CardFreeFormatter())
"""The parent of every module's logger here (`payments.…`), so that they all share its format, its request ids and the
card filter.
"""

metrics = Metrics(namespace="Payments", service="payments")


Handler = Callable[[Any, Any], Any]


class InvocationFailed(Exception):
    """A fault, told to Lambda so that it invokes again; the message carries a problem code and no data."""


def instrumented(handler: Handler) -> Handler:
    """Give a handler what every one needs.

    That is request ids on each log line, a cold-start metric, its metrics flushed at the end, and exceptions logged here, behind
    the card filter, before Lambda hears of them without their text (InvocationFailed).
    """

    @functools.wraps(handler)
    def with_ids(event: Any, context: Any) -> Any:
        asked = event.get("requestContext") if isinstance(event, dict) else None
        http_request_id = asked.get("requestId") if isinstance(asked, dict) else None
        logger.append_keys(correlation_id=http_request_id or context.aws_request_id)
        metrics.add_metric("Invocations", MetricUnit.Count, 1)
        try:
            return handler(event, context)
        except PaymentsError as error:
            logger.exception("fault", extra={"code": error.code})
            raise InvocationFailed(f"{error.code}: {error.detail}") from None
        except SettingsError as error:
            logger.error("the configuration is wrong: %s", error)
            raise InvocationFailed(f"configuration: {error}") from None
        except Exception:
            logger.exception("unexpected error")
            raise InvocationFailed(InternalError.code) from None

    flushed = metrics.log_metrics(with_ids, capture_cold_start_metric=True)
    return cast(Handler, logger.inject_lambda_context(flushed, clear_state=True))


def _count(name: str, **dimensions: str) -> None:
    with single_metric(
        name=name,
        unit=MetricUnit.Count,
        value=1,
        namespace=metrics.namespace,
        default_dimensions={"service": "payments"} | dimensions,
    ):
        pass


def record_result(result: Result) -> None:
    """Count a command by kind and outcome; replays are counted apart, as they moved nothing."""
    outcome = "replayed" if result.replayed else result.outcome.value
    _count("Operations", kind=result.kind.value, outcome=outcome)
    if result.outcome is Outcome.DECLINED and result.decline_code and not result.replayed:
        _count("Declines", kind=result.kind.value, decline_code=result.decline_code)
    logger.info(
        "operation",
        extra={
            "kind": result.kind.value,
            "outcome": outcome,
            "payment_id": str(result.payment.payment_id),
            "payment_status": result.payment.status.value,
        },
    )


def record_refusal(code: str) -> None:
    """Count a request that was refused before anything moved, by problem code."""
    _count("Refusals", code=code)
    logger.info("refused", extra={"code": code})


def record_relay(relayed: Relayed) -> None:
    metrics.add_metric("EventsRelayed", MetricUnit.Count, relayed.published)
    metrics.add_metric("OutboxUnpublished", MetricUnit.Count, relayed.unpublished)
    metrics.add_metric("OutboxLag", MetricUnit.Seconds, relayed.lag_s)


def record_reconcile(reconciled: Reconciled) -> None:
    metrics.add_metric("OperationsReconciled", MetricUnit.Count, reconciled.settled)
    metrics.add_metric("OutcomesStillUnknown", MetricUnit.Count, reconciled.unknown)
    metrics.add_metric("OutcomesExhausted", MetricUnit.Count, reconciled.exhausted)
    metrics.add_metric("OldestUnknownOutcome", MetricUnit.Seconds, reconciled.oldest_unknown_s)
    metrics.add_metric("AuthorizationsExpired", MetricUnit.Count, reconciled.expired)
