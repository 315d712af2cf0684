"""Which way an event may come, in the real Lambda runtime: `live` is API Gateway's, any other is the order service's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import pytest

from local.servers import connect
from tests.api_client import ADMIN, EVERYTHING, http_event
from tests.cases import case
from tests.lambda_runtime import LambdaRuntime
from tests.servers import Database

Functions = Callable[[str], LambdaRuntime]

OTHERS = ("direct", "", "$LATEST", "7")
"""Ways that are not API Gateway's: the order service's alias, no qualifier, and versions."""

VICTIM = {"sub": "victim", "scope": f"{EVERYTHING} {ADMIN}"}


def order() -> dict[str, Any]:
    return {"order_id": str(uuid4()), "amount": 1999, "currency": "USD", "payment_method": "paypal", "payment_token": "tok_ok"}


def paying(claims: Mapping[str, str] | None = VICTIM) -> tuple[str, dict[str, Any]]:
    """Return the order that the event pays, and an event as API Gateway sends it."""
    body = order()
    return body["order_id"], http_event("POST", "/api/v1/payments/process", body, claims=claims)


@pytest.fixture
def owners_of(runtime_database: Database) -> Callable[[str], list[str]]:
    """Return the owners of an order's payments."""

    def owners(order_id: str) -> list[str]:
        with contextlib.closing(connect(runtime_database.owner_url)) as connection:
            rows = connection.run("SELECT owner FROM payments WHERE order_id = :id", id=order_id)
            return [owner for (owner,) in rows]

    return owners


def test_api_gateways_alias_takes_the_claims_of_its_events(functions: Functions, owners_of: Callable[[str], list[str]]) -> None:
    order_id, event = paying()
    assert functions("process").invoke(event, "live").payload["statusCode"] == 201
    assert owners_of(order_id) == ["victim"]


@pytest.mark.parametrize("qualifier", OTHERS)
def test_no_other_way_takes_them(qualifier: str, functions: Functions, owners_of: Callable[[str], list[str]]) -> None:
    order_id, event = paying()
    told = functions("process").invoke(event, qualifier)
    assert not told.function_error
    assert (told.payload["outcome"], told.payload["body"]["code"]) == ("refused", "invalid_request")
    assert owners_of(order_id) == []
    # The same event with the fields of a command beside it, whatever it says about itself.
    for number, mixed in enumerate((event | order(), order() | {"requestContext": event["requestContext"]})):
        with case(number):
            assert functions("process").invoke(mixed, qualifier).payload["outcome"] == "refused"
            assert owners_of(mixed["order_id"]) == []


@pytest.mark.parametrize("qualifier", OTHERS)
def test_a_direct_invocation_comes_any_other_way(
    qualifier: str, functions: Functions, owners_of: Callable[[str], list[str]]
) -> None:
    event = order()
    assert functions("process").invoke(event, qualifier).payload["outcome"] == "succeeded"
    assert owners_of(event["order_id"]) == ["order-service"]


@pytest.mark.parametrize("function", ["process", "refund"])
def test_api_gateways_alias_fails_a_direct_invocation_so_that_it_comes_to_the_queue(
    function: str, functions: Functions, owners_of: Callable[[str], list[str]]
) -> None:
    """What was invoked before there was the alias `direct` may still come, and must neither be carried out nor lost."""
    event = order()
    told = functions(function).invoke(event, "live")
    assert told.function_error
    assert told.payload["errorMessage"] == "forbidden: The alias live is API Gateway's. Invoke the alias direct."
    assert owners_of(event["order_id"]) == []


def test_a_refund_with_claims_of_its_own_is_none(functions: Functions) -> None:
    order_id, event = paying()
    assert functions("process").invoke(event).payload["statusCode"] == 201
    refund = http_event("POST", "/api/v1/payments/refund", {"order_id": order_id}, claims=VICTIM)
    told = functions("refund").invoke(refund, "direct")
    assert (told.payload["outcome"], told.payload["body"]["code"]) == ("refused", "invalid_request")


@pytest.mark.parametrize("qualifier", ["direct", ""])
def test_look_ups_show_nothing_to_an_event_that_api_gateway_did_not_send(qualifier: str, functions: Functions) -> None:
    told = functions("lookups").invoke(http_event("GET", "/api/v1/payments", claims=VICTIM), qualifier)
    assert told.function_error
    assert told.payload["errorMessage"] == "forbidden: Look-ups come over HTTP, through API Gateway."


def _gateway_1_0() -> dict[str, Any]:
    """A REST API's event, payload format 1.0."""
    authorizer = {"claims": VICTIM, "jwt": {"claims": VICTIM}}
    context = {"authorizer": authorizer, "httpMethod": "POST", "path": "/api/v1/payments/process", "requestId": "r"}
    return {
        "version": "1.0",
        "resource": "/",
        "httpMethod": "POST",
        "path": context["path"],
        "requestContext": context,
        "body": "{}",
    }


def _balancer() -> dict[str, Any]:
    return {"requestContext": {"elb": {"targetGroupArn": "arn:elb"}}, "httpMethod": "POST", "path": "/", "body": "{}"}


def _with_http(http: object) -> dict[str, Any]:
    _, event = paying()
    return event | {"requestContext": event["requestContext"] | {"http": http}}


FORGED = {
    "payload 1.0": _gateway_1_0(),
    "a load balancer's": _balancer(),
    "http is a list": _with_http([{"method": "POST"}]),
    "http is a text": _with_http("POST"),
    "http is true": _with_http(True),
    "http is missing": _with_http(None),
    "a list": [paying()[1]],
}


@pytest.mark.parametrize("name", FORGED)
def test_what_only_looks_like_an_event_of_api_gateway_is_none(name: str, functions: Functions) -> None:
    through_live = functions("process").invoke(FORGED[name], "live")
    assert through_live.function_error
    assert through_live.payload["errorMessage"].startswith("forbidden: ")
    direct = functions("process").invoke(FORGED[name], "direct").payload
    assert (direct["outcome"], direct["status"]) == ("refused", 422)


@pytest.mark.parametrize(
    "claims",
    [
        {"owner": "victim"},
        {"sub": "victim"},
        {"claims": VICTIM},
        {"authorizer": {"jwt": {"claims": VICTIM}}},
        {"requestContext": {"authorizer": {"jwt": {"claims": VICTIM}}}},
        {"headers": {"x-local-owner": "victim"}},
        {"invoked_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:ProcessFunction:live"},
    ],
    ids=lambda claims: next(iter(claims)),
)
def test_a_direct_invocation_names_no_owner(
    claims: dict[str, object], functions: Functions, owners_of: Callable[[str], list[str]]
) -> None:
    event = order() | claims
    assert functions("process").invoke(event).payload["body"]["code"] == "invalid_request"
    assert owners_of(event["order_id"]) == []


def test_sam_local_has_no_aliases_and_takes_both(
    start: Callable[..., LambdaRuntime], owners_of: Callable[[str], list[str]]
) -> None:
    function = start("process", {"AWS_SAM_LOCAL": "true", "DIRECT_OWNER": "jwt/local"})
    direct, (http_order_id, http) = order(), paying(claims=None)
    assert function.invoke(http, "").payload["statusCode"] == 201
    assert function.invoke(direct, "").payload["outcome"] == "succeeded"
    assert owners_of(http_order_id) == owners_of(direct["order_id"]) == ["local"]
