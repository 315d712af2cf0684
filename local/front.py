"""API Gateway's HTTP API, Lambda's Invoke API, the interactive API documents and the simulated gateway's pages, on one port.

We turn a request into an event in payload format 2.0 as API Gateway does ("AWS Lambda proxy integrations for HTTP APIs" in
its guide), and the function's answer into the response. Invoke follows the Lambda API reference.
"""

import asyncio
import base64
import contextlib
import importlib.util
import json
import re
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from local import template as sam
from local.bank import Bank
from local.bank_pages import BankPages
from local.pool import Answer, Pool
from local.sites import GATEWAY_PAGES, INVOKE, LOCAL_ORIGIN, OwnPages

MAX_BODY_BYTES = 10_000_000  # API Gateway's quota for a payload
MAX_INVOKE_BYTES = 6 << 20  # Lambda's quota for a synchronous payload
LOG_TAIL_BYTES = 4096  # of LogType=Tail
INTEGRATION_TIMEOUT_S = 30  # API Gateway's limit; the function itself runs on until its own timeout
DEFAULT_OWNER = "local"
DEFAULT_SCOPES = "payments/write payments/refund payments/read payments/webhooks"

_PAGES = ("/docs", "/openapi.json", GATEWAY_PAGES, INVOKE)
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml)|application/javascript")


class Front:
    def __init__(self, template: sam.Template, pools: Mapping[str, Pool], openapi: Path) -> None:
        """Keys of `pools` are the functions' logical ids. /docs shows the document `openapi`, once it exists."""
        self._template = template
        self._pools = pools
        self._openapi = openapi
        # As in API Gateway, a literal segment wins over {name}, and {name} wins over {name+}.
        self._routes = [(_pattern(route.path), route) for route in sorted(template.routes, key=_openness)]
        package = importlib.util.find_spec("fastapi_offline")  # we need only its copy of Swagger UI, so we do not import it
        assets = Path(package.origin).parent / "static" if package and package.origin else None
        api: ASGIApp = self._route
        if template.cors:
            api = CORSMiddleware(api, allow_origin_regex=LOCAL_ORIGIN, **template.cors)
        self.app = OwnPages(api, admitted=(template.cors or {}).get("allow_origins", ()))
        self._pages = Starlette(
            routes=[
                Route("/docs", self._docs),
                Route("/openapi.json", self._document),
                Mount("/docs/assets", StaticFiles(directory=assets)),
                Route(f"{INVOKE}functions/{{name}}/invocations", self._invoke, methods=["POST"]),
                *BankPages(Bank()).routes,
            ],
        )
        self._pages.router.default = self._api_gateway

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give API Gateway every path that no page has, without the framework's way there: it costs more than ours."""
        with contextlib.suppress(ClientDisconnect):  # nobody waits for an answer
            await (self._pages if scope["path"].startswith(_PAGES) else self._api_gateway)(scope, receive, send)

    async def _api_gateway(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(scope, receive)
        response.headers.setdefault("apigw-requestid", _request_id())  # API Gateway's own answers have one too
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        path, method = scope["raw_path"].decode("latin-1"), scope["method"]
        for pattern, route in self._routes:
            match = pattern.fullmatch(path)
            if match and route.method in (method, "ANY"):
                break
        else:
            return _message(404, "Not Found")
        body = await _body(receive, MAX_BODY_BYTES)
        if body is None:
            return _message(413, "Request Entity Too Large")
        event = http_event(scope, body, route, {name: unquote(value) for name, value in match.groupdict().items()})
        try:
            async with asyncio.timeout(INTEGRATION_TIMEOUT_S):
                response = http_response(await self._pools[route.function].invoke(event))
        except TimeoutError:
            response = _message(503, "Service Unavailable")
        response.headers["apigw-requestid"] = event["requestContext"]["requestId"]
        return response

    async def _invoke(self, request: Request) -> Response:
        """Serve Lambda's Invoke, so that boto3.client("lambda", endpoint_url="http://127.0.0.1:8001") works."""
        # The name may be a whole ARN or a part of one, and a qualifier may follow it or stand in the query.
        whole = re.sub(r"^(arn:aws:lambda:[^:]*:)?(\d*:)?(function:)?", "", request.path_params["name"])
        name, _, qualifier = whole.partition(":")
        function = self._template.function(name)
        if function is None:
            return _lambda_error(404, "ResourceNotFoundException", f"Function not found: {sam.function_arn(name)}")
        asked = request.query_params.get("Qualifier") or qualifier
        if qualifier and asked != qualifier:
            message = "The derived qualifier from the function name does not match the specified qualifier."
            return _lambda_error(400, "InvalidParameterValueException", message)
        arn = sam.function_arn(function.name, asked)
        if not function.has(asked):
            return _lambda_error(404, "ResourceNotFoundException", f"Function not found: {arn}")
        body = await _body(request.receive, MAX_INVOKE_BYTES)
        if body is None:
            return _lambda_error(413, "RequestTooLargeException", f"Request must be smaller than {MAX_INVOKE_BYTES} bytes")
        try:
            event = json.loads(body or b"{}", parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            return _lambda_error(400, "InvalidRequestContentException", f"Could not parse request body into json: {error}")
        pool, request_id = self._pools[function.name], str(uuid.uuid4())
        headers = {"x-amzn-requestid": request_id, "x-amz-executed-version": "$LATEST"}
        match request.headers.get("x-amz-invocation-type", "RequestResponse"):
            case "DryRun":
                return Response(None, 204, headers)
            case "Event":
                pool.invoke_later(event, request_id, arn)
                return Response(None, 202, headers)
            case "RequestResponse":
                if request.headers.get("x-amz-log-type") == "Tail":
                    answer, log = await pool.invoke_with_log(event, request_id, arn)
                    headers["x-amz-log-result"] = base64.b64encode(log[-LOG_TAIL_BYTES:]).decode()
                else:
                    answer = await pool.invoke(event, request_id, arn)
                failed = {"x-amz-function-error": "Unhandled"} if answer.failed else {}
                return Response(json.dumps(answer.payload), 200, headers | failed, "application/json")
            case other:
                return _lambda_error(400, "InvalidParameterValueException", f"{other} is not an invocation type")

    async def _document(self, _: Request) -> Response:
        """Return the OpenAPI document with this server as the only one, so that "Try it out" calls the page's own origin."""
        if not self._openapi.exists():
            return _message(404, "docs/openapi.json does not exist yet")
        return JSONResponse(json.loads(self._openapi.read_text(encoding="utf-8")) | {"servers": [{"url": "/"}]})

    async def _docs(self, _: Request) -> Response:
        # In a frame of another page, a click on "Execute" could be a click on something else.
        return HTMLResponse(_DOCS, headers={"content-security-policy": "frame-ancestors 'none'"})


_DOCS = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Payments API</title>
<link rel="icon" href="/docs/assets/favicon.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<div id="ui">docs/openapi.json does not exist yet.</div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script>
  fetch("/openapi.json").then((answer) => answer.ok && SwaggerUIBundle(
    {url: "/openapi.json", dom_id: "#ui", deepLinking: true, tryItOutEnabled: true, validatorUrl: "none"}));
</script>
</html>
"""


def _pattern(path: str) -> re.Pattern[str]:
    greedy = re.sub(r"\\{(\w+)\\\+\\}", r"(?P<\1>.+)", re.escape(path))
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", greedy))


def _openness(route: sam.Route) -> list[int]:
    return [2 if part.endswith("+}") else 1 if part.startswith("{") else 0 for part in route.path.split("/")]


async def _body(receive: Receive, limit_bytes: int) -> bytes | None:
    """Return the whole body, or None as soon as it exceeds the limit. Raises ClientDisconnect."""
    body, has_more = bytearray(), True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
        if len(body) > limit_bytes:
            return None
    return bytes(body)


def _request_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes[:11]).decode()  # 16 characters, as API Gateway's


def http_event(scope: Scope, body: bytes, route: sam.Route, path_parameters: dict[str, str]) -> dict[str, Any]:
    """Return the request in payload format 2.0, with path and path parameters percent-decoded, as API Gateway does it."""
    now = time.time()
    source_ip = scope["client"][0]
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:  # names are lower case already
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    host, port = re.fullmatch(r"(.*?)(?::(\d*))?", headers.get("host", "127.0.0.1")).groups()  # type: ignore[union-attr]  # it fits any
    claims = {"sub": headers.pop("x-local-owner", DEFAULT_OWNER), "scope": headers.pop("x-local-scopes", DEFAULT_SCOPES)}
    cookies = [part.strip() for part in headers.pop("cookie", "").split(";") if part.strip()]
    headers.setdefault("x-amzn-trace-id", f"Root=1-{int(now):08x}-{uuid.uuid4().hex[:24]}")
    headers["x-forwarded-for"] = ",".join(filter(None, (headers.get("x-forwarded-for"), source_ip)))
    headers["x-forwarded-port"] = port or "80"
    headers["x-forwarded-proto"] = "http"
    raw_query = scope["query_string"].decode("latin-1")
    query: dict[str, str] = {}
    for name, value in parse_qsl(raw_query, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    path = unquote(scope["raw_path"].decode("latin-1"))
    route_key = f"{route.method} {route.path}"
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": raw_query,
        "headers": headers,
        "requestContext": {
            "accountId": sam.ACCOUNT_ID,
            "apiId": "local",
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {
                "method": scope["method"],
                "path": path,
                "protocol": f"HTTP/{scope['http_version']}",
                "sourceIp": source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": _request_id(),
            "routeKey": route_key,
            "stage": "$default",
            "time": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    if route.authorized:
        event["requestContext"]["authorizer"] = {"jwt": {"claims": claims, "scopes": None}}
    if cookies:
        event["cookies"] = cookies
    if query:
        event["queryStringParameters"] = query
    if path_parameters:
        event["pathParameters"] = path_parameters
    if body:
        text = _as_text(body, headers.get("content-type", ""))
        event["isBase64Encoded"] = text is None
        event["body"] = base64.b64encode(body).decode() if text is None else text
    return event


def _as_text(body: bytes, content_type: str) -> str | None:
    """Return the body as text, or None if API Gateway would send it base64-encoded."""
    if content_type and not _TEXT.fullmatch(content_type.partition(";")[0].strip().lower()):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def http_response(answer: Answer) -> Response:
    """Return the function's answer as API Gateway sends it on. A function that failed or timed out is a 500."""
    if answer.failed:
        return _message(500, "Internal Server Error")
    payload = answer.payload
    if not isinstance(payload, dict) or "statusCode" not in payload:
        return JSONResponse(payload)
    try:
        body = payload.get("body") or ""
        content = base64.b64decode(body, validate=True) if payload.get("isBase64Encoded") else body.encode()
        headers = {"content-type": "text/plain;charset=UTF-8"}
        headers |= {name.lower(): str(value) for name, value in (payload.get("headers") or {}).items()}
        status = int(payload["statusCode"])
        if status not in range(200, 600):
            raise ValueError
        response = Response(content, status, headers)
        for cookie in payload.get("cookies") or ():
            response.headers.append("set-cookie", cookie)
    except (TypeError, ValueError, AttributeError):  # the payload is not a response by API Gateway's rules
        return _message(500, "Internal Server Error")
    return response


def _message(status: int, text: str) -> JSONResponse:
    return JSONResponse({"message": text}, status)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _lambda_error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"Type": "User", "Message": message}, status, {"x-amzn-errortype": kind})
