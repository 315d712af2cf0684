from __future__ import annotations

import re

import pytest

from payments.api.answers import HTTP_STATUS, reply_to_error
from payments.domain import errors
from payments.domain.errors import PaymentsError

CLASSES: dict[str, type[PaymentsError]] = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, PaymentsError)
}
LEAVES: set[type[PaymentsError]] = {
    kind for kind in CLASSES.values() if not any(kind in other.__bases__ for other in CLASSES.values())
}


def test_every_leaf_of_the_tree_has_an_http_status() -> None:
    assert HTTP_STATUS.keys() == LEAVES


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn, path = {}, ["PaymentsError"]
    for line in str(errors.__doc__).splitlines():
        if match := re.match(r"([│├└─ ]*[├└]── )(\w+)", line):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1]
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items() if kind is not PaymentsError}


STATUS_OF_CODE = {
    400: {"malformed_json", "idempotency_key_invalid"},
    401: {"unauthenticated"},
    403: {"forbidden"},
    404: {"payment_not_found", "refund_not_found", "webhook_not_found"},
    409: {
        *("order_already_paid", "order_in_progress", "payment_state_conflict", "payment_disputed", "idempotency_key_in_use"),
        "webhook_conflict",
    },
    413: {"body_too_large"},
    415: {"unsupported_media_type"},
    422: {
        *("invalid_request", "card_data_not_accepted", "not_supported_by_gateway", "amount_too_large"),
        "idempotency_key_reused",
    },
    500: {"internal_error"},
    503: {"service_unavailable"},
}


def test_codes_and_statuses_are_those_that_callers_were_promised() -> None:
    found: dict[int, set[str]] = {}
    for kind in LEAVES:
        found.setdefault(HTTP_STATUS[kind], set()).add(kind.code)
    assert found == STATUS_OF_CODE


@pytest.mark.parametrize("kind", [kind for kind in CLASSES.values() if kind in LEAVES])
def test_an_error_is_a_complete_problem_document(kind: type[PaymentsError]) -> None:
    odd = errors.NotSupportedByGateway  # It says itself what happened.
    error = odd("amount", "is too odd") if kind is odd else kind("What happened.")
    reply = reply_to_error(error, "request-1")
    assert (
        reply.body.items()
        >= {
            "type": f"urn:payments:problem:{kind.code}",
            "title": kind.title,
            "status": HTTP_STATUS[kind],
            "detail": "The gateway cannot take this." if kind is odd else "What happened.",
            "code": kind.code,
            "request_id": "request-1",
            "retryable": kind.retryable,
        }.items()
    )
    assert reply.status >= 400
    assert reply.headers == {}


def test_further_members_and_the_time_to_wait_are_passed_on() -> None:
    error = errors.OrderInProgress("Wait.", retry_after_s=3, extra={"payment_id": "p", "payment_status": None})
    reply = reply_to_error(error, "request-1")
    assert reply.headers == {"Retry-After": "3"}
    assert reply.body["payment_id"] == "p"
    assert "payment_status" not in reply.body, "what does not apply is left out"


def test_only_what_may_go_better_next_time_is_retryable() -> None:
    assert {kind.code for kind in LEAVES if kind.retryable} == {
        "order_in_progress",
        "idempotency_key_in_use",
        "service_unavailable",
        "internal_error",
    }
