"""The routes of the commands, and the app that serves a function's routes. Each function has an app of its own."""

import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from mangum import Mangum
from starlette.exceptions import HTTPException
from starlette.types import Message

from payments import telemetry
from payments.api.answers import PROBLEM_TYPE, record, reply_to
from payments.api.bodies import validate
from payments.api.checked_route import (
    PREFIX,
    WEBHOOKS,
    CheckedRoute,
    caller_with,
    idempotency_key_of,
    json_of,
    request_id,
    response_of,
)
from payments.commands.command import Command
from payments.commands.phases import perform
from payments.commands.service import Call, Deadline, Service


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
        deadline = Deadline.in_s(request.scope["aws.context"].get_remaining_time_in_millis() / 1000)
        traceparent = telemetry.traceparent_of(request.headers.get("traceparent"))
        call = Call(owner=caller.owner, deadline=deadline, idempotency_key=key, traceparent=traceparent)
        result = perform(command, body, call, service())
        record(result)
        reply = reply_to(result, request_id(request))
        if reply.status == 202:  # The client's path may begin with a stage or an API mapping, and so does that of the look-up.
            look_up = f"{request.scope['aws.event']['rawPath'].rpartition('/')[0]}/payment/{result.payment.payment_id}"
            reply.headers.update({"Location": look_up, "Retry-After": f"{max(service().retry_schedule_s[0], 1):.0f}"})
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


class ApiGatewayHandler(Mangum):
    """Serves HTTP API events (payload 2.0) with an app. Mangum makes a request of the event, and an answer of the response.

    Our endpoints block, so their coroutines never wait, and need no event loop. API Gateway has matched the route. A command is
    handed to its route at once; any other request goes through the app, which matches it again.
    """

    def __init__(self, app: FastAPI) -> None:
        super().__init__(app, lifespan="off", text_mime_types=["application/json", PROBLEM_TYPE])
        posts = [route for route in app.routes if isinstance(route, CheckedRoute) and route.methods == {"POST"}]
        self._commands = {f"POST {route.path}": route.app for route in posts if not route.param_convertors}

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        # Mangum decodes the path, which API Gateway has decoded already, and so would turn the order "a%2Fb" into "a/b".
        http = event["requestContext"]["http"] | {"path": _path(event).replace("%", "%25")}
        gateway = self.infer(event | {"requestContext": event["requestContext"] | {"http": http}}, context)
        sent = list[Message]()

        async def receive() -> Message:
            return {"type": "http.request", "body": gateway.body}

        async def send(message: Message) -> None:
            sent.append(message)

        with suppress(StopIteration):
            self._commands.get(event.get("routeKey"), self.app)(gateway.scope, receive, send).send(None)  # type: ignore[attr-defined]
            raise RuntimeError("an endpoint waits, and no loop would wake it")
        start, body = sent
        return gateway({"status": start["status"], "headers": start["headers"], "body": body["body"]})


def _path(event: Any) -> str:
    route, parameters = event.get("routeKey", "$default").partition(" ")[2], event.get("pathParameters") or {}
    if not route:  # `$default`: nothing was matched, as at a function URL. A stage or an API mapping may stand before our path.
        path = str(event["requestContext"]["http"]["path"])
        return re.sub(rf"^/[^/]+(?=/health$|{PREFIX}(/|$)|{WEBHOOKS}(/|$))", "", path, count=1)
    return re.sub(r"\{(\w+)\+?\}", lambda name: parameters.get(name[1], name[0]), route)
