"""Look-ups over HTTP: ids that cannot exist, lists and their queries."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

import pytest

from local.front import http_event
from local.template import Route
from payments.commands.service import Service
from tests.api_client import PAYMENTS, Api, order
from tests.cases import case
from tests.impossible_ids import IMPOSSIBLE_IDS


@pytest.mark.parametrize("path", ["/payment/{}", "/payment/{}/refunds", "/payment/{}/history", "/order/{}", "/transaction/{}"])
def test_an_id_that_cannot_exist_is_not_found(path: str, api: Api) -> None:
    for name, id_ in IMPOSSIBLE_IDS.items():
        with case(name):
            answer = api.get(path.replace("{}", id_))
            assert answer.code == "payment_not_found"
            assert len(answer.text) < 1000, "the answer repeats the id"


def test_a_refund_that_cannot_exist_is_not_found(api: Api) -> None:
    for name, id_ in IMPOSSIBLE_IDS.items():
        with case(name):
            answer = api.get(f"/refund/{id_}")
            assert answer.code in ("refund_not_found", "404"), "an id with a slash is another route"
            assert len(answer.text) < 1000, "the answer repeats the id"


@pytest.mark.parametrize("token", ["tok_ok", "tok_refund_declined", "tok_refund_timeout"])
def test_a_refund_is_the_same_by_its_id_and_in_its_payments_page(token: str, api: Api) -> None:
    paid = api.pay(token)
    refund_id = api.post("refund", {"payment_id": paid["payment_id"], "amount": 500, "reason": "late"}).body["refund_id"]
    shown = api.get(f"/refund/{refund_id}")
    assert shown.status == 200
    assert shown.body["reason"] == "late"
    assert [shown.body] == api.get(f"/payment/{paid['payment_id']}/refunds").body["data"]
    assert api.get(f"/refund/{refund_id.upper()}").body == shown.body


def test_a_payments_id_is_no_refunds_id(api: Api) -> None:
    assert api.get(f"/refund/{api.pay()['payment_id']}").code == "refund_not_found"


@pytest.mark.parametrize("form", ["{}", "urn:uuid:{}", "{{{}}}", " {}"])
def test_a_payment_is_found_by_every_form_of_its_uuid(form: str, api: Api) -> None:
    payment_id = api.post("process", order()).body["payment_id"]
    for path in ("/payment/{}", "/payment/{}/refunds", "/payment/{}/history"):
        assert api.get(path.replace("{}", form.format(payment_id.upper()))).status == (404 if form == " {}" else 200)


PAGED = "/payment/019c139e-4c00-7a41-9b0f-2d6c31e0a7f1"
REPEATED = {
    "": [
        "limit=1&limit=2",
        "limit=1&limit=1",
        "status=FAILED&order_id=a&order_id=b",
        "limit=1&l%69mit=2",
        "limit=&limit=",
        "x=1&x=2",
    ],
    f"{PAGED}/refunds": ["limit=1&limit=2", "cursor=a&cursor=b"],
    f"{PAGED}/history": ["limit=1&limit=2", "cursor=a&cursor=b"],
    "/health": ["deep=true&deep=false"],
}


@pytest.mark.parametrize("path", REPEATED)
def test_a_repeated_parameter_is_refused_and_not_read_as_its_last(path: str, api: Api) -> None:
    """API Gateway joins the values with a comma in one place of its event, and leaves the query as it is in another."""
    path_of = path if path == "/health" else PAYMENTS + path
    route = Route("GET", path_of, "LookupsFunction", path != "/health")
    for query in REPEATED[path]:
        with case(query):
            scope = {"method": "GET", "raw_path": path_of.encode(), "query_string": query.encode(), "http_version": "1.1"}
            event = http_event(scope | {"headers": [], "client": ("203.0.113.7", 1)}, b"", route, {})
            assert any("," in value for value in event["queryStringParameters"].values())
            answer = api.send(event)
            assert (answer.status, answer.code) == (422, "invalid_request")
            assert answer.body["errors"] == [{"location": "query", "message": "names a parameter twice"}]


@pytest.mark.parametrize("command", ["capture", "void", "refund"])
def test_a_transaction_that_cannot_exist_is_not_found_or_invalid(command: str, api: Api) -> None:
    for name, id_ in IMPOSSIBLE_IDS.items():
        with case(name):
            code = api.post(command, {"transaction_id": id_}).code
            assert code in {"payment_not_found", "invalid_request", "body_too_large"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("GET", "/health/"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/api/v1/payments/"),
        ("GET", "/api/v1/payments/payment"),
        ("GET", "/api/v1/payments/payment/"),
        ("GET", "/api/v1/payments/payment/a/b"),
        ("GET", "/api/v1/payments/payment/a/history/b"),
        ("GET", "/api/v1/payments/payment/a/refunds/b"),
        ("GET", "/api/v1/payments/process"),
        ("GET", "/API/V1/PAYMENTS"),
        ("GET", "/api/v2/payments"),
        ("GET", "/4242424242424242"),
        ("POST", "/api/v1/payments"),
        ("POST", "/api/v1/payments/process/"),
        ("POST", "/api/v1/payments/payment/a"),
        ("POST", "/health"),
        ("PUT", "/api/v1/payments/process"),
        ("DELETE", "/api/v1/payments/payment/a"),
        ("PATCH", "/api/v1/payments/payment/a"),
        ("HEAD", "/health"),
        ("OPTIONS", "/api/v1/payments/process"),
    ],
)
def test_an_unknown_route_is_answered_as_api_gateway_does(method: str, path: str, api: Api) -> None:
    answer = api.call(method, path)
    assert (answer.status, answer.body) == (404, {"message": "Not Found"})
    assert answer.headers["content-type"] == "application/json"


def test_a_payment_is_the_same_by_id_order_and_transaction(api: Api) -> None:
    paid = api.pay(customer_id="customer-7", description="Zwei Hefte", metadata={"k": "ключ"})
    api.post("refund", {"transaction_id": paid["transaction_id"], "amount": 500, "reason": "one came back"})
    paths = ("payment/" + paid["payment_id"], "order/" + paid["order_id"], "transaction/" + paid["transaction_id"])
    by_id, *others = [api.get(f"/{path}").body for path in paths]
    assert others == [by_id, by_id]
    assert (by_id["status"], by_id["amount_refunded"], by_id["metadata"]) == ("PARTIALLY_REFUNDED", 500, {"k": "ключ"})
    assert [(each["amount"], each["status"], each["reason"]) for each in by_id["refunds"]] == [
        (500, "SUCCEEDED", "one came back")
    ]
    assert "payment_token" not in json.dumps(by_id)


@pytest.mark.parametrize("order_id", ["注文 7", "a/b", "a%2Fb", "100%", "100%25", "%41", "a+b", "😀", "x\u3000y", "..", "a?b#c"])
def test_an_order_that_can_be_paid_can_be_looked_up(order_id: str, api: Api) -> None:
    owner = f"owner of {order_id}"
    for paid in (order_id, unquote(order_id)):  # the second is the order that a path decoded twice would find
        assert api.post("process", order(order_id=paid), owner=owner).status in (201, 409)
    assert api.get(f"/order/{order_id}", owner=owner).body["order_id"] == order_id
    (listed,) = api.get("", owner=owner, query=f"order_id={quote(order_id, safe='')}").body["data"]
    assert listed["order_id"] == order_id


def test_a_history_begins_with_the_request_and_ends_with_the_present(api: Api) -> None:
    held = api.authorize()
    api.post("void", {"transaction_id": held["transaction_id"], "reason": "the customer cancelled"})
    changes = api.get(f"/payment/{held['payment_id']}/history").body["data"]
    steps = [(change["from"], change["to"]) for change in changes]
    assert steps == [(None, "PENDING"), ("PENDING", "PROCESSING"), ("PROCESSING", "AUTHORIZED"), ("AUTHORIZED", "VOIDED")]
    assert [change["at"] for change in changes] == sorted(change["at"] for change in changes)
    assert changes[-1]["reason"] == "the customer cancelled"


def _cursor(position: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("limit=0", "query.limit"),
        ("limit=101", "query.limit"),
        ("limit=-1", "query.limit"),
        ("limit=abc", "query.limit"),
        ("limit=1.5", "query.limit"),
        ("limit=", "query.limit"),
        (f"limit={'9' * 5000}", "query.limit"),
        ("cursor=x", "query.cursor"),
        ("cursor=AAAA", "query.cursor"),
        ("cursor=%00", "query.cursor"),
        ("cursor=😀", "query.cursor"),
        (f"cursor={_cursor([])}", "query.cursor"),
        (f"cursor={_cursor({})}", "query.cursor"),
        (f"cursor={_cursor(['2026-01-31T12:00:00', 'ab'])}", "query.cursor"),
        (f"cursor={_cursor(['2026-01-31T12:00:00', '019c139e4c007a419b0f2d6c31e0a7f1'])}", "query.cursor"),
        (f"cursor={_cursor(['9999-12-31T23:59:59-14:00', '019c139e4c007a419b0f2d6c31e0a7f1'])}", "query.cursor"),
        (f"cursor={'a' * 201}", "query.cursor"),
        ("created_from=2026-01-31T12:00:00", "query.created_from"),
        ("created_from=2026-01-31", "query.created_from"),
        ("created_from=0", "query.created_from"),
        ("created_from=1769860800", "query.created_from"),
        ("created_to=-1", "query.created_to"),
        ("created_to=yesterday", "query.created_to"),
        ("created_to=", "query.created_to"),
        ("created_from=0001-01-01T00:00:00%2B14:00", "query.created_from"),
        ("created_to=9999-12-31T23:59:59-14:00", "query.created_to"),
        ("created_to=0001-01-01T00:00:00%2B14:00", "query.created_to"),
        ("created_from=9999-12-31T23:59:59-14:00", "query.created_from"),
        ("status=PAID", "query.status"),
        ("status=captured", "query.status"),
        ("status=", "query.status"),
        ("order_id=", "query.order_id"),
        (f"order_id={'x' * 65}", "query.order_id"),
        ("customer_id=", "query.customer_id"),
        (f"customer_id={'x' * 65}", "query.customer_id"),
        ("payment_method=cash", "query.payment_method"),
        ("payment_method=PAYPAL", "query.payment_method"),
        ("payment_method=", "query.payment_method"),
        ("currency=usd", "query.currency"),
        ("currency=", "query.currency"),
        ("currency=DOLLAR", "query.currency"),
        ("currency=USD%0A", "query.currency"),
        ("amount_from=", "query.amount_from"),
        ("amount_from=-1", "query.amount_from"),
        ("amount_from=%2B1", "query.amount_from"),
        ("amount_from=1.0", "query.amount_from"),
        ("amount_from=1e3", "query.amount_from"),
        ("amount_from=1_000", "query.amount_from"),
        ("amount_from=%201", "query.amount_from"),
        ("amount_from=1%0A", "query.amount_from"),
        ("amount_from=%D9%A3", "query.amount_from"),
        ("amount_from=1000000000000", "query.amount_from"),
        ("amount_to=9223372036854775808", "query.amount_to"),
        (f"amount_to={'9' * 5000}", "query.amount_to"),
        ("amount_to=null", "query.amount_to"),
        ("amount_from=2000&amount_to=1999", "query.amount_to"),
        ("limit=5&limit=5", "query"),
        ("limit=5&limit=6", "query"),
        ("amount_from=1&amount_from=2", "query"),
        ("customer_id=a&customer_id=b", "query"),
        ("owner=first", "query.owner"),
        ("page=2", "query.page"),
        ("Limit=5", "query.Limit"),
    ],
)
def test_a_wrong_query_is_invalid_and_says_where(query: str, location: str, api: Api) -> None:
    answer = api.get("", query=query)
    assert answer.code == "invalid_request"
    assert [error["location"] for error in answer.body["errors"]] == [location]


@pytest.mark.parametrize(
    "query", ["order_id=%00", "order_id=%ED%A0%80", "order_id=%ff", "order_id=a%00b", "order_id=%F0%9F%98%80"]
)
def test_a_list_of_an_order_that_cannot_exist_is_empty_or_invalid(query: str, api: Api) -> None:
    answer = api.get("", query=query)
    assert answer.code == "invalid_request" or answer.body["data"] == []


NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def three_at_noon(make_service: Callable[..., Service], request: pytest.FixtureRequest) -> Callable[[str], list[int]]:
    """Make three payments: a microsecond before noon, at noon and a microsecond after. Return a function that tells which of
    them a query finds."""
    owner, now, ids = request.node.name, [NOON], list[str]()
    api = Api(make_service(clock=lambda: now[0]))
    for microseconds in (-1, 0, 1):
        now[0] = NOON + timedelta(microseconds=microseconds)
        ids.append(api.pay(owner=owner)["payment_id"])
    return lambda query: [ids.index(each["payment_id"]) for each in api.get("", owner=owner, query=query).body["data"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [2, 1, 0]),
        ("created_from=2026-01-31T12:00:00Z", [2, 1]),
        ("created_to=2026-01-31T12:00:00Z", [0]),
        ("created_from=2026-01-31T12:00:00Z&created_to=2026-01-31T12:00:00.000001Z", [1]),
        ("created_from=2026-01-31T12:00:00Z&created_to=2026-01-31T12:00:00Z", []),
        ("created_from=2026-01-31T14:00:00%2B02:00", [2, 1]),
        ("created_to=2026-01-31T07:00:00-05:00", [0]),
        ("created_from=2027-01-01T00:00:00Z", []),
        ("status=CAPTURED&limit=100", [2, 1, 0]),
        ("status=FAILED", []),
        ("limit=1", [2]),
    ],
)
def test_a_list_is_newest_first_from_inclusive_to_exclusive(
    query: str, found: list[int], three_at_noon: Callable[[str], list[int]]
) -> None:
    assert three_at_noon(query) == found


def test_pages_are_complete_while_payments_come_in_even_at_one_moment(make_service: Callable[..., Service]) -> None:
    api = Api(make_service(clock=lambda: NOON))
    before = {api.pay(owner="pager")["payment_id"] for _ in range(5)}
    seen, query = list[str](), "limit=2"
    while True:
        page = api.get("", owner="pager", query=query).body
        seen += [payment["payment_id"] for payment in page["data"]]
        assert page["has_more"] is (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        assert len(page["data"]) == 2
        query = f"limit=2&cursor={page['next_cursor']}"
        api.pay(owner="pager")  # newer than the pages read so far, so on no later page
    assert len(seen) == len(set(seen))
    assert set(seen) == before


def test_a_page_that_ends_the_list_exactly_has_no_next(make_service: Callable[..., Service]) -> None:
    api = Api(make_service())
    for _ in range(2):
        api.pay(owner="two")
    page = api.get("", owner="two", query="limit=2").body
    assert (len(page["data"]), page["has_more"], page["next_cursor"]) == (2, False, None)


def test_another_owners_cursor_opens_nothing(api: Api) -> None:
    for _ in range(3):
        api.pay(owner="cursor-owner")
    cursor = api.get("", owner="cursor-owner", query="limit=1").body["next_cursor"]
    assert api.get("", owner="cursor-thief", query=f"cursor={cursor}").body["data"] == []


def test_a_list_shows_refunds_with_their_payments(api: Api) -> None:
    payment = api.pay(owner="lister")
    api.pay(owner="lister")
    for amount in (100, 200):
        api.post("refund", {"transaction_id": payment["transaction_id"], "amount": amount}, owner="lister")
    newest, oldest = api.get("", owner="lister").body["data"]
    assert newest["refunds"] == []
    assert [refund["amount"] for refund in oldest["refunds"]] == [100, 200]
