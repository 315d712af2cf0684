from __future__ import annotations

import contextlib
import json
import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable

import pytest

from tests.cli.stand import PAYMENT, REFUND, Stand, problem
from tests.cli.terminal import Payments, new_order, printed_key

SETTLE_S = 90  # a local run sends the request again after 1 s, 2 s, ...


def test_a_payment_is_taken_shown_and_given_back(payments: Payments) -> None:
    order = new_order()
    taken = payments(
        *(
            "process",
            order,
            "19.99",
            "usd",
            "--method",
            "PayPal",
            "--customer",
            "cus-7",
            "--description",
            "Two [b]kettles[/b] :smile:",
        ),
        *("--metadata", "channel=phone", "--metadata", "note=a=b", "--payment-token", "tok_ok"),
    )
    assert taken.exit_code == 0, taken.err
    returned = payments("refund", order, "5.00", "USD", "--reason", "late parcel")
    assert returned.exit_code == 0, returned.err
    assert "SUCCEEDED" in returned.out and "PARTIALLY_REFUNDED, 5.00 USD refunded in all" in returned.out
    shown = payments("show", order)
    assert shown.exit_code == 0
    for words in ("19.99 USD", "paypal, automatic capture", "cus-7", "Two [b]kettles[/b] :smile:", "channel=phone", "note=a=b"):
        assert words in taken.out and words in shown.out
    assert re.search(r"refunded +5\.00 USD", shown.out) and re.search(r"SUCCEEDED +5\.00 USD +late parcel", shown.out)
    steps = re.findall(r"(PENDING|PROCESSING|CAPTURED|PARTIALLY_REFUNDED) ", shown.out.partition("Timeline")[2])
    assert steps == ["PENDING", "PROCESSING", "CAPTURED", "PARTIALLY_REFUNDED"]


def test_an_authorization_is_captured_in_part_or_voided(payments: Payments) -> None:
    kept, dropped = payments.charged("--manual", amount="1500 JPY"), payments.charged("--manual")
    assert (kept["status"], kept["amount"], kept.get("payment_token")) == (
        "AUTHORIZED",
        1500,
        None,
    )
    assert "AUTHORIZED" in payments("show", kept["payment_id"]).out
    captured = payments.json("capture", kept["payment_id"], "900")
    assert (captured["status"], captured["amount_captured"]) == ("CAPTURED", 900)
    voided = payments.json("void", dropped["transaction_id"], "--reason", "out of stock")
    assert voided["status"] == "VOIDED"
    history = payments.json("show", dropped["order_id"])["history"]
    assert [change["to"] for change in history] == ["PENDING", "PROCESSING", "AUTHORIZED", "VOIDED"]
    assert history[-1]["reason"].endswith("out of stock")


def waiting(payments: Payments, order: str) -> str:
    """Take a payment whose customer has to act, and return the page's address."""
    taken = payments("process", order, "5 USD", "--payment-token", "tok_requires_action", "--return-url", "http://localhost/back")
    assert taken.exit_code == 4, taken.err
    assert "waits for its customer" in taken.err and "payments sync" in taken.err
    assert "REQUIRES_ACTION" in taken.out
    page = re.search(r"the customer at (http://\S+), until 2", taken.out)
    assert page, taken.out
    return page[1]


def test_a_customer_acts_and_sync_says_what_became_of_the_payment(payments: Payments) -> None:
    order = new_order()
    page = waiting(payments, order)
    shown = payments("show", order)
    assert "the customer, who has to confirm it" in shown.out and page not in shown.out, "who may only look gets no page"
    assert payments("sync", order).exit_code == 4
    with contextlib.suppress(urllib.error.URLError):  # nobody serves the address to come back to
        urllib.request.urlopen(page, b"action=approve").close()
    until = time.monotonic() + SETTLE_S
    while (synced := payments("sync", order, "--json")).exit_code == 4 and time.monotonic() < until:
        time.sleep(0.2)
    assert (synced.exit_code, synced.json["status"]) == (0, "CAPTURED"), synced.err
    assert payments("sync", new_order()).exit_code == 1


def test_a_customers_page_is_told_at_most_once_in_two_seconds_and_the_reader_hears_why(payments: Payments) -> None:
    order = new_order()
    page = waiting(payments, order)
    at_once = payments("sync", order)
    assert at_once.exit_code == 4 and page not in at_once.out
    assert "asked the gateway less than 2 s ago" in at_once.err and "payments sync" in at_once.err
    until = time.monotonic() + SETTLE_S  # reconcile asks, too
    while page not in (later := payments("sync", order)).out and time.monotonic() < until:
        time.sleep(0.5)
    assert page in later.out and "less than 2 s" not in later.err


def test_a_void_without_an_answer_is_no_payment_that_waits_for_its_customer(
    payments_alone: Payments, standing_in: Callable[..., Stand]
) -> None:
    """The void has given the payment up, so nobody is asked to act."""
    waits = PAYMENT | {"status": "REQUIRES_ACTION"}
    service = standing_in((200, {}, json.dumps(waits)), (202, {}, json.dumps(waits)))
    voided = payments_alone("void", "order-1", "--url", service.url)
    assert voided.exit_code == 4
    assert "The gateway has not answered yet" in voided.err and "customer" not in voided.err


@pytest.mark.parametrize("status", ["FAILED", "VOIDED"])
def test_the_service_says_why_a_payment_that_is_over_allows_nothing(
    payments_alone: Payments, standing_in: Callable[..., Stand], status: str
) -> None:
    """It may have no transaction: its customer never came."""
    service = standing_in((200, {}, json.dumps(PAYMENT | {"status": status})), problem(409, "payment_state_conflict"))
    refused = payments_alone("capture", "order-1", "--url", service.url)
    assert (refused.exit_code, "The payment_state_conflict" in refused.err) == (1, True)
    assert service.asked[-1][2] == {"payment_id": PAYMENT["payment_id"]}


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING"])
@pytest.mark.parametrize("command", ["refund", "capture", "void"])
def test_nothing_is_sent_for_a_payment_that_the_gateway_has_not_answered_for(
    payments_alone: Payments, standing_in: Callable[..., Stand], status: str, command: str
) -> None:
    service = standing_in((200, {}, json.dumps(PAYMENT | {"status": status})))
    refused = payments_alone(command, "order-1", "--url", service.url, "--json")
    assert (refused.exit_code, len(service.asked), refused.problem["title"]) == (1, 1, f"The payment is {status}")
    assert refused.problem["detail"].startswith(f"You can {command} it once the gateway has answered. Check with: payments show ")


def test_a_refund_that_was_made_at_the_gateway_says_so(payments_alone: Payments, standing_in: Callable[..., Stand]) -> None:
    ours, theirs = REFUND | {"origin": "service", "reason": "ours"}, REFUND | {"origin": "gateway", "reason": "theirs"}
    shown = PAYMENT | {"refunds": [ours, theirs]}
    service = standing_in((200, {}, json.dumps(shown)), (200, {}, json.dumps({"data": []})), (200, {}, json.dumps(theirs)))
    lines = payments_alone("show", "order-1", "--url", service.url).out.splitlines()
    assert [("made at the gateway" in line) for line in lines if "ours" in line or "theirs" in line] == [False, True]
    assert "made at the gateway" in payments_alone("show", REFUND["refund_id"], "--refund", "--url", service.url).out


def test_a_payment_whose_customer_leaves_is_voided_by_its_order(payments: Payments) -> None:
    order = new_order()
    waiting(payments, order)
    assert payments("capture", order).exit_code == 1
    assert payments.json("void", order)["status"] == "VOIDED"
    assert payments("process", order, "5 USD", "--payment-token", "tok_requires_action", "--off-session").exit_code == 3


def test_a_payment_is_found_by_whichever_id_is_at_hand(payments: Payments) -> None:
    payment = payments.charged(order=str(uuid.uuid4()))
    found = [
        payments.json("show", payment["payment_id"]),
        payments.json("show", payment["payment_id"].upper()),
        payments.json("show", payment["transaction_id"]),
        payments.json("show", payment["order_id"], "--order"),
        payments.json("refund", payment["order_id"], "--order"),
    ]
    assert {each["payment_id"] for each in found} == {payment["payment_id"]}
    assert payments("show", payment["order_id"]).exit_code == 1, "an order id that looks like a payment id needs --order"


@pytest.mark.parametrize("order", ["a/b", "50% off?", "ordre-é", "#1", "a b"])
def test_any_order_id_can_be_shown(payments: Payments, order: str) -> None:
    order = f"{order}{new_order()}"
    assert payments.charged(order=order)["order_id"] == payments.json("show", order)["order_id"] == order


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (["process", "{new}", "5 USD", "--payment-token", "tok_insufficient_funds"], 3, "insufficient_funds"),
        (
            ["process", "{new}", "5 USD", "--payment-token", "tok_timeout_then_captured"],
            4,
            "Check with: payments show",
        ),
        (["process", "{captured}", "5 USD"], 1, "order_already_paid"),
        (["process", "{new}", "0 USD"], 1, "body.amount"),
        (["process", "{new}", "5 USD", "--description", "4111 1111 1111 1111"], 1, "card_data_not_accepted"),
        (["process", "{new}", "5 USD", "--idempotency-key", "é"], 2, "ASCII"),
        (["process", "{new}", "5 USD", "--idempotency-key", "x" * 256], 1, "idempotency_key_invalid"),
        (["process", "{new}", "5.001 USD"], 2, "2 decimals"),
        (["process", "{new}", "5"], 2, "lacks its currency"),
        (["process", "{new}"], 2, "AMOUNT is missing"),
        (["process", "{new}", "5 USD", "--amount-minor", "500"], 2, "--currency"),
        (["process", "{new}", "--amount-minor", "500"], 2, "--currency"),
        (["process", "{new}", "5 USD", "--method", "cash"], 2, "--method"),
        (["process", "{new}", "5 USD", "--metadata", "nothing"], 2, "KEY=VALUE"),
        (["refund", "{captured}", "20 USD"], 1, "amount_available"),
        (["refund", "{captured}", "5 EUR"], 2, "the currency is USD"),
        (["refund", "{captured}", "5", "--amount-minor", "500"], 2, "twice"),
        (["refund", "{authorized}"], 1, "payment_state_conflict"),
        (["refund", "{given up}"], 1, "this one is VOIDED"),
        (["capture", "{given up}"], 1, "this one is VOIDED"),
        (["refund", "{waiting}"], 1, "once its customer has acted. Ask with: payments sync"),
        (["refund", "txn_unknown"], 1, "payment_not_found"),
        (["refund", "{declining}", "1"], 3, "refund_declined"),
        (["refund", "{vague}", "1"], 4, "Check with: payments show"),
        (["capture", "{captured}"], 1, "payment_state_conflict"),
        (["capture", "{authorized}", "20 USD"], 1, "amount_too_large"),
        (["void", "{captured}"], 1, "CAPTURED"),
        (["void", "{captured}", "--owner", "local", "--scopes", "payments/read"], 1, "payments/write"),
        (["show", "{new}"], 1, "payment_not_found"),
        (["show", "{captured}", "--owner", "somebody-else"], 1, "payment_not_found"),
        (["show"], 2, "PAYMENT"),
        (["show", ""], 2, "not an id"),
        (["show", ".."], 2, "not an id"),
        (["refund", ""], 2, "not an id"),
        (["list", "--from", "yesterday"], 2, "not a time"),
        (["list", "--status", "PAID"], 2, "--status"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["list", "--method", "cash"], 2, "--method"),
        (["list", "--amount-from", "5"], 2, "lacks its currency"),
        (["list", "--amount-from", ""], 2, "not an amount"),
        (["list", "--amount-from", "5.001 USD"], 2, "2 decimals"),
        (["list", "--amount-from", "5 USD", "--amount-to", "9 EUR"], 2, "the currency is USD"),
        (["list", "--amount-from", "5 USD", "--amount-to", "4"], 1, "query.amount_to"),
        (["list", "--currency", ""], 1, "query.currency"),
        (["show", "{captured}", "--refund"], 1, "refund_not_found"),
        (["show", "{captured}", "--refund", "--order"], 2, "not both"),
        (["tail", "--type", "paid"], 2, "--type"),
        (["tail", "--topic", "no-such-topic"], 1, "topic_not_found"),
        (["tail", "--bootstrap-servers", "127.0.0.1:1", "--kafka-config", "{impatient}"], 5, "Kafka cannot be reached"),
        (["show", "{new}", "--url", "http://127.0.0.1:1", "--no-retry"], 5, "cannot be reached"),
        (["show", "{new}", "--url", "payments.example.com"], 2, "https://"),
        (["show", "{new}", "--url", "https://payments.example.com:port"], 2, "https://"),
        (["show", "{new}", "--url", "https://me:s3cret@payments.example.com"], 2, "without user, password"),
        (["show", "{new}", "--url", "https://payments.example.com", "--bearer-token", "gehe\nim"], 2, "printable ASCII"),
        (["show", "{new}", "--url", "https://payments.example.com", "--owner", "x"], 2, "--bearer-token"),
        (["show", "{new}", "--url", "https://payments.example.com", "--scopes", "payments/read"], 2, "--bearer-token"),
        (["show", "{new}", "--url", "http://payments.example.com", "--bearer-token", "x"], 2, "clear text"),
        (["webhooks", "add", "http://shop.example.com"], 1, "body.url"),
        (["webhooks", "add", "http://127.0.0.1:9", "--type", "refused"], 2, "--type"),
        (["webhooks", "show", "nobody"], 1, "webhook_not_found"),
        (["webhooks", "rotate", "https://shop.example.com/not-mine"], 1, "no webhook at this address"),
        (["webhooks", "enable", ""], 2, "not an id"),
        (["webhooks", "remove", "nobody", "--scopes", "payments/write"], 1, "payments/webhooks"),
        (["webhooks", "redeliver", "nobody"], 2, "--event"),
        (["webhooks", "redeliver", "nobody", "--to", "1h"], 2, "--event"),
        (["webhooks", "redeliver", "nobody", "--event", "e", "--from", "1h"], 2, "--event"),
        (["webhooks", "redeliver", "nobody", "--from", "yesterday"], 2, "not a time"),
        (["webhooks", "redeliver", "nobody", "--from", "1h"], 1, "webhook_not_found"),
        (["pay"], 2, "No such command"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_what_goes_wrong_is_told_with_its_exit_code(
    payments: Payments, prepared: dict[str, str], arguments: list[str], exit_code: int, told: str
) -> None:
    done = payments(*(argument.format(**prepared, new=new_order()) for argument in arguments))
    assert (done.exit_code, told in re.sub(r"[│\s]+", " ", done.err)) == (exit_code, True), done.err
    assert done.out == "" or exit_code == 4


@pytest.fixture(scope="module")
def prepared(payments: Payments, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Order ids of payments that a refused command leaves as they are, and a file with options for Kafka."""
    orders = {name: new_order() for name in ("captured", "authorized", "declining", "vague", "waiting", "given up")}
    payments.json("process", orders["captured"], "19.99 USD", "--payment-token", "tok_ok")
    payments.json("process", orders["authorized"], "19.99 USD", "--payment-token", "tok_ok", "--manual")
    payments.json("process", orders["declining"], "19.99 USD", "--payment-token", "tok_refund_declined")
    payments.json("process", orders["vague"], "19.99 USD", "--payment-token", "tok_refund_timeout")
    for order in (orders["waiting"], orders["given up"]):
        waiting(payments, order)
    payments.json("void", orders["given up"])
    impatient = tmp_path_factory.mktemp("kafka") / "kafka.toml"
    impatient.write_text("bootstrap_timeout_ms = 300")
    return orders | {"impatient": str(impatient)}


def test_an_error_is_one_line_of_json_for_a_script(payments: Payments) -> None:
    refused = payments("show", new_order(), "--json")
    assert (refused.exit_code, refused.out, len(refused.err.splitlines())) == (1, "", 1)
    assert refused.problem["code"] == "payment_not_found" and refused.problem["request_id"]
    declined = payments("process", new_order(), "5 USD", "--payment-token", "tok_expired_card", "--json")
    assert (declined.exit_code, declined.out, declined.problem["decline_code"]) == (3, "", "expired_card")
    away = payments("show", "x", "--url", "http://127.0.0.1:1", "--no-retry", "--json")
    assert (away.exit_code, away.out, away.problem["code"]) == (5, "", "unreachable")


def test_a_command_repeated_with_its_printed_key_happens_once(payments: Payments) -> None:
    order = new_order()
    first = payments("process", order, "19.99 USD", "--payment-token", "tok_ok", "--json")
    again = payments(
        "process", order, "19.99 USD", "--payment-token", "tok_ok", "--json", "--idempotency-key", printed_key(first)
    )
    assert (first.exit_code, again.exit_code, again.err) == (0, 0, "")
    assert first.json["payment_id"] == again.json["payment_id"]
    refunds = [payments("refund", order, "4.00", "--idempotency-key", "twice-" + order, "--json") for _ in range(2)]
    assert len({refund.json["refund_id"] for refund in refunds}) == 1
    payments.json("refund", order, "4.00")
    assert payments.json("show", order)["amount_refunded"] == 800


def test_an_unknown_outcome_becomes_known_without_further_ado(payments: Payments) -> None:
    waiting = payments("process", new_order(), "5 USD", "--payment-token", "tok_timeout_then_captured", "--json")
    assert (waiting.exit_code, waiting.json["status"]) == (4, "PROCESSING")
    payment_id, deadline = waiting.json["payment_id"], time.monotonic() + SETTLE_S
    while (status := payments.json("show", payment_id)["status"]) == "PROCESSING" and time.monotonic() < deadline:
        pass
    assert status == "CAPTURED"
    assert f"payments show {payment_id}" in waiting.err


def test_a_list_is_filtered_and_follows_its_pages(payments: Payments) -> None:
    me = ("--owner", new_order(), "--scopes", "payments/write,payments/read")
    orders = [f"{new_order()}-{number}" for number in range(5)]
    for order in orders:
        payments("process", order, "1 USD", *me, "--payment-token", "tok_ok" if order != orders[2] else "tok_card_declined")
    told = [payments("list", "--json", *me, *more) for more in (("--limit", "2"), ("--all",), ("--limit", "5"))]
    assert [[line["order_id"] for line in done.lines] for done in told] == [orders[:2:-1], orders[::-1], orders[::-1]]
    assert ["There are more" in done.err for done in told] == [True, False, False]
    assert [line["order_id"] for line in payments("list", "--json", *me, "--status", "failed").lines] == [orders[2]]
    assert [line["order_id"] for line in payments("list", "--json", *me, "--order", orders[3]).lines] == [orders[3]]
    first = told[1].lines[-1]["created_at"]
    assert len(payments("list", "--json", *me, "--from", first).lines) == 5
    assert len(payments("list", "--json", *me, "--to", first).lines) == 0
    assert len(payments("list", "--json", *me, "--from", "1h", "--to", "2999-01-01").lines) == 5
    assert len(payments("list", "--json", *me, "--from", "2999-01-01 12:30", "--utc").lines) == 0
    nobody = payments("list", "--owner", new_order())
    assert (nobody.exit_code, nobody.out, nobody.err) == (0, "", "No payments.\n")


def test_a_list_is_filtered_by_customer_method_and_amount(payments: Payments) -> None:
    me = ("--owner", new_order(), "--scopes", "payments/write,payments/read")
    made = (("5 USD", "c-1", "paypal"), ("9.99 USD", "c-1", "stripe"), ("999 JPY", "c-2", "stripe"))
    for number, (amount, customer, method) in enumerate(made):
        payments("process", f"{number}", amount, *me, "--customer", customer, "--method", method, "--payment-token", "tok_ok")

    def found(*options: str) -> list[str]:
        return [line["order_id"] for line in payments("list", "--json", *me, *options).lines]

    assert found("--customer", "c-1") == ["1", "0"]
    assert found("--customer", "c-1", "--method", "paypal") == ["0"]
    assert found("--amount-from", "5.00 USD", "--amount-to", "9.99") == ["1", "0"]
    assert found("--amount-from", "5.01", "--currency", "usd") == ["1"]
    assert found("--currency", "JPY") == ["2"]


def test_a_refund_is_shown_by_its_id(payments: Payments) -> None:
    payment = payments.charged()
    refund = payments.json("refund", payment["payment_id"], "5 USD", "--reason", "late parcel")
    shown = payments("show", refund["refund_id"], "--refund")
    assert (shown.exit_code, shown.err) == (0, "")
    assert all(
        words in shown.out for words in (refund["refund_id"], "SUCCEEDED", "5.00 USD", "late parcel", payment["payment_id"])
    )
    assert payments.json("show", refund["refund_id"], "--refund").items() <= refund.items()


def test_a_time_without_a_zone_is_local_unless_utc_is_asked_for(payments: Payments) -> None:
    payment = payments.charged()
    created = payment["created_at"].replace("T", " ")[:19]
    assert created in payments("show", payment["payment_id"], "--utc", TZ="Asia/Tokyo").out
    local = payments("show", payment["payment_id"], TZ="Asia/Tokyo")
    assert created not in local.out and "Timeline (JST)" in local.out

    def found(*options: str) -> list[str]:
        lines = payments("list", "--order", payment["order_id"], "--json", "--from", created, *options, TZ="Asia/Tokyo").lines
        return [line["payment_id"] for line in lines]

    assert found("--utc") == [payment["payment_id"]]
    assert found() == [payment["payment_id"]], "nine hours earlier in UTC"
    earlier = payments("list", "--order", payment["order_id"], "--to", created, TZ="Asia/Tokyo")
    assert earlier.out == "", "made nine hours after that"


@pytest.mark.parametrize("columns", [80, 120])
def test_output_fits_the_terminal(payments: Payments, columns: int) -> None:
    payment = payments.charged("--description", "word " * 60, order="o" * 40 + new_order())
    payments.json("refund", payment["payment_id"], "1 USD", "--reason", "because " * 20)
    for arguments in (["--help"], ["process", "--help"], ["show", payment["payment_id"]], ["list"], ["show", "nobody"]):
        done = payments(*arguments, COLUMNS=str(columns))
        assert max(len(line) for line in (done.out + done.err).splitlines()) <= columns
    listed = payments("list", "--order", payment["order_id"], COLUMNS=str(columns)).out
    assert payment["payment_id"] in listed and "PARTIALLY_REFUNDED" in listed
    assert payment["order_id"][:20] in listed and payment["order_id"][-8:] in listed


def test_a_pipe_gets_a_line_a_payment_and_no_colours(payments: Payments) -> None:
    payment = payments.charged()
    done = payments("list", "--order", payment["order_id"])
    assert "\x1b" not in done.out and len(done.out.splitlines()) == 2
    assert all(
        words in done.out.splitlines()[1] for words in (payment["payment_id"], payment["order_id"], "CAPTURED", "19.99 USD")
    )


def test_a_terminal_gets_colours_unless_it_asks_for_none(payments: Payments) -> None:
    payment = payments.charged()
    assert "\x1b[1;32mCAPTURED" in payments.at_terminal("show", payment["payment_id"]).out
    assert "\x1b" not in payments.at_terminal("show", payment["payment_id"], NO_COLOR="1").out
    assert "\x1b" not in payments.at_terminal("show", payment["payment_id"], "--json").out


def test_a_person_at_a_terminal_is_asked_before_money_goes_back(payments: Payments) -> None:
    order = payments.charged()["order_id"]
    left = payments.at_terminal("refund", order, "5.00", typed="n\n")
    assert (left.exit_code, f"Refund 5.00 USD of order {order}" in left.out) == (1, True)
    assert payments.json("show", order)["amount_refunded"] == 0
    assert payments.at_terminal("refund", order, "5.00", typed="y\n").exit_code == 0
    assert payments.at_terminal("refund", order, "5.00", "--yes").exit_code == 0
    assert payments.json("show", order)["amount_refunded"] == 1000


@pytest.mark.parametrize(
    "arguments",
    [
        ["process", "{new}", "5 USD"],
        ["process", "{new}", "5 USD", "--json"],
        ["process", "{new}", "5 USD", "--url", "http://127.0.0.1:1", "--no-retry"],
        ["process", "{new}", "5 USD", "--url", "http://secret-elsewhere.example.com"],
        ["process", "{new}", "5"],
        ["process", "{new}", "5 USD", "--bearer-token", "s3cret\x01\n"],
        ["process", "--help"],
    ],
    ids=lambda arguments: " ".join(arguments).replace("\x01\n", ""),
)
@pytest.mark.parametrize("given", ["options", "environment"])
def test_no_token_is_ever_printed(payments: Payments, arguments: list[str], given: str) -> None:
    secrets = {"PAYMENTS_BEARER_TOKEN": "bearer-s3cret", "PAYMENTS_PAYMENT_TOKEN": "tok_s3cret"}
    options = ["--bearer-token", "bearer-s3cret", "--payment-token", "tok_s3cret"] if given == "options" else []
    filled = [argument.format(new=new_order()) for argument in arguments]
    done = payments(*filled, *options, **({} if options else secrets))
    assert "s3cret" not in done.out + done.err


JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzM2NyZXQifQ.s3cret"


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        (["--token", "tok_s3cret"], {}, ["--bearer-token", "--payment-token"]),
        (["--token", JWT], {}, ["--bearer-token", "--payment-token"]),
        (["--token", ""], {}, ["--bearer-token", "--payment-token"]),
        ([], {"PAYMENTS_TOKEN": "tok_s3cret"}, ["PAYMENTS_TOKEN", "PAYMENTS_BEARER_TOKEN", "PAYMENTS_PAYMENT_TOKEN"]),
        (["--bearer-token", "tok_s3cret"], {}, ["--payment-token"]),
        ([], {"PAYMENTS_BEARER_TOKEN": " tok_s3cret"}, ["--payment-token"]),
        (["--payment-token", JWT], {}, ["--bearer-token"]),
        ([], {"PAYMENTS_PAYMENT_TOKEN": f"Bearer {JWT}"}, ["--bearer-token"]),
    ],
    ids=str,
)
def test_a_token_in_the_other_ones_place_moves_no_money(
    payments: Payments, options: list[str], variables: dict[str, str], expected: list[str]
) -> None:
    """`--token tok_card_declined` once identified the caller to a service that asks for no token, which took the money."""
    order = new_order()
    done = payments("process", order, "5 USD", *options, **variables)
    assert done.exit_code == 2, done.err
    said = " ".join(done.err.replace("│", " ").split())
    assert all(name in said for name in expected), said
    assert "s3cret" not in done.out + done.err
    assert payments("list", "--order", order, "--json").out == ""


def test_the_old_name_of_the_bearer_token_is_not_offered(payments: Payments) -> None:
    shown = payments("process", "--help", COLUMNS="120").out
    assert "--bearer-token" in shown and "--payment-token" in shown
    assert not re.search(r"\s--token", shown) and "PAYMENTS_TOKEN" not in shown


def test_help_is_good_reading(payments: Payments) -> None:
    overview = payments("--help")
    assert overview.exit_code == 0
    assert all(
        code in overview.out for code in ("0  done", "1  refused", "3  declined", "4  the outcome is not known", "5  the service")
    )
    for command in ("process", "refund", "capture", "void", "show", "sync", "list", "tail", "webhooks", "completions"):
        assert re.search(rf"^│ {command} +\w", overview.out, re.MULTILINE)
        one = payments(command, "--help")
        assert one.exit_code == 0 and "Examples" in one.out and (command in ("webhooks", "completions") or "--json" in one.out)


def test_json_is_the_services_own(payments: Payments) -> None:
    payment = payments.charged("--metadata", "name=Zoë")
    shown = payments.json("show", payment["payment_id"])
    assert shown.pop("history")[0]["to"] == "PENDING" and shown.pop("refunds") == [] and shown.pop("has_more_refunds") is False
    assert shown.pop("disputes") == [] and shown.pop("has_more_disputes") is False
    assert shown == payment and payment["metadata"] == {"name": "Zoë"}
    assert [json.dumps(line["order_id"]) for line in payments("list", "--order", payment["order_id"], "--json").lines]
