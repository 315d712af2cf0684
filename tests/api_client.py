"""The API in this process: we call the functions' apps with the events that API Gateway would send."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from payments.api.api_gateway import ApiGatewayHandler
from payments.api.customer_routes import sync_router
from payments.api.look_up_routes import health_router, lookups_router
from payments.api.routes import app_of, commands_router
from payments.api.webhook_routes import webhooks_router
from payments.broker.kafka import KafkaPublisher
from payments.commands.catalog import served_by
from payments.commands.service import Service
from payments.webhooks.target import Resolve
from tests.contract import documents

PAYMENTS = "/api/v1/payments"
WEBHOOKS = "/api/v1/webhooks"
EVERYTHING = "payments/write payments/refund payments/read payments/webhooks"
ADMIN = "payments/admin"

Value = TypeVar("Value")


def public(host: str, port: int) -> list[Any]:
    """Find any host at a public address."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("1.1.1.1", port))]


_numbers = itertools.count(1)


@dataclass(frozen=True)
class Context:
    """The context that Lambda passes with the event."""

    aws_request_id: str = "8f507cfc-xmpl-4697-b07a-ac58fc914c95"
    function_name: str = "payments"
    function_version: str = "$LATEST"
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:payments:live"
    memory_limit_in_mb: int = 512
    remaining_ms: int = 20_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """Return the problem's code, or the status if the answer is no problem."""
        return str(self.body.get("code", self.status))


def http_event(
    method: str,
    path: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    query: str = "",
    claims: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Return an event of payload format 2.0. `path` is decoded, as API Gateway delivers it. A body of bytes is base64-encoded."""
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"content-type": "application/json", "host": "api.example.com"} | dict(headers or {}),
        "queryStringParameters": dict(parse_qsl(query, keep_blank_values=True)),
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "tests"},
            "requestId": f"test{next(_numbers):08d}=",
            "stage": "$default",
        },
        "isBase64Encoded": isinstance(body, bytes),
    }
    if claims is not None:
        event["requestContext"]["authorizer"] = {"jwt": {"claims": dict(claims), "scopes": None}}
    if isinstance(body, bytes):
        event["body"] = base64.b64encode(body).decode()
    elif body is not None:
        event["body"] = body if isinstance(body, str) else json.dumps(body)
    return event


class Api:
    """Checks every answer against docs/openapi.json before the test gets it."""

    def __init__(self, service: Service, publisher: KafkaPublisher | None = None, resolve: Resolve = public) -> None:
        """The deep health check tests `publisher`, by default the service's own. `resolve` finds the addresses of webhooks."""
        checked = publisher or service.publisher
        process, refund = (commands_router(lambda: service, served_by(name).values()) for name in ("process", "refund"))
        self._webhooks = _handler(webhooks_router(lambda: service, lambda: False, resolve))
        health = health_router(lambda: service, lambda: checked)  # type: ignore[arg-type,return-value]
        self._process, self._refund = _handler(process, sync_router(lambda: service)), _handler(refund)
        self._lookups = _handler(lookups_router(lambda: service), health)

    def send(self, event: Mapping[str, Any], context: Context = Context()) -> Answer:
        method, path, parameters = event["requestContext"]["http"]["method"], event["rawPath"], event.get("pathParameters")
        if parameters is not None:
            path = event["routeKey"].partition(" ")[2].format(**parameters)
        handler = (
            self._webhooks
            if path.startswith(WEBHOOKS)
            else self._lookups
            if method == "GET"
            else self._refund
            if path == f"{PAYMENTS}/refund"
            else self._process
        )
        reply = handler(event, context)
        answer = Answer(reply["statusCode"], reply["headers"], reply["body"] or "null")
        assert reply["isBase64Encoded"] is False
        documents.check_answer(method, path, answer.status, answer.headers, answer.body)
        return answer

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        owner: str | None = "shop",
        scopes: str = EVERYTHING,
        headers: Mapping[str, str] | None = None,
        query: str = "",
    ) -> Answer:
        """Send the request as `owner`, or without any identity (None)."""
        claims = None if owner is None else {"sub": owner, "scope": scopes}
        return self.send(http_event(method, path, body, headers=headers, query=query, claims=claims))

    def post(self, command: str, body: object, *, key: str | None = None, **how: Any) -> Answer:
        headers = dict(how.pop("headers", {})) | ({"idempotency-key": key} if key is not None else {})
        return self.call("POST", f"{PAYMENTS}/{command}", body, headers=headers, **how)

    def get(self, path: str, **how: Any) -> Answer:
        """`path` begins after /api/v1/payments."""
        return self.call("GET", PAYMENTS + path, **how)

    def pay(self, token: str | None = "tok_ok", *, owner: str = "shop", **fields: object) -> Any:
        """Pay, and return the body of the answer. The token decides the outcome."""
        return self.post("process", order(payment_token=token, **fields), owner=owner).body

    def authorize(self, token: str | None = "tok_ok", **fields: object) -> Any:
        return self.post("process", order(payment_token=token, capture_method="manual", **fields)).body


def _handler(*routers: Any) -> Callable[[Any, Any], Any]:
    return ApiGatewayHandler(app_of(*routers))


def order(**fields: object) -> dict[str, Any]:
    """Return a request to process a new order. A field that is None is left out."""
    request = {"order_id": f"order-{next(_numbers)}", "amount": 1999, "currency": "USD", "payment_method": "credit_card"} | fields
    return {name: value for name, value in request.items() if value is not None}


def in_another_environment(call: Callable[[], Value]) -> Value:
    """Call in a thread with an event loop of its own, as if it were another Lambda environment."""

    def run() -> Value:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            return call()
        finally:
            loop.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()
