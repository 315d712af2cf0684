"""The command line with services that are down, busy, or no payment service at all. A server of the test's own plays them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from payments_cli.api import Api
from payments_cli.deployment import deployment
from payments_cli.errors import Exit, Failed
from tests.cli.stand import DROPPED, NEVER, PAYMENT, TAKEN, Answer, Stand, problem
from tests.cli.terminal import Payments, printed_key


@pytest.mark.parametrize(
    "first",
    [
        problem(503, "service_unavailable", Retry_After="1"),
        problem(409, "idempotency_key_in_use", Retry_After="1"),
        (503, {}, '{"message":"Service Unavailable"}'),
        (429, {}, '{"message":"Too Many Requests"}'),
        DROPPED,
    ],
    ids=["503", "key in use", "gateway 503", "gateway 429", "dropped"],
)
def test_what_may_pass_is_tried_again_under_the_same_key(
    payments_alone: Payments, standing_in: Callable[..., Stand], first: Answer
) -> None:
    stand = standing_in(first, TAKEN)
    done = payments_alone("process", "order-1", "5 USD", "--url", stand.url)
    assert done.exit_code == 0, done.err
    assert "Trying again in" in done.err
    assert stand.keys == [printed_key(done)] * 2


@pytest.mark.parametrize(
    ("answer", "exit_code", "asked", "told"),
    [
        (problem(500, "internal_error"), 5, 1, "internal_error"),
        (problem(402, "payment_declined"), 3, 1, "payment_declined"),
        (problem(409, "order_in_progress", Retry_After="1"), 1, 1, "order_in_progress"),
        (problem(503, "service_unavailable", Retry_After="3600"), 5, 1, "service_unavailable"),
        ((401, {}, '{"message":"Unauthorized"}'), 1, 1, "--bearer-token or PAYMENTS_BEARER_TOKEN"),
        ((403, {"apigw-requestid": "req-2"}, '{"message":"Forbidden"}'), 1, 1, "req-2"),
        ((404, {}, '{"message":"Not Found"}'), 1, 1, "Is --url the address"),
        ((200, {}, "<html>Welcome to my shop</html>"), 5, 1, "not a payment service"),
        ((302, {"location": "http://127.0.0.1:1/"}, ""), 5, 1, "not a payment service"),
    ],
    ids=["500", "402", "in progress", "long wait", "401", "403", "404", "page", "redirect"],
)
def test_what_stays_is_told_at_once(
    payments_alone: Payments, standing_in: Callable[..., Stand], answer: Answer, exit_code: int, asked: int, told: str
) -> None:
    stand = standing_in(answer)
    done = payments_alone("process", "order-1", "5 USD", "--url", stand.url)
    assert (done.exit_code, len(stand.asked), told in done.err) == (exit_code, asked, True), done.err


@pytest.mark.parametrize(
    ("answer", "exit_code", "in_doubt"),
    [
        (problem(503, "service_unavailable"), 5, True),
        (problem(409, "idempotency_key_in_use"), 4, True),
        (DROPPED, 5, True),
        (problem(402, "payment_declined"), 3, False),
        (problem(409, "order_already_paid"), 1, False),
    ],
    ids=["503", "key in use", "dropped", "declined", "refused"],
)
def test_who_is_left_in_doubt_is_told_how_to_find_out(
    payments_alone: Payments, standing_in: Callable[..., Stand], answer: Answer, exit_code: int, in_doubt: bool
) -> None:
    stand = standing_in(answer)
    done = payments_alone("process", "order-1", "5 USD", "--url", stand.url, "--no-retry")
    assert (done.exit_code, len(stand.asked)) == (exit_code, 1)
    assert (f"--idempotency-key {printed_key(done)}: it takes effect at most once" in done.err) is in_doubt


def test_who_interrupts_a_command_is_told_how_to_find_out(payments_alone: Payments, standing_in: Callable[..., Stand]) -> None:
    stand = standing_in(NEVER)
    process = payments_alone.start("process", "order-1", "5 USD", "--url", stand.url)
    assert stand.was_asked.wait(30)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, f"--idempotency-key {stand.keys[0]}: it takes effect at most once" in told) == (130, True), told
    assert "Traceback" not in told


@pytest.mark.server
def test_retries_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    said, waits_s = list[str](), list[float]()
    monkeypatch.setattr("payments_cli.api.time", SimpleNamespace(sleep=waits_s.append))
    api = Api(deployment("http://127.0.0.1:1", None, None, None), retry=True, say=said.append)
    with pytest.raises(Failed) as failed:
        api.command("refund", {"transaction_id": "txn_1"}, "key")
    assert (failed.value.exit_code, failed.value.problem["code"]) == (Exit.UNAVAILABLE, "unreachable")
    assert waits_s == [0.5, 1, 2, 4]
    assert [line.partition(". ")[2] for line in said] == [f"Trying again in {wait_s:g} s." for wait_s in waits_s]


def test_a_request_that_was_never_sent_leaves_no_doubt(payments_alone: Payments) -> None:
    done = payments_alone("refund", "txn_1", "--url", "http://127.0.0.1:1", "--no-retry")
    assert done.exit_code == 5
    assert "Whether it was carried out" not in done.err


def test_who_asks_is_told_as_the_options_say(payments_alone: Payments, standing_in: Callable[..., Stand]) -> None:
    stand = standing_in((200, {}, '{"data": [], "has_more": false, "next_cursor": null}'))
    payments_alone("list", PAYMENTS_URL=stand.url + "/", PAYMENTS_BEARER_TOKEN="abc")
    payments_alone("list", "--url", stand.url + "/stage", "--owner", "shop", "--scopes", "payments/read,payments/admin")
    payments_alone("list", "--url", stand.url, HTTP_PROXY="http://127.0.0.1:1", ALL_PROXY="http://127.0.0.1:1")
    (path, bearer, _), (staged, local, _), (_, plain, _) = stand.asked
    assert (path, staged) == ("/api/v1/payments?limit=20", "/stage/api/v1/payments?limit=20")
    assert bearer["authorization"] == "Bearer abc" and "x-local-owner" not in bearer
    assert (local["x-local-owner"], local["x-local-scopes"]) == ("shop", "payments/read payments/admin")
    assert not {"authorization", "x-local-owner", "x-local-scopes"} & plain.keys()


def test_a_list_goes_on_where_the_page_before_ended(payments_alone: Payments, standing_in: Callable[..., Stand]) -> None:
    def page(size: int, cursor: str | None) -> Answer:
        return 200, {}, json.dumps({"data": [PAYMENT] * size, "has_more": cursor is not None, "next_cursor": cursor})

    stand = standing_in(page(100, "a/b="), page(100, "c"), page(50, "d"), page(1, None))
    assert len(payments_alone("list", "--limit", "250", "--json", "--url", stand.url).lines) == 250
    asked = [path.partition("?")[2] for path, *_ in stand.asked]
    assert asked == ["limit=100", "limit=100&cursor=a%2Fb%3D", "limit=50&cursor=c"]


def test_a_command_sends_only_what_was_said(payments_alone: Payments, standing_in: Callable[..., Stand]) -> None:
    stand = standing_in(TAKEN)
    payments_alone("process", "order-1", "--amount-minor", "500", "--currency", "usd", "--url", stand.url)
    payments_alone("capture", "txn_1", "--amount-minor", "5", "--url", stand.url)
    payments_alone("void", "txn_1", "--url", stand.url)
    assert [(path.rpartition("/")[2], body) for path, _, body in stand.asked] == [
        ("process", {"order_id": "order-1", "amount": 500, "currency": "USD", "payment_method": "credit_card"}),
        ("capture", {"transaction_id": "txn_1", "amount": 5}),
        ("void", {"transaction_id": "txn_1"}),
    ]


def test_a_payment_without_a_transaction_yet_cannot_be_refunded(
    payments_alone: Payments, standing_in: Callable[..., Stand]
) -> None:
    stand = standing_in((200, {}, json.dumps(PAYMENT | {"status": "PROCESSING"})))
    done = payments_alone("refund", "order-1", "--url", stand.url)
    assert (done.exit_code, len(stand.asked)) == (1, 1)
    assert "The payment is PROCESSING" in done.err
