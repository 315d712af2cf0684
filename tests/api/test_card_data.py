"""A card number in every place of a request that can hold one: the service refuses it and keeps it nowhere.

tests/functions/test_card_data.py does the same to the functions in the real runtime, whose whole output it reads.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from payments import telemetry
from payments.api import direct
from payments.commands.service import Service
from payments.gateway.port import Approved, GatewayRequest, Reply
from tests.api_client import PAYMENTS, Answer, Api, Context, order
from tests.api_fixtures import INSTANT
from tests.card_number import CARD, FORMS, holds_card_number, rows_with_card_number
from tests.cases import case
from tests.fakes import AnyGateway
from tests.servers import Broker, Database
from tests.topic import messages

LOOKED_UP = ["/payment/{}", "/refund/{}", "/payment/{}/refunds", "/payment/{}/history", "/order/{}", "/transaction/{}"]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Collect what the service logs, in the form in which it is written."""
    (handler,) = telemetry.logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    before = handler.setStream(written)
    yield written
    handler.setStream(before)


@dataclass
class Ask:
    """Keeps the answers, to search them for the number at the end."""

    api: Api
    answers: list[Answer]

    def refused(self, answer: Answer) -> None:
        self.answers.append(answer)
        assert (answer.status, answer.code) == (422, "card_data_not_accepted"), answer.text

    def not_accepted(self, answer: Answer) -> None:
        """Expect a refusal for any reason."""
        self.answers.append(answer)
        assert 400 <= answer.status < 500


@pytest.fixture
def ask(
    api: Api, log: io.StringIO, capfd: pytest.CaptureFixture[str], database: Database, broker: Broker, topic: str
) -> Iterator[Ask]:
    """After the test, look for the number in the answers, the log, the output, every table and the topic."""
    asked = Ask(api, [])
    yield asked
    output = capfd.readouterr()
    told = [*(answer.text + json.dumps(dict(answer.headers)) for answer in asked.answers), log.getvalue(), output.out, output.err]
    assert asked.answers
    assert not [text for text in told if holds_card_number(text)]
    assert rows_with_card_number(database) == []
    assert not [message for message in messages(broker.bootstrap_servers, topic) if holds_card_number(message.text)]


@pytest.mark.parametrize(
    "place",
    [
        lambda card: {"order_id": card},
        lambda card: {"customer_id": card},
        lambda card: {"description": f"paid with {card}, thanks"},
        lambda card: {"description": f"({card})"},
        lambda card: {"payment_token": card},
        lambda card: {"currency": card},
        lambda card: {"payment_method": card},
        lambda card: {"amount": card},
        lambda card: {"metadata": {"note": card}},
        lambda card: {"metadata": {card: "note"}},
        lambda card: {"metadata": {"a": [{"b": [card]}]}},
        lambda card: {"unknown": card},
        lambda card: {card: 1},
        lambda card: {"operation": card},
    ],
    ids=[
        "order",
        "customer",
        "in a text",
        "in brackets",
        "token",
        "currency",
        "method",
        "amount",
        "metadata",
        "key",
        "deep",
        "unknown",
        "name",
        "op",
    ],
)
def test_no_field_of_a_request_to_process_accepts_one(place: Callable[[str], dict[str, object]], ask: Ask) -> None:
    for form, card in FORMS.items():
        with case(form):
            ask.refused(ask.api.post("process", order() | place(card)))
            ask.refused(ask.api.post("process", json.dumps(order() | place(card), ensure_ascii=False).encode()))


@pytest.mark.parametrize("command", ["capture", "void", "refund"])
def test_no_field_of_the_other_commands_accepts_one(command: str, ask: Ask) -> None:
    for form, card in FORMS.items():
        for fields in ({"transaction_id": card}, {"reason": f"was {card}"}, {"amount": card}, {card: 1}):
            with case(form, fields):
                ask.refused(ask.api.post(command, {"transaction_id": "txn_1"} | fields))


@pytest.mark.parametrize("command", ["process", "capture", "void", "refund"])
def test_no_json_accepts_one(command: str, ask: Ask) -> None:
    numbers = ['{"amount": {card}}', '{"amount": {card}.0}', '{"amount": {card}e0}']
    for body in ("{card}", '"{card}"', '["{card}"]', "[[{card}]]", *numbers):
        with case(body):
            ask.refused(ask.api.post(command, body.replace("{card}", CARD)))


@pytest.mark.parametrize(
    "name", ["cvv", "CVC", "cvv2", "card_number", "cardNumber", "card-number", "track2", "security_code", "cc_number"]
)
def test_no_field_with_such_a_name_is_accepted_whatever_it_holds(name: str, ask: Ask) -> None:
    ask.refused(ask.api.post("process", order() | {name: "123"}))
    ask.refused(ask.api.post("process", order(metadata={name: "123"})))
    ask.refused(ask.api.get("", query=f"{quote(name)}=1"))


@pytest.mark.parametrize(
    "body", ["{card", '{"order_id": "{card}"', "{card}{card}", '{"{card}": 1, "{card}": 2}', '"{card}\n"', "\ufeff{card}"]
)
def test_malformed_json_is_not_told_back(body: str, ask: Ask) -> None:
    ask.not_accepted(ask.api.post("process", body.replace("{card", CARD)))
    ask.not_accepted(ask.api.post("process", body.replace("{card", CARD).encode() + b"\xff"))


@pytest.mark.parametrize("path", LOOKED_UP)
def test_no_path_accepts_one(path: str, ask: Ask) -> None:
    for form, card in FORMS.items():
        with case(form):
            for id_ in (card, f"x {card}", f"?{card}", f"#{card}", f"a;b={card}"):
                ask.refused(ask.api.get(path.replace("{}", id_)))
            ask.not_accepted(ask.api.get(f"/nowhere/{card}"))
            ask.not_accepted(ask.api.call("POST", f"{PAYMENTS}/process/{card}", order()))


@pytest.mark.parametrize("path", ["", "/payment/of-nobody", "/order/of-nobody", "/transaction/of-nobody"])
def test_no_query_accepts_one(path: str, ask: Ask) -> None:
    names = ["order_id={}", "cursor={}", "limit={}", "unknown={}", "{}=1", "order_id={}&order_id=x"]
    for form, card in FORMS.items():
        for query in names:
            with case(form, query):
                ask.refused(ask.api.get(path, query=query.format(quote(card))))
        with case(form, "health"):
            ask.refused(ask.api.call("GET", "/health", query=f"deep={quote(card)}"))


@pytest.mark.parametrize(
    "header", ["idempotency-key", "user-agent", "referer", "cookie", "x-request-id", "accept-language", "content-type", "x-card"]
)
def test_no_header_accepts_one(header: str, ask: Ask) -> None:
    for form in ("plain", "spaces", "dashes"):
        with case(form):
            headers = {header: FORMS[form]}
            ask.refused(ask.api.post("process", order(), headers=headers))
            ask.refused(ask.api.get("", headers=headers))
            ask.refused(ask.api.call("GET", "/health", headers=headers))


def test_one_in_a_credential_or_a_trace_header_is_kept_nowhere(ask: Ask) -> None:
    for header in ("authorization", "traceparent", "tracestate", "x-amzn-trace-id"):
        answer = ask.api.post("process", order(), headers={header: CARD})
        assert answer.status == 201
        ask.answers.append(answer)


def test_decimal_trace_ids_are_no_card_numbers_and_a_card_number_is_no_trace_id(ask: Ask) -> None:
    traced = {
        "x-datadog-trace-id": "4611686018427387901",
        "x-datadog-parent-id": "6205500000000000004",
        "x-cloud-trace-context": "105445aa7843bc8bf206b12000100000/4000000000000000006;o=1",
    }
    answer = ask.api.post("process", order(metadata={"dd.trace_id": "6205500000000000004"}), headers=traced)
    assert answer.status == 201, answer.text
    for header in traced:
        ask.refused(ask.api.post("process", order(), headers={header: CARD}))


def test_a_direct_invocation_is_refused_like_a_request(ask: Ask, make_service: Callable[..., Service]) -> None:
    service = make_service()
    for form, card in FORMS.items():
        with case(form):
            answer = direct.invoke(order(metadata={"note": card}), Context(), service, "shop", "process")
            assert (answer["outcome"], answer["body"]["code"]) == ("refused", "card_data_not_accepted")
            assert answer["body"]["errors"] == [{"location": "body.metadata.note", "message": "looks like a card number"}]
            ask.answers.append(Answer(422, {}, json.dumps(answer)))


def test_order_numbers_by_date_and_codes_of_shops_are_accepted(api: Api) -> None:
    for order_id in ("20260826051811", "2608260518110042", "304-1234567-1234567", "DE89370400440532013000"):
        with case(order_id):
            answer = api.post("process", order(order_id=order_id, metadata={"cid": "12345", "pan": "AB-7"}))
            assert answer.status == 201, answer.text


def test_the_refusal_says_which_member_it_is_and_never_shows_a_name_that_may_be_a_number(ask: Ask) -> None:
    refusals: dict[str, Callable[[], Answer]] = {
        "body.metadata.note": lambda: ask.api.post("process", order(metadata={"note": f"VISA{CARD}"})),
        "body.metadata.?": lambda: ask.api.post("process", order(metadata={f"note {CARD}": "x"})),
        "body.metadata.cvv": lambda: ask.api.post("process", order(metadata={"cvv": "123"})),
        "header.x-note": lambda: ask.api.post("process", order(), headers={"x-note": CARD}),
        "query.order_id": lambda: ask.api.get("", query=f"order_id={CARD}"),
        "query.?": lambda: ask.api.get("", query=f"{CARD}=1"),
        "path": lambda: ask.api.get(f"/order/{CARD}"),
    }
    for location, refusal in refusals.items():
        with case(location):
            answer = refusal()
            ask.refused(answer)
            assert [error["location"] for error in answer.body["errors"]] == [location]
            assert answer.body["detail"].startswith(f"{location} ")


class Boom(Exception):
    """Its message holds the number in every form, as that of a careless library might."""

    def __init__(self) -> None:
        super().__init__("\n".join(f"card\t{form}" for form in FORMS.values()))


def _boom(*_: object) -> Any:
    raise Boom


@dataclass(frozen=True)
class Careless(AnyGateway):
    """A gateway that fails with the number in its message."""

    charge: Callable[[GatewayRequest], Reply] = _boom
    capture: Callable[[GatewayRequest], Reply] = _boom
    void: Callable[[GatewayRequest], Reply] = _boom
    refund: Callable[[GatewayRequest], Reply] = _boom


def test_an_exception_with_one_is_logged_without_it(ask: Ask, make_service: Callable[..., Service], log: io.StringIO) -> None:
    for service in (make_service(clock=_boom), make_service(new_id=_boom)):
        answer = Api(service).post("process", order())
        assert answer.code == "internal_error"
        ask.answers.append(answer)
    answer = Api(make_service(gateway=Careless())).post("process", order())
    assert answer.status == 202
    ask.answers.append(answer)
    for command in ("capture", "void"):
        half = Careless(charge=INSTANT.charge)
        held = Api(make_service(gateway=half))
        ask.answers.append(held.post(command, {"transaction_id": held.authorize()["transaction_id"]}))
        assert ask.answers[-1].status == 202
    logged = log.getvalue()
    assert logged.count("Boom") >= 5
    assert "[card number removed]" in logged


@pytest.mark.parametrize("form", FORMS)
def test_no_way_of_logging_lets_one_through(form: str, log: io.StringIO) -> None:
    card = FORMS[form]
    logger = telemetry.logger
    logger.info(card)
    logger.warning("a\n%s\tb", card)
    logger.error("number", extra={"card": card, card: 1, "deep": {"list": [{"number": f"x {card}"}], "tuple": (card,)}})
    logger.info({"message": card, "more": [card]})
    logger.info("an object", extra={"object": Boom(), "bytes": card.encode()})
    if card.isdigit():
        numbers = (int(card), -int(card), float(card), {"deep": [float(card)]})
        logger.info("a number", extra={"number": numbers})
    logger.append_keys(key=card)
    logger.info("with keys")
    logger.remove_keys(["key"])
    try:
        raise Boom from ValueError(card)
    except Boom:
        logger.exception("it\n%s", card)
    lines = log.getvalue().splitlines()
    assert len(lines) >= 7
    assert all(isinstance(json.loads(line), dict) for line in lines), "what is left is JSON"
    assert not holds_card_number(log.getvalue())


def test_what_looks_like_one_to_luhn_alone_is_let_through(api: Api) -> None:
    """Payments with such ids must not fail."""
    uuid = "42424242-4242-4242-8242-424242424242"
    for fields in ({"order_id": uuid}, {"metadata": {"id": uuid}}, {"description": "order 1234567890123456"}):
        assert api.post("process", order() | fields, owner=f"owner {fields}").status == 201
    assert api.get("/transaction/txn_4929123456789015a1b2c3d4").code == "payment_not_found"
    assert api.get(f"/payment/{uuid}").code == "payment_not_found"


def test_the_search_would_find_one(database: Database, make_service: Callable[..., Service]) -> None:
    """The tests above can fail: the service stores a gateway's answer unchanged, so the search finds this number."""

    class Chatty(AnyGateway):
        def charge(self, request: GatewayRequest) -> Reply:
            ids = f"txn_{request.key}", f"pi_{request.key}"
            return Approved(*ids, request.amount_minor, request.currency, {"note": "4000 0566 5566 5556"})

    Api(make_service(gateway=Chatty())).post("process", order())
    assert rows_with_card_number(database, "4000056655665556") == ["operations"]
    assert all(holds_card_number(f"…{form}…") for form in FORMS.values())
    assert holds_card_number(json.dumps(FORMS["wide"]))
    assert not holds_card_number(re.sub(r"\d", "0", CARD))
