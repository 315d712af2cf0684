"""Look-ups and health, over HTTP alone."""

from functools import partial
from typing import Any

from payments import wiring
from payments.api.api_gateway import ApiGatewayHandler
from payments.api.callers import is_http
from payments.api.look_up_routes import health_router, lookups_router
from payments.api.routes import app_of
from payments.domain.errors import Forbidden
from payments.telemetry import instrumented

broker = partial(wiring.publisher, enable_idempotence=False)
"""The deep health check's producer. An idempotent one would begin by requesting an id, which needs the right to write."""

http = ApiGatewayHandler(app_of(lookups_router(wiring.service), health_router(wiring.service, broker)))


@instrumented
def lambda_handler(event: Any, context: Any) -> Any:
    if not is_http(event, context):
        raise Forbidden("Look-ups come over HTTP, through API Gateway.")
    return http(event, context)
