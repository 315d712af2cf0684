"""The API's routes. Each function has an app with its own routes alone, which keeps its cold start short."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from mangum import Mangum
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException

from payments import __version__, telemetry
from payments.api import lookups
from payments.api.answers import PROBLEM_TYPE, Reply, record, reply_to
from payments.api.bodies import validate
from payments.api.checked_route import CheckedRoute, caller_with, idempotency_key_of, json_of, request_id, response_of
from payments.api.health import deep_checks
from payments.api.lookups import Found
from payments.broker.kafka import KafkaPublisher
from payments.commands.command import Command
from payments.commands.fields import Text64
from payments.commands.phases import perform
from payments.commands.service import Call, Deadline, Service
from payments.domain.events import payment_body, rfc3339
from payments.domain.payment import PaymentStatus
from payments.domain.scopes import Scope
from payments.store.lookups import ListFilter

PREFIX = "/api/v1/payments"

# Mangum logs paths and tracebacks past our formatter and its card filter. We log every error ourselves.
logging.getLogger("mangum").setLevel(logging.CRITICAL)


def commands_router(service: Callable[[], Service], commands: Iterable[Command[Any]]) -> APIRouter:
    """Return a POST route for each of the commands."""
    router = APIRouter(prefix=PREFIX, route_class=CheckedRoute)
    for command in commands:
        endpoint = _command_endpoint(command, service)
        router.add_api_route(f"/{command.kind}", endpoint, methods=["POST"], operation_id=command.kind)
    return router


def _command_endpoint(
    command: Command[Any], service: Callable[[], Service]
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def endpoint(request: Request) -> Response:
        caller = caller_with(request, command.scope)
        key = idempotency_key_of(request)
        body = validate(command.request, await json_of(request))
        call = Call(
            owner=caller.owner,
            deadline=Deadline.in_s(request.scope["aws.context"].get_remaining_time_in_millis() / 1000),
            idempotency_key=key,
            traceparent=telemetry.traceparent_of(request.headers.get("traceparent")),
        )
        result = perform(command, body, call, service())
        record(result)
        return response_of(reply_to(result, request_id(request)))

    return endpoint


class Anything(PathConvertor):
    """An id in a path, with slashes and line breaks: API Gateway passes it on decoded."""

    regex = "(?s:.*)"


register_url_convertor("anything", Anything())


def _no_number(text: object) -> object:
    """Refuse numbers. Pydantic would guess whether they are seconds or milliseconds since 1970."""
    if isinstance(text, str) and "-" not in text[1:]:
        raise PydanticCustomError("rfc3339", "must be a time with a zone, such as 2026-01-31T12:00:00Z")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_no_number)]


class ListQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    order_id: Text64 | None = None
    status: PaymentStatus | None = None
    created_from: Annotated[Moment | None, Field(description="Inclusive")] = None
    created_to: Annotated[Moment | None, Field(description="Exclusive")] = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str | None, Field(max_length=200, description="`next_cursor` of the page before")] = None


def lookups_router(service: Callable[[], Service]) -> APIRouter:
    router = APIRouter(prefix=PREFIX, route_class=CheckedRoute)

    def found(request: Request, find: Callable[[Service, Any, str], Found], id_: str) -> Response:
        caller = caller_with(request, Scope.READ)
        payment, refunds = find(service(), caller, id_)
        return response_of(Reply(200, payment_body(payment, refunds=refunds, confidential=caller.sees_all)))

    @router.get("/payment/{payment_id}", operation_id="get_payment")
    async def by_id(request: Request, payment_id: str) -> Response:
        return found(request, lookups.payment_by_id, payment_id)

    @router.get("/order/{order_id:anything}", operation_id="get_order")
    async def by_order(request: Request, order_id: str) -> Response:
        return found(request, lookups.payment_by_order, order_id)

    @router.get("/transaction/{transaction_id:anything}", operation_id="get_transaction")
    async def by_transaction(request: Request, transaction_id: str) -> Response:
        return found(request, lookups.payment_by_transaction, transaction_id)

    @router.get("/payment/{payment_id}/history", operation_id="get_history")
    async def history(request: Request, payment_id: str) -> Response:
        caller = caller_with(request, Scope.READ)
        changes = lookups.history(service(), caller, payment_id)
        data = [{"from": c.from_status, "to": c.to_status, "at": rfc3339(c.at), "reason": c.reason} for c in changes]
        return response_of(Reply(200, {"data": data}))

    @router.get("", operation_id="list_payments")
    async def listed(request: Request, query: Annotated[ListQuery, Query()]) -> Response:
        caller = caller_with(request, Scope.READ)
        which = ListFilter(
            order_id=query.order_id,
            status=query.status,
            created_from=query.created_from,
            created_to=query.created_to,
        )
        page = lookups.list_payments(service(), caller, which, query.cursor, query.limit)
        data = [payment_body(p, refunds=refunds, confidential=caller.sees_all) for p, refunds in page.payments]
        body = {"data": data, "has_more": page.next_cursor is not None, "next_cursor": page.next_cursor}
        return response_of(Reply(200, body))

    return router


def health_router(service: Callable[[], Service], publisher: Callable[[], KafkaPublisher]) -> APIRouter:
    router = APIRouter(route_class=CheckedRoute)

    @router.get("/health", operation_id="health")
    async def health(request: Request, deep: bool = False) -> Response:
        body: dict[str, Any] = {"status": "ok", "version": __version__}
        if deep:
            body["checks"] = deep_checks(service().db, publisher())
            if not all(check["ok"] for check in body["checks"].values()):
                body["status"] = "degraded"
        # No problem document: monitors read from the checks which part is down.
        return JSONResponse(body, 200 if body["status"] == "ok" else 503, headers={"cache-control": "no-store"})

    return router


def app_of(*routers: APIRouter) -> FastAPI:
    app = FastAPI(
        title="Payments on Lambda",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(HTTPException, _as_api_gateway_says_it)
    return app


async def _as_api_gateway_says_it(request: Request, error: Exception) -> Response:
    # API Gateway answers unknown routes itself. An invocation past it gets the same answer.
    return JSONResponse({"message": "Not Found"}, status_code=404)


class ApiGatewayHandler(Mangum):
    """Mangum decodes the path, which API Gateway has decoded already, and so would turn the order "a%2Fb" into "a/b"."""

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        http = event["requestContext"]["http"]
        http = http | {"path": http["path"].replace("%", "%25")}
        return super().__call__(event | {"requestContext": event["requestContext"] | {"http": http}}, context)


def handler_of(app: FastAPI) -> ApiGatewayHandler:
    """Return the Lambda handler of an app, for HTTP API events with payload version 2.0."""
    return ApiGatewayHandler(app, lifespan="off", text_mime_types=["application/json", PROBLEM_TYPE])
