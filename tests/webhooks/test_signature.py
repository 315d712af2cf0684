"""The official libraries of Standard Webhooks, in Python and in JavaScript, verify our signatures, and nothing else."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from payments.webhooks.signature import new_secret, signed

JAVASCRIPT = Path(__file__).with_name("javascript")
ID, BODY = "019c139e-4c8a-7d13-b6e2-51f0c8a9d7e4", '{"type": "payment.successful", "data": {"note": "ü \\" \u2028"}}'.encode()


def cases() -> list[tuple[str, dict[str, str], bytes, bool]]:
    """Return secret, headers, body, and whether they are genuine."""
    now, old, new, other = int(time.time()), new_secret(), new_secret(), new_secret()
    one, two = signed(ID, now, BODY, [new]), signed(ID, now, BODY, [new, old])
    return [
        (new, one, BODY, True),
        (new, two, BODY, True),
        (old, two, BODY, True),
        (old, one, BODY, False),
        (other, two, BODY, False),
        (new, one, BODY + b" ", False),
        (new, one | {"webhook-id": ID[::-1]}, BODY, False),
        (new, one | {"webhook-timestamp": str(now + 1)}, BODY, False),
        (new, signed(ID, now - 600, BODY, [new]), BODY, False),
        (new, signed(ID, now + 600, BODY, [new]), BODY, False),
    ]


def test_the_python_library_verifies_what_is_genuine_and_nothing_else() -> None:
    for number, (secret, headers, body, is_genuine) in enumerate(cases()):
        try:
            assert (standardwebhooks.Webhook(secret).verify(body, headers), is_genuine) == (json.loads(BODY), True), number
        except standardwebhooks.WebhookVerificationError:
            assert not is_genuine, number


@pytest.mark.server
def test_the_javascript_library_verifies_what_is_genuine_and_nothing_else() -> None:
    node = shutil.which("node")
    if node is None or not (JAVASCRIPT / "node_modules").exists():
        pytest.skip("the library is not here (make javascript)")
    asked = cases()
    told = [{"secret": secret, "headers": headers, "body": body.decode()} for secret, headers, body, _ in asked]
    done = subprocess.run(
        [node, "verify.mjs"], cwd=JAVASCRIPT, input=json.dumps(told), capture_output=True, text=True, check=True, timeout=60
    )
    answers: list[Any] = json.loads(done.stdout)
    for number, (answer, (*_, is_genuine)) in enumerate(zip(answers, asked, strict=True)):
        assert (answer == json.loads(BODY)) == is_genuine, (number, answer)


def test_a_secret_has_256_bits_and_is_never_the_same() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) for secret in secrets} == {32}
