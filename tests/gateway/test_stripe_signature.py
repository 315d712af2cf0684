"""Stripe-Signature: what Stripe's own packages have signed is taken, in Python and in JavaScript, and nothing else is."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from payments.gateway.stripe_signature import TOLERANCE_S, SignatureRefused, check_signature
from tests.cases import case
from tests.gateway.servers import GATEWAYS

HERE = Path(__file__).parent
JAVASCRIPT = HERE / "javascript"
RECORDED = HERE / "stripe_signatures.json"
"""What the packages signed when it was recorded. A test compares it with what they sign now."""

AT_S = 1_780_000_000
NEW, OLD = "whsec_9xZq1m0PpYb7oJcN2kVtR4sWfLhG8dAu", "whsec_test_0dTj6bXv5HqLmEo3aYcKzR1nPiUw7gSf"
BODIES = [
    '{"id": "evt_1", "object": "event"}',
    '{\n  "id": "evt_1",\n  "note": "ü \\" \u2028 \U0001f9fe"\n}',
    "",
    "t=1,v1=0",
    "a" * 100_000,
]
ASKED: list[dict[str, Any]] = [{"secret": secret, "at_s": AT_S, "body": body} for secret in (NEW, OLD) for body in BODIES]


def genuine(header: str, body: bytes, secrets: Sequence[str], now_s: float = AT_S) -> bool:
    try:
        check_signature(header, body, secrets, now_s)
    except SignatureRefused:
        return False
    return True


def by_python(asked: Sequence[dict[str, Any]]) -> list[Any]:
    if not GATEWAYS.exists():
        pytest.skip("Stripe's package is not here (make gateways)")
    return _said([str(GATEWAYS), str(HERE / "sign.py")], asked)


def by_javascript(asked: Sequence[dict[str, Any]]) -> list[Any]:
    node = shutil.which("node")
    if node is None or not (JAVASCRIPT / "node_modules").exists():
        pytest.skip("Stripe's package is not here (make javascript)")
    return _said([node, "sign.mjs"], asked)


def _said(command: list[str], asked: Sequence[dict[str, Any]]) -> list[Any]:
    done = subprocess.run(
        command, cwd=JAVASCRIPT, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


PACKAGES = {"python": by_python, "javascript": by_javascript}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_of_stripes_has_signed_is_taken(package: str) -> None:
    headers = json.loads(RECORDED.read_text())[package]
    for one, header in zip(ASKED, headers, strict=True):
        with case(header):
            body, secret = one["body"].encode(), one["secret"]
            assert genuine(header, body, [secret])
            assert genuine(header, body, ["whsec_another", secret])
            assert not genuine(header, body, ["whsec_another"])
            assert not genuine(header, body + b"\n", [secret])


@pytest.mark.server
@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_of_stripes_signs_as_it_was_recorded(package: str) -> None:
    assert PACKAGES[package](ASKED) == json.loads(RECORDED.read_text())[package]


def signed(at_s: int, body: bytes, *secrets: str) -> str:
    macs = [hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={at_s}", *(f"v1={mac}" for mac in macs)])


def headers(at_s: int, body: bytes) -> dict[str, str]:
    """Return headers of every kind that Stripe or somebody else could send, each under its name."""
    good, other = signed(at_s, body, NEW), signed(at_s, body, OLD)
    mac = good.partition("v1=")[2]
    return {
        "one": good,
        "two, ours last": signed(at_s, body, OLD, NEW),
        "with a scheme of tests": f"{good},v0={mac}",
        "of another secret": other,
        "no v1": f"t={at_s},v0={mac}",
        "no time": f"v1={mac}",
        "a time that is none": f"t=now,v1={mac}",
        "another time": f"t={at_s + 1},v1={mac}",
        "half": good[:-32],
        "longer": good + "0",
        "empty": f"t={at_s},v1=",
        "not ASCII": f"t={at_s},v1={mac[:-1]}ü",
        "a comma": ",",
        "stale": signed(at_s - TOLERANCE_S - 30, body, NEW),
    }


TAKEN = {"one", "two, ours last", "with a scheme of tests"}


@pytest.mark.server
@pytest.mark.parametrize("package", PACKAGES)
def test_we_take_what_a_package_of_stripes_takes_and_refuse_what_it_refuses(package: str) -> None:
    body, now_s = BODIES[1], int(time.time())
    known = headers(now_s, body.encode())
    said = PACKAGES[package]([{"secret": NEW, "body": body, "header": header} for header in known.values()])
    assert {name for name, taken in zip(known, said, strict=True) if taken} == TAKEN
    assert {name for name, header in known.items() if genuine(header, body.encode(), [NEW], now_s)} == TAKEN


def test_the_signature_holds_for_five_minutes_before_and_after_the_moment_in_it() -> None:
    header = signed(AT_S, b"{}", NEW)
    moments = [-TOLERANCE_S - 1, -TOLERANCE_S, 0, TOLERANCE_S, TOLERANCE_S + 1]
    assert [genuine(header, b"{}", [NEW], AT_S + moment) for moment in moments] == [False, True, True, True, False]


def test_without_a_secret_nothing_is_genuine() -> None:
    assert not genuine(signed(AT_S, b"{}", NEW), b"{}", [])


def test_a_refusal_says_why_and_quotes_neither_header_nor_secret() -> None:
    reasons = set()
    for header in headers(AT_S, b"{}").values():
        try:
            check_signature(header, b"{}", [NEW], AT_S)
        except SignatureRefused as refused:
            reasons.add(str(refused))
    assert reasons == {
        "the header Stripe-Signature is missing or cannot be read",
        "no signature in it is of a secret of ours",
        "it was signed more than 300 s ago, or a clock is wrong",
    }


def test_of_ten_thousand_forgeries_none_is_taken() -> None:
    """Whoever has seen genuine requests changes a part of one, puts parts of two together, or guesses."""
    chance = random.Random(20261129)
    bodies = [f'{{"id": "evt_{number}"}}'.encode() for number in range(20)]
    seen = [(AT_S + number, body, signed(AT_S + number, body, NEW, OLD)) for number, body in enumerate(bodies)]

    def forged() -> tuple[str, bytes]:
        at_s, body, header = chance.choice(seen)
        others_at_s, others_body, others = chance.choice([one for one in seen if one[1] != body])
        macs = header.partition(",")[2]
        place = chance.randrange(len(body))
        match chance.randrange(8):
            case 0:  # one bit of the body
                return header, body[:place] + bytes([body[place] ^ 1 << chance.randrange(8)]) + body[place + 1 :]
            case 1:
                return header, body[:place] + body[place + 1 :]
            case 2:
                return header, others_body
            case 3:
                return f"t={others_at_s},{macs}", body
            case 4:
                return f"t={at_s},{others.partition(',')[2]}", body
            case 5:  # a digit of each signature
                digit = 3 + chance.randrange(64)
                changed = [f"{mac[:digit]}{(int(mac[digit], 16) + 1) % 16:x}{mac[digit + 1 :]}" for mac in macs.split(",")]
                return ",".join([f"t={at_s}", *changed]), body
            case 6:
                return signed(at_s, body, f"whsec_{chance.getrandbits(128):x}", ""), body
            case _:  # the boundary between time and body
                return f"t={at_s // 10},{macs}", b"%d." % (at_s % 10) + body

    assert all(genuine(header, body, [NEW, OLD], AT_S) for at_s, body, header in seen)
    forgeries = [forged() for _ in range(10_000)]
    assert [one for one in forgeries if genuine(*one, [NEW, OLD])] == []
