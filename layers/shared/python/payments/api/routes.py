"""The routes of the commands, and the app that serves a function's routes. Each function has an app of its own."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from payments import telemetry
from payments.api.answers import record, reply_to
from payments.api.bodies import validate
from payments.api.checked_route import (
    PREFIX,
    CheckedRoute,
    caller_with,
    deadline_of,
    idempotency_key_of,
    json_of,
    request_id,
    response_of,
)
from payments.commands.command import Command
from payments.commands.phases import perform
from payments.commands.service import Call, Service
from payments.domain.payment import PaymentStatus


def commands_router(service: Callable[[], Service], commands: Iterable[Command[Any]]) -> APIRouter:
    """Return a POST route for each of the commands."""
    router = APIRouter(prefix=PREFIX, route_class=CheckedRoute)
    for command in commands:
        router.add_api_route(f"/{command.kind}", _command_endpoint(command, service), methods=["POST"], operation_id=command.kind)
    return router


def _command_endpoint(command: Command[Any], service: Callable[[], Service]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        caller = caller_with(request, command.scope)
        key = idempotency_key_of(request)
        body = validate(command.request, await json_of(request))
        deadline = deadline_of(request)
        traceparent = telemetry.traceparent_of(request.headers.get("traceparent"))
        call = Call(owner=caller.owner, deadline=deadline, idempotency_key=key, traceparent=traceparent)
        result = perform(command, body, call, service())
        record(result)
        reply = reply_to(result, request_id(request))
        if reply.status == 202:  # The client's path may begin with a stage or an API mapping, and so does that of the look-up.
            look_up = f"{request.scope['aws.event']['rawPath'].rpartition('/')[0]}/payment/{result.payment.payment_id}"
            reply.headers.update({"Location": look_up, "Retry-After": f"{max(service().retry_schedule_s[0], 1):.0f}"})
            if command.kind == "process" and result.payment.status is PaymentStatus.REQUIRES_ACTION:
                # Only here: the customer's secret is for the payment's owner, over HTTP. Nobody reads the answer of an
                # asynchronous invocation, and it may be kept.
                from payments.api.customer_routes import add_next_action

                add_next_action(reply, result, service(), deadline)
        return response_of(reply)

    return endpoint


def app_of(*routers: APIRouter) -> FastAPI:
    routes = [route for router in routers for route in router.routes]
    # Without its document FastAPI serves no pages about it.
    app = FastAPI(routes=routes, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(HTTPException, _as_api_gateway_says_it)
    return app


async def _as_api_gateway_says_it(request: Request, error: Exception) -> Response:
    # API Gateway answers unknown routes itself. An invocation past it gets the same answer.
    return JSONResponse({"message": "Not Found"}, status_code=404)
