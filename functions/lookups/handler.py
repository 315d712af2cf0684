"""Look-ups and health, over HTTP alone."""

from __future__ import annotations

from typing import Any

from payments import wiring
from payments.http.app import app_of, handler_of, health_router, lookups_router
from payments.telemetry import instrumented

http = handler_of(
    app_of(
        lookups_router(wiring.service),
        health_router(wiring.service, wiring.publisher, lambda: wiring.settings().version),
    )
)


@instrumented
def lambda_handler(event: Any, context: Any) -> Any:
    return http(event, context)
