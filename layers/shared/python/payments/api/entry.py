"""The entry of the functions that serve commands: API Gateway's alias brings HTTP requests, any other way direct invocations."""

import os
from collections.abc import Callable
from functools import cache
from typing import Any

from payments.api import direct
from payments.api.callers import is_http
from payments.broker import at_init  # noqa: F401
from payments.commands.catalog import served_by
from payments.commands.service import Service
from payments.telemetry import Handler, instrumented


def command_handler(function: str, service: Callable[[], Service], direct_owner: Callable[[], str]) -> Handler:
    """Return the Lambda handler of a function that serves commands. Nothing connects before its first event."""

    @cache
    def http() -> Handler:
        # 280 ms, which a direct invocation does not pay
        from payments.api.api_gateway import ApiGatewayHandler
        from payments.api.routes import app_of, commands_router

        routers = [commands_router(service, served_by(function).values())]
        if function == "process":
            from payments.api.customer_routes import sync_router

            routers.append(sync_router(service))
        return ApiGatewayHandler(app_of(*routers))

    @instrumented
    def handle(event: Any, context: Any) -> Any:
        if is_http(event, context):
            return http()(event, context)
        return direct.invoke(event, context, service(), direct_owner(), function)

    # Lambda makes an environment on demand, or ahead of events: from a snapshot, which should hold the modules, or for the alias
    # of API Gateway, which needs them. A restore refreshes nothing: before an event nothing is drawn, signed or connected.
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") != "on-demand":
        http()
    return handle
