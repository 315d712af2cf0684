"""Register webhooks, over HTTP alone."""

from typing import Any

from payments import wiring
from payments.api.api_gateway import ApiGatewayHandler
from payments.api.callers import is_http
from payments.api.routes import app_of
from payments.api.webhook_routes import webhooks_router
from payments.domain.errors import Forbidden
from payments.telemetry import instrumented

http = ApiGatewayHandler(app_of(webhooks_router(wiring.service, lambda: wiring.settings().webhooks_local)))


@instrumented
def lambda_handler(event: Any, context: Any) -> Any:
    if not is_http(event, context):
        raise Forbidden("Webhooks are registered over HTTP, through API Gateway.")
    return http(event, context)
