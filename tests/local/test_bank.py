"""The simulated gateway's pages: what a person does there, what the gateway makes of it, and who may press a button."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import pytest

from local.__main__ import HttpServer, listen
from local.bank_pages import LISTED
from local.front import Front
from local.sites import GATEWAY_PAGES
from local.template import load_template
from payments.gateway.port import ActionRequired, Approved, Declined, Gateway, GatewayRequest, Pending, Reply, Seen, Unknown
from payments.gateway.simulated import SimulatedGateway
from payments.gateway.simulated_bank import SimulatedBank
from tests.local.conftest import write_stack

pytestmark = pytest.mark.server

SHOP = "https://shop.example/back?order=1&paid=<maybe>"
FORM = "application/x-www-form-urlencoded"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, servers_folder: Path) -> Iterator[str]:
    """Where the front of a run is. It has no functions."""
    folder = tmp_path_factory.mktemp("stack")
    front = Front(load_template(write_stack(folder), {"DatabaseUrl": "postgresql://me@here/db"}), {}, folder / "openapi.json")
    server = HttpServer(front.app)
    with listen("0") as listener:
        listener.listen()
        thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listener]),))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str


@dataclass
class Shop:
    """A shop's payment, and the person who has its page open."""

    url: str
    gateway: Gateway
    key: str

    def request(self, kind: str = "process", **changes: Any) -> GatewayRequest:
        fields: dict[str, Any] = {
            "kind": kind,
            "key": self.key if kind == "process" else f"{kind}-{next(_numbers)}",
            "attempt": 1,
            "payment_id": UUID(int=7),
            "order_id": "order <b>1</b>",
            "amount_minor": 1999,
            "currency": "USD",
            "payment_method": "credit_card",
            "payment_token": "tok_requires_action",
            "timeout_s": 10.0,
            "return_url": SHOP,
        }
        if kind != "process":
            fields |= {"payment_intent_id": self.intent, "transaction_id": "txn_1"}
        return GatewayRequest(**fields | changes)

    @property
    def intent(self) -> str:
        intent = SimulatedGateway().outcome(self.request(), "charge").payment_intent_id
        assert intent
        return intent

    @property
    def page(self) -> str:
        return f"{GATEWAY_PAGES}/payments/{self.intent}"

    def waits(self, **changes: Any) -> ActionRequired:
        reply = self.gateway.charge(self.request(**changes))
        assert isinstance(reply, ActionRequired)
        return reply

    def paid(self, **changes: Any) -> Approved:
        reply = self.gateway.charge(self.request(payment_token="tok_ok", **changes))
        assert isinstance(reply, Approved)
        return reply

    def browse(self, method: str, path: str, body: str = "", **headers: str) -> Answer:
        place = urlsplit(self.url)
        connection = HTTPConnection(place.hostname or "", place.port, timeout=10)
        connection.request(method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        told = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode())
        connection.close()
        return told

    def look(self) -> Answer:
        return self.browse("GET", self.page)

    def press(self, action: str, **fields: str) -> Answer:
        return self.browse("POST", self.page, urlencode({"action": action} | fields), content_type=FORM, origin=self.url)

    def seen(self) -> Seen:
        seen = self.gateway.look(self.intent, 10)
        assert seen
        return seen

    def events(self) -> list[str]:
        """Return the types of this payment's events, oldest first. A gateway tells the newest first."""
        told = list(self.gateway.undelivered(datetime.now(UTC) - timedelta(hours=1), 10))
        return [hint.type for hint in reversed(told) if hint.payment_intent_id == self.intent]


@pytest.fixture
def shop(url: str) -> Shop:
    gateway = SimulatedBank(SimulatedGateway(success_rate=1, delay_ms=(0, 0)), url + GATEWAY_PAGES)
    return Shop(url, gateway, f"pay-{next(_numbers)}")


def code(reply: Reply) -> str:
    assert isinstance(reply, Declined)
    return reply.decline_code


def buttons(answer: Answer) -> list[str]:
    return re.findall(r'<button name="action" value="(\w+)">', answer.text)


def test_a_payment_that_waits_has_a_page_with_two_buttons(shop: Shop) -> None:
    action = shop.waits().next_action
    assert (action.type, action.url, action.client_secret) == ("redirect", shop.url + shop.page, None)
    page = shop.look()
    assert (page.status, buttons(page)) == (200, ["approve", "decline"])
    assert "19.99 USD" in page.text


@pytest.mark.parametrize("capture", [True, False])
def test_approve_is_found_and_sends_the_browser_back(shop: Shop, capture: bool) -> None:
    shop.waits(capture=capture)
    pressed = shop.press("approve")
    assert (pressed.status, pressed.headers["location"]) == (303, SHOP.replace("<", "%3C").replace(">", "%3E"))
    found = shop.gateway.find(shop.request(capture=capture))
    assert isinstance(found, Approved)
    assert (found.amount_minor, found.payment_intent_id) == (1999, shop.intent)
    assert found.transaction_id == shop.seen().transaction_id
    assert (shop.seen().state, shop.seen().captured_minor) == (("captured", 1999) if capture else ("authorized", 0))
    assert shop.events() == ["payment_intent.succeeded" if capture else "payment_intent.amount_capturable_updated"]


def test_decline_is_found_and_stays(shop: Shop) -> None:
    shop.waits()
    assert shop.press("decline").status == 303
    assert code(shop.gateway.find(shop.request())) == code(shop.gateway.charge(shop.request(attempt=2))) == "card_declined"
    assert shop.press("approve").status == 409
    assert code(shop.gateway.find(shop.request())) == "card_declined"


def test_without_an_address_to_come_back_to_the_browser_stays(shop: Shop) -> None:
    shop.waits(return_url=None)
    assert shop.press("approve").headers["location"] == shop.page


def test_no_request_says_where_the_browser_goes(shop: Shop) -> None:
    shop.waits()
    evil = urlencode({"action": "approve", "return_url": "https://evil.example"})
    pressed = shop.browse("POST", f"{shop.page}?return_url=https://evil.example", evil, content_type=FORM)
    assert pressed.headers["location"].startswith("https://shop.example/back")


def test_a_second_press_and_another_tab_change_nothing(shop: Shop) -> None:
    shop.waits()
    shop.press("approve")
    assert shop.press("approve").status == 303, "a double click goes back to the shop, too"
    other_tab = shop.press("decline")
    assert (other_tab.status, "was approved" in other_tab.text) == (409, True)
    assert isinstance(shop.gateway.find(shop.request()), Approved)
    assert shop.events() == ["payment_intent.succeeded"]


def test_after_a_void_the_page_says_that_the_payment_was_canceled(shop: Shop) -> None:
    shop.waits()
    voided = shop.gateway.void(shop.request("void", transaction_id=None))
    assert isinstance(voided, Approved)
    assert voided.transaction_id == ""
    pressed = shop.press("approve")
    assert (pressed.status, "was canceled" in pressed.text, buttons(pressed)) == (409, True, [])
    assert code(shop.gateway.find(shop.request())) == "payment_canceled"
    assert shop.seen().state == "canceled"
    assert isinstance(shop.gateway.void(shop.request("void", transaction_id=None)), Approved)


def test_a_void_after_the_approval_is_declined(shop: Shop) -> None:
    shop.waits()
    shop.press("approve")
    assert code(shop.gateway.void(shop.request("void"))) == "payment_intent_unexpected_state"
    assert isinstance(shop.gateway.find(shop.request()), Approved)


def test_a_run_that_has_forgotten_a_payment_has_it_wait_again(shop: Shop) -> None:
    assert shop.look().status == 404
    assert isinstance(shop.gateway.find(shop.request()), ActionRequired)
    assert shop.look().status == 200
    shop.press("approve")
    assert isinstance(shop.gateway.find(shop.request()), Approved)


def test_later_calls_for_a_payment_of_an_earlier_run_come_through(shop: Shop) -> None:
    for kind in ("capture", "void", "refund"):
        assert isinstance(getattr(shop.gateway, kind)(shop.request(kind)), Approved), kind
    assert shop.gateway.look(shop.intent, 10) is None


def test_scenarios_that_need_no_person_have_no_page(shop: Shop) -> None:
    for token in ("tok_action_then_captured", "tok_action_then_declined"):
        reply = shop.waits(payment_token=token)
        assert reply.next_action.type == "stripe_js"
    assert isinstance(shop.gateway.charge(shop.request(payment_token="tok_pending")), Pending)
    assert code(shop.gateway.charge(shop.request(payment_token="tok_insufficient_funds"))) == "insufficient_funds"
    assert code(shop.gateway.charge(shop.request(off_session=True))) == "authentication_required"
    assert code(shop.gateway.find(shop.request(off_session=True))) == "authentication_required"
    assert shop.look().status == 404


def test_pages_that_do_not_answer_leave_everything_unknown() -> None:
    with listen("0") as nobody:  # it takes no connection
        gateway = SimulatedBank(
            SimulatedGateway(success_rate=1, delay_ms=(0, 0)), f"http://127.0.0.1:{nobody.getsockname()[1]}/x"
        )
        shop = Shop("", gateway, "pay-0")
        for kind in ("charge", "find"):
            assert isinstance(getattr(gateway, kind)(shop.request()), Unknown), kind
        for kind in ("capture", "void", "refund"):
            assert isinstance(getattr(gateway, kind)(shop.request(kind)), Unknown), kind
        assert gateway.look("pi_1", 10) is None
        with pytest.raises(OSError, match="refused"):
            gateway.undelivered(datetime.now(UTC), 10)


def test_what_answers_in_the_place_of_the_pages_is_believed_nothing(url: str) -> None:
    gateway = SimulatedBank(SimulatedGateway(success_rate=1, delay_ms=(0, 0)), f"{url}/no/pages")
    assert isinstance(gateway.charge(Shop(url, gateway, "pay-0").request()), Unknown)
    assert gateway.look("pi_1", 10) is None
    with pytest.raises(OSError, match="no list"):
        gateway.undelivered(datetime.now(UTC), 10)


# The dashboard.


def test_a_refund_of_the_dashboard_is_seen_and_leaves_less_to_refund(shop: Shop) -> None:
    shop.paid()
    assert buttons(shop.look()) == ["refund", "dispute"]
    assert shop.press("refund", amount="500").status == 303
    [refund] = shop.seen().refunds
    assert (refund.key, refund.amount_minor, refund.status, shop.events()) == (None, 500, "succeeded", ["refund.created"])
    assert code(shop.gateway.refund(shop.request("refund", amount_minor=1500))) == "invalid_request_error", "less is left"
    ours = shop.request("refund", amount_minor=1499)
    for _ in range(2):
        assert isinstance(shop.gateway.refund(ours), Approved)
    assert [(one.key, one.amount_minor) for one in shop.seen().refunds] == [(None, 500), (ours.key, 1499)]
    assert shop.press("refund", amount="1").status == 409


MOST, NUMBER = "At most 19.99 USD can be given back.", "The amount is a whole number in the minor unit: 1999 is 19.99 USD."


@pytest.mark.parametrize(
    ("amount", "why"),
    [("2000", MOST), ("9" * 5000, MOST)] + [(wrong, NUMBER) for wrong in ("", "0", "-1", "5.00", "1e2", "\u0665")],
)
def test_an_amount_that_cannot_be_given_back_is_refused_and_the_page_says_why(shop: Shop, amount: str, why: str) -> None:
    shop.paid()
    refused = shop.press("refund", amount=amount)
    assert (refused.status, why in refused.text, shop.seen().refunds) == (409, True, [])


def test_the_field_says_which_unit_it_takes(shop: Shop) -> None:
    shop.paid()
    assert "Amount in the minor unit (1999 is 19.99 USD)" in re.sub("<[^>]+>", "", shop.look().text)


def test_a_page_offers_no_button_that_is_sure_to_be_refused(shop: Shop) -> None:
    shop.paid()
    shop.press("refund", amount="1999")
    assert buttons(shop.look()) == ["fail_refund"]
    assert "Nothing can be given back any more" in shop.look().text
    assert "Nothing can be given back" in shop.press("refund", amount="1").text


def test_a_refund_of_ours_that_succeeded_fails_later(shop: Shop) -> None:
    shop.paid()
    shop.gateway.refund(shop.request("refund", amount_minor=1999))
    [refund] = shop.seen().refunds
    for _ in range(2):
        assert shop.press("fail_refund", refund_id=refund.gateway_refund_id).status == 303
    [failed] = shop.seen().refunds
    assert (failed.status, failed.failure_code, shop.events()) == ("failed", "expired_or_canceled_card", ["refund.failed"])
    assert buttons(shop.look()) == ["refund", "dispute"], "the money can be given back again"
    assert shop.press("fail_refund", refund_id="re_another").status == 409


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_a_dispute_is_opened_and_ends(shop: Shop, outcome: str) -> None:
    shop.paid()
    shop.press("refund", amount="999")
    for _ in range(2):
        shop.press("dispute")
    [dispute] = shop.seen().disputes
    assert (dispute.amount_minor, dispute.status, dispute.outcome, dispute.is_refundable) == (1000, "needs_response", None, False)
    assert dispute.due_by == dispute.created_at + timedelta(days=7)
    assert code(shop.gateway.refund(shop.request("refund", amount_minor=1))) == "charge_disputed"
    assert shop.press("refund", amount="1").status == 409
    assert buttons(shop.look()) == ["fail_refund", "won", "lost"]
    assert "so nothing can be given back" in shop.look().text
    assert shop.press(outcome).status == 303
    [dispute] = shop.seen().disputes
    assert (dispute.status, dispute.outcome, dispute.due_by, dispute.is_refundable) == (outcome, outcome, None, outcome == "won")
    assert shop.press(outcome).status == 409
    assert ("dispute" in buttons(shop.look())) is (outcome == "won")
    assert shop.events() == ["refund.created", "charge.dispute.created", "charge.dispute.closed"]


def test_an_authorization_is_captured_in_part_or_ends_at_the_dashboard(shop: Shop) -> None:
    shop.paid(capture=False)
    assert buttons(shop.look()) == ["lapse"]
    assert isinstance(shop.gateway.capture(shop.request("capture", amount_minor=900)), Approved)
    assert (shop.seen().state, shop.seen().captured_minor) == ("captured", 900)
    assert shop.press("lapse").status == 409


def test_an_authorization_that_ended_cannot_be_captured(shop: Shop) -> None:
    shop.paid(capture=False)
    assert shop.press("lapse").status == 303
    assert code(shop.gateway.capture(shop.request("capture"))) == "charge_expired"
    assert isinstance(shop.gateway.void(shop.request("void")), Approved)
    assert (shop.seen().state, shop.events()) == ("canceled", ["payment_intent.canceled"])


@pytest.mark.parametrize("action", ["", "refund", "dispute", "won", "fail_refund", "captured", "_void"])
def test_a_button_that_is_not_on_the_page_does_nothing(shop: Shop, action: str) -> None:
    shop.waits()
    assert shop.press(action).status == 409
    assert isinstance(shop.gateway.find(shop.request()), ActionRequired)


def test_events_are_told_from_the_moment_that_is_asked_for(shop: Shop) -> None:
    shop.waits()
    shop.press("approve")
    [first] = [
        one for one in shop.gateway.undelivered(datetime(2020, 1, 1, tzinfo=UTC), 10) if one.payment_intent_id == shop.intent
    ]
    assert first.payment_id == UUID(int=7)
    just = timedelta(microseconds=1)
    assert first not in shop.gateway.undelivered(first.created_at + just, 10)
    assert first in shop.gateway.undelivered(first.created_at, 10, first.created_at)
    assert first not in shop.gateway.undelivered(first.created_at, 10, first.created_at - just)


# Who may press, and what a page may do.


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "https://shop.example"])
@pytest.mark.parametrize("what", ["press", "call", "look"])
def test_no_other_page_presses_a_button(shop: Shop, origin: str, what: str) -> None:
    """The API takes requests of this machine's pages and of the admitted ones; the bank takes none but its own."""
    shop.waits()
    path, body = (shop.page, "action=approve") if what == "press" else (f"{GATEWAY_PAGES}/{what}", "{}")
    assert shop.browse("POST", path, body, content_type=FORM, origin=origin).status == 403
    assert shop.browse("POST", path, body, content_type=FORM, sec_fetch_site="cross-site").status == 403
    assert isinstance(shop.gateway.find(shop.request()), ActionRequired)


def test_a_shops_link_leads_to_the_page_and_no_frame_shows_it(shop: Shop) -> None:
    shop.waits()
    followed = shop.browse("GET", shop.page, sec_fetch_site="cross-site", sec_fetch_dest="document")
    assert followed.status == 200
    policy = followed.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert shop.browse("GET", shop.page, sec_fetch_site="cross-site", sec_fetch_dest="iframe").status == 403


def test_what_comes_from_a_request_is_escaped_and_nothing_comes_from_elsewhere(shop: Shop) -> None:
    shop.waits()
    shop.press("decline")
    for page in (shop.look(), shop.browse("GET", GATEWAY_PAGES)):
        assert "order &lt;b&gt;1&lt;/b&gt;" in page.text
        assert "<b>" not in page.text
        assert not re.search(r"<script|<link|<img|src=", page.text)
    assert 'href="https://shop.example/back?order=1&amp;paid=&lt;maybe&gt;"' in shop.look().text


def test_the_list_leads_to_each_payment(shop: Shop) -> None:
    shop.paid()
    assert f'<a href="{shop.page}">' in shop.browse("GET", GATEWAY_PAGES).text


def test_a_list_that_leaves_payments_out_says_so(shop: Shop) -> None:
    for number in range(LISTED + 1):
        shop.paid(key=f"{shop.key}-{number}")
    listed = shop.browse("GET", GATEWAY_PAGES).text
    assert listed.count("<li>") == LISTED
    assert re.search(rf"The newest {LISTED} of [0-9]+\.", listed)


CALL: dict[str, Any] = {
    "kind": "process",
    "key": "pay-x",
    "payment_intent_id": "pi_x",
    "payment_id": "x",
    "order_id": "x",
    "amount_minor": 1,
    "currency": "USD",
    "transaction_id": "txn_x",
    "refund_id": None,
    "return_url": None,
    "capture": True,
    "waits": True,
}


@pytest.mark.parametrize("what", ["call", "look", "events"])
@pytest.mark.parametrize("body", ["", "{", "{}", "[]", "null", "\ud83d", "[" * 100_000], ids=ascii)
def test_what_is_no_question_of_the_simulated_gateways_is_a_400(shop: Shop, what: str, body: str) -> None:
    asked = shop.browse("POST", f"{GATEWAY_PAGES}/{what}", body.encode("utf-8", "surrogatepass").decode("latin-1"))
    assert (asked.status, "Traceback" in asked.text) == (400, False)


@pytest.mark.parametrize(
    ("what", "question"),
    [("events", {"since": since}) for since in ("x", 5, None, "2026-01-01T00:00:00")]
    + [("look", {"payment_intent_id": intent}) for intent in (None, 5, ["pi_x"])]
    + [
        ("call", CALL | {name: wrong})
        for name, wrong in [
            *[
                ("kind", "pay"),
                ("amount_minor", "1"),
                ("amount_minor", 1.5),
                ("amount_minor", -1),
                ("currency", "<b>"),
                ("key", 5),
            ],
            *[("payment_intent_id", None), ("order_id", {}), ("capture", "yes"), ("return_url", 1), ("kind", "refund")],
        ]
    ],
    ids=str,
)
def test_a_question_with_a_member_that_is_wrong_is_a_400_and_changes_nothing(
    shop: Shop, what: str, question: dict[str, Any]
) -> None:
    asked = shop.browse("POST", f"{GATEWAY_PAGES}/{what}", json.dumps(question))
    assert (asked.status, "Traceback" in asked.text) == (400, False)
    assert shop.browse("GET", f"{GATEWAY_PAGES}/payments/pi_x").status == 404
    assert shop.browse("GET", GATEWAY_PAGES).status == 200


@pytest.mark.parametrize("body", ["", "{}"])
def test_an_address_without_an_intent_is_not_found(shop: Shop, body: str) -> None:
    assert shop.browse("POST", f"{GATEWAY_PAGES}/payments", body).status == 404


def test_no_payment_has_a_page_before_somebody_made_one(shop: Shop) -> None:
    assert shop.look().status == shop.press("approve").status == 404
    assert shop.browse("POST", f"{GATEWAY_PAGES}/another", "{}").status == 404
