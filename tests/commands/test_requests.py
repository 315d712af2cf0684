from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import BaseModel

from payments.api.bodies import MAX_ERRORS, check_idempotency_key, validate
from payments.commands.capture import CaptureRequest
from payments.commands.process import ProcessRequest
from payments.commands.refund import RefundRequest
from payments.commands.void import VoidRequest
from payments.domain.currencies import MINOR_UNIT_DIGITS
from payments.domain.errors import IdempotencyKeyInvalid, InvalidRequest
from tests.cases import case
from tests.domain.test_text import MISTAKABLE

PROCESS: dict[str, Any] = {"order_id": "order-1", "amount": 1999, "currency": "USD", "payment_method": "credit_card"}
TRANSACTION: dict[str, Any] = {"transaction_id": "txn_1"}
MODELS: list[tuple[type[Any], dict[str, Any]]] = [
    (ProcessRequest, PROCESS),
    (CaptureRequest, TRANSACTION),
    (VoidRequest, TRANSACTION),
    (RefundRequest, TRANSACTION),
]
WITH_AMOUNT = [(model, fields) for model, fields in MODELS if "amount" in model.model_fields]


def wrong_fields(model: type[Any], value: object) -> dict[str, str]:
    """Return the errors of `validate`: the message of each location."""
    with pytest.raises(InvalidRequest) as refused:
        validate(model, value)
    errors = refused.value.extra["errors"]
    assert isinstance(errors, list)
    assert all(error.keys() == {"location", "message"} for error in errors)
    return {error["location"]: error["message"] for error in errors}


def test_the_smallest_request_has_defaults() -> None:
    assert validate(ProcessRequest, PROCESS).model_dump() == PROCESS | {
        "payment_token": None,
        "capture_method": "automatic",
        "customer_id": None,
        "description": None,
        "metadata": None,
        "off_session": False,
        "return_url": None,
    }


@pytest.mark.parametrize(("model", "fields"), WITH_AMOUNT)
@pytest.mark.parametrize("amount", [1, 1999, 999_999_999_999])
def test_an_amount_is_a_whole_number_of_minor_units(model: type[Any], fields: dict[str, Any], amount: int) -> None:
    assert validate(model, fields | {"amount": amount}).amount == amount


WRONG_AMOUNTS: dict[str, object] = {
    repr(amount): amount
    for amount in [
        *(19.99, 1999.0, 1e3, "1999", "١٢", "", "1,999", "19.99 USD", True, False, 0, -1, -1999),
        *(math.inf, -math.inf, math.nan, 10**12, 10**30, [1999], {"value": 1999}),
    ]
} | {"10**4000": 10**4000}


@pytest.mark.parametrize(("model", "fields"), WITH_AMOUNT)
def test_the_refusal_of_another_amount_says_what_to_send(model: type[Any], fields: dict[str, Any]) -> None:
    expected = "must be a JSON integer from 1 to 999999999999 in the currency's minor unit, such as 1999 for 19.99 USD"
    for name, amount in WRONG_AMOUNTS.items():
        with case(name):
            assert wrong_fields(model, fields | {"amount": amount})["body.amount"] == expected


def test_every_currency_of_the_table_is_accepted() -> None:
    for code in MINOR_UNIT_DIGITS:
        with case(code):
            assert validate(ProcessRequest, PROCESS | {"currency": code}).currency == code


@pytest.mark.parametrize(
    "code", ["XXX", "XTS", "XAU", "usd", "Usd", "US", "USDD", "", " USD", "U\0D", "US\ud800", "\uff35SD", 840, None]
)
def test_other_currencies_are_refused(code: object) -> None:
    assert "body.currency" in wrong_fields(ProcessRequest, PROCESS | {"currency": code})


TEXT_FIELDS: list[tuple[type[Any], dict[str, Any], str, int]] = [
    (ProcessRequest, PROCESS, "order_id", 64),
    (ProcessRequest, PROCESS, "payment_token", 255),
    (ProcessRequest, PROCESS, "customer_id", 64),
    (ProcessRequest, PROCESS, "description", 500),
    (CaptureRequest, TRANSACTION, "transaction_id", 255),
    (VoidRequest, TRANSACTION, "transaction_id", 255),
    (VoidRequest, TRANSACTION, "reason", 500),
    (RefundRequest, TRANSACTION, "transaction_id", 255),
    (RefundRequest, TRANSACTION, "reason", 500),
]


@pytest.mark.parametrize(("model", "fields", "name", "longest"), TEXT_FIELDS)
def test_a_text_field_takes_text_up_to_its_length(model: type[Any], fields: dict[str, Any], name: str, longest: int) -> None:
    free = ("a\u00a0b", " x ", "e\u0301", "\u200f\u05e9\u05dc\u200f", "for \u2068Zoë\u2069", "می\u200cخ")
    odd = () if name in {"order_id", "customer_id"} else free
    for text in ("x", "é" * longest, "😀" * longest, "注文　7", "o'; DROP TABLE payments --", *odd):
        assert getattr(validate(model, fields | {name: text}), name) == text


@pytest.mark.parametrize(("model", "fields", "name", "longest"), TEXT_FIELDS)
def test_a_text_field_takes_nothing_but_text(model: type[Any], fields: dict[str, Any], name: str, longest: int) -> None:
    for wrong in (7, 1.5, True, ["x"], {"x": "y"}):
        with case(wrong):
            assert list(wrong_fields(model, fields | {name: wrong})) == [f"body.{name}"]


@pytest.mark.parametrize(("model", "fields", "name", "longest"), TEXT_FIELDS)
def test_a_text_field_refuses_what_cannot_be_stored_or_shown(
    model: type[Any], fields: dict[str, Any], name: str, longest: int
) -> None:
    controls = [chr(code) for code in (0, 1, 9, 10, 13, 0x1F, 0x7F, 0x80, 0x85, 0x9F)]
    for wrong in ("", "x" * (longest + 1), "\ud800", "a\udfffb", *controls, *(f"a{control}b" for control in controls)):
        assert list(wrong_fields(model, fields | {name: wrong})) == [f"body.{name}"], repr(wrong)


@pytest.mark.parametrize("name", ["order_id", "customer_id"])
def test_a_new_id_that_another_id_can_be_mistaken_for_is_refused_with_the_rule(name: str) -> None:
    rule = "must be in normal form NFC, without invisible characters and without white space at either end"
    for text in MISTAKABLE:
        with case(text):
            assert wrong_fields(ProcessRequest, PROCESS | {name: text}) == {f"body.{name}": rule}


@pytest.mark.parametrize("code", range(0x202A, 0x202F))
def test_a_free_text_that_reorders_what_follows_is_refused(code: int) -> None:
    rule, text = "must hold no characters that reorder the text (U+202A to U+202E)", f"a{chr(code)}b"
    assert wrong_fields(ProcessRequest, PROCESS | {"description": text}) == {"body.description": rule}
    for model in (VoidRequest, RefundRequest):
        assert wrong_fields(model, TRANSACTION | {"reason": text}) == {"body.reason": rule}
    assert list(wrong_fields(ProcessRequest, PROCESS | {"metadata": {"k": text}}).values()) == [rule]
    assert list(wrong_fields(ProcessRequest, PROCESS | {"metadata": {text: "v"}}).values()) == [rule]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("payment_method", "bitcoin"),
        ("payment_method", "CREDIT_CARD"),
        ("payment_method", None),
        ("capture_method", "later"),
        ("capture_method", None),
        ("order_id", None),
        ("amount", None),
    ],
)
def test_words_that_are_not_on_the_list_and_nulls_are_refused(name: str, value: object) -> None:
    assert list(wrong_fields(ProcessRequest, PROCESS | {name: value})) == [f"body.{name}"]


@pytest.mark.parametrize("method", ["credit_card", "debit_card", "paypal", "stripe"])
def test_the_four_payment_methods_are_accepted(method: str) -> None:
    assert validate(ProcessRequest, PROCESS | {"payment_method": method}).payment_method == method


@pytest.mark.parametrize(
    "metadata", [None, {}, {"a": ""}, {"k" * 40: "v" * 500}, {f"k{n}": "v" for n in range(20)}, {"größe": "44"}]
)
def test_metadata_is_accepted_within_its_limits(metadata: object) -> None:
    assert validate(ProcessRequest, PROCESS | {"metadata": metadata}).metadata == metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {"k" * 41: "v"},
        {"": "v"},
        {"k": "v" * 501},
        {f"k{n}": "v" for n in range(21)},
        {"k": 1},
        {"k": None},
        {"k": {"l": "m"}},
        {"k": ["v"]},
        {"k": "a\0"},
        {"k\n": "v"},
        {"\ud800": "v"},
        {"k": "\ud800"},
        [],
        "text",
        5,
    ],
)
def test_metadata_beyond_its_limits_is_refused(metadata: object) -> None:
    assert all(
        location.startswith("body.metadata") for location in wrong_fields(ProcessRequest, PROCESS | {"metadata": metadata})
    )


@pytest.mark.parametrize(("model", "fields"), MODELS)
def test_every_missing_and_every_unknown_field_is_named(model: type[Any], fields: dict[str, Any]) -> None:
    required = {f"body.{name}": "field required" for name, field in model.model_fields.items() if field.is_required()}
    assert wrong_fields(model, {"owner": "me", "status": "CAPTURED"}) == required | {
        "body.owner": "is not a field of this request",
        "body.status": "is not a field of this request",
    }


@pytest.mark.parametrize(("model", "fields"), MODELS)
def test_a_body_that_is_no_object_is_refused(model: type[Any], fields: dict[str, Any]) -> None:
    for value in (None, [], [PROCESS], "text", 5, True):
        with case(value):
            assert wrong_fields(model, value) == {"body": "must be a JSON object"}


def test_only_the_first_twenty_mistakes_of_a_hostile_body_are_listed() -> None:
    assert len(wrong_fields(ProcessRequest, {f"f{n}": 1 for n in range(1000)})) == MAX_ERRORS


@pytest.mark.parametrize(
    "value",
    [
        PROCESS | {"order_id": "CANARY\0"},
        PROCESS | {"order_id": "CANARY" * 100},
        PROCESS | {"amount": "CANARY"},
        PROCESS | {"currency": "CANARY"},
        PROCESS | {"payment_method": "CANARY"},
        PROCESS | {"metadata": {"CANARY 1": 5}},
        PROCESS | {"metadata": {"CANARY-1": "x\0"}},
        PROCESS | {"metadata": "CANARY"},
        PROCESS | {"CANARY-unknown": 1},
        PROCESS | {"CANARY unknown field": "CANARY"},
        PROCESS | {"CANARY" * 10: "x"},
        "CANARY",
        ["CANARY"],
    ],
    ids=str,
)
def test_what_was_sent_is_never_sent_back(value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        validate(ProcessRequest, value)
    shown = refused.value.detail + json.dumps(refused.value.extra) + repr(refused.value.__cause__)
    assert "CANARY" not in shown
    assert refused.value.__suppress_context__ or refused.value.__context__ is None, (
        "a traceback would show pydantic's error, which holds the input"
    )


def test_requests_are_the_same_when_their_fields_are() -> None:
    def hash_of(**changes: Any) -> str:
        return validate(ProcessRequest, PROCESS | changes).digest

    assert hash_of() == validate(ProcessRequest, dict(reversed(PROCESS.items()))).digest
    assert hash_of() == hash_of(capture_method="automatic", description=None), "a default that is written out changes nothing"
    others = [
        hash_of(order_id="order-2"),
        hash_of(amount=2000),
        hash_of(currency="EUR"),
        hash_of(payment_method="paypal"),
        hash_of(payment_token="tok_ok"),
        hash_of(capture_method="manual"),
        hash_of(customer_id="c"),
        hash_of(description="c"),
        hash_of(metadata={"a": "b"}),
    ]
    assert len({hash_of(), *others}) == 10


def test_the_hash_hides_the_token() -> None:
    assert len(validate(ProcessRequest, PROCESS | {"payment_token": "tok_secret"}).digest) == 64
    assert "tok_secret" not in repr(validate(ProcessRequest, PROCESS | {"payment_token": "tok_secret"}))


@pytest.mark.parametrize("key", ["a", "!", "~", "k" * 255, "019c1234-5678-7abc-8def-0123456789ab", '"quoted"'])
def test_a_key_is_visible_ascii(key: str) -> None:
    assert check_idempotency_key(key) == key


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "é", "a\n", "\0", "a\x7f", "\ud800", "\uff4b"])
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(IdempotencyKeyInvalid):
        check_idempotency_key(key)


def test_requests_cannot_be_changed_after_they_were_checked() -> None:
    request: BaseModel = validate(ProcessRequest, PROCESS)
    with pytest.raises(ValueError, match="frozen"):
        request.order_id = "other"  # type: ignore[attr-defined]
