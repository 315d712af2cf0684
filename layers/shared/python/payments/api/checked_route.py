"""One route's way through the checks that every request passes, and of every error back to the caller."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from payments import telemetry
from payments.api.answers import PROBLEM_TYPE, Reply, reply_to_error
from payments.api.bodies import parse
from payments.api.callers import Caller, Scope, caller_of
from payments.commands.requests import check_idempotency_key, invalid_request
from payments.domain.card_data import refuse_card_data
from payments.domain.errors import Fault, InternalError, PaymentsError, UnsupportedMediaType

# Headers that carry long numbers by nature and no data of the caller's: credentials, and what proxies add.
UNCHECKED_HEADERS = frozenset({"authorization", "x-amzn-trace-id", "traceparent", "tracestate", "content-length"})


class CheckedRoute(APIRoute):
    """Refuses card data in path, query and headers before the endpoint runs, and makes every exception a problem document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            try:
                refuse_card_data(
                    [
                        request.scope["path"].split("/"),
                        [{name: value} for name, value in request.query_params.multi_items()],
                        {name: value for name, value in request.headers.items() if name not in UNCHECKED_HEADERS},
                    ]
                )
                return await handle(request)
            except PaymentsError as error:
                problem = error
                if isinstance(error, Fault):
                    telemetry.logger.exception("fault")
            except RequestValidationError as error:
                problem = invalid_request(error.errors(), prefix="")
            except Exception:
                telemetry.logger.exception("unexpected error")
                problem = InternalError(
                    "The error is in our log under this request_id; trying again with the same Idempotency-Key is safe."
                )
            telemetry.record_refusal(problem.code)
            return response_of(reply_to_error(problem, request_id(request)))

        return checked


def response_of(reply: Reply) -> Response:
    media_type = PROBLEM_TYPE if reply.is_problem else "application/json"
    headers = {"cache-control": "no-store"} | reply.headers
    return JSONResponse(reply.body, status_code=reply.status, headers=headers, media_type=media_type)


def request_id(request: Request) -> str:
    return str(request.scope["aws.event"]["requestContext"]["requestId"])


def caller_with(request: Request, scope: Scope) -> Caller:
    """The caller, who has the scope. Raises Unauthenticated, Forbidden."""
    caller = caller_of(request.scope["aws.event"])
    caller.require(scope)
    return caller


def idempotency_key_of(request: Request) -> str | None:
    """The request's Idempotency-Key, None without one. Raises IdempotencyKeyInvalid.

    API Gateway joins a repeated header with commas, so a comma is taken for two keys.
    """
    key = request.headers.get("idempotency-key")
    return None if key is None else check_idempotency_key("" if "," in key else key)


async def json_of(request: Request) -> Any:
    """The request's body. Raises UnsupportedMediaType, BodyTooLarge, MalformedJson."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
    return parse(await request.body())
