"""The form of a request. A malformed request is refused, is not repeated in the answer and causes no 500."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping

import pytest

from tests.api_client import Api, order
from tests.cases import case

COMMANDS = ["process", "capture", "void", "refund"]


def _padded(size_bytes: int) -> str:
    """Return a valid request of that size, filled up with white space."""
    text = json.dumps(order())
    return text + " " * (size_bytes - len(text))


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json; charset=utf8; x=y",
        "application/json;",
        " application/json ; x=y",
    ],
)
def test_json_is_accepted_however_its_type_is_written(media_type: str, api: Api) -> None:
    assert api.post("process", order(), headers={"content-type": media_type}).status == 201


@pytest.mark.parametrize("command", COMMANDS)
def test_other_media_types_are_refused(command: str, api: Api) -> None:
    for media_type in (
        "",
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/problem+json",
        "application/x-www-form-urlencoded",
        "*/*",
        "json",
    ):
        with case(media_type):
            assert api.post(command, order(), headers={"content-type": media_type}).code == "unsupported_media_type"


@pytest.mark.parametrize("command", COMMANDS)
def test_another_charset_is_refused_with_what_to_send(command: str, api: Api) -> None:
    for charset in ("latin1", "iso-8859-1", "UTF-16", '"utf-16le"', "utf-8x", "ascii", ""):
        with case(charset):
            answer = api.post(command, order(), headers={"content-type": f"application/json; x=y; Charset = {charset}"})
            assert answer.code == "unsupported_media_type"
            assert answer.body["detail"] == "Send the body as Content-Type: application/json, in UTF-8."


@pytest.mark.parametrize("command", COMMANDS)
def test_a_compressed_body_is_refused_with_what_to_send(command: str, api: Api) -> None:
    for encoding in ("gzip", "GZIP", "deflate", "br", "zstd", "compress", "gzip, identity", "aws-chunked", "utf-8"):
        with case(encoding):
            answer = api.post(command, gzip.compress(json.dumps(order()).encode()), headers={"content-encoding": encoding})
            assert answer.code == "unsupported_media_type"
            assert answer.body["detail"] == "Send the body uncompressed, without Content-Encoding."
    for encoding in ("", "identity", " Identity "):
        with case(encoding):
            assert api.post("process", order(), headers={"content-encoding": encoding}).status == 201


def test_a_body_of_16_kb_is_accepted_and_a_byte_more_is_not(api: Api) -> None:
    assert api.post("process", _padded(16 * 1024)).status == 201
    assert api.post("process", _padded(16 * 1024 + 1)).code == "body_too_large"
    assert api.post("process", _padded(16 * 1024).encode()).status == 201
    assert api.post("process", _padded(16 * 1024 + 1).encode()).code == "body_too_large"


def test_a_limit_in_bytes_counts_bytes(api: Api) -> None:
    wide = order(metadata={f"key-{number}": "語" * 500 for number in range(11)})
    assert api.post("process", json.dumps(wide, ensure_ascii=False)).code == "body_too_large"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("body", [" " * 40_000, "[" * 40_000, '"' + "x" * 40_000 + '"', b"\xff" * 40_000])
def test_40_kb_are_too_large_whatever_they_hold(command: str, body: object, api: Api) -> None:
    assert api.post(command, body).code == "body_too_large"


MALFORMED: Mapping[str, str | bytes] = {
    "nothing": "",
    "white space": "  ",
    "half": "{",
    "a comma too many": '{"order_id": "o",}',
    "single quotes": "{'order_id': 'o'}",
    "two values": "{} {}",
    "a word": "nil",
    "a comment": "{} // fine",
    "a byte order mark": "\ufeff{}",
    "a raw line break in a string": '{"order_id": "a\nb"}',
    "NaN": '{"amount": NaN}',
    "Infinity": '{"amount": Infinity}',
    "minus Infinity": '{"amount": -Infinity}',
    "a number with leading zero": '{"amount": 01}',
    "Arabic digits": '{"amount": ١٢}',
    "duplicate keys": '{"amount": 1, "amount": 2}',
    "duplicate keys inside": '{"metadata": {"a": "1", "a": "2"}}',
    "duplicate keys, one escaped": '{"amount": 1, "\\u0061mount": 2}',
    "depth 9": "[" * 9 + "]" * 9,
    "depth 200": "[" * 200 + "]" * 200,
    "depth 200 of objects": '{"a":' * 200 + "1" + "}" * 200,
    "depth 8000": "[" * 8000 + "]" * 8000,
    "half of depth 16000": "[" * 16_000,
    "invalid UTF-8": b'{"order_id": "\xff"}',
    "an overlong NUL": b'{"order_id": "\xc0\x80"}',
    "a surrogate in UTF-8": b'{"order_id": "\xed\xa0\x80"}',
    "UTF-16": json.dumps({"order_id": "o"}).encode("utf-16"),
    "zeros": b"\0" * 10,
}


@pytest.mark.parametrize("command", ["process", "refund"])
def test_what_is_no_json_is_malformed(command: str, api: Api) -> None:
    for name, body in MALFORMED.items():
        with case(name):
            assert api.post(command, body).code == "malformed_json"


@pytest.mark.parametrize("command", COMMANDS)
def test_json_that_is_no_object_is_invalid(command: str, api: Api) -> None:
    for body in ("[]", "[{}]", '"text"', "1", "true", "null", "[" * 8 + "]" * 8, "1e400", "9" * 5000):
        with case(body):
            answer = api.post(command, body)
            assert answer.code == "invalid_request"
            assert answer.body["errors"] == [{"location": "body", "message": "must be a JSON object"}]


@pytest.mark.parametrize(
    "amount",
    [
        "19.99",
        "1999.0",
        "1E3",
        '"1999"',
        "true",
        "0",
        "-1",
        "-0",
        "1e400",
        '"١٢"',
        str(10**30),
        "1000000000000",
        "null",
        "[]",
        "{}",
        "9" * 5000,
    ],
)
def test_an_amount_is_a_json_integer_in_range(amount: str, api: Api) -> None:
    text = json.dumps(order(amount="AMOUNT")).replace('"AMOUNT"', amount)
    (error,) = api.post("process", text).body["errors"]
    assert error["location"] == "body.amount"
    assert "integer from 1 to 999999999999" in error["message"]
    assert "1999 for 19.99 USD" in error["message"]


@pytest.mark.parametrize("amount", [1, 999_999_999_999])
def test_the_ends_of_the_range_are_amounts(amount: int, api: Api) -> None:
    assert api.post("process", order(amount=amount)).body["amount"] == amount


@pytest.mark.parametrize("currency", ["XXX", "XTS", "XAU", "usd", "US", "USDX", "", "€", None, 840, ["USD"]])
def test_a_currency_is_an_iso_code_with_a_minor_unit(currency: object, api: Api) -> None:
    (error,) = api.post("process", json.dumps(order() | {"currency": currency})).body["errors"]
    assert error["location"] == "body.currency"


@pytest.mark.parametrize("currency", ["JPY", "KWD", "CLF"])
def test_currencies_of_0_3_and_4_decimals_are_fine(currency: str, api: Api) -> None:
    assert api.post("process", order(currency=currency)).status == 201


UNPRINTABLE = ["\0", "\x07", "\n", "\x7f", "\x85", "\ud800", "a\udfffb"]


@pytest.mark.parametrize("field", ["order_id", "customer_id", "description", "payment_token"])
def test_control_characters_and_lone_surrogates_are_refused(field: str, api: Api) -> None:
    for text in UNPRINTABLE:
        with case(text):
            (error,) = api.post("process", order(**{field: f"a{text}b"})).body["errors"]
            assert error["location"] == f"body.{field}"
            # To Pydantic a lone surrogate is no text at all, and the message is its own.
            is_text = text.encode(errors="ignore").decode() == text
            assert not is_text or error["message"] == "must hold no control characters, NUL or lone surrogates"


@pytest.mark.parametrize("text", UNPRINTABLE)
def test_metadata_and_the_other_commands_refuse_them_too(text: str, api: Api) -> None:
    for answer in (
        api.post("process", order(metadata={f"a{text}": "b"})),
        api.post("process", order(metadata={"a": f"b{text}"})),
        api.post("capture", {"transaction_id": f"txn_{text}"}),
        api.post("void", {"transaction_id": "txn_1", "reason": text}),
        api.post("refund", {"transaction_id": "txn_1", "reason": text}),
        api.post("process", order() | {f"a{text}": 1}),
    ):
        assert answer.code == "invalid_request"
        assert answer.text.isascii(), "the answer repeats the name or the value"


LIMITS = {"order_id": 64, "customer_id": 64, "description": 500, "payment_token": 255}


@pytest.mark.parametrize("field", LIMITS)
def test_texts_are_limited_in_characters(field: str, api: Api) -> None:
    fits, too_long = "😀" * LIMITS[field], "😀" * (LIMITS[field] + 1)
    assert api.post("process", order(**{field: fits})).status == 201
    for wrong in (too_long, "", 7, ["a"], {"a": "b"}, True):
        (error,) = api.post("process", order() | {field: wrong}).body["errors"]
        assert error["location"] == f"body.{field}"


@pytest.mark.parametrize(
    ("metadata", "fits"),
    [
        ({str(number): "x" for number in range(20)}, True),
        ({str(number): "x" for number in range(21)}, False),
        ({"k" * 40: "v" * 500}, True),
        ({"k" * 41: "v"}, False),
        ({"k": "v" * 501}, False),
        ({"": "v"}, False),
        ({"k": ""}, True),
        ({"k": 1}, False),
        ({"k": None}, False),
        ({"k": {"nested": "x"}}, False),
        ([], False),
        ("text", False),
    ],
)
def test_metadata_is_limited_in_pairs_keys_and_values(metadata: object, fits: bool, api: Api) -> None:
    answer = api.post("process", order(metadata=metadata))
    assert answer.status == (201 if fits else 422)
    assert not fits or answer.body["metadata"] == metadata


@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"payment_method": "cash"}, "body.payment_method"),
        ({"payment_method": None}, "body.payment_method"),
        ({"capture_method": "later"}, "body.capture_method"),
        ({"capture_method": None}, "body.capture_method"),
        ({"tip": 1}, "body.tip"),
        ({"idempotency_key": "k"}, "body.idempotency_key"),
        ({"operation": "process"}, "body.operation"),
        ({"owner": "other"}, "body.owner"),
        ({"status": "CAPTURED"}, "body.status"),
        ({"<script>": 1}, "body.?"),
        ({"x" * 41: 1}, "body.?"),
    ],
)
def test_wrong_and_unknown_fields_are_named(fields: dict[str, object], location: str, api: Api) -> None:
    (error,) = api.post("process", json.dumps(order() | fields)).body["errors"]
    assert error["location"] == location
    assert error["message"]


def test_every_missing_field_is_named(api: Api) -> None:
    errors = api.post("process", {}).body["errors"]
    assert [error["location"] for error in errors] == ["body.order_id", "body.amount", "body.currency", "body.payment_method"]
    for command in ("capture", "void", "refund"):
        [error] = api.post(command, {}).body["errors"]
        assert (error["location"], error["message"]) == (
            "body",
            "must name the payment by exactly one of transaction_id, payment_id, order_id",
        )


def test_errors_never_repeat_the_input_and_are_at_most_twenty(api: Api) -> None:
    wrong = order(amount="hush-1", currency="hush-2", payment_method="hush-3", metadata={f"hush-{n}": n for n in range(30)})
    answer = api.post("process", wrong | {"hush-4": "hush-5", "capture_method": ["hush-6"]})
    assert answer.code == "invalid_request"
    assert len(answer.body["errors"]) == 20
    assert "hush" not in answer.text


def test_optional_fields_may_be_null(api: Api) -> None:
    nothing = dict.fromkeys(("payment_token", "customer_id", "description", "metadata"))
    assert api.post("process", json.dumps(order() | nothing)).status == 201
