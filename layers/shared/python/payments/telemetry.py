"""Logs, metrics and trace context. Each log line is JSON, carries the request's ids, and passes the card filter."""

import functools
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.logging.types import LogRecord

from payments.domain.card_data import REMOVED, contains_card_number, digits_of, redact
from payments.domain.errors import Fault, InternalError, PaymentsError
from payments.settings import STACK
from payments.settings_error import SettingsError

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
    valid = TRACEPARENT.fullmatch(header or "")
    return valid[0] if valid else f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"


logger = Logger(service="payments", logger_formatter=CardFreeFormatter(json_deserializer=str))
"""The parent of the loggers of all our modules (`payments.…`). They share its format, its request ids and the card filter."""

_document: dict[str, Any] = {}
"""This invocation's metrics, in CloudWatch's embedded format (EMF). `_aws` says which members are metrics, and which are their
dimensions."""

# At DEBUG they log what they send and receive, which is passwords and customers' data, past our formatter and its card filter.
for library in ("kafka", "botocore", "urllib3"):
    logging.getLogger(library).setLevel(logging.WARNING)

Handler = Callable[[Any, Any], Any]


class InvocationFailed(Exception):
    """A fault, or a refusal that waiting may cure, because of which Lambda invokes again. The message is a problem's code and
    detail, which hold nothing of a customer's."""


def instrumented(handler: Handler) -> Handler:
    """Wrap a handler: request ids on each log line, a cold-start metric, and all metrics in one line at the end.

    It logs exceptions behind the card filter. Lambda receives InvocationFailed: with the code and detail of an error of ours, and
    without the text of any other.
    """

    @functools.wraps(handler)
    def with_ids(event: Any, context: Any) -> Any:
        request = event.get("requestContext") if isinstance(event, dict) else None
        http_request_id = request.get("requestId") if isinstance(request, dict) else None
        logger.append_keys(correlation_id=http_request_id or context.aws_request_id)
        if logger.get_current_keys()["cold_start"]:
            count("ColdStart", function_name=context.function_name)
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
        finally:
            write_metrics()

    # An event holds bearer and payment tokens. `log_event=False` overrides POWERTOOLS_LOGGER_LOG_EVENT.
    return cast(Handler, logger.inject_lambda_context(with_ids, log_event=False, clear_state=True))


def count(name: str, number: float = 1, unit: str = "Count", **dimensions: str) -> None:
    """Add a metric to those of this invocation, by default one occurrence, under dimensions of its own."""
    members = {"service": STACK, **dimensions, name: number}
    if name in _document or any(_document.get(each, value) != value for each, value in members.items()):
        write_metrics()  # A document has one value for a name.
    told = _document.setdefault("_aws", {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": []})
    metric = {"Name": name, "Unit": unit}
    told["CloudWatchMetrics"].append({"Namespace": "Payments", "Dimensions": [["service", *dimensions]], "Metrics": [metric]})
    _document.update(members)


def count_all(numbers: Mapping[str, float]) -> None:
    for name, number in numbers.items():
        count(name, number)


def write_metrics() -> None:
    """Write the metrics since the last line. Whoever counts after an answer has to: the next invocation may be far."""
    if _document:
        sys.stdout.write(json.dumps(_document) + "\n")
        _document.clear()


def record_refusal(code: str, **named: str | None) -> None:
    """Count a request that ended with a problem, by its code: a refusal or a fault. `named` says in the log which one."""
    count("Refusals", code=code)
    logger.info("refused", extra={"code": code, **named})
