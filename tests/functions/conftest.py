"""The functions of template.yaml in the real Lambda runtime, over a database and a topic of their own."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from local.template import Template, load_template
from tests.lambda_runtime import LambdaRuntime
from tests.servers import Broker, Database, Postgres

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent

Start = Callable[..., LambdaRuntime]
Functions = Callable[[str], LambdaRuntime]


@pytest.fixture(scope="session")
def runtime_database(postgres: Postgres) -> Database:
    return postgres.new_database()


@pytest.fixture(scope="session")
def runtime_topic(broker: Broker) -> str:
    return broker.new_topic()


@pytest.fixture(scope="session")
def template(runtime_database: Database, broker: Broker, runtime_topic: str) -> Template:
    """The template with the parameters that a deployment would set: with the simulated gateway, and beside it the function that
    comes with Stripe."""
    parameters = {
        "DatabaseUrl": runtime_database.service_url,
        "DatabaseOwnerUrl": runtime_database.owner_url,
        "KafkaBootstrapServers": broker.bootstrap_servers,
        "KafkaTopic": runtime_topic,
        "JwtIssuer": "https://issuer.example.com",
        "Webhooks": "On",
        "GatewaySuccessRate": "1",
        "GatewayDelayMs": "0-0",
    }
    functions = load_template(ROOT / "template.yaml", parameters).functions
    stripe = load_template(ROOT / "template.yaml", parameters | {"Gateway": "stripe", "StripeSecretArn": "arn:of-a-test"})
    return dataclasses.replace(stripe, functions=stripe.functions | functions)


def _starter(stack: contextlib.ExitStack, template: Template, runtime: type[LambdaRuntime]) -> Start:
    def start(name: str, environment: Mapping[str, str] | None = None, *, before: str | None = None) -> LambdaRuntime:
        function = template.function(name)
        assert function is not None
        extra = dict(environment or {})
        if before:
            extra["PROBED_HANDLER"] = str(function.code_folder / "handler.py")
            function = dataclasses.replace(function, code_folder=HERE / before)
        return stack.enter_context(runtime(function, extra))

    return start


@pytest.fixture(scope="module")
def start(template: Template, lambda_runtime: type[LambdaRuntime]) -> Iterator[Start]:
    """`start("process", {"NAME": "value"}, before="probe")` starts a function in its own environment, until the module ends.

    `before` names a folder beside this file. Its handler.py runs before the function's handler or instead of it.
    """
    with contextlib.ExitStack() as stack:
        yield _starter(stack, template, lambda_runtime)


@pytest.fixture(scope="session")
def functions(template: Template, lambda_runtime: type[LambdaRuntime]) -> Iterator[Functions]:
    """`functions("process")` returns the one environment of a function. The first call starts it, and it stays warm."""
    running: dict[str, LambdaRuntime] = {}
    with contextlib.ExitStack() as stack:
        start = _starter(stack, template, lambda_runtime)

        def function(name: str) -> LambdaRuntime:
            if name not in running:
                running[name] = start(name)
            return running[name]

        yield function
