"""Logs, metrics and trace context. Each log line is JSON, carries the request's ids, and passes the card filter."""

import functools
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from aws_lambda_powertools import Logger, Metrics, single_metric
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.logging.types import LogRecord
from aws_lambda_powertools.metrics import MetricUnit

from payments.domain.card_data import REMOVED, contains_card_number, digits_of, redact
from payments.domain.errors import Fault, InternalError, PaymentsError
from payments.settings import SettingsError

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class CardFreeFormatter(LambdaPowertoolsFormatter):
    """Powertools' formatter with the card filter before its last step, so that the filter sees tracebacks and extra fields too.

    It makes text of every value that is no JSON, so that nothing becomes text behind it. It does not filter the finished line,
    where the words in the place of a number would stand without quotes.
    """

    def serialize(self, log: LogRecord) -> str:
        return super().serialize(cast(LogRecord, _redacted(log)))


def _redacted(value: Any, name: str = "") -> Any:
    match value:
        case str():
            return redact(value, name)
        case dict():
            return {_redacted(key): _redacted(item, key) for key, item in value.items()}
        case list() | tuple():
            return [_redacted(item, name) for item in value]
        case None | int() | float():
            return REMOVED if contains_card_number(digits_of(value), name) else value
    return redact(str(value), name)  # an exception, for example


def traceparent_of(header: str | None) -> str:
    """Return the caller's W3C trace context, or a new one when the header is absent or not valid."""
    if header is not None and TRACEPARENT.fullmatch(header):
        return header
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"


logger = Logger(service="payments", logger_formatter=CardFreeFormatter())
"""The parent of the loggers of all our modules (`payments.…`). They share its format, its request ids and the card filter."""

metrics = Metrics(namespace="Payments")
"""Their dimension `service` is POWERTOOLS_SERVICE_NAME, the stack's name, so that the alarms of two stacks watch their own."""


# At DEBUG they log what they send and receive, which is passwords and customers' data, past our formatter and its card filter.
for library in ("kafka", "botocore", "urllib3"):
    logging.getLogger(library).setLevel(logging.WARNING)

Handler = Callable[[Any, Any], Any]


class InvocationFailed(Exception):
    """A fault, or a refusal that waiting may cure, because of which Lambda invokes again. The message carries a problem code and
    no data."""


def instrumented(handler: Handler) -> Handler:
    """Wrap a handler: request ids on each log line, a cold-start metric, metrics flushed at the end.

    It logs exceptions behind the card filter. Lambda receives InvocationFailed, without their text.
    """

    @functools.wraps(handler)
    def with_ids(event: Any, context: Any) -> Any:
        request = event.get("requestContext") if isinstance(event, dict) else None
        http_request_id = request.get("requestId") if isinstance(request, dict) else None
        logger.append_keys(correlation_id=http_request_id or context.aws_request_id)
        metrics.add_metric("Invocations", MetricUnit.Count, 1)
        try:
            return handler(event, context)
        except PaymentsError as error:
            if isinstance(error, Fault):
                logger.exception("fault", extra={"code": error.code})
            raise InvocationFailed(f"{error.code}: {error.detail}") from None
        except SettingsError as error:
            logger.error("the configuration is wrong: %s", error)
            raise InvocationFailed(f"configuration: {error}") from None
        except Exception:
            logger.exception("unexpected error")
            raise InvocationFailed(InternalError.code) from None

    flushed = metrics.log_metrics(with_ids, capture_cold_start_metric=True)
    # An event holds bearer and payment tokens. `log_event=False` overrides POWERTOOLS_LOGGER_LOG_EVENT.
    return cast(Handler, logger.inject_lambda_context(flushed, log_event=False, clear_state=True))


def count(name: str, **dimensions: str) -> None:
    """Count one occurrence, under dimensions of its own."""
    own = {"service": metrics.service or "payments"} | dimensions
    with single_metric(name, MetricUnit.Count, 1, namespace=metrics.namespace, default_dimensions=own):
        pass


def record_refusal(code: str, **named: str | None) -> None:
    """Count a request that was refused before any money moved, by problem code. `named` says in the log which request it was."""
    count("Refusals", code=code)
    logger.info("refused", extra={"code": code, **named})


def measure(counts: Mapping[str, int], seconds: Mapping[str, float]) -> None:
    """Add metrics to those of this invocation."""
    for name, number in counts.items():
        metrics.add_metric(name, MetricUnit.Count, number)
    for name, number_s in seconds.items():
        metrics.add_metric(name, MetricUnit.Seconds, number_s)
