"""Scopes and owners: which caller may do what, and whose payments a caller sees."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from payments.commands.service import Service
from payments.gateway.port import Declined, GatewayRequest, Reply
from tests.api_client import ADMIN, EVERYTHING, PAYMENTS, Answer, Api, http_event, order
from tests.api_fixtures import INSTANT
from tests.contract import documents
from tests.fakes import AnyGateway
from tests.servers import Broker
from tests.topic import messages

SCOPES_THAT_DO = {
    "processPayment": {"payments/write"},
    "capturePayment": {"payments/write"},
    "voidPayment": {"payments/write"},
    "syncPayment": {"payments/write"},
    "refundPayment": {"payments/refund"},
    "getPayment": {"payments/read", "payments/admin"},
    "getOrder": {"payments/read", "payments/admin"},
    "getTransaction": {"payments/read", "payments/admin"},
    "getRefund": {"payments/read", "payments/admin"},
    "getRefunds": {"payments/read", "payments/admin"},
    "getHistory": {"payments/read", "payments/admin"},
    "listPayments": {"payments/read", "payments/admin"},
    "listWebhooks": {"payments/webhooks"},
    "createWebhook": {"payments/webhooks"},
    "getWebhook": {"payments/webhooks"},
    "deleteWebhook": {"payments/webhooks"},
    "rotateWebhook": {"payments/webhooks"},
    "enableWebhook": {"payments/webhooks"},
    "redeliverWebhook": {"payments/webhooks"},
}
SCOPES = ["payments/write", "payments/refund", "payments/read", "payments/webhooks", "payments/admin"]
GUARDED = [
    (method, path, operation["operationId"]) for method, path, operation in documents.operations() if operation["security"]
]


def _ask(api: Api, method: str, path: str, **who: Any) -> Answer:
    body = None if method == "GET" else order() if path.endswith("process") else {"transaction_id": "txn_of_nobody"}
    return api.call(method, re.sub(r"\{\w+\}", "of-nobody", path), body, **who)


def test_every_guarded_route_is_in_the_table_of_scopes() -> None:
    assert {id_ for _, _, id_ in GUARDED} == SCOPES_THAT_DO.keys()


@pytest.mark.parametrize(("method", "path", "id_"), GUARDED, ids=[id_ for *_, id_ in GUARDED])
def test_a_route_is_open_to_its_scopes_alone(method: str, path: str, id_: str, api: Api) -> None:
    assert _ask(api, method, path, owner=None).code == "unauthenticated"
    assert _ask(api, method, path, scopes="").code == "forbidden"
    for scope in SCOPES:
        allowed = scope in SCOPES_THAT_DO[id_]
        assert (_ask(api, method, path, scopes=scope).code == "forbidden") is not allowed, scope
    others = " ".join(scope for scope in SCOPES if scope not in SCOPES_THAT_DO[id_])
    assert _ask(api, method, path, scopes=others).code == "forbidden"


@pytest.mark.parametrize("sub", [None, "", 7, ["shop"]])
def test_claims_without_a_subject_name_nobody(sub: object, api: Api) -> None:
    event = http_event("GET", PAYMENTS, claims={"scope": EVERYTHING})
    event["requestContext"]["authorizer"]["jwt"]["claims"] |= {} if sub is None else {"sub": sub}
    assert api.send(event).code == "unauthenticated"


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "openid payments/read"},
        {"scope": "[openid payments/read]"},
        {"scp": "[payments/read payments/write]"},
        {"scp": "payments/read"},
    ],
)
def test_scopes_come_as_issuers_write_them(claims: dict[str, str], api: Api) -> None:
    assert api.send(http_event("GET", PAYMENTS, claims={"sub": "shop"} | claims)).status == 200


@pytest.mark.parametrize("scope", ["payments/readonly", "xpayments/read", "PAYMENTS/READ", "payments/read/x"])
def test_a_scope_is_a_whole_word(scope: str, api: Api) -> None:
    assert api.get("", scopes=scope).code == "forbidden"


def test_the_owner_comes_from_the_claims_never_from_a_header_or_the_body(api: Api) -> None:
    request = order()
    headers = {"x-local-owner": "thief", "x-local-scopes": ADMIN, "x-owner": "thief"}
    assert api.post("process", request, owner="victim", headers=headers).status == 201
    assert api.get(f"/order/{request['order_id']}", owner="thief").status == 404
    assert api.get(f"/order/{request['order_id']}", owner="victim").status == 200
    assert api.post("process", order() | {"owner": "victim"}, owner="thief").code == "invalid_request"


def test_another_owner_finds_nothing_on_any_route(api: Api) -> None:
    captured, authorized = api.pay(owner="first"), api.authorize()
    transaction, held = captured["transaction_id"], authorized["transaction_id"]
    for path in (
        f"/payment/{captured['payment_id']}",
        f"/payment/{captured['payment_id']}/refunds",
        f"/payment/{captured['payment_id']}/history",
        f"/order/{captured['order_id']}",
        f"/transaction/{transaction}",
    ):
        assert api.get(path, owner="first").status == 200
        answer = api.get(path, owner="second")
        assert answer.code == "payment_not_found", path
        assert captured["payment_id"] not in answer.text
    assert api.get("", owner="second", query=f"order_id={captured['order_id']}").body["data"] == []
    assert api.get("", owner="first", query=f"order_id={captured['order_id']}").body["data"] != []
    for command, transaction_id in (("refund", transaction), ("capture", held), ("void", held)):
        answer = api.post(command, {"transaction_id": transaction_id}, owner="second")
        assert answer.code == "payment_not_found", command
        assert not {"payment_id", "payment_status"} & answer.body.keys(), "the answer must look as if there were no such payment"
    assert api.get(f"/payment/{authorized['payment_id']}").body["status"] == "AUTHORIZED"
    assert api.get(f"/payment/{captured['payment_id']}", owner="first").body["refunds"] == []


def test_a_refund_is_its_owners_and_the_admin_scopes_alone(api: Api) -> None:
    payment = api.pay(owner="first")
    refund = api.post("refund", {"transaction_id": payment["transaction_id"], "amount": 500}, owner="first").body
    path = f"/refund/{refund['refund_id']}"
    assert api.get(path, owner="first").body["amount"] == 500
    assert api.get(path, owner="support", scopes=ADMIN).body["refund_id"] == refund["refund_id"]
    foreign, absent = api.get(path, owner="second"), api.get("/refund/019c139e-4c00-7a41-9b0f-2d6c31e0a7f1", owner="second")
    assert (foreign.status, foreign.code) == (404, "refund_not_found")
    assert {**foreign.body, "request_id": ""} == {**absent.body, "request_id": ""}, "the answer must look as if there were none"
    page = f"/payment/{payment['payment_id']}/refunds"
    assert api.get(page, owner="second").code == "payment_not_found"


@pytest.mark.parametrize("code", ["lost_card", "stolen_card"])
def test_a_refunds_confidential_decline_is_generic_to_all_but_the_admin(code: str, make_service: Callable[..., Service]) -> None:
    class Declining(type(INSTANT)):  # type: ignore[misc]
        def refund(self, request: GatewayRequest) -> Reply:
            return Declined(code, "Keep the card.", None, None, {})

    api = Api(make_service(gateway=Declining(success_rate=1.0, delay_ms=(0, 0), sleep=lambda seconds: None)))
    paid = api.pay(owner="first")
    refund_id = api.post("refund", {"transaction_id": paid["transaction_id"]}, owner="first").body["refund_id"]
    shown = api.get(f"/refund/{refund_id}", owner="first")
    assert (shown.body["status"], shown.body["decline_code"]) == ("FAILED", "generic_decline")
    _tells_nothing_of(code, shown.text)
    assert api.get(f"/refund/{refund_id}", owner="support", scopes=ADMIN).body["decline_code"] == code


def test_owners_do_not_share_orders_or_keys(api: Api) -> None:
    request = order()
    first = api.post("process", request, owner="first", key="the-same-key")
    second = api.post("process", request, owner="second", key="the-same-key")
    assert (first.status, second.status) == (201, 201)
    assert first.body["payment_id"] != second.body["payment_id"]
    assert "idempotent-replayed" not in second.headers


def test_the_admin_scope_sees_every_owner_and_moves_nothing(api: Api) -> None:
    payment = api.pay(owner="first")
    for path in (
        f"/payment/{payment['payment_id']}",
        f"/order/{payment['order_id']}",
        f"/transaction/{payment['transaction_id']}",
    ):
        assert api.get(path, owner="support", scopes=ADMIN).body["payment_id"] == payment["payment_id"]
    for part in ("refunds", "history"):
        assert api.get(f"/payment/{payment['payment_id']}/{part}", owner="support", scopes=ADMIN).status == 200
    listed = api.get("", owner="support", scopes=ADMIN, query=f"order_id={payment['order_id']}").body["data"]
    assert [each["payment_id"] for each in listed] == [payment["payment_id"]]
    both = f"{ADMIN} {EVERYTHING}"
    refused = api.post("refund", {"transaction_id": payment["transaction_id"]}, owner="support", scopes=both)
    assert refused.code == "payment_not_found"


def _iam_event(arn: str, method: str = "GET", path: str = PAYMENTS, body: object = None) -> dict[str, Any]:
    event = http_event(method, path, body, claims=None)
    event["requestContext"]["authorizer"] = {
        "iam": {"accountId": "123456789012", "userArn": arn, "callerId": "AROAEXAMPLE:session", "userId": "AROAEXAMPLE:session"}
    }
    return event


def test_an_iam_role_owns_what_its_sessions_paid(api: Api) -> None:
    role = "arn:aws:sts::123456789012:assumed-role/order-service"
    request = order()
    assert api.send(_iam_event(f"{role}/one", "POST", f"{PAYMENTS}/process", request)).status == 201
    path = f"{PAYMENTS}/order/{request['order_id']}"
    assert api.send(_iam_event(f"{role}/two", path=path)).status == 200
    assert api.send(_iam_event(f"{role}-2/one", path=path)).status == 404
    assert api.send(_iam_event(role.replace("123456789012", "210987654321") + "/one", path=path)).status == 404
    assert api.call("GET", path, owner="assumed-role/order-service").status == 404


def test_iam_principals_are_told_apart(api: Api) -> None:
    principals = [
        "arn:aws:sts::123456789012:assumed-role/shared-name/session",
        "arn:aws:iam::123456789012:user/shared-name",
        "arn:aws:iam::123456789012:user/division/alice",
        "arn:aws:iam::123456789012:user/division/bob",
    ]
    request = order()
    for arn in principals:
        answer = api.send(_iam_event(arn, "POST", f"{PAYMENTS}/process", request))
        assert answer.status == 201, f"{arn} is taken for one of those before it"


def test_an_iam_caller_is_no_admin(api: Api) -> None:
    payment = api.pay(owner="first")
    path = f"{PAYMENTS}/payment/{payment['payment_id']}"
    assert api.send(_iam_event("arn:aws:iam::123456789012:user/alice", path=path)).status == 404


@pytest.mark.parametrize("arn", [None, "", "arn:aws:sts::123456789012", "nobody"])
def test_an_iam_authorizer_that_names_nobody_is_no_way_in(arn: str | None, api: Api) -> None:
    event = _iam_event("")
    event["requestContext"]["authorizer"]["iam"]["userArn"] = arn
    assert api.send(event).code == "unauthenticated"


CONFIDENTIAL = ["lost_card", "stolen_card", "fraudulent"]


@pytest.mark.parametrize("code", CONFIDENTIAL)
def test_a_confidential_decline_is_generic_to_all_but_the_admin(code: str, api: Api, broker: Broker, topic: str) -> None:
    request = order(payment_token=f"tok_{code}")
    declined = api.post("process", request)
    payment_id = declined.body["payment_id"]
    seen = [
        declined,
        api.post("process", request | {"order_id": "another-" + request["order_id"]}, key=code),
        api.post("process", request | {"order_id": "another-" + request["order_id"]}, key=code),
        api.get(f"/payment/{payment_id}"),
        api.get(f"/payment/{payment_id}/history"),
        api.get(f"/order/{request['order_id']}"),
        api.get("", query=f"order_id={request['order_id']}"),
    ]
    assert seen[2].headers["idempotent-replayed"] == "true"
    for answer in seen:
        _tells_nothing_of(code, answer.text)
    assert [answer.body["decline_code"] for answer in (seen[0], seen[2], seen[3])] == ["generic_decline"] * 3
    (event,) = [message for message in messages(broker.bootstrap_servers, topic) if message.key == payment_id]
    _tells_nothing_of(code, event.text)
    assert event.value["decline_code"] == "generic_decline"
    support = api.get(f"/payment/{payment_id}", owner="support", scopes=ADMIN).body
    assert support["decline_code"] == code
    assert support["error_message"] != event.value["error_message"]


def _tells_nothing_of(code: str, text: str) -> None:
    for word in (code, code.partition("_")[0], "reported", "suspected"):
        assert word not in text.lower()


@dataclass(frozen=True)
class Suspicious(AnyGateway):
    """Approves the charge, and declines what follows for a confidential reason."""

    charge: Callable[[GatewayRequest], Reply] = INSTANT.charge

    def capture(self, request: GatewayRequest) -> Reply:
        return Declined("stolen_card", "The card was reported stolen.", request.transaction_id, request.payment_intent_id, {})

    refund = capture


def test_a_confidential_decline_of_a_refund_or_capture_is_generic_too(make_service: Callable[..., Service]) -> None:
    api = Api(make_service(gateway=Suspicious()))
    captured, authorized = api.pay(), api.authorize()
    refund = api.post("refund", {"transaction_id": captured["transaction_id"]})
    capture = api.post("capture", {"transaction_id": authorized["transaction_id"]})
    found = api.get(f"/payment/{captured['payment_id']}")
    assert [answer.status for answer in (refund, capture, found)] == [402, 402, 200]
    for answer in (refund, capture, found):
        _tells_nothing_of("stolen_card", answer.text)
    assert found.body["refunds"][0]["decline_code"] == "generic_decline"
    support = api.get(f"/payment/{captured['payment_id']}", owner="support", scopes=ADMIN).body
    assert support["refunds"][0]["decline_code"] == "stolen_card"
