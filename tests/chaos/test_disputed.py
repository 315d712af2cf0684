"""What the witness says of disputes: nothing of those that are right, and each thing that can be wrong about them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from chaos import disputed
from chaos.answers import Answer
from chaos.books import Books, Dispute, Disputed
from chaos.evidence import Evidence
from chaos.oracle import Life
from tests.cases import case

OPEN = Disputed(500, "EUR", "fraudulent", "needs_response", is_refundable=False)
REVIEWED, WON = replace(OPEN, status="under_review"), replace(OPEN, status="won", is_refundable=True)
INQUIRED = replace(OPEN, status="warning_needs_response", is_refundable=True)

Told = tuple[str, Disputed, str | None]


def row_of(said: Disputed, outcome: str | None, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = asdict(said) | {"amount_minor": said.amount, "outcome": outcome}
    return row | {"gateway_dispute_id": "du_1", "payment_id": "payment"} | changes


def violations(
    said: list[Disputed],
    outcome: str | None,
    rows: list[dict[str, Any]],
    *told: Told,
    answers: tuple[Answer, ...] = (),
    is_told: bool = True,
) -> list[str]:
    """Return what the witness says of one payment, whose bank has said this of it."""
    outbox = [
        {"type": f"payment.{kind}", "data": json.dumps({"dispute": row_of(word, end) | asdict(word)})} for kind, word, end in told
    ]
    life = Life({"payment_id": "payment", "transaction_id": "ch_1"}, outbox=outbox)
    books = Books([], {}, disputes=[Dispute("du_1", "ch_1", said, outcome)] if said else [])
    seen = Evidence({"disputes": rows}, [], books, [], list(answers), [], frozenset(), frozenset(), 0.0)
    return list(disputed.check(seen, {"payment": life}, lambda _: is_told))


def refused() -> Answer:
    body = {"payment_id": "payment", "code": "payment_disputed"}
    return Answer("1.refund", "1.refund.0", "refund", "shop", None, "", False, {}, 0.0, 1.0, "answered", status=409, body=body)


def test_what_the_bank_said_is_told_in_its_order_though_not_all_of_it() -> None:
    is_won = [row_of(WON, "won")]
    opens, closes = ("disputed", OPEN, None), ("dispute_closed", WON, "won")
    assert violations([OPEN, REVIEWED, WON], "won", is_won, opens, ("disputed", REVIEWED, None), closes) == []
    assert violations([OPEN, REVIEWED, WON], "won", is_won, opens, closes) == []
    assert violations([OPEN, REVIEWED, WON], "won", is_won, ("disputed", WON, None), closes) == []
    assert violations([OPEN], None, [row_of(OPEN, None)], opens, answers=(refused(),)) == []
    assert violations([], None, []) == []


def test_a_dispute_of_which_nobody_tells_may_be_missing_and_not_be_wrong() -> None:
    assert violations([OPEN], None, [], is_told=False) == []
    assert violations([OPEN], None, [row_of(WON, "won")], is_told=False) != []


def test_each_thing_that_is_wrong_is_said() -> None:
    opens, reviewed, closes = ("disputed", OPEN, None), ("disputed", REVIEWED, None), ("dispute_closed", WON, "won")
    all_said, is_won = [OPEN, REVIEWED, WON], [row_of(WON, "won")]
    wrong: dict[str, tuple[list[str], str]] = {
        "not in the books": (violations(all_said, "won", []), "du_1 is not in the books"),
        "not at the bank": (violations([], None, [row_of(OPEN, None)], opens), "the bank has none"),
        "as it was": (violations(all_said, "won", [row_of(OPEN, None)], opens, closes), "in the books, the bank has"),
        "another amount": (violations(all_said, "won", [row_of(WON, "won", amount_minor=1)], opens, closes), "the bank has"),
        "never opened": (violations(all_said, "won", is_won, closes), "is told by ['payment.dispute_closed']"),
        "never closed": (violations(all_said, "won", is_won, opens), "is told by ['payment.disputed']"),
        "closed twice": (violations(all_said, "won", is_won, opens, closes, closes), "told twice as won"),
        "told twice": (violations(all_said, "won", is_won, opens, opens, closes), "told twice as needs_response"),
        "back": (violations(all_said, "won", is_won, opens, reviewed, opens, closes), "is told as ['needs_response', 'under"),
        "no word of the bank's": (violations([OPEN, WON], "won", is_won, opens, reviewed, closes), "the bank has said"),
        "lost": (violations(all_said, "won", is_won, opens, ("dispute_closed", WON, "lost")), "with the outcome lost"),
        "refused": (violations([INQUIRED], None, [row_of(INQUIRED, None)], answers=(refused(),)), "no dispute bars refunds"),
    }
    for name, (found, said) in wrong.items():
        with case(name):
            assert any(said in violation for violation in found), found
