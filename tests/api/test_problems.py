"""Every problem that a caller can get, each once, with its status and members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from contract.examples import PROBLEMS
from payments.api.answers import HTTP_STATUS
from payments.commands.service import Service
from payments.domain import errors
from payments.gateway.port import Declined, GatewayRequest, Reply
from tests.api_client import ADMIN, WEBHOOKS, Answer, Api, in_another_environment, order
from tests.api_fixtures import INSTANT
from tests.fakes import AnyGateway
from tests.seen_disputes import disputed

MakeService = Callable[..., Service]


WEBHOOK = {"url": "https://shop.example.com/events"}


@dataclass(frozen=True)
class Case:
    status: int
    provoke: Callable[[Api, MakeService], Answer]
    retryable: bool = False
    retry_after: bool = False


def _in_use(api: Api, make_service: MakeService) -> Answer:
    """Send the same key a second time before the gateway has answered the first request."""
    request, answers = order(), list[Answer]()

    @dataclass(frozen=True)
    class Thinking(AnyGateway):
        def charge(self, asked: GatewayRequest) -> Reply:
            answers.append(in_another_environment(lambda: Api(make_service()).post("process", request, key="in-use")))
            return INSTANT.charge(asked)

    Api(make_service(gateway=Thinking())).post("process", request, key="in-use")
    return answers[0]


@dataclass(frozen=True)
class WillNotVoid(AnyGateway):
    charge: Callable[[GatewayRequest], Reply] = INSTANT.charge

    def void(self, request: GatewayRequest) -> Reply:
        return Declined("card_declined", "The card was declined.", request.transaction_id, request.payment_intent_id, {})


class NoPaypal(AnyGateway):
    def refuses(
        self, payment_method: str, amount_minor: int, currency: str, *, is_part: bool = False, has_token: bool = True
    ) -> tuple[str, str] | None:
        return ("payment_method", "must be a card") if payment_method == "paypal" else None


def _void_declined(api: Api, make_service: MakeService) -> Answer:
    unwilling = Api(make_service(gateway=WillNotVoid()))
    return unwilling.post("void", {"transaction_id": unwilling.authorize()["transaction_id"]})


def _raises() -> Any:
    raise ZeroDivisionError("a defect, with data: order-4711")


def _twice(api: Api, *, token: str | None) -> Answer:
    request = order(payment_token=token)
    api.post("process", request)
    return api.post("process", request)


def _about(api: Api, command: str, payment: Any, **fields: object) -> Answer:
    return api.post(command, {"transaction_id": payment["transaction_id"], **fields})


def _disputed(api: Api, make_service: MakeService) -> Answer:
    payment = api.pay()
    disputed(make_service(), payment["payment_id"])
    return _about(api, "refund", payment)


def _reused(api: Api, make_service: MakeService) -> Answer:
    api.post("process", order(), key="reused")
    return api.post("process", order(), key="reused")


CASES = {
    "malformed_json": Case(400, lambda api, _: api.post("process", "{")),
    "idempotency_key_invalid": Case(400, lambda api, _: api.post("process", order(), key="")),
    "unauthenticated": Case(401, lambda api, _: api.post("process", order(), owner=None)),
    "payment_declined": Case(402, lambda api, _: api.post("process", order(payment_token="tok_processing_error"))),
    "capture_declined": Case(402, lambda api, _: _about(api, "capture", api.authorize("tok_capture_declined"))),
    "void_declined": Case(402, _void_declined),
    "refund_declined": Case(402, lambda api, _: _about(api, "refund", api.pay("tok_refund_declined"))),
    "forbidden": Case(403, lambda api, _: api.post("process", order(), scopes=ADMIN)),
    "payment_not_found": Case(404, lambda api, _: api.post("refund", {"transaction_id": "txn_of_nobody"})),
    "refund_not_found": Case(404, lambda api, _: api.get("/refund/of-nobody")),
    "webhook_not_found": Case(404, lambda api, _: api.call("GET", f"{WEBHOOKS}/of-nobody")),
    "webhook_conflict": Case(409, lambda api, _: [api.call("POST", WEBHOOKS, WEBHOOK, owner="shop-of-one") for _ in "12"][1]),
    "order_already_paid": Case(409, lambda api, _: _twice(api, token="tok_ok")),
    "order_in_progress": Case(
        409, lambda api, _: _twice(api, token="tok_timeout_then_captured"), retryable=True, retry_after=True
    ),
    "payment_state_conflict": Case(409, lambda api, _: _about(api, "capture", api.pay())),
    "payment_disputed": Case(409, _disputed),
    "idempotency_key_in_use": Case(409, _in_use, retryable=True, retry_after=True),
    "body_too_large": Case(413, lambda api, _: api.post("process", " " * 40_000)),
    "unsupported_media_type": Case(415, lambda api, _: api.post("process", order(), headers={"content-type": "text/plain"})),
    "invalid_request": Case(422, lambda api, _: api.post("process", order(amount=19.99))),
    "card_data_not_accepted": Case(422, lambda api, _: api.post("process", order(description="4242 4242 4242 4242"))),
    "amount_too_large": Case(422, lambda api, _: _about(api, "refund", api.pay(), amount=2000)),
    "not_supported_by_gateway": Case(
        422, lambda api, make: Api(make(gateway=NoPaypal())).post("process", order(payment_method="paypal"))
    ),
    "idempotency_key_reused": Case(422, _reused),
    "internal_error": Case(500, lambda api, make: Api(make(clock=_raises)).post("process", order()), retryable=True),
    "service_unavailable": Case(
        503,
        lambda api, make: Api(make(url="postgresql://payments_service@127.0.0.1:9/payments")).post("process", order()),
        retryable=True,
        retry_after=True,
    ),
}


@pytest.mark.parametrize("code", CASES)
def test_each_problem_has_its_status_and_members(code: str, api: Api, make_service: MakeService) -> None:
    case = CASES[code]
    answer = case.provoke(api, make_service)
    problem = answer.body
    assert (answer.status, problem["code"], problem["status"]) == (case.status, code, case.status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert problem["retryable"] is case.retryable
    assert ("retry-after" in answer.headers) is case.retry_after
    assert not case.retry_after or int(answer.headers["retry-after"]) >= 1
    assert problem["request_id"].startswith("test")
    assert problem["type"] == f"urn:payments:problem:{code}"
    assert problem["detail"]
    assert problem.keys() == PROBLEMS[code].keys(), "the documented example has other members"
    assert problem["title"] == PROBLEMS[code]["title"]


def test_the_table_names_every_problem_that_the_code_and_the_document_know() -> None:
    declines = {"payment_declined", "capture_declined", "void_declined", "refund_declined"}
    assert CASES.keys() == {error.code for error in HTTP_STATUS} | declines == PROBLEMS.keys()


def test_every_kind_of_error_has_a_status() -> None:
    def leaves(kind: type[errors.PaymentsError]) -> set[type[errors.PaymentsError]]:
        below = kind.__subclasses__()
        return {leaf for each in below for leaf in leaves(each)} if below else {kind}

    assert leaves(errors.PaymentsError) == HTTP_STATUS.keys()


def test_an_unexpected_error_tells_the_caller_nothing_of_itself(make_service: MakeService) -> None:
    answer = Api(make_service(clock=_raises)).post("process", order())
    assert answer.status == 500
    for told in ("Traceback", "ZeroDivisionError", "4711", "test_problems", ".py"):
        assert told not in answer.text
