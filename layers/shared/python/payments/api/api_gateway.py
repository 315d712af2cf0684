"""API Gateway's event on its way to an app, and the app's answer on its way back."""

import re
from contextlib import suppress
from typing import Any

from fastapi import FastAPI
from mangum import Mangum
from starlette.types import Message

from payments.api.answers import PROBLEM_TYPE
from payments.api.checked_route import PREFIX, WEBHOOKS, CheckedRoute


class ApiGatewayHandler(Mangum):
    """Serves HTTP API events (payload 2.0) with an app. Mangum makes a request of the event, and an answer of the response.

    Our endpoints block, so their coroutines never wait, and need no event loop. API Gateway has matched the route. A POST
    to a path without parameters, such as a command, is handed to its route at once; any other request goes through the app,
    which matches it again.
    """

    def __init__(self, app: FastAPI) -> None:
        super().__init__(app, lifespan="off", text_mime_types=["application/json", PROBLEM_TYPE])
        posts = [route for route in app.routes if isinstance(route, CheckedRoute) and route.methods == {"POST"}]
        self._fixed_posts = {f"POST {route.path}": route.app for route in posts if not route.param_convertors}

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        # Mangum decodes the path, which API Gateway has decoded already, and so would turn the order "a%2Fb" into "a/b".
        http = event["requestContext"]["http"] | {"path": _path(event).replace("%", "%25")}
        headers = {name.lower(): value for name, value in event.get("headers", {}).items()}
        # Mangum reads a port in these, and raises for "[::1]:80" or "host:". Our routes look for card data there alone.
        unread = {name: headers.pop(name) for name in ("host", "x-forwarded-port") if name in headers}
        gateway = self.infer(event | {"headers": headers, "requestContext": event["requestContext"] | {"http": http}}, context)
        scope, sent = gateway.scope, list[Message]()
        scope["headers"] += [[name.encode(), value.encode()] for name, value in unread.items()]

        async def receive() -> Message:
            return {"type": "http.request", "body": gateway.body}

        async def send(message: Message) -> None:
            sent.append(message)

        with suppress(StopIteration):
            self._fixed_posts.get(event.get("routeKey"), self.app)(scope, receive, send).send(None)  # type: ignore[attr-defined]
            raise RuntimeError("an endpoint waits, and no loop would wake it")
        start, body = sent
        return gateway({"status": start["status"], "headers": start["headers"], "body": body["body"]})


def _path(event: Any) -> str:
    route, parameters = event.get("routeKey", "$default").partition(" ")[2], event.get("pathParameters") or {}
    if not route:  # `$default`: nothing was matched, as at a function URL. A stage or an API mapping may stand before our path.
        path = str(event["requestContext"]["http"]["path"])
        return re.sub(rf"^/[^/]+(?=/health$|{PREFIX}(/|$)|{WEBHOOKS}(/|$))", "", path, count=1)
    return re.sub(r"\{(\w+)\+?\}", lambda name: parameters.get(name[1], name[0]), route)
