"""The card filter on published test numbers in many forms, and on corpora of numbers that are no card numbers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from random import Random
from time import process_time
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payments.domain.card_data import REMOVED, contains_card_number, redact, refuse_card_data
from payments.domain.errors import CardDataNotAccepted
from tests.cases import case
from tests.luhn import luhn_digit
from tests.other_numbers import CORPORA, SIZE, sample
from tests.payment_cards import FORMS, PUBLISHED

CARD = "4242424242424242"

WITH_A_NUMBER = [
    CARD,
    "4242 4242 4242 4242",
    "3782 822463 10005",
    "4 2 4 2 4 2 4 2 4 2 4 2 4 2 4 2",
    "220101151234567" + luhn_digit("220101151234567"),  # Mir; the digits could be a date of 2022
    "17.4242424242424242",  # 18 digits are more than a program writes of a fraction
    "4242,4242,4242,4242,12/29,123",
    "1010 4242 4242 4242 4242",
    '["4242 4242 4242 4242", 1]',
    "50% off%204242%204242%204242%204242",
    "%4%2%4242424242424242",
    "my card is 4242 4242 4242 4242, thanks",
    "order 17 4242 4242 4242 4242",
    "4242 4242 4242 4242 12/29 123",
    "2026-01-31 4242424242424242",
    "txn_4242424242424242",
    "order pi_4242424242424242",
    "abcdef633473060000000000",  # as long as an id of the gateway's, but all its letters stand in front
    "DK5019717010103742",  # as long as a Danish IBAN, without its check digits
    "\uff14\uff12" * 8,
    "\u0664\u0662" * 8,
    "4242\u200b4242\u200b4242\u200b4242",
    "4242\u00a04242\u00a04242\u00a04242",
    "é4242424242424242",
]

WITHOUT_A_NUMBER = [
    "",
    "order-1",
    "4242424242424241",  # one digit off: not Luhn
    "4242 4242 4242 4241",
    "1234567812345670",  # Luhn, but of no issuer
    "0000000000000000",
    "7992739871300000007",
    "424242424242",  # 12 digits
    "424242424242420",  # Luhn, but no Visa has 15
    "42424242424242424242",  # 20 in one piece
    "424 2424242 424242",  # no card has such groups
    "4242424-242424242",
    "4242    4242    4242    4242",
    "20260826051811",
    "+1 415 555 2671",
    "+49 (0)89 / 1234-5678",
    "2026-01-31 12:00:00",
    "1769860800000",  # a time in milliseconds
    "42424242-4242-4242-4242-424242424242",
    "id 42424242-4242-4242-4242-424242424242",
    "00-42424242424242424242424242424242-4242424242424242-01",
    "Root=1-42424242-424242424242424242424242",
    "0.4242424242424242",
    "86.4303753758006",  # coordinates
    "424242.4242424242",
    "4242,4242,4242,4242,4242",  # a list of ids
    "4,2,4,2,4,2,4,2,4,2,4,2,4,2,4,2",  # ratings
    "42.42 42.42 42.42 42.42",  # prices
    "42424242, 42424242",
    "42 42 42 42 42 42 42 42 17 18 19",  # a list of sizes
    "4242-20260826-4242",
    "4006381333931",  # the bar code of a pen
    "5 4 5 5 3 4 5 4 4 5 5 3 5 5 4 1 5 3 5 4 5 5 2 5 4 4 5 5 5 5",  # ratings, which hold a card number in the middle
]


@pytest.mark.parametrize("brand", PUBLISHED)
def test_no_published_card_number_passes_in_any_form(brand: str) -> None:
    for number in PUBLISHED[brand]:
        assert luhn_digit(number[:-1]) == number[-1]
        for form, written in FORMS.items():
            with case(form, number):
                text = written(number)
                assert contains_card_number(text)
                assert not contains_card_number(redact(text))
                assert REMOVED in redact(text)


OUR_IDS = ("random UUIDs", "UUIDs by time", "ids of gateways", "traceparents", "digests")


@pytest.mark.parametrize("corpus", [name for name in CORPORA if name not in OUR_IDS])
def test_fewer_than_one_in_a_thousand_other_numbers_is_refused(corpus: str) -> None:
    for number, make in enumerate(CORPORA[corpus]):
        with case(corpus, number):
            texts = sample(corpus, make)
            refused = [text for text in texts if contains_card_number(text)]
            assert len(refused) < len(texts) / 1000, refused[:10]


@pytest.mark.parametrize("corpus", OUR_IDS)
def test_no_id_that_we_make_is_taken_for_a_card_number(corpus: str) -> None:
    """A payment whose id was refused could never be looked up."""
    for text in (text for make in CORPORA[corpus] for text in sample(corpus, make)):
        line = f'{{"payment_id": "{text}", "key": "pay-{text}"}}'
        assert redact(line) == line


TRACE_HEADERS: dict[str, Callable[[Random], str]] = {
    "x-datadog-trace-id": lambda random: str(random.getrandbits(63)),
    "x-datadog-parent-id": lambda random: str(random.getrandbits(64)),
    "x-cloud-trace-context": lambda random: f"{random.randbytes(16).hex()}/{random.getrandbits(64)};o=1",
    "dd.trace_id": lambda random: str(random.getrandbits(64)),
    "logging.googleapis.com/spanId": lambda random: str(random.getrandbits(63)),
    "b3": lambda random: f"{random.randbytes(16).hex()}-{random.randbytes(8).hex()}-1",
}


def test_fewer_than_one_in_a_thousand_requests_with_trace_ids_is_refused() -> None:
    random = Random(0)
    headers = [{name: make(random) for name, make in TRACE_HEADERS.items()} for _ in range(SIZE)]
    refused = [each for each in headers if any(contains_card_number(text, name) for name, text in each.items())]
    assert len(refused) < SIZE / 1000, refused[:10]


def test_a_long_number_is_an_id_only_where_the_name_speaks_of_a_trace() -> None:
    number = "461168601842738790" + luhn_digit("461168601842738790")  # as large as 62 bits
    for name in (
        "x-datadog-trace-id",
        "dd.span_id",
        "parentId",
        "X-Cloud-Trace-Context",
        "TRACE_ID",
        "traceid",
        "SpanID",
        "span.id",
    ):
        refuse_card_data({name: number}, "header")
        refuse_card_data({name: int(number)})
        with pytest.raises(CardDataNotAccepted):
            refuse_card_data({name: {"id": number}})
        with pytest.raises(CardDataNotAccepted):
            refuse_card_data({name: CARD}, "header")
        with pytest.raises(CardDataNotAccepted):
            refuse_card_data({name: FORMS["as embossed"](number)})
    for name in ("x-order", "transparent", "spanish_card", "SPANISH_CARD", "hispanic", "x-parentage", "card_of_transparency"):
        with pytest.raises(CardDataNotAccepted):
            refuse_card_data({name: number}, "header")


@pytest.mark.parametrize("text", WITH_A_NUMBER)
def test_a_card_number_is_refused_wherever_it_stands(text: str) -> None:
    assert contains_card_number(text)
    for value in (text, {"description": text}, {text: "x"}, {"metadata": {"a": [{"b": text}]}}, [[text]]):
        with pytest.raises(CardDataNotAccepted) as refused:
            refuse_card_data(value)
        told = f"{refused.value.detail} {refused.value.extra}"
        assert text not in told
        assert not re.search(r"\d", told)


@pytest.mark.parametrize("text", WITHOUT_A_NUMBER)
def test_other_text_is_accepted(text: str) -> None:
    assert not contains_card_number(text)
    refuse_card_data({"description": text, "metadata": {text or "empty": text}})
    assert redact(text) == text


@pytest.mark.parametrize(
    ("value", "location", "message"),
    [
        ({"metadata": {"note": CARD}}, "body.metadata.note", "looks like a card number"),
        ({"metadata": {"x-note": CARD}}, "body.metadata.x-note", "looks like a card number"),
        ({"a": [{"b": [1, CARD]}]}, "body.a.b", "looks like a card number"),
        (CARD, "body", "looks like a card number"),
        ({"metadata": {CARD: "x"}}, "body.metadata.?", "has a name that looks like a card number"),
        ({f"card_{CARD}": {"note": CARD}}, "body.?", "has a name that looks like a card number"),
        ({"a\nb": CARD}, "body.?", "looks like a card number"),
        ({"x" * 41: CARD}, "body.?", "looks like a card number"),
        ({"metadata": {"cvv": "1"}}, "body.metadata.cvv", "is named like card data"),
    ],
)
def test_the_refusal_names_the_member(value: object, location: str, message: str) -> None:
    with pytest.raises(CardDataNotAccepted) as refused:
        refuse_card_data(value)
    errors: Any = refused.value.extra["errors"]
    assert errors[0] == {"location": location, "message": message}
    assert refused.value.detail == f"{location} {message}. Send a payment_token instead of card data."


def test_the_first_look_passes_no_text_that_the_filter_would_find() -> None:
    """Behind a blank, a text of these forms does not pass it."""
    random = Random(7)
    for form in ("hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh", "dddd-dd-dd dd:dd:dd,ddd+dddd", "dddd-dd-dd dd:dd:dd,ddd-dddd"):
        for _ in range(3000):
            text = "".join({"h": random.choice("0123456789abcdef"), "d": random.choice("0123456789")}.get(c, c) for c in form)
            for name in ("", "trace_id"):
                assert contains_card_number(f" {text}", name) is contains_card_number(text, name) is False


def test_the_refusal_names_twenty_members_at_most() -> None:
    with pytest.raises(CardDataNotAccepted) as refused:
        refuse_card_data({f"x{n}": CARD for n in range(30)}, "query")
    errors: Any = refused.value.extra["errors"]
    assert [error["location"] for error in errors] == [f"query.x{n}" for n in range(20)]


@pytest.mark.parametrize("number", [int(CARD), float(CARD), -int(CARD), -float(CARD), 378282246310005.0])
def test_a_card_number_is_refused_as_a_json_number_too(number: float) -> None:
    with pytest.raises(CardDataNotAccepted):
        refuse_card_data({"amount": number})


@pytest.mark.parametrize(
    "name",
    [
        "cvv",
        "cvv2",
        "CVC",
        "cvc_2",
        "card_number",
        "cardNumber",
        "card-number",
        "Card Number",
        "cardno",
        "ccnum",
        "track2",
    ],
)
def test_a_field_that_is_named_for_card_data_is_refused_whatever_it_holds(name: str) -> None:
    for value in ("x", 123, ["x"], "tok_ok"):
        with pytest.raises(CardDataNotAccepted):
            refuse_card_data({"metadata": {name: value}})


@pytest.mark.parametrize(
    "name", ["company", "span", "japan", "card_brand", "card", "number", "discard_number", "cvv_result", "cid", "pan"]
)
def test_a_field_whose_name_only_resembles_one_is_accepted(name: str) -> None:
    refuse_card_data({"metadata": {name: "x"}})


@pytest.mark.parametrize(
    "value", [None, True, False, 0, 1999, 19.99, 0.4242424242424242, [], {}, float("inf"), float("nan"), 10**30, 1e300]
)
def test_values_that_are_no_text_are_accepted(value: object) -> None:
    refuse_card_data(value)
    refuse_card_data({"amount": value})


@pytest.mark.parametrize("text", WITH_A_NUMBER)
def test_a_log_line_loses_the_number_and_keeps_the_rest(text: str) -> None:
    line = redact(f"failed for {text}; next")
    assert REMOVED in line
    assert not contains_card_number(line)
    assert line.startswith("failed for ")
    assert line.endswith("; next")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\u200b 4\u00ad242 4242\u200b 4242 4242, b\u0301", f"a\u200b {REMOVED}, b\u0301"),
        ("№ \u0664\u0662\u0664\u0662 4242\u30fb4242 \u2013 4242 円", f"№ {REMOVED} 円"),
        ("é4242424242424242é 378282246310005é", f"é{REMOVED}é {REMOVED}é"),
        ("4242 4242 4242 4242 4111 1111 1111 1111 5555 5555 5555 4444", f"{REMOVED} {REMOVED} {REMOVED}"),
    ],
)
def test_the_characters_around_a_removed_number_stay_as_they_are(text: str, cleaned: str) -> None:
    assert redact(text) == cleaned


@settings(derandomize=True, max_examples=500, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                CARD,
                "4242",
                "378282246310005",
                "17",
                "5",
                " ",
                "-",
                "  ",
                ".",
                "a",
                "_",
                "\uff14\uff12",
                "\u00a0",
                "\u200b",
                "\u0664",
                "⒉",
            ]
        )
    )
)
def test_what_was_redacted_holds_no_card_number(pieces: list[str]) -> None:
    assert not contains_card_number(redact("".join(pieces)))


# Prefixes that brands publish, with lengths of their cards.
RANGES = {
    **dict.fromkeys(("4",), (13, 16, 19)),
    **dict.fromkeys(("51", "55", "2221", "2228", "2299", "2720"), (16,)),
    **dict.fromkeys(("34", "37"), (15,)),
    **dict.fromkeys(("3000", "305", "3095", "36", "38", "39"), (14, 16)),
    **dict.fromkeys(("3528", "3589"), (16,)),
    **dict.fromkeys(("6011", "644", "649", "65"), (16, 19)),
    **dict.fromkeys(("62", "5018", "5020", "5038", "5893", "6304", "6759", "6761", "6763", "5061"), (16, 17, 18, 19)),
    **dict.fromkeys(("2200", "2201", "2202", "2203", "2204"), (16, 17, 18, 19)),
    **dict.fromkeys(("606282", "6362", "5067", "5019", "56", "9792", "508"), (16,)),
}


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.sampled_from([(prefix, length) for prefix, lengths in RANGES.items() for length in lengths]), st.data())
def test_every_number_of_an_issuer_is_found(kind: tuple[str, int], data: st.DataObject) -> None:
    prefix, length = kind
    rest = data.draw(st.text(alphabet="0123456789", min_size=length - len(prefix) - 1, max_size=length - len(prefix) - 1))
    number = prefix + rest + luhn_digit(prefix + rest)
    is_bar_code = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(number)) % 10 == 0
    form = data.draw(st.sampled_from(["in one piece", "as embossed", "single digits with U+002D"]))
    text = FORMS[form](number)
    assert contains_card_number(text) is not (length == 13 and is_bar_code)


HOSTILE = (
    *(
        "4",
        "4 ",
        "42 ",
        "424 ",
        "4242 ",
        "42424242 ",
        "4242 424242 ",
        "6240 ",
        "6-",
        "5 ",
        ".",
        "-  ",
        "a",
        "f4",
        "\u200b",
        "4\u200b",
    ),
    *("\u0664", "DE44 ", "DE89", "a1b2c3d4", f"{CARD} ", "4242424242424241 ", "0.4242", "12345678-1234-", "é4242 ", "00-"),
    *(
        "4,",
        "4242,",
        "4:",
        "42.",
        "%20",
        "4%20",
        "4\\n",
        "\\u00a0",
        "4242&nbsp;",
        "1.1",
        "f",
        "4242424242424242D2912201 ",
        "DE44\t",
    ),
)


def steps(look: Callable[[str], object], text: str) -> int:
    """Count calls, those of built-in functions and regular expressions too."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        look(text)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("look", [contains_card_number, redact])
def test_the_work_grows_with_the_length_and_not_with_its_square(look: Callable[[str], object]) -> None:
    for piece in HOSTILE:
        with case(piece):
            half, whole = ((piece * size)[:size] for size in (8 * 1024, 16 * 1024))
            look(half)  # Caches are warm from here on.
            assert steps(look, whole) <= 2.5 * steps(look, half) + 100


def seconds(look: Callable[[str], object], text: str) -> float:
    """Return the shortest of three times that the processor takes."""

    def once() -> float:
        start = process_time()
        look(text)
        return process_time() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize("look", [contains_card_number, redact])
def test_a_text_of_four_times_the_length_takes_no_ten_times_as_long(look: Callable[[str], object]) -> None:
    """A regular expression that backtracks is one call. With the square of the length the ratio would be 16."""
    for piece in HOSTILE:
        with case(piece):
            quarter, whole = ((piece * size)[:size] for size in (4 * 1024, 16 * 1024))
            assert seconds(look, whole) <= 10 * seconds(look, quarter) + 0.001


def test_a_number_in_fewer_characters_than_digits_is_found() -> None:
    assert contains_card_number("㊶⑪⑪⑪⑪⑪⑪⑪")
