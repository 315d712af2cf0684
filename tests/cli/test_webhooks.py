"""`payments webhooks`, beside a running service and beside one that answers as the test says."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.cases import case
from tests.cli.stand import DROPPED, WEBHOOK, Answer, Stand, problem
from tests.cli.terminal import Payments, new_order

Standing = Callable[..., Stand]
ARRIVES_S = 90
SECRET = "whsec_" + "c2VjcmV0" * 5 + "c2Vj"
MADE: Answer = (201, {}, json.dumps(WEBHOOK | {"secret": SECRET}))
FOUND: Answer = (200, {}, json.dumps(WEBHOOK))
ALL: Answer = (200, {}, json.dumps({"data": [WEBHOOK]}))


class Shop:
    """Receives events, and keeps each as its headers and its body."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                shop.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def wait_for(self, number: int) -> list[tuple[dict[str, str], bytes]]:
        until = time.monotonic() + ARRIVES_S
        while len(self.received) < number:
            assert time.monotonic() < until, self.received
            time.sleep(0.05)
        return self.received


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    with shop.server:
        yield shop
        shop.server.shutdown()


@pytest.fixture
def me() -> tuple[str, ...]:
    return ("--owner", new_order(), "--scopes", "payments/write payments/refund payments/read payments/webhooks")


def test_a_webhook_is_added_gets_events_and_gets_them_again(payments: Payments, shop: Shop, me: tuple[str, ...]) -> None:
    added = payments("webhooks", "add", shop.url, "--description", "our shop", "--type", "successful", *me, "--json")
    assert (added.exit_code, added.err) == (0, "Keep the secret now: it is shown this once.\n")
    secret, webhook_id = added.json["secret"], added.json["webhook_id"]
    payments("process", "1", "5 USD", "--payment-token", "tok_ok", *me)
    payments("refund", "1", *me)
    [(headers, body)] = shop.wait_for(1)
    assert Webhook(secret).verify(body, headers)["type"] == "payment.successful"
    again = payments("webhooks", "redeliver", shop.url, "--event", headers["webhook-id"], *me)
    assert (again.exit_code, again.out) == (0, "1 event is sent again.\n"), again.err
    shop.wait_for(2)
    assert payments("webhooks", "redeliver", webhook_id, "--from", "1h", "--json", *me).json == {"events": 1, "resume_at": None}
    assert {found["webhook-id"] for found, _ in shop.wait_for(3)} == {headers["webhook-id"]}
    rotated = payments("webhooks", "rotate", webhook_id, "--json", *me).json
    assert rotated["secret"] != secret
    for name in ("show", "list"):
        shown = payments("webhooks", name, *([shop.url] if name == "show" else []), *me)
        assert (shown.exit_code, shown.err) == (0, "")
        assert all(words in shown.out for words in (webhook_id, shop.url, "ENABLED")), shown.out
        assert not any(one in shown.out for one in (secret, rotated["secret"]))
    shown_one = payments("webhooks", "show", webhook_id, *me).out
    assert all(words in shown_one for words in ("our shop", "successful", "signs too until"))
    assert "ENABLED" in payments("webhooks", "enable", webhook_id, *me).out
    gone = payments("webhooks", "remove", shop.url, *me)
    assert (gone.exit_code, gone.out) == (0, f"{shop.url} is removed.\n")
    none = payments("webhooks", "list", *me)
    assert (none.exit_code, none.out, none.err) == (0, "", "No webhooks.\n")


def test_nobody_sees_another_owners_webhooks(payments: Payments, shop: Shop, me: tuple[str, ...]) -> None:
    webhook_id = payments("webhooks", "add", shop.url, *me, "--json").json["webhook_id"]
    other = ("--owner", new_order(), "--scopes", "payments/webhooks")
    assert payments("webhooks", "list", "--json", *other).out == ""
    for name in ("show", "rotate", "enable", "remove"):
        for named in (webhook_id, shop.url):
            with case(name, named):
                done = payments("webhooks", name, named, *other)
                assert (done.exit_code, "webhook_not_found" in done.err) == (1, True)
    assert [each["webhook_id"] for each in payments("webhooks", "list", "--json", *me).lines] == [webhook_id]


def test_a_second_webhook_at_the_address_is_refused(payments: Payments, shop: Shop, me: tuple[str, ...]) -> None:
    secret = payments("webhooks", "add", shop.url, *me).out.split()[-1]
    again = payments("webhooks", "add", shop.url, *me)
    assert (again.exit_code, again.out, "webhook_conflict" in again.err) == (1, "", True)
    assert secret.startswith("whsec_") and secret not in again.err


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_secret_is_a_line_of_its_own_that_can_be_copied(payments_alone: Payments, standing_in: Standing, columns: int) -> None:
    done = payments_alone("webhooks", "add", WEBHOOK["url"], "--url", standing_in(MADE).url, COLUMNS=str(columns))
    assert (done.exit_code, done.out.splitlines()[-1], done.out.count("whsec_")) == (0, SECRET, 1)
    assert done.err == "Keep the secret now: it is shown this once.\n"


def test_what_is_asked_for_is_sent(payments_alone: Payments, standing_in: Standing) -> None:
    stand = standing_in(MADE)
    url = WEBHOOK["url"]
    payments_alone("webhooks", "add", url, "--url", stand.url)
    payments_alone("webhooks", "add", url, "--type", "failed", "--type", "refunded", "--description", "d", "--url", stand.url)
    assert [(path, body) for path, _, body in stand.asked] == [
        ("/api/v1/webhooks", {"url": url}),
        ("/api/v1/webhooks", {"url": url, "description": "d", "event_types": ["payment.failed", "payment.refunded"]}),
    ]


@pytest.mark.parametrize("name", ["add", "rotate"])
def test_a_secret_that_cannot_be_shown_is_told_and_is_not_in_the_message(
    payments_alone: Payments, standing_in: Standing, name: str
) -> None:
    """A script must not go on without it, so the exit code is no 0."""
    for form in ([], ["--json"]):
        with case(form), Path("/dev/full").open("wb", buffering=0) as full:
            command = ("webhooks", name, WEBHOOK["webhook_id"], *form, "--url", standing_in(MADE).url)
            done = payments_alone.into(*command, out_fd=full.fileno())
            assert (done.exit_code, SECRET in done.err) == (7, False)
            assert f"payments webhooks rotate {WEBHOOK['webhook_id']}" in done.err
    reader, writer = os.pipe()
    os.close(reader)
    done = payments_alone.into("webhooks", name, "x", "--url", standing_in(MADE).url, out_fd=writer)
    os.close(writer)
    assert (done.exit_code, "payments webhooks rotate" in done.err, SECRET in done.err) == (141, True, False)


@pytest.mark.parametrize("name", ["add", "rotate"])
def test_a_new_secret_is_asked_for_once(payments_alone: Payments, standing_in: Standing, name: str) -> None:
    """A second rotation would end the secret that the receiver has."""
    for answer in (DROPPED, problem(503, "service_unavailable")):
        stand = standing_in(answer, MADE)
        done = payments_alone("webhooks", name, WEBHOOK["webhook_id"], "--url", stand.url)
        assert (done.exit_code, len(stand.asked), done.out) == (5, 1, "")
        assert "Look with: payments webhooks" in done.err


def test_what_may_be_repeated_is_repeated(payments_alone: Payments, standing_in: Standing) -> None:
    for name, *answers in (
        ("show", FOUND),
        ("enable", FOUND, FOUND),
        ("remove", FOUND, DROPPED, problem(404, "webhook_not_found")),
    ):
        stand = standing_in(problem(503, "service_unavailable"), *answers)
        done = payments_alone("webhooks", name, WEBHOOK["webhook_id"], "--url", stand.url)
        assert (done.exit_code, len(stand.asked)) == (0, len(answers) + 1), done.err


def test_a_long_range_is_asked_for_in_parts(payments_alone: Payments, standing_in: Standing) -> None:
    def part(events: int, resume_at: str | None) -> Answer:
        return 202, {}, json.dumps({"events": events, "resume_at": resume_at})

    command = ("webhooks", "redeliver", "w", "--from", "2026-01-01", "--to", "2026-01-02", "--utc", "--json", "--no-retry")
    stand = standing_in(part(3, "2026-01-01T08:00:00Z"), part(0, "2026-01-01T16:00:00Z"), part(2, None))
    assert payments_alone(*command, "--url", stand.url).json == {"events": 5, "resume_at": None}
    starts = ["2026-01-01T00:00:00+00:00", "2026-01-01T08:00:00Z", "2026-01-01T16:00:00Z"]
    assert [body for *_, body in stand.asked] == [{"from": start, "to": "2026-01-02T00:00:00+00:00"} for start in starts]
    broken = payments_alone(
        *command, "--url", standing_in(part(3, "2026-01-01T08:00:00Z"), problem(503, "service_unavailable")).url
    )
    assert (broken.exit_code, broken.out, "Go on with --from 2026-01-01T08:00:00Z" in broken.err) == (5, "", True)
    stuck = payments_alone(*command, "--url", standing_in(part(3, "2026-01-01T08:00:00Z")).url)
    assert (stuck.exit_code, stuck.out) == (5, "")


def test_a_service_without_webhooks_says_so(payments_alone: Payments, standing_in: Standing) -> None:
    done = payments_alone("webhooks", "list", "--url", standing_in((404, {}, '{"message":"Not Found"}')).url)
    assert (done.exit_code, "sends no webhooks" in " ".join(done.err.split())) == (1, True), done.err


def test_a_person_at_a_terminal_is_asked_before_a_webhook_goes(payments_alone: Payments, standing_in: Standing) -> None:
    stand = standing_in(FOUND)
    left = payments_alone.at_terminal("webhooks", "remove", "w", "--url", stand.url, typed="n\n")
    assert (left.exit_code, f"Remove {WEBHOOK['url']}" in left.out, len(stand.asked)) == (1, True, 1)
    assert payments_alone.at_terminal("webhooks", "remove", "w", "--yes", "--url", stand.url).exit_code == 0
    removed = payments_alone("webhooks", "remove", "w", "--json", "--url", stand.url)
    assert removed.json == {"webhook_id": WEBHOOK["webhook_id"], "removed": True}


def test_what_was_not_kept_while_it_was_disabled_can_be_asked_for(payments_alone: Payments, standing_in: Standing) -> None:
    since = "2026-02-01T10:00:00.000000Z"
    disabled: Answer = (200, {}, json.dumps(WEBHOOK | {"disabled_at": since}))
    done = payments_alone("webhooks", "enable", WEBHOOK["url"], "--url", standing_in(ALL, FOUND).url)
    assert (done.exit_code, done.err, "ENABLED" in done.out) == (0, "", True)
    done = payments_alone("webhooks", "enable", "w", "--url", standing_in(disabled, FOUND).url)
    assert (done.exit_code, "ENABLED" in done.out) == (0, True)
    again = done.err.rpartition(": payments ")[2].split()
    assert again == ["webhooks", "redeliver", WEBHOOK["webhook_id"], "--from", since]
    stand = standing_in((202, {}, '{"events": 1, "resume_at": null}'))
    assert payments_alone(*again, "--url", stand.url).exit_code == 0
    assert stand.asked[0][2]["from"] == "2026-02-01T10:00:00+00:00"


@pytest.mark.parametrize("columns", [80, 120])
def test_a_webhook_that_fails_is_seen_at_a_glance(payments_alone: Payments, standing_in: Standing, columns: int) -> None:
    at = "2026-02-01T10:00:00.000000Z"
    failing = WEBHOOK | {
        "failing_since": at,
        "last_error": "it answered 500",
        "waiting": 7,
        "url": "https://" + "a" * 90 + ".org",
    }
    disabled = failing | {"disabled_at": at, "disabled_reason": "it answered 410"}
    stand = standing_in((200, {}, json.dumps({"data": [WEBHOOK, failing, disabled]})))
    listed = payments_alone("webhooks", "list", "--url", stand.url, COLUMNS=str(columns)).out
    assert all(state in listed for state in ("ENABLED", "FAILING", "DISABLED"))
    assert max(map(len, listed.splitlines())) <= columns
    shown = payments_alone("webhooks", "show", "w", "--url", standing_in((200, {}, json.dumps(disabled))).url).out
    assert all(words in shown for words in ("DISABLED", "it answered 500", "it answered 410", "2026-02-01 10:00:00 UTC"))
    odd = payments_alone("webhooks", "list", "--url", standing_in((200, {}, '{"data": [{"webhook_id": 1}]}')).url)
    assert (odd.exit_code, odd.json) == (0, {"webhook_id": 1})


def test_json_is_the_services_own(payments_alone: Payments, standing_in: Standing) -> None:
    assert payments_alone("webhooks", "list", "--json", "--url", standing_in(ALL).url).lines == [WEBHOOK]
    assert payments_alone("webhooks", "show", WEBHOOK["url"], "--json", "--url", standing_in(ALL).url).json == WEBHOOK
