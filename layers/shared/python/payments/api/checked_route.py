"""The checks that every HTTP request passes, and the way of every error back to the caller."""

import re
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from payments import telemetry
from payments.api.answers import PROBLEM_TYPE, Reply, reply_to_error
from payments.api.bodies import check_idempotency_key, invalid_request, parse
from payments.api.callers import Caller, caller_of
from payments.commands.service import Deadline
from payments.domain.card_data import refuse_card_data
from payments.domain.errors import Fault, InternalError, InvalidRequest, PaymentsError, UnsupportedMediaType
from payments.domain.scopes import Scope

PREFIX, WEBHOOKS = "/api/v1/payments", "/api/v1/webhooks"

# Credentials and the headers of proxies hold long numbers by nature, and no data of the caller.
UNCHECKED_HEADERS = frozenset({"authorization", "x-amzn-trace-id", "traceparent", "tracestate", "content-length"})


class CheckedRoute(APIRoute):
    """Refuses card data in path, query and headers before the endpoint runs, and makes every exception a problem document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        # An endpoint that takes the request alone, and returns a response, needs nothing of FastAPI.
        handle = self.endpoint if get_type_hints(self.endpoint).keys() == {"request", "return"} else super().get_route_handler()

        async def checked(request: Request) -> Response:
            try:
                refuse_card_data(request.scope["path"], "path")
                query = request.query_params.multi_items()
                refuse_card_data([{name: value} for name, value in query], "query")
                if query and not self.dependant.query_params:  # FastAPI would read none, and an amount there would not count.
                    raise InvalidRequest("This operation takes no parameters.", ("query", "must be empty"))
                if len(query) > len(request.query_params):  # FastAPI would read the last one.
                    raise InvalidRequest("Send each parameter once.", ("query", "names a parameter twice"))
                refuse_card_data(
                    {name: text for name, text in request.headers.items() if name not in UNCHECKED_HEADERS}, "header"
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
                detail = (
                    "Our log has the error under this request_id. It is safe to repeat the request with the same Idempotency-Key."
                )
                problem = InternalError(detail)
            telemetry.record_refusal(problem.code)
            return response_of(reply_to_error(problem, request_id(request)))

        return checked


def response_of(reply: Reply) -> Response:
    media_type = PROBLEM_TYPE if reply.status >= 400 else "application/json"
    headers = {"cache-control": "no-store"} | reply.headers
    return JSONResponse(reply.body, status_code=reply.status, headers=headers, media_type=media_type)


def request_id(request: Request) -> str:
    return str(request.scope["aws.event"]["requestContext"]["requestId"])


def deadline_of(request: Request) -> Deadline:
    return Deadline.of(request.scope["aws.context"])


def caller_with(request: Request, scope: Scope) -> Caller:
    """Return the caller. Raises Unauthenticated, and Forbidden without the scope."""
    caller = caller_of(request.scope["aws.event"])
    caller.require(scope)
    return caller


def idempotency_key_of(request: Request) -> str | None:
    """Return the request's Idempotency-Key, or None. Raises IdempotencyKeyInvalid.

    API Gateway joins repeated headers with commas, so we take a comma for two keys.
    """
    key = request.headers.get("idempotency-key")
    return None if key is None else check_idempotency_key("" if "," in key else key)


async def json_of(request: Request) -> Any:
    """Return the value of the request's body. Raises UnsupportedMediaType, BodyTooLarge, MalformedJson, CardDataNotAccepted."""
    media_type, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = re.search(r'charset\s*=\s*"?([^\s;"]*)', parameters)
    if media_type.strip() != "application/json" or (charset and charset[1] not in ("utf-8", "utf8")):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json, in UTF-8.")
    if request.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the body uncompressed, without Content-Encoding.")
    value = parse(await request.body())
    refuse_card_data(value)
    return value
