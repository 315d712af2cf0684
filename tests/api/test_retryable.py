"""`retryable` is true only where the same request under the same key can succeed, and `advice_code` says what a new try needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from payments.api import direct
from payments.api.answers import HTTP_STATUS
from payments.commands.service import Service
from payments.domain import errors
from payments.domain.declines import DECLINE_MESSAGES
from payments.domain.ids import uuid7
from payments.gateway.port import Approved, Declined, GatewayRequest, Reply
from tests.api_client import ADMIN, WEBHOOKS, Answer, Api, Context, in_another_environment, order
from tests.fakes import AnyGateway
from tests.seen_disputes import disputed

MakeService = Callable[..., Service]
Answers = tuple[Answer, Answer]
"""Of a request, and of the same request under the same key."""


@dataclass(frozen=True)
class Slow(AnyGateway):
    """A gateway that lets something else happen while it thinks."""

    meanwhile: Callable[[], object]
    approves: bool

    def charge(self, request: GatewayRequest) -> Reply:
        self.meanwhile()
        if self.approves:
            return Approved(f"txn_{request.key}", f"pi_{request.key}", request.amount_minor, request.currency, {})
        return Declined("card_declined", "The card was declined.", request.transaction_id, request.payment_intent_id, {})

    capture = void = refund = charge


def _behind(
    make: MakeService,
    first: tuple[str, Any],
    second: tuple[str, Any],
    *,
    first_succeeds: bool = False,
    same_key: bool = False,
) -> Answers:
    """Send the second request while the gateway thinks about the first, and again when that has ended."""
    refused, key = list[Answer](), str(uuid7())

    def meanwhile() -> None:
        refused.append(in_another_environment(lambda: Api(make()).post(*second, key=key)))

    Api(make(gateway=Slow(meanwhile, first_succeeds))).post(*first, key=key if same_key else None)
    return refused[0], Api(make()).post(*second, key=key)


def _order_in_progress(api: Api, make: MakeService) -> Answers:
    request = order(payment_token="tok_ok")
    return _behind(make, ("process", request), ("process", request))


def _key_in_use(api: Api, make: MakeService) -> Answers:
    request = order()
    return _behind(make, ("process", request), ("process", request), first_succeeds=True, same_key=True)


def _void_in_flight(api: Api, make: MakeService) -> Answers:
    about = {"payment_id": api.authorize()["payment_id"]}
    return _behind(make, ("void", about), ("capture", about))


def _refund_in_flight(api: Api, make: MakeService) -> Answers:
    about = {"payment_id": api.pay()["payment_id"]}
    return _behind(make, ("refund", about), ("refund", about | {"amount": 500}))


def _fails_once(**broken: Any) -> Callable[[Api, MakeService], Answers]:
    def send(api: Api, make: MakeService) -> Answers:
        request, key = order(payment_token="tok_ok"), str(uuid7())
        return Api(make(**broken)).post("process", request, key=key), api.post("process", request, key=key)

    return send


def _raises() -> Any:
    raise ZeroDivisionError


NOWHERE = "postgresql://payments_service@127.0.0.1:9/payments"
WEBHOOK = {"url": "https://shop.example.com/events"}
RETRYABLE: Mapping[str, Callable[[Api, MakeService], Answers]] = {
    "order_in_progress": _order_in_progress,
    "idempotency_key_in_use": _key_in_use,
    "payment_state_conflict": _void_in_flight,
    "amount_too_large": _refund_in_flight,
    "internal_error": _fails_once(clock=_raises),
    "service_unavailable": _fails_once(url=NOWHERE),
}
"""How each code comes that can be retryable."""


@pytest.mark.parametrize("code", RETRYABLE)
def test_what_is_retryable_can_succeed_with_the_same_request_under_the_same_key(
    code: str, api: Api, make_service: MakeService
) -> None:
    refused, again = RETRYABLE[code](api, make_service)
    assert (refused.code, refused.body["retryable"]) == (code, True)
    assert again.status in (200, 201)


def _twice(command: str, request: object, **how: Any) -> Callable[[Api], Answers]:
    how = {"key": str(uuid7())} | how
    return lambda api: (api.post(command, request, **how), api.post(command, request, **how))


def _about(command: str, of: Callable[[Api], Any], **fields: object) -> Callable[[Api], Answers]:
    def send(api: Api) -> Answers:
        return _twice(command, {"payment_id": of(api)["payment_id"], **fields})(api)

    return send


def _order_paid(api: Api) -> Answers:
    return _twice("process", order(order_id=api.pay()["order_id"]))(api)


def _key_reused(api: Api) -> Answers:
    key = str(uuid7())
    api.post("process", order(), key=key)
    return _twice("process", order(), key=key)(api)


def _webhook_conflict(api: Api) -> Answers:
    _, first, again = [api.call("POST", WEBHOOKS, WEBHOOK, owner="shop-of-two") for _ in range(3)]
    return first, again


class Other(AnyGateway):
    name = "other"


def _other_gateway(api: Api, make_service: MakeService) -> Answers:
    return _twice("refund", {"payment_id": api.pay()["payment_id"]})(Api(make_service(gateway=Other())))


def _disputed(api: Api, make_service: MakeService) -> Answers:
    payment = api.pay()
    disputed(make_service(), payment["payment_id"])
    return _twice("refund", {"payment_id": payment["payment_id"]})(api)


NEED_MORE = {"not_supported_by_gateway": _other_gateway, "payment_disputed": _disputed}
FINAL: Mapping[str, Callable[[Api], Answers]] = {
    "malformed_json": _twice("process", "{"),
    "idempotency_key_invalid": _twice("process", order(), key=""),
    "unauthenticated": _twice("process", order(), owner=None),
    "payment_declined": _twice("process", order(payment_token="tok_processing_error")),
    "capture_declined": _about("capture", lambda api: api.authorize("tok_capture_declined")),
    "void_declined": _about("void", lambda api: api.authorize("tok_void_declined")),
    "refund_declined": _about("refund", lambda api: api.pay("tok_refund_declined")),
    "forbidden": _twice("process", order(), scopes=ADMIN),
    "payment_not_found": _twice("refund", {"transaction_id": "txn_of_nobody"}),
    "refund_not_found": lambda api: (api.get("/refund/of-nobody"), api.get("/refund/of-nobody")),
    "webhook_not_found": lambda api: (api.call("GET", f"{WEBHOOKS}/of-nobody"), api.call("GET", f"{WEBHOOKS}/of-nobody")),
    "webhook_conflict": _webhook_conflict,
    "order_already_paid": _order_paid,
    "payment_state_conflict": _about("capture", Api.pay),
    "body_too_large": _twice("process", " " * 40_000),
    "unsupported_media_type": _twice("process", order(), headers={"content-type": "text/plain"}),
    "invalid_request": _twice("process", order(amount=19.99)),
    "card_data_not_accepted": _twice("process", order(description="4242 4242 4242 4242")),
    "amount_too_large": _about("refund", Api.pay, amount=2000),
    "idempotency_key_reused": _key_reused,
}
"""How each code comes that repeating does not cure."""


@pytest.mark.parametrize("code", [*FINAL, *NEED_MORE])
def test_what_is_not_retryable_gets_the_same_answer_again(code: str, api: Api, make_service: MakeService) -> None:
    first, again = FINAL[code](api) if code in FINAL else NEED_MORE[code](api, make_service)
    assert (first.code, first.body["retryable"]) == (code, False)
    assert again.body | {"request_id": 0} == first.body | {"request_id": 0}


def test_the_two_tables_have_every_code() -> None:
    declines = {"payment_declined", "capture_declined", "void_declined", "refund_declined"}
    assert RETRYABLE.keys() | FINAL.keys() | NEED_MORE.keys() == {error.code for error in HTTP_STATUS} | declines
    assert RETRYABLE.keys() >= {error.code for error in HTTP_STATUS if error.retryable}


ADVICE = {
    "insufficient_funds": "try_again_later",
    "card_declined": None,
    "expired_card": "confirm_card_data",
    "incorrect_cvc": "confirm_card_data",
    "processing_error": "try_again_later",
    "lost_card": "do_not_try_again",
    "stolen_card": "do_not_try_again",
    "fraudulent": "do_not_try_again",
}


@pytest.mark.parametrize("code", ADVICE)
def test_a_decline_says_what_a_new_try_needs_and_a_new_key_is_a_new_try(code: str, api: Api, make_service: MakeService) -> None:
    request, key = order(payment_token=f"tok_{code}"), str(uuid7())
    first, again = _twice("process", request, key=key)(api)
    assert (first.status, first.body["retryable"], first.body.get("advice_code")) == (402, False, ADVICE[code])
    assert (again.status, again.headers["idempotent-replayed"], again.body["retryable"]) == (402, "true", False)
    assert again.body.get("advice_code") == ADVICE[code]

    recovered = Api(make_service(gateway=Slow(lambda: None, approves=True)))
    assert recovered.post("process", request, key=key).status == 402
    assert recovered.post("process", request, key=str(uuid7())).status == 201


def test_advice_tells_confidential_declines_apart_no_more_than_their_code_does() -> None:
    assert ADVICE.keys() == DECLINE_MESSAGES.keys() - {"generic_decline"}
    assert {ADVICE[code] for code in ("lost_card", "stolen_card", "fraudulent")} == {"do_not_try_again"}


def test_a_direct_invocation_is_told_the_same_about_its_decline(make_service: MakeService) -> None:
    service, event = make_service(), order(payment_token="tok_processing_error")
    first, again = (direct.invoke(event, Context(), service, "order-service", "process") for _ in range(2))
    assert [(each["outcome"], each["status"], each["replayed"]) for each in (first, again)] == [
        ("declined", 402, False),
        ("declined", 402, True),
    ]
    for each in (first, again):
        assert (each["body"]["retryable"], each["body"]["advice_code"]) == (False, "try_again_later")


def test_a_refusal_is_not_retryable_unless_its_class_or_its_cause_says_so() -> None:
    assert errors.Refused("").retryable is False
    assert errors.Fault("").retryable is True
