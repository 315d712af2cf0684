"""The tests of what the gateway did by itself can fail: each seeded defect is caught by the test that it names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.defects import DEDUPLICATED_BY_TYPE, Patch
from tests.gateway.mutants import Mutant
from tests.gateway.servers import ROOT

pytestmark = pytest.mark.server

PAYMENTS = "layers/shared/python/payments"
LOOK, OUTSIDE, STORE = (f"{PAYMENTS}/{name}.py" for name in ("commands/look", "commands/outside", "store/outside"))

MUTANTS = (
    Mutant(
        "settled under a live lease",
        ("-k", "a_live_lease_is_left_alone and process"),
        (Patch(f"{PAYMENTS}/store/due.py", "{IN_FLIGHT} AND lease_until <= now()\n", "{IN_FLIGHT}\n"),),
    ),
    Mutant(
        "what was said first is believed, and nobody looks again",
        ("-k", "of_the_dashboards_that_fails_after_all"),
        (
            Patch(LOOK, "logger = logging.getLogger(__name__)\n", "logger = logging.getLogger(__name__)\nSAID = {}\n"),
            Patch(
                LOOK, "return service.gateway.look(", "return SAID.setdefault(payment.payment_id, None) or service.gateway.look("
            ),
            Patch(
                LOOK,
                "    if (seen := _seen(service, before, deadline)) is None:",
                "    seen = _seen(service, before, deadline)\n    SAID[before.payment_id] = seen\n    if seen is None:",
            ),
        ),
    ),
    Mutant(
        "the books are read before the gateway is asked",
        ("-k", "that_begins_while_the_gateway_is_asked"),
        (
            Patch(
                LOOK,
                "    if (seen := _seen(service, before, deadline)) is None:",
                "    books = outside.books_of(service.db, before.payment_id)\n"
                "    if (seen := _seen(service, before, deadline)) is None:",
            ),
            Patch(
                LOOK,
                "_enter(service, before.payment_id, seen, deadline)",
                "_enter(service, before.payment_id, seen, deadline, books)",
            ),
            Patch(
                LOOK,
                "def _enter(service: Service, payment_id: UUID, seen: Seen, deadline: Deadline)",
                "def _enter(service, payment_id, seen, deadline, books)",
            ),
            Patch(LOOK, "        books = outside.books_of(service.db, payment_id)\n        found", "        found"),
        ),
    ),
    Mutant(
        "adopted twice",
        ("-k", "however_often_it_is_told and part and refunded"),
        (
            Patch(
                OUTSIDE,
                "    return next(same, None)",
                "    return next(same, None) if seen.key else None",
            ),
            Patch(
                OUTSIDE,
                "(found.refund and found.refund.key) or _key(found.kind, found.gateway_id)",
                'f"gateway-{service.new_id()}"',
            ),
            Patch(OUTSIDE, '        recorded["refund_id"] = found.gateway_id\n', ""),
        ),
    ),
    Mutant(
        "a refund of ours is adopted while its own call has no outcome",
        ("-k", "is_never_adopted_while_its_own_call"),
        (
            Patch(OUTSIDE, " or (one.key == key and not one.gateway_refund_id)", ""),
            Patch(OUTSIDE, "(found.refund and found.refund.key) or _key(", "_key("),
        ),
    ),
    Mutant(
        "a second refund under a key is taken for the first",
        ("-k", "second_refund_under"),
        (Patch(OUTSIDE, "(one.key == key and not one.gateway_refund_id)", "one.key == key"),),
    ),
    Mutant(
        "what does not fit is told at each look",
        ("-k", "told_once_a_day"),
        (Patch(OUTSIDE, 'if outside.is_news(service.db, payment_id, printable(why) or ""):', "if True:"),),
    ),
    Mutant(
        "an operation in flight is overtaken",
        ("-k", "ends_by_its_operation_alone"),
        (
            Patch(OUTSIDE, "return Unfinished() if books.is_busy else ", "return "),
            Patch(STORE, "(:refund_id::uuid IS NOT NULL OR NOT EXISTS (", "(true OR NOT EXISTS ("),
            # The function in the database has the statement as it was.
            Patch(STORE, "replace(statement, instead=not_ready)", "statement"),
        ),
    ),
    Mutant(
        "what the gateway has is written although it does not fit",
        ("-k", "never_written and more and left"),
        (Patch(OUTSIDE, " or new_minor > payment.captured_minor - payment.refunded_minor:", ":"),),
    ),
    Mutant(
        "a refund that failed after all is given back at each look",
        ("-k", "given_back_to_the_payment_once and 2-"),
        (
            Patch(
                f"{PAYMENTS}/store/outside.py",
                "UPDATE refunds SET status = 'FAILED',",
                "UPDATE refunds SET status = 'SUCCEEDED',",
            ),
        ),
    ),
    Mutant(
        "an event is thrown away if the payment has had one of its type",
        ("tests/scheduled/test_gateway_events.py", "-k", "refunds_that_others_made"),
        DEDUPLICATED_BY_TYPE,
    ),
    Mutant(
        "a payment whose time is over fails here before it is canceled there",
        ("tests/commands/test_customer.py", "-k", "what_the_gateway_did_not_cancel_stays"),
        (
            Patch(
                f"{PAYMENTS}/commands/customer.py",
                "    canceled = gateway.void(cancel)\n",
                '    canceled = Approved("", "", 0, "", {})\n    service.later(lambda: gateway.void(cancel))\n',
            ),
        ),
    ),
)


def runs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tests on a copy of the package. All else is the tree's."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{folder / 'layers/shared/python'}:{folder}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_defect_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    for part in ROOT.iterdir():
        if part.name not in ("layers", ".git"):
            (tmp_path / part.name).symlink_to(part)
    shutil.copytree(
        ROOT / "layers/shared/python", tmp_path / "layers/shared/python", ignore=shutil.ignore_patterns("__pycache__")
    )
    for patch in mutant.patches:
        text = (tmp_path / patch.file).read_text(encoding="utf-8")
        assert text.count(patch.old) == 1, f"found {text.count(patch.old)} times in {patch.file}: {patch.old!r}"
        (tmp_path / patch.file).write_text(text.replace(patch.old, patch.new), encoding="utf-8")
    named = mutant.tests if mutant.tests[0].startswith("tests/") else ("tests/commands/test_outside.py", *mutant.tests)
    done = runs(tmp_path, *named)
    assert done.returncode == 1, f"{done.returncode}: {done.stdout[-3000:]}{done.stderr[-1000:]}"
    assert "1 failed" in done.stdout
