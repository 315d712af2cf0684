"""The entry of the functions that serve commands: API Gateway's alias brings HTTP requests, any other way direct invocations."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from payments.api import direct
from payments.api.callers import is_http
from payments.commands.catalog import served_by
from payments.commands.service import Service
from payments.telemetry import Handler, instrumented


def command_handler(function: str, service: Callable[[], Service], direct_owner: Callable[[], str]) -> Handler:
    """Return the Lambda handler of a function that serves commands. Nothing connects before its first event."""

    @cache
    def http() -> Handler:
        from payments.api.routes import app_of, commands_router, handler_of  # 280 ms, which a direct invocation does not pay

        return handler_of(app_of(commands_router(service, served_by(function).values())))

    @instrumented
    def handle(event: Any, context: Any) -> Any:
        if is_http(event, context):
            return http()(event, context)
        return direct.invoke(event, context, service(), direct_owner(), function)

    # SnapStart's snapshot should hold the modules that are otherwise imported at first use. Nothing needs a refresh after a
    # restore, because there is no connection, token or random number before the first event.
    with suppress(ImportError):  # Only Lambda's runtime has this module.
        from snapshot_restore_py import register_before_snapshot

        register_before_snapshot(http)
    return handle
