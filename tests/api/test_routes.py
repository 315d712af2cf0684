"""template.yaml, the functions' code and the OpenAPI document know the same routes and the same environment."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request, Response

from local.template import Function, load_template
from payments import wiring
from payments.api.api_gateway import ApiGatewayHandler
from payments.api.checked_route import CheckedRoute
from payments.api.customer_routes import sync_router
from payments.api.look_up_routes import health_router, lookups_router
from payments.api.routes import app_of, commands_router
from payments.commands.catalog import COMMANDS, served_by
from payments.commands.service import Service
from payments.domain.ids import uuid7
from payments.settings import settings_from
from tests.api_client import EVERYTHING, Api, Context, http_event, order
from tests.card_number import CARD
from tests.contract import documents

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = {
    "DatabaseUrl": "postgresql://u@h/d",
    "KafkaBootstrapServers": "h:9092",
    "JwtIssuer": "i",
    "Webhooks": "On",
    "DatabaseOwnerUrl": "postgresql://o@h/d",
}
TEMPLATE = load_template(ROOT / "template.yaml", PARAMETERS)
WITH_STRIPE = load_template(ROOT / "template.yaml", PARAMETERS | {"Gateway": "stripe", "StripeSecretArn": "arn:x"})
FUNCTIONS = TEMPLATE.functions

LOCAL_ALONE = {"WEBHOOKS_LOCAL", "SIMULATED_GATEWAY_URL"}
"""With these a webhook may go to this machine, and a person there decides about payments, so no template may set them."""

STRIPE_ALONE = {"STRIPE_API_KEY", "STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRETS"}
"""A key or a secret in the environment is for this machine, and so is another place than Stripe's."""

POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"}
"""Powertools reads these itself."""


def _app(function: Function) -> FastAPI | None:
    handler = importlib.import_module(f"functions.{function.short_name}.handler")
    app = handler.http.app if hasattr(handler, "http") else None
    if commands := served_by(function.short_name):
        assert app is None
        others = [sync_router(wiring.service)] if function.short_name == "process" else []
        app = app_of(commands_router(wiring.service, commands.values()), *others)
    return app


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_serves_the_routes_that_the_template_gives_it(name: str) -> None:
    app = _app(FUNCTIONS[name])
    served = {(method, path) for path, methods in (app.openapi()["paths"] if app else {}).items() for method in methods}
    assert served == {(route.method.lower(), route.path) for route in TEMPLATE.routes if route.function == name}


def test_the_openapi_document_has_the_routes_of_the_template() -> None:
    documented = {(method, path): bool(operation["security"]) for method, path, operation in documents.operations()}
    assert documented == {(route.method, route.path): route.authorized for route in TEMPLATE.routes}
    assert len(documented) == len(TEMPLATE.routes)


def test_the_route_of_stripes_events_comes_with_stripe_and_is_in_no_document() -> None:
    [route] = set(WITH_STRIPE.routes) - set(TEMPLATE.routes)
    assert (route.method, route.path) == ("POST", "/api/v1/gateways/stripe/events")
    assert (route.function, route.authorized) == ("GatewayEventsFunction", False), "its caller signs, and has no token"
    assert route.path not in {path for _, path, _ in documents.operations()}
    assert WITH_STRIPE.functions.keys() - FUNCTIONS.keys() == {"GatewayEventsFunction"}


class Asked(Mapping[str, str]):
    """Records which variables are read."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment, self.names = environment, set[str]()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self._environment[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._environment)

    def __len__(self) -> int:
        return len(self._environment)


def _read_directly(*files: Path) -> set[str]:
    """Return the variables that code reads without settings.py. Those of AWS need no declaration."""
    names = re.findall(r"environ(?:\.get\(|\[)\"(\w+)", "".join(file.read_text(encoding="utf-8") for file in files))
    return {name for name in names if not name.startswith("AWS_")}


@pytest.mark.parametrize("name", WITH_STRIPE.functions)
def test_the_template_declares_the_variables_that_are_read(name: str) -> None:
    function = WITH_STRIPE.functions[name]
    pays = "GATEWAY" in function.environment
    stripe = {"GATEWAY": "stripe", "STRIPE_SECRET": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:stripe-AbCdEf"}
    asked = Asked(function.environment | (stripe if pays else {}))
    settings_from(asked)
    code = [
        ROOT / "layers/shared/python/payments/settings.py",
        function.code_folder / "handler.py",
        *(function.code_folder / "migrations").glob("*.py"),
    ]
    local = LOCAL_ALONE | (STRIPE_ALONE if pays else {"GATEWAY"})  # Who has no gateway has the simulated one, and calls none.
    assert asked.names | POWERTOOLS | _read_directly(*code) == function.environment.keys() | local
    assert not (LOCAL_ALONE | STRIPE_ALONE) & function.environment.keys()


def test_settings_is_where_the_layer_reads_its_environment() -> None:
    layer = [
        path for path in (ROOT / "layers/shared/python/payments").rglob("*.py") if path.name not in {"settings.py", "migrate.py"}
    ]
    assert _read_directly(*layer) == set()
    assert not [path for path in layer if "getenv" in path.read_text(encoding="utf-8")]


def _behind(prefix: str, method: str, route: str, body: object = None, **parameters: str) -> dict[str, Any]:
    """The event of a request whose path begins with a stage or with the key of an API mapping."""
    path = route.format(**parameters)
    event = http_event(method, f"{prefix}{path}", body, claims={"sub": "shop", "scope": EVERYTHING})
    return event | {"routeKey": f"{method} {route}", "pathParameters": parameters}


@pytest.mark.parametrize("prefix", ["", "/shop", "/prod", "/prod/shop/v2"])
def test_a_request_reaches_the_route_that_api_gateway_has_matched(prefix: str, api: Api) -> None:
    payments = "/api/v1/payments"
    paid = api.send(_behind(prefix, "POST", f"{payments}/process", order(order_id=f"a/b%2F{prefix}{uuid7()}")))
    assert paid.status == 201
    refund = {"transaction_id": paid.body["transaction_id"], "amount": 1}
    assert api.send(_behind(prefix, "POST", f"{payments}/refund", refund)).status == 201
    for name in ("payment_id", "order_id", "transaction_id"):
        path = f"{payments}/{name.removesuffix('_id')}/{{{name}}}"
        found = api.send(_behind(prefix, "GET", path, **{name: paid.body[name]}))
        assert (found.status, found.body["payment_id"]) == (200, paid.body["payment_id"]), name
    history = _behind(prefix, "GET", f"{payments}/payment/{{payment_id}}/history", payment_id=paid.body["payment_id"])
    assert api.send(history).status == 200
    assert api.send(_behind(prefix, "GET", payments)).status == 200
    assert api.send(_behind(prefix, "GET", "/health")).status == 200


@pytest.mark.parametrize("prefix", ["", "/shop", "/prod/shop/v2"])
def test_an_unknown_outcome_names_the_path_of_its_look_up_and_when_it_may_be_known(prefix: str, api: Api) -> None:
    payments = "/api/v1/payments"
    paid = api.send(_behind(prefix, "POST", f"{payments}/process", order(payment_token="tok_timeout_then_captured")))
    refunded = {"payment_id": api.pay("tok_refund_timeout")["payment_id"]}
    for answer in (paid, api.send(_behind(prefix, "POST", f"{payments}/refund", refunded))):
        payment_id = answer.body["payment_id"]
        assert answer.status == 202
        assert answer.headers["location"] == f"{prefix}{payments}/payment/{payment_id}"
        assert answer.headers["retry-after"] == "30", "the first moment of the schedule on which reconcile asks again"
        path = answer.headers["location"].removeprefix(prefix)
        assert api.call("GET", path).body["payment_id"] == payment_id
    settled = api.send(_behind(prefix, "POST", f"{payments}/process", order(payment_token="tok_ok")))
    assert settled.headers.keys().isdisjoint({"location", "retry-after"})


def test_pages_of_other_origins_may_read_every_header_that_the_document_names() -> None:
    assert TEMPLATE.cors is not None
    assert sorted(TEMPLATE.cors["expose_headers"]) == sorted(map(str.lower, documents.openapi()["components"]["headers"]))


def test_the_cookies_of_a_request_are_looked_at_like_its_headers(api: Api) -> None:
    """API Gateway hands them over beside the headers."""
    event = _behind("", "POST", "/api/v1/payments/process", order())
    assert api.send(event | {"cookies": ["theme=dark"]}).status == 201
    refused = api.send(event | {"cookies": ["theme=dark", f"card={CARD}"]})
    assert (refused.status, refused.code) == (422, "card_data_not_accepted")


@pytest.mark.parametrize("route", ["POST /api/v1/payments/process", "$default"])
def test_an_event_without_headers_is_answered(route: str, api: Api) -> None:
    event = _behind("", "POST", "/api/v1/payments/process", order()) | {"routeKey": route}
    del event["headers"]
    assert api.send(event | {"pathParameters": None}).status == 415


@pytest.mark.parametrize("route", ["POST /late", "$default"])
def test_an_endpoint_that_waits_is_a_defect_and_no_half_an_answer(route: str) -> None:
    """There is no event loop that would wake it."""
    router = APIRouter(route_class=CheckedRoute)

    @router.post("/late")
    async def late(request: Request) -> Response:
        await asyncio.sleep(0)
        return Response()

    event = http_event("POST", "/late", {}, claims={"sub": "shop", "scope": EVERYTHING}) | {"routeKey": route}
    with pytest.raises(RuntimeError, match="an endpoint waits"):
        ApiGatewayHandler(app_of(router))(event, Context())


def test_without_a_matched_route_the_clients_path_counts(api: Api, service: Service) -> None:
    """A function URL matches nothing: its events have the route `$default`."""
    event = http_event("POST", "/api/v1/payments/process", order(), claims={"sub": "shop", "scope": EVERYTHING})
    assert api.send(event | {"routeKey": "$default"}).status == 201
    staged = http_event("POST", "/prod/api/v1/payments/process", order(), claims={"sub": "shop", "scope": EVERYTHING})
    staged["requestContext"]["stage"] = "prod"
    reply = ApiGatewayHandler(app_of(commands_router(lambda: service, COMMANDS.values())))(
        staged | {"routeKey": "$default"}, Context()
    )
    assert reply["statusCode"] == 201
    trailing = http_event("POST", "/api/v1/payments/process/", order(), claims={"sub": "shop", "scope": EVERYTHING})
    assert api.send(trailing | {"routeKey": "$default"}).status == 404, "as API Gateway answers a trailing slash"


@pytest.mark.parametrize(
    ("path", "stage", "status"),
    [
        ("/shop/health", "shop", 200),
        ("/shop/health", "$default", 200),  # the key of an API mapping
        ("/shop/api/v1/payments", "shop", 200),
        ("/a/api/v1/payments", "a", 200),
        ("/api/v1/payments", "a", 200),  # under a domain of its own, the stage is not in the path
        ("/api/api/v1/payments", "api", 200),
        ("/api/v1/payments", "api", 200),
        ("/api/health", "api", 200),
        ("/health", "health", 200),
        ("/health/health", "health", 200),
        ("/a/b/health", "a", 404),
        ("/shop/health/x", "shop", 404),
        ("/shop/api/v1/paymentsx", "shop", 404),
    ],
)
def test_without_a_matched_route_one_segment_is_cut_only_before_our_own_path(
    service: Service, path: str, stage: str, status: int
) -> None:
    app = app_of(lookups_router(lambda: service), health_router(lambda: service, wiring.publisher))
    event = http_event("GET", path, claims={"sub": "shop", "scope": EVERYTHING}) | {"routeKey": "$default"}
    event["requestContext"]["stage"] = stage
    assert ApiGatewayHandler(app)(event, Context())["statusCode"] == status


@pytest.mark.parametrize(
    "headers",
    [
        {"host": host}
        for host in (
            "[::1]:80",
            "[::1]",
            "::1",
            "[::1",
            "api.example.com:",
            "api.example.com:abc",
            "a:1:2",
            ":",
            "",
            "\u00fc",
            "h" * 9000,
        )
    ]
    + [{"Host": "[::1]:80"}]
    + [{"x-forwarded-port": port} for port in ("abc", "", "80,443", "-1", "9" * 5000)]
    + [{"x-forwarded-for": "abc, [::1]:80"}, {"x-forwarded-proto": "abc:"}],
    ids=lambda headers: "{}={:.20}".format(*next(iter(headers.items()))),
)
def test_a_request_is_served_whatever_it_says_about_host_and_port(headers: dict[str, str], api: Api) -> None:
    assert api.call("GET", "/health", headers=headers).status == 200
    assert api.post("process", order(), headers=headers).status == 201


@pytest.mark.parametrize("name", ["host", "Host", "x-forwarded-port"])
def test_a_card_number_there_is_refused(name: str, api: Api) -> None:
    assert api.post("process", order(), headers={name: CARD}).code == "card_data_not_accepted"


def test_a_request_is_served_without_a_host(api: Api) -> None:
    event = http_event("GET", "/health", claims=None)
    del event["headers"]["host"]
    assert api.send(event).status == 200
