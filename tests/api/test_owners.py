"""The owners of three kinds of callers do not meet: tokens' subjects, IAM's principals and the configured one."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from payments.api.callers import is_http
from payments.direct_owner import direct_owner_in
from payments.domain.errors import Forbidden
from payments.settings_error import SettingsError
from tests.api_client import ADMIN, EVERYTHING, PAYMENTS, Api, http_event, order
from tests.cases import case
from tests.servers import Database
from tests.shop import Books, Shop

ROLE = "arn:aws:sts::123456789012:assumed-role/order-service/session"
IAM_OWNER = "iam/123456789012/assumed-role/order-service"

RESERVED = [IAM_OWNER, "iam/", "iam//", "iam/x", "order-service"]

FREE = [
    "IAM/123456789012/assumed-role/order-service",
    " iam/x",
    "iam",
    "iam\u2044x",  # a fraction slash
    "i\u0061\u0301m/x",
    "\u200biam/x",
    "/iam/x",
    "Order-Service",
    "order-service ",
    "order\u2010service",  # another hyphen
    "\uff4frder-service",  # a wide o, which the normal form NFKC makes narrow
    "order-service/x",
    "jwt/order-service",
    "a//b/",
    "x" * 2000,
]
"""Each of these looks like a reserved one, or is odd in another way. The database tells it from all others."""


@pytest.mark.parametrize("sub", RESERVED)
@pytest.mark.parametrize("scopes", [EVERYTHING, f"{EVERYTHING} {ADMIN}"])
def test_a_token_whose_subject_is_the_name_of_another_kind_of_caller_is_refused(sub: str, scopes: str, api: Api) -> None:
    answers = [api.get("", owner=sub, scopes=scopes), api.post("process", order(), owner=sub, scopes=scopes)]
    for answer in answers:
        assert (answer.status, answer.code) == (403, "forbidden")
        assert answer.body["detail"] == "The token's subject is reserved: its payments are another kind of caller's."
        assert sub not in answer.text


def test_the_log_says_so(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        api.get("", owner=IAM_OWNER)
    assert "a token's subject is the owner of direct invocations or of an IAM principal" in caplog.text


def test_what_only_resembles_a_reserved_name_is_an_owner_of_its_own(api: Api, database: Database) -> None:
    paid = {}
    books = Books(database.owner_url)
    for sub in FREE:
        with case(sub):
            payment_id = paid[sub] = api.pay(owner=sub)["payment_id"]
            [[owner]] = books.query(f"SELECT owner FROM payments WHERE payment_id = '{payment_id}'")
            assert owner == sub, "stored as it is"
    for sub in FREE:
        found = {payment["payment_id"] for payment in api.get("", owner=sub).body["data"]}
        with case(sub):
            assert found & set(paid.values()) == {paid[sub]}


def _by_iam(body: object) -> dict[str, object]:
    event = http_event("POST", f"{PAYMENTS}/process", body, claims=None)
    event["requestContext"]["authorizer"] = {"iam": {"userArn": ROLE}}
    return event


def test_an_iam_role_and_direct_invocations_keep_the_owners_that_are_stored(
    api: Api, shop: Shop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and orders are an owner's, so a retry under another form of the same owner would be a second charge."""
    books = Books(database.owner_url)
    paid = api.send(_by_iam(order())).body
    assert books.query(f"SELECT owner FROM payments WHERE payment_id = '{paid['payment_id']}'") == [[IAM_OWNER]]
    for configured, stored in [(None, "order-service"), ("", "order-service"), ("a/b", "a/b"), ("IAM/x", "IAM/x")]:
        with case(configured):
            assert direct_owner_in({} if configured is None else {"DIRECT_OWNER": configured}) == (stored, False)


def test_the_configured_owner_may_be_a_tokens_subject_on_purpose(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIRECT_OWNER", "jwt/order-service")
    assert direct_owner_in() == ("order-service", True)
    assert api.get("", owner="order-service").status == 200
    assert api.get("", owner=IAM_OWNER).status == 403
    monkeypatch.setenv("DIRECT_OWNER", "jwt/jwt/x")
    assert direct_owner_in() == ("jwt/x", True)
    monkeypatch.setenv("DIRECT_OWNER", "other")
    assert api.get("", owner="order-service").status == 200
    assert api.get("", owner="other").status == 403


@pytest.mark.parametrize("configured", ["iam/", IAM_OWNER, "jwt/", "jwt/iam/x"])
def test_the_configured_owner_is_no_iam_principals(configured: str) -> None:
    with pytest.raises(SettingsError, match="DIRECT_OWNER must be a name that does not begin with iam/"):
        direct_owner_in({"DIRECT_OWNER": configured})


ARN = "arn:aws:lambda:eu-central-1:123456789012:function"
HTTP = http_event("GET", PAYMENTS, claims={"sub": "shop"})


@pytest.mark.parametrize(
    "arn",
    [
        *(
            f"{ARN}:payments{rest}"
            for rest in ("", ":direct", ":7", ":$LATEST", ":Live", ":LIVE", ":alive", ":live2", ":live:live", ":")
        ),
        f"{ARN}:live",  # a function of this name, without an alias
        "live",
        ":live",
        "",
        "arn",
    ],
)
def test_only_the_whole_alias_is_api_gateways(arn: str) -> None:
    assert is_http(HTTP, SimpleNamespace(invoked_function_arn=arn)) is False


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_api_gateways_alias_brings_http_and_nothing_else(partition: str) -> None:
    live = SimpleNamespace(invoked_function_arn=f"{ARN}:payments:live".replace(":aws:", f":{partition}:"))
    assert is_http(HTTP, live)
    events: list[object] = [{}, [], None, "live", {"requestContext": {}}, {"requestContext": {"http": []}}, order()]
    for event in events:
        with case(event), pytest.raises(Forbidden):
            is_http(event, live)
