from __future__ import annotations

import codecs
import gzip
import json
import math
import zlib
from typing import Any

import pytest

from payments.api.bodies import MAX_BODY_BYTES, check_value, parse, validate
from payments.commands.refund import RefundRequest
from payments.domain.errors import BodyTooLarge, InvalidRequest, MalformedJson
from tests.cases import case


def nested(depth: int, opening: str = '{"a":', closing: str = "}") -> bytes:
    return (opening * depth + "1" + closing * depth).encode()


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"amount": 1999}', {"amount": 1999}),
        (b'{"amount": 19.99}', {"amount": 19.99}),
        (b'{"amount": 1999.0}', {"amount": 1999.0}),
        (b'{"amount": 1E3}', {"amount": 1000.0}),
        (b'{"amount": -0}', {"amount": 0}),
        (b'{"amount": 1e400}', {"amount": math.inf}),
        (b'{"amount": "1999"}', {"amount": "1999"}),
        (b'{"amount": true}', {"amount": True}),
        (b"[1]", [1]),
        (b'"text"', "text"),
        (b"null", None),
        (b' \r\n\t{"a":1} ', {"a": 1}),
        ('{"a": "注文"}'.encode(), {"a": "注文"}),
        (b'{"a": "\\u0000\\ud800"}', {"a": "\0\ud800"}),
        (b'{"a": {"b": 1}, "c": {"b": 1}}', {"a": {"b": 1}, "c": {"b": 1}}),
        (nested(8), json.loads(nested(8))),
        (nested(8, "[", "]"), [[[[[[[[1]]]]]]]]),
    ],
)
def test_json_is_read(body: bytes, value: Any) -> None:
    read = parse(body)
    assert read == value
    assert repr(read) == repr(value), "1999 and 1999.0 are equal but have different types"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"a":}',
        b'{"a":1,}',
        b"{'a':1}",
        b"{a:1}",
        b'{"a":1}{"b":2}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":0x10}',
        b'{"a":1_000}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":True}',
        '{"a":١٢}'.encode(),
        b'{"a":"line\nbreak"}',
        b'{"a":"\x00"}',
        b'{"a":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"metadata":{"a":"x","a":"y"}}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\xed\xa0\x80"}',
        '{"a":1}'.encode("utf-16"),
        nested(9),
        nested(9, "[", "]"),
        nested(5000, "[", "]"),
        b"[" * 16_000,
        b'{"a":' * 3000,
    ],
    ids=lambda body: repr(body[:24]) + f" of {len(body)}",
)
def test_what_two_parsers_could_read_differently_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedJson) as refused:
        parse(body)
    assert refused.value.detail.endswith(".")


def test_the_position_of_the_mistake_is_told() -> None:
    with pytest.raises(MalformedJson, match="line 2, column 6"):
        parse(b'{"a": 1,\n "b" 2}')
    with pytest.raises(MalformedJson, match="byte 6"):
        parse(b'{"a":"\xff"}')


JSON = b'{"a": "x"}'

NOT_UTF8_JSON: dict[str, list[bytes]] = {
    "is empty; send a JSON object": [b"", b" ", b"\r\n\t ", b" " * 5000],
    "begins with a byte order mark; send UTF-8 without one": [b"\xef\xbb\xbf" + JSON, b"\xef\xbb\xbf"],
    "is UTF-16 or UTF-32; send UTF-8": [
        JSON.decode().encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
    ]
    + [codecs.BOM_UTF16_BE + JSON.decode().encode("utf-16-be"), codecs.BOM_UTF32_BE + JSON.decode().encode("utf-32-be")],
    "is compressed; send it as it was before": [
        gzip.compress(JSON),
        *(zlib.compress(JSON, level) for level in range(-1, 10)),
        bytes.fromhex("28b52ffd0458510000") + JSON,
    ],
}


@pytest.mark.parametrize("problem", NOT_UTF8_JSON)
def test_a_body_in_another_form_is_refused_with_what_to_send(problem: str) -> None:
    for body in NOT_UTF8_JSON[problem]:
        with case(body), pytest.raises(MalformedJson) as refused:
            parse(body)
        assert refused.value.detail == f"The body {problem}."


def test_json_that_was_encoded_twice_is_refused_and_called_so() -> None:
    with pytest.raises(InvalidRequest, match="encoded twice"):
        validate(RefundRequest, parse(json.dumps(json.dumps({"transaction_id": "txn_1"})).encode()))
    with pytest.raises(InvalidRequest) as refused:
        validate(RefundRequest, parse(b"[]"))
    assert refused.value.detail == "Send a JSON object."


@pytest.mark.parametrize("body", [b'{"canary7":tru}', b'{"a":"canary7\\q"}', b'{"canary7":1,"canary7":1}', b'canary7{"a":1}'])
def test_the_message_does_not_quote_the_body(body: bytes) -> None:
    with pytest.raises(MalformedJson) as refused:
        parse(body)
    assert "canary7" not in refused.value.detail


@pytest.mark.parametrize("digits", [30, 40, 41, 4300, 15_000])
def test_a_number_of_any_length_is_read_without_an_error_and_is_no_possible_amount(digits: int) -> None:
    value = parse(b'{"amount":' + b"9" * digits + b"}")["amount"]
    assert value > 999_999_999_999


def test_16_kilobytes_are_accepted_and_one_byte_more_is_not() -> None:
    body = b'{"a":"' + b"x" * (MAX_BODY_BYTES - 8) + b'"}'
    assert len(parse(body)["a"]) == MAX_BODY_BYTES - 8
    with pytest.raises(BodyTooLarge, match=f"this body has {MAX_BODY_BYTES + 1}"):
        parse(body.replace(b"x", b"xx", 1))


@pytest.mark.parametrize("depth", [1, 8])
def test_a_payload_that_lambda_has_parsed_passes_within_the_same_limits(depth: int) -> None:
    check_value(json.loads(nested(depth)))
    check_value({"a": "\ud800\0"})


def test_a_payload_that_lambda_has_parsed_is_held_to_the_same_limits() -> None:
    with pytest.raises(MalformedJson, match="nested"):
        check_value(json.loads(nested(9)))
    with pytest.raises(BodyTooLarge):
        check_value({"a": "ü" * (MAX_BODY_BYTES // 2)})
