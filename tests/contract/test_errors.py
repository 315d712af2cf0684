"""docs/errors.md is up to date and has each code, with the words that hold for all of its answers."""

from __future__ import annotations

import re
from pathlib import Path

from contract import errors
from contract.examples import MESSAGES, PROBLEMS
from payments.api.bodies import MAX_BODY_BYTES, MAX_DEPTH, MAX_ERRORS
from payments.domain.declines import ADVICE_CODES, KNOWN_DECLINES, public_decline_code
from tests.cases import case

TEXT = errors.DOCUMENT.read_text(encoding="utf-8")
ROOT = Path(__file__).resolve().parents[2]


def test_the_catalogue_is_up_to_date() -> None:
    assert errors.text() == TEXT, "run `make openapi`"


def test_it_has_every_code_once_with_its_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)
    assert sorted((int(status), code) for status, code, *_ in rows) == sorted(
        (each["status"], code) for code, each in PROBLEMS.items()
    )
    assert [int(status) for status, *_ in rows] == sorted(int(status) for status, *_ in rows)
    assert errors.WORDS.keys() == PROBLEMS.keys()


def test_it_has_every_decline_with_the_advice_that_a_caller_gets() -> None:
    for code in KNOWN_DECLINES:
        with case(code):
            advice = ADVICE_CODES.get(public_decline_code(code) or "")
            assert re.search(rf"^\| `{code}` \| .+ \| {f'`{advice}`' if advice else 'none'} \|$", TEXT, re.MULTILINE)


def test_it_has_every_message_of_api_gateway() -> None:
    rows = re.findall(r"^\| (\d{3}) \| ([A-Z][A-Za-z ]+) \| .+ \| .+ \|$", TEXT, re.MULTILINE)
    assert {int(status): message for status, message in rows} == MESSAGES


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"{MAX_BODY_BYTES:,} bytes" in errors.WORDS["body_too_large"].when
    assert f"more than {MAX_DEPTH} deep" in errors.WORDS["malformed_json"].when
    assert f"{MAX_ERRORS} places" in errors.WORDS["invalid_request"].what_to_do


def test_its_links_lead_somewhere() -> None:
    for page in (errors.DOCUMENT, ROOT / "docs/versioning.md"):
        for target in re.findall(r"\]\(([\w./-]+)", page.read_text(encoding="utf-8")):
            with case(page.name, target):
                assert (page.parent / target).exists()
