"""The front treats a request as API Gateway and Lambda's Invoke API do."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from local.front import Front
from local.pool import Answer, Pool
from local.template import Template


class Functions:
    """Takes the place of the pools. It keeps the events and gives the answer that a test sets."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.arns: list[str | None] = []
        self.later: list[Any] = []
        self.answer = Answer({"statusCode": 200, "body": "{}"})
        self.log = b""

    async def invoke(self, event: Any, request_id: str | None = None, arn: str | None = None) -> Answer:
        self.events.append(event)
        self.arns.append(arn)
        return self.answer

    def invoke_later(self, event: Any, request_id: str, arn: str) -> None:
        self.later.append(event)
        self.arns.append(arn)

    async def invoke_with_log(self, event: Any, request_id: str, arn: str) -> tuple[Answer, bytes]:
        return await self.invoke(event, request_id, arn), self.log


class Reply:
    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.status: int = messages[0]["status"]
        self.headers = [(name.decode(), value.decode()) for name, value in messages[0]["headers"]]
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Reply]


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
def ask(template: Template, functions: Functions, tmp_path: Path) -> Ask:
    app = Front(template, dict.fromkeys(template.functions, cast(Pool, functions)), tmp_path / "openapi.json").app

    def ask(method: str, target: str, body: bytes = b"", headers: list[tuple[str, str]] | None = None) -> Reply:
        path, _, query = target.partition("?")
        names = {name.lower() for name, _ in headers or []}
        sent_headers = [*([] if "host" in names else [("Host", "127.0.0.1:8001")]), *(headers or [])]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(n.lower().encode(), v.encode()) for n, v in sent_headers],
            "client": ("127.0.0.9", 4711),
            "server": ("127.0.0.1", 8001),
        }
        sent: list[dict[str, Any]] = []

        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(received, {}) or await asyncio.Future()  # the client stays connected

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(app(scope, receive, send))
        return Reply(sent)

    return ask


def test_every_answer_of_api_gateway_has_the_requests_id(ask: Ask, functions: Functions) -> None:
    """A client logs it for the support of an API whose function has not seen the request."""
    assert ask("POST", "/echo").header("apigw-requestid") == functions.events[0]["requestContext"]["requestId"]
    for method, path, body in (("GET", "/nowhere", b""), ("POST", "/echo", b"x" * 10_000_001)):
        assert re.fullmatch("[A-Za-z0-9_-]{15}=", ask(method, path, body).header("apigw-requestid") or "")


def test_a_request_becomes_an_event_in_payload_format_2(ask: Ask, functions: Functions) -> None:
    headers = [
        ("Content-Type", "application/json"),
        ("X-Many", "1"),
        ("X-Many", "2"),
        ("User-Agent", "pytest"),
        ("Cookie", "a=1; b=2"),
    ]
    ask("POST", "/echo?a=1&a=2&b=%20x+y&c=", b'{"amount": 1999}', headers)
    [event] = functions.events
    context = event["requestContext"]
    assert event["version"] == "2.0"
    assert event["routeKey"] == context["routeKey"] == "POST /echo"
    assert event["rawPath"] == context["http"]["path"] == "/echo"
    assert event["rawQueryString"] == "a=1&a=2&b=%20x+y&c="
    assert event["queryStringParameters"] == {"a": "1,2", "b": " x y", "c": ""}
    assert event["headers"]["x-many"] == "1,2"
    assert "cookie" not in event["headers"]
    assert event["cookies"] == ["a=1", "b=2"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"amount": 1999}', False)
    assert "pathParameters" not in event
    assert context["stage"] == "$default"
    assert context["http"] == {
        "method": "POST",
        "path": "/echo",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.9",
        "userAgent": "pytest",
    }
    assert context["timeEpoch"] > 1_700_000_000_000


@pytest.mark.parametrize(
    ("host", "name", "prefix", "port"),
    [
        ("127.0.0.1:8001", "127.0.0.1", "127", "8001"),
        ("localhost", "localhost", "localhost", "80"),
        ("[::1]:8001", "[::1]", "[::1]", "8001"),
        ("[::1]", "[::1]", "[::1]", "80"),
    ],
)
def test_the_event_has_the_name_and_the_port_of_the_host(
    host: str, name: str, prefix: str, port: str, ask: Ask, functions: Functions
) -> None:
    ask("GET", "/payment/1", headers=[("Host", host)])
    [event] = functions.events
    assert event["headers"]["host"] == host
    assert event["headers"]["x-forwarded-port"] == port
    assert (event["requestContext"]["domainName"], event["requestContext"]["domainPrefix"]) == (name, prefix)


def test_what_a_request_has_not_the_event_has_not(ask: Ask, functions: Functions) -> None:
    ask("GET", "/payment/1")
    assert not functions.events[0].keys() & {"body", "cookies", "queryStringParameters"}


@pytest.mark.parametrize(
    ("target", "route", "parameters"),
    [
        ("/payment/a%20b%C3%A9", "/payment/{payment_id}", {"payment_id": "a bé"}),
        ("/payment/latest", "/payment/latest", None),
        ("/payment/latest/history", "/payment/{payment_id}/history", {"payment_id": "latest"}),
        ("/files/a/b%2fc", "/files/{rest+}", {"rest": "a/b/c"}),
    ],
)
def test_a_path_finds_its_route_and_is_decoded(
    ask: Ask, functions: Functions, target: str, route: str, parameters: dict[str, str] | None
) -> None:
    ask("GET", target)
    [event] = functions.events
    assert event["routeKey"].split(" ")[1] == route
    assert event.get("pathParameters") == parameters
    assert "%" not in event["rawPath"]


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/echo"), ("POST", "/echo/"), ("GET", "/"), ("HEAD", "/payment/1"), ("GET", "//echo")]
)
def test_an_unknown_route_is_api_gateways_404(ask: Ask, functions: Functions, method: str, target: str) -> None:
    reply = ask(method, target)
    assert (reply.status, reply.json()) == (404, {"message": "Not Found"})
    assert not functions.events


def test_the_local_headers_become_claims_and_go_no_further(ask: Ask, functions: Functions) -> None:
    ask("GET", "/payment/1")
    ask("GET", "/payment/1", headers=[("X-Local-Owner", "shop-7"), ("X-Local-Scopes", "payments/read")])
    ask("GET", "/files/1", headers=[("X-Local-Owner", "shop-7")])
    claims = [event["requestContext"].get("authorizer", {}).get("jwt", {}).get("claims") for event in functions.events]
    assert claims == [
        {"sub": "local", "scope": "payments/write payments/refund payments/read payments/webhooks"},
        {"sub": "shop-7", "scope": "payments/read"},
        None,  # the template has no authorizer on this route
    ]
    assert not any(name.startswith("x-local") for event in functions.events for name in event["headers"])


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"\xff\xfe"), ("application/octet-stream", b"text"), ("application/x-www-form-urlencoded", b"a=1")],
)
def test_a_body_that_is_no_text_is_base64(ask: Ask, functions: Functions, content_type: str, body: bytes) -> None:
    ask("POST", "/echo", body, [("Content-Type", content_type)])
    assert functions.events[0]["isBase64Encoded"] is True
    assert base64.b64decode(functions.events[0]["body"]) == body


def test_a_body_over_10_mb_is_a_413(ask: Ask, functions: Functions) -> None:
    reply = ask("POST", "/echo", b"x" * 10_000_001)
    assert (reply.status, reply.json()) == (413, {"message": "Request Entity Too Large"})
    assert not functions.events


def test_an_answer_becomes_the_response(ask: Ask, functions: Functions) -> None:
    functions.answer = Answer(
        {
            "statusCode": 201,
            "headers": {"Content-Type": "application/problem+json", "x-a": "1"},
            "cookies": ["a=1; Path=/", "b=2"],
            "body": base64.b64encode(b"\x00\xff").decode(),
            "isBase64Encoded": True,
        }
    )
    reply = ask("POST", "/echo")
    assert (reply.status, reply.body, reply.header("content-type")) == (201, b"\x00\xff", "application/problem+json")
    assert [value for name, value in reply.headers if name == "set-cookie"] == ["a=1; Path=/", "b=2"]
    assert len([name for name, _ in reply.headers if name == "content-type"]) == 1
    assert reply.header("apigw-requestid") == functions.events[0]["requestContext"]["requestId"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"errorType": "ValueError", "errorMessage": "secret"}, failed=True),
        Answer({"statusCode": "many"}),
        Answer({"statusCode": 600}),
        Answer({"statusCode": 200, "body": {"not": "text"}}),
        Answer({"statusCode": 200, "body": "no base64", "isBase64Encoded": True}),
    ],
    ids=["failed", "status", "no such status", "body", "base64"],
)
def test_a_failed_or_malformed_answer_is_a_500_that_tells_nothing(ask: Ask, functions: Functions, answer: Answer) -> None:
    functions.answer = answer
    reply = ask("POST", "/echo")
    assert (reply.status, reply.json()) == (500, {"message": "Internal Server Error"})


def test_an_answer_without_a_status_is_the_body(ask: Ask, functions: Functions) -> None:
    functions.answer = Answer({"hello": "world"})
    reply = ask("POST", "/echo")
    assert (reply.status, reply.json(), reply.header("content-type")) == (200, {"hello": "world"}, "application/json")


def test_api_gateway_waits_30_s_at_the_most(ask: Ask, functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(event: Any) -> Answer:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(functions, "invoke", never)
    monkeypatch.setattr("local.front.INTEGRATION_TIMEOUT_S", 0.05)
    reply = ask("POST", "/echo")
    assert (reply.status, reply.json()) == (503, {"message": "Service Unavailable"})


def test_cors_is_as_the_template_says(ask: Ask, functions: Functions) -> None:
    shop, evil = ("Origin", "https://shop.example"), ("Origin", "https://evil.example")
    asked = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "content-type")]
    preflight = ask("OPTIONS", "/echo", headers=[shop, *asked])
    assert preflight.header("access-control-allow-origin") == "https://shop.example"
    assert preflight.header("access-control-max-age") == "600"
    assert ask("OPTIONS", "/echo", headers=[evil, *asked]).header("access-control-allow-origin") is None
    assert ask("POST", "/echo", headers=[shop]).header("access-control-allow-origin") == "https://shop.example"
    assert len(functions.events) == 1


INVOKE = "/2015-03-31/functions/{}/invocations"


ARN = "arn:aws:lambda:us-east-1:123456789012:function:EchoFunction"


@pytest.mark.parametrize(
    ("name", "qualifier"),
    [
        ("echo", ""),
        ("EchoFunction", ""),
        ("EchoFunction:live", ":live"),
        ("EchoFunction:$LATEST", ":$LATEST"),
        ("123456789012:function:EchoFunction:$LATEST", ":$LATEST"),
        (ARN, ""),
        (f"{ARN}:direct", ":direct"),
        ("EchoFunction:direct", ":direct"),
    ],
)
def test_invoke_finds_a_function_by_any_of_its_names(ask: Ask, functions: Functions, name: str, qualifier: str) -> None:
    """The function sees the ARN by which it was invoked, as on AWS."""
    functions.answer = Answer({"status": "CAPTURED"})
    reply = ask("POST", INVOKE.format(name), b'{"amount": 1}')
    assert (reply.status, reply.json(), functions.events) == (200, {"status": "CAPTURED"}, [{"amount": 1}])
    assert functions.arns == [ARN + qualifier]
    assert reply.header("x-amz-executed-version") == "$LATEST"
    assert reply.header("x-amz-function-error") is None


def test_a_qualifier_may_stand_in_the_query(ask: Ask, functions: Functions) -> None:
    assert ask("POST", INVOKE.format("echo") + "?Qualifier=direct").status == 200
    assert (
        ask("POST", INVOKE.format("echo:direct") + "?Qualifier=direct", headers=[("X-Amz-Invocation-Type", "Event")]).status
        == 202
    )
    assert functions.arns == [f"{ARN}:direct"] * 2
    reply = ask("POST", INVOKE.format("echo:direct") + "?Qualifier=live")
    assert (reply.status, reply.header("x-amzn-errortype")) == (400, "InvalidParameterValueException")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("EchoFunction:nobody/invocations", "EchoFunction:nobody"),
        ("EchoFunction/invocations?Qualifier=nobody", "EchoFunction:nobody"),
        (f"{ARN}:7/invocations", "EchoFunction:7"),
        ("BrokenFunction/invocations?Qualifier=direct", "BrokenFunction:direct"),
    ],
    ids=["in the name", "beside it", "a version, which a local run has none of", "another function's alias"],
)
def test_invoke_refuses_a_qualifier_that_the_function_does_not_have(
    ask: Ask, functions: Functions, target: str, named: str
) -> None:
    for kind in ("RequestResponse", "Event", "DryRun"):
        reply = ask("POST", f"/2015-03-31/functions/{target}", b"{}", [("X-Amz-Invocation-Type", kind)])
        assert (reply.status, reply.header("x-amzn-errortype")) == (404, "ResourceNotFoundException")
        assert reply.json()["Message"] == f"Function not found: {ARN.removesuffix('EchoFunction')}{named}"
    assert (functions.events, functions.later) == ([], [])


def test_the_end_of_the_log_comes_with_the_answer_to_who_asks_for_it(ask: Ask, functions: Functions) -> None:
    functions.log = b"0123456789" * 1000
    asked = ask("POST", INVOKE.format("echo"), b"{}", [("X-Amz-Log-Type", "Tail")])
    assert asked.status == 200
    assert base64.b64decode(asked.header("x-amz-log-result") or "") == functions.log[-4096:]
    for headers in ([], [("X-Amz-Log-Type", "None")], [("X-Amz-Log-Type", "Tail"), ("X-Amz-Invocation-Type", "Event")]):
        assert ask("POST", INVOKE.format("echo"), b"{}", headers).header("x-amz-log-result") is None


def test_invoke_says_that_the_function_failed(ask: Ask, functions: Functions) -> None:
    functions.answer = Answer({"errorType": "ValueError", "errorMessage": "no"}, failed=True)
    reply = ask("POST", INVOKE.format("echo"))
    assert (reply.status, reply.header("x-amz-function-error"), reply.json()["errorType"]) == (200, "Unhandled", "ValueError")
    assert functions.events == [{}]


@pytest.mark.parametrize(("kind", "status", "later"), [("Event", 202, [{"a": 1}]), ("DryRun", 204, []), ("Nonsense", 400, [])])
def test_invocation_types(ask: Ask, functions: Functions, kind: str, status: int, later: list[Any]) -> None:
    reply = ask("POST", INVOKE.format("echo"), b'{"a": 1}', [("X-Amz-Invocation-Type", kind)])
    assert (reply.status, functions.later, functions.events) == (status, later, [])


@pytest.mark.parametrize(
    ("name", "body", "status", "error"),
    [
        ("nobody", b"{}", 404, "ResourceNotFoundException"),
        ("echo", b"{", 400, "InvalidRequestContentException"),
        ("echo", b'{"a": NaN}', 400, "InvalidRequestContentException"),
        ("echo", b"[" * 200_000, 400, "InvalidRequestContentException"),
        ("echo", b"\xff", 400, "InvalidRequestContentException"),
        ("echo", b" " * (6 * 1024 * 1024 + 1), 413, "RequestTooLargeException"),
    ],
    ids=["unknown function", "no JSON", "NaN", "deep", "not UTF-8", "too large"],
)
def test_invoke_refuses_as_lambda_does(ask: Ask, name: str, body: bytes, status: int, error: str) -> None:
    reply = ask("POST", INVOKE.format(name), body)
    assert (reply.status, reply.header("x-amzn-errortype")) == (status, error)


def test_the_documents_need_no_internet(ask: Ask, tmp_path: Path) -> None:
    page = ask("GET", "/docs")
    assert page.status == 200
    assert b"http:" not in page.body
    assert b"https:" not in page.body
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/docs/assets/{asset}".encode() in page.body
        assert ask("GET", f"/docs/assets/{asset}").status == 200
    assert ask("GET", "/openapi.json").status == 404
    (tmp_path / "openapi.json").write_text('{"openapi": "3.1.0", "servers": [{"url": "https://payments.example"}]}')
    assert ask("GET", "/openapi.json").json() == {"openapi": "3.1.0", "servers": [{"url": "/"}]}
