"""A customer has to act, and somebody works at the gateway's dashboard: as a shop and a person do it, in front of `make run`."""

from __future__ import annotations

import contextlib
import json
import signal
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from local.servers import connect
from local.sites import GATEWAY_PAGES
from tests.local.test_run import REPOSITORY, Run

PATIENCE_S = 60
BACK = "http://127.0.0.1:9/back?order=1"

pytestmark = pytest.mark.server


class Stays(urllib.request.HTTPRedirectHandler):
    """A browser that shows where it is sent."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Shop:
    def __init__(self, run: Run) -> None:
        self.url, self.database_url = (str(run.facts()[name]) for name in ("url", "database_owner_url"))
        self._opener = urllib.request.build_opener(Stays)

    def _open(self, request: urllib.request.Request) -> tuple[int, Any, str]:
        try:
            with self._opener.open(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read().decode()

    def call(self, command: str, **body: Any) -> tuple[int, dict[str, Any]]:
        key = {"Idempotency-Key": str(uuid.uuid4())} if "key" not in body else {"Idempotency-Key": body.pop("key")}
        request = urllib.request.Request(
            f"{self.url}/api/v1/payments/{command}", json.dumps(body).encode(), {"Content-Type": "application/json"} | key
        )
        status, _, text = self._open(request)
        return status, json.loads(text)

    def pays(self, **fields: Any) -> tuple[int, dict[str, Any]]:
        order = {"order_id": str(uuid.uuid4()), "amount": 1999, "currency": "USD", "payment_method": "credit_card"}
        return self.call("process", **order | {"payment_token": "tok_requires_action"} | fields)

    def waits(self, **fields: Any) -> dict[str, Any]:
        status, payment = self.pays(**fields)
        assert (status, payment["status"], payment["next_action"]["type"]) == (202, "REQUIRES_ACTION", "redirect")
        return payment

    def replayed(self, **fields: Any) -> dict[str, Any]:
        """Repeat the request until it tells the action: the gateway is not asked right after another question."""
        until = time.monotonic() + PATIENCE_S
        while "next_action" not in (payment := self.pays(**fields)[1]):
            assert time.monotonic() < until, payment
            time.sleep(0.1)
        return payment

    def page(self, payment: dict[str, Any]) -> str:
        """The page as the gateway's dashboard has it, too."""
        return f"{self.url}{GATEWAY_PAGES}/payments/{payment['payment_intent_id']}"

    def press(self, page: str, action: str, **fields: str) -> tuple[int, Any]:
        body = urlencode({"action": action} | fields).encode()
        status, headers, _ = self._open(urllib.request.Request(page, body, {"Origin": self.url}))
        return status, headers["Location"]

    def found(self, payment: dict[str, Any], is_there: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Look the payment up until the service has found out."""
        until = time.monotonic() + PATIENCE_S
        while True:
            with urllib.request.urlopen(f"{self.url}/api/v1/payments/payment/{payment['payment_id']}") as answer:
                shown: dict[str, Any] = json.load(answer)
            if is_there(shown):
                return shown
            assert time.monotonic() < until, shown
            time.sleep(0.1)

    def dispute(self, payment: dict[str, Any], is_there: Callable[[str | None], object]) -> str | None:
        """Return the outcome of the payment's dispute, once the books have it."""
        until = time.monotonic() + PATIENCE_S
        with contextlib.closing(connect(self.database_url)) as books:
            while True:
                found = books.run("SELECT outcome FROM disputes WHERE payment_id = :id", id=payment["payment_id"])
                if found and is_there(found[0][0]):
                    outcome: str | None = found[0][0]
                    return outcome
                assert time.monotonic() < until, found
                time.sleep(0.1)

    def becomes(self, payment: dict[str, Any], status: str) -> dict[str, Any]:
        return self.found(payment, lambda shown: shown["status"] == status)

    def synced(self, payment: dict[str, Any]) -> dict[str, Any]:
        """Sync until the payment has an outcome: right after another question the service answers from its books."""
        until = time.monotonic() + PATIENCE_S
        while True:
            status, shown = self.call("sync", payment_id=payment["payment_id"])
            if status == 200:
                return shown
            assert time.monotonic() < until, shown
            time.sleep(0.1)


@pytest.fixture(scope="module")
def run(servers_folder: Path) -> Iterator[Run]:
    run = Run(REPOSITORY / "template.yaml", servers_folder / "customer-acts", GATEWAY_DELAY_MS="0-0", GATEWAY_SUCCESS_RATE="1")
    run.until("Ready in")
    yield run
    run.end(signal.SIGTERM)
    assert run.process.stdout
    run.process.stdout.close()


@pytest.fixture
def shop(run: Run) -> Shop:
    return Shop(run)


def test_a_customer_approves_comes_back_and_the_shop_syncs(shop: Shop) -> None:
    payment = shop.waits(return_url=BACK)
    page = payment["next_action"]["url"]
    assert urlsplit(page).path == urlsplit(shop.page(payment)).path
    assert shop.press(page, "approve") == (303, BACK)
    assert shop.synced(payment)["status"] == "CAPTURED"


def test_a_shop_that_never_syncs_hears_of_the_approval_all_the_same(shop: Shop) -> None:
    payment = shop.waits(capture_method="manual")
    shop.press(shop.page(payment), "approve")
    assert shop.becomes(payment, "AUTHORIZED")["amount_captured"] == 0


def test_a_customer_declines(shop: Shop) -> None:
    payment = shop.waits()
    shop.press(shop.page(payment), "decline")
    assert shop.synced(payment)["decline_code"] == "card_declined"
    assert shop.press(shop.page(payment), "approve")[0] == 409
    assert shop.becomes(payment, "FAILED")["amount_captured"] == 0


def test_a_page_that_is_left_can_be_found_again_under_the_key(shop: Shop) -> None:
    fields = {"key": str(uuid.uuid4()), "order_id": str(uuid.uuid4())}
    payment = shop.waits(**fields)
    again = shop.replayed(**fields)
    assert (again["payment_id"], again["next_action"]) == (payment["payment_id"], payment["next_action"])
    shop.press(again["next_action"]["url"], "approve")
    assert shop.synced(payment)["status"] == "CAPTURED"


def test_a_second_press_and_another_tab_move_nothing(shop: Shop) -> None:
    payment = shop.waits(return_url=BACK)
    assert [shop.press(shop.page(payment), "approve") for _ in range(2)] == [(303, BACK)] * 2
    assert shop.press(shop.page(payment), "decline")[0] == 409
    shown = shop.synced(payment)
    assert (shown["status"], shown["amount_captured"]) == ("CAPTURED", 1999)


def test_after_a_void_nobody_can_approve(shop: Shop) -> None:
    payment = shop.waits()
    status, voided = shop.call("void", payment_id=payment["payment_id"], reason="the customer left")
    while status == 409 and voided["retryable"]:  # reconcile asks the gateway just now
        status, voided = shop.call("void", payment_id=payment["payment_id"], reason="the customer left")
    assert (status, voided["status"]) == (200, "VOIDED")
    assert shop.press(shop.page(payment), "approve")[0] == 409
    assert shop.synced(payment)["status"] == "VOIDED"
    assert shop.pays(order_id=payment["order_id"], payment_token="tok_ok")[1]["status"] == "CAPTURED"


def test_off_session_nobody_is_asked(shop: Shop) -> None:
    status, problem = shop.pays(off_session=True)
    assert (status, problem["decline_code"]) == (402, "authentication_required")


def test_what_happens_at_the_dashboard_comes_into_the_books(shop: Shop) -> None:
    _, payment = shop.pays(payment_token="tok_ok")
    page = shop.page(payment)
    shop.press(page, "refund", amount="500")
    shown = shop.becomes(payment, "PARTIALLY_REFUNDED")
    [refund] = shown["refunds"]
    assert (refund["amount"], refund["status"], refund["origin"], shown["amount_refunded"]) == (500, "SUCCEEDED", "gateway", 500)
    status, ours = shop.call("refund", payment_id=payment["payment_id"], amount=1499)
    assert (status, ours["payment_status"]) == (201, "REFUNDED")

    listed = shop._open(urllib.request.Request(page))[2]
    ids = [part.split('"')[0] for part in listed.split('name="refund_id" value="')[1:]]
    assert len(ids) == 2
    shop.press(page, "fail_refund", refund_id=ids[1])
    failed = shop.becomes(payment, "PARTIALLY_REFUNDED")
    assert (failed["amount_refunded"], sorted(one["status"] for one in failed["refunds"])) == (500, ["FAILED", "SUCCEEDED"])


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_a_dispute_at_the_dashboard_is_recorded_and_ends(shop: Shop, outcome: str) -> None:
    _, payment = shop.pays(payment_token="tok_ok")
    page = shop.page(payment)
    shop.press(page, "dispute")
    assert shop.dispute(payment, lambda outcome: True) is None
    assert shop.call("refund", payment_id=payment["payment_id"])[0] == 409
    shop.press(page, outcome)
    assert shop.dispute(payment, bool) == outcome
    assert shop.call("refund", payment_id=payment["payment_id"])[0] == (201 if outcome == "won" else 409)


def test_an_authorization_that_ends_at_the_dashboard_is_voided(shop: Shop) -> None:
    _, payment = shop.pays(payment_token="tok_ok", capture_method="manual")
    shop.press(shop.page(payment), "lapse")
    assert shop.becomes(payment, "VOIDED")["amount_captured"] == 0
