"""Valid and invalid requests generated from docs/openapi.json, sent through the local front: no 500, no undocumented answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from contract.openapi import DOCUMENT
from local.front import Front
from local.pool import Answer, Pool
from local.template import Route
from payments.commands.service import Service
from tests.api.test_routes import TEMPLATE
from tests.api_client import Api


def wrong_data_is_refused(context: Any, answer: Any, case: Any) -> bool | None:
    """In a request null counts as absent. The document does not say so to generators."""
    if isinstance(case.body, dict) and any(value is None for value in case.body.values()):
        return None
    return negative_data_rejection(context, answer, case)


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    wrong_data_is_refused,
]

BEYOND_A_SCHEMA = {
    "body",
    "body.url",
    "body.event_id",
    "body.from",
    "body.to",
    "body.amount",
    "body.order_id",
    "body.customer_id",
}
BEYOND_A_SCHEMA |= {"query.cursor", "query.created_from", "query.created_to", "query.amount_to"}
"""Fields that may be wrong although the schema allows their values: to JSON Schema 1999.0 is an integer, it knows no normal form
of an id, a cursor must come from an earlier page, PostgreSQL must be able to store a time, and a range begins before its end.
"""


class InThisProcess(Pool):
    """All functions as one pool, in a thread with an event loop for the handlers."""

    def __init__(self, service: Service) -> None:
        self._events = asyncio.new_event_loop()
        self._thread = ThreadPoolExecutor(1, initializer=asyncio.set_event_loop, initargs=(self._events,))
        self._api = self._thread.submit(lambda: Api(service)).result()

    async def invoke(self, event: Any, request_id: str | None = None, arn: str | None = None, log: Path | None = None) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, event)

    def _answer(self, event: Any) -> Answer:
        answer = self._api.send(event)
        return Answer({"statusCode": answer.status, "headers": answer.headers, "body": answer.text})

    def shut_down(self) -> None:
        self._thread.shutdown()
        self._events.close()


@pytest.fixture(scope="module")
def schema(service: Service) -> Iterator[Any]:
    functions = InThisProcess(service)
    front = Front(TEMPLATE, dict.fromkeys(TEMPLATE.functions, functions), DOCUMENT)
    schema = schemathesis.openapi.from_asgi("/openapi.json", front.app, headers={"host": "localhost"})
    # API Gateway's authorizer checks tokens, and there is none here.
    schema.config.generation.update(with_security_parameters=False)
    yield schema
    functions.shut_down()


WITHOUT_INPUT = {"GET /api/v1/webhooks"}
"""Nothing about such a request can be wrong."""
ASKED = [
    pytest.param(route, mode, id=f"{mode.value}-{route.method} {route.path}")
    for route in TEMPLATE.routes
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or f"{route.method} {route.path}" not in WITHOUT_INPUT
]


@pytest.mark.parametrize(("route", "mode"), ASKED)
def test_made_up_requests_get_documented_answers(route: Route, mode: GenerationMode, schema: Any) -> None:
    operation = schema[route.path][route.method]

    @settings(max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call_and_validate(base_url="http://localhost", checks=CHECKS)
        if mode is GenerationMode.POSITIVE and answer.status_code == 422:
            problem = answer.json()
            where = {error["location"] for error in problem.get("errors", ())}
            # An order id as short as the generator likes them may be the order of another of its requests.
            expected = {"card_data_not_accepted", "idempotency_key_reused", "amount_too_large"}
            assert problem["code"] in expected or (where and where <= BEYOND_A_SCHEMA), problem

    ask()
