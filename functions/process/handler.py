"""Process, capture and void: over HTTP, and by direct invocation from the order service."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from payments import wiring
from payments.api import direct
from payments.api.callers import is_http
from payments.commands.catalog import served_by
from payments.telemetry import instrumented

NAME = "process"


@instrumented
def lambda_handler(event: Any, context: Any) -> Any:
    if is_http(event):
        return http()(event, context)
    return direct.invoke(event, context, wiring.service(), wiring.settings().direct_owner, NAME)


@cache
def http() -> Callable[[Any, Any], Any]:
    from payments.api.routes import app_of, commands_router, handler_of  # 280 ms, which a direct invocation does not pay

    return handler_of(app_of(commands_router(wiring.service, served_by(NAME).values())))


wiring.before_snapshot(http)
