"""`payments show` reads every page: of a payment with thousands of refunds the service answers a few at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.servers import connect
from tests.cli.stand import PAYMENT, REFUND, Answer, Stand
from tests.cli.terminal import Payments, new_order
from tests.many_refunds import MANY, REFUND_MANY


def page(data: list[dict[str, Any]], cursor: str | None = None) -> Answer:
    return 200, {}, json.dumps({"data": data, "has_more": cursor is not None, "next_cursor": cursor})


def entries(numbers: range) -> list[dict[str, Any]]:
    return [{"from": "CAPTURED", "to": "CAPTURED", "at": REFUND["created_at"], "reason": f"entry {n}"} for n in numbers]


def refunds(numbers: range) -> list[dict[str, Any]]:
    return [REFUND | {"reason": f"return {n}"} for n in numbers]


def test_show_has_all_refunds_and_the_whole_timeline(payments_alone: Payments, standing_in: Callable[..., Stand]) -> None:
    found: Answer = (200, {}, json.dumps(PAYMENT | {"refunds": refunds(range(180, 200)), "has_more_refunds": True}))
    answers = (
        found,
        page(entries(range(100)), "second"),
        page(entries(range(100, 150))),
        page(refunds(range(100)), "next"),
        page(refunds(range(100, 200))),
    )
    stand = standing_in(*answers)
    shown = payments_alone("show", PAYMENT["payment_id"], "--url", stand.url)
    assert shown.exit_code == 0, shown.err
    assert all(f"return {n} " in shown.out for n in range(200))
    assert "entry 0 " in shown.out and "entry 149 " in shown.out
    paths = [path.removeprefix(f"/api/v1/payments/payment/{PAYMENT['payment_id']}") for path, _, _ in stand.asked]
    assert paths == [
        *("", "/history?limit=100", "/history?limit=100&cursor=second"),
        *("/refunds?limit=100", "/refunds?limit=100&cursor=next"),
    ]
    as_json = payments_alone("show", PAYMENT["payment_id"], "--json", "--url", standing_in(*answers).url)
    whole = json.loads(as_json.out)
    assert (len(whole["refunds"]), len(whole["history"]), whole["has_more_refunds"]) == (200, 150, False)


DISPUTE: dict[str, Any] = {
    "dispute_id": "01900000-0000-7000-8000-00000000000c",
    "gateway_dispute_id": "dp_1",
    "amount": 700,
    "currency": "EUR",
    "reason": "product_not_received",
    "status": "needs_response",
    "outcome": None,
    "due_by": "2026-02-09T12:00:00.000000Z",
    "created_at": "2026-02-01T12:00:00.000000Z",
}
LOST = DISPUTE | {"status": "lost_by_us", "outcome": "lost", "gateway_dispute_id": "dp_2", "amount": 300}


def test_show_has_the_disputes_with_the_time_until_which_evidence_is_taken(
    payments_alone: Payments, standing_in: Callable[..., Stand]
) -> None:
    found: Answer = (200, {}, json.dumps(PAYMENT | {"disputes": [DISPUTE, LOST], "has_more_disputes": False}))
    shown = payments_alone("show", PAYMENT["payment_id"], "--utc", "--url", standing_in(found, page(entries(range(1)))).url)
    assert shown.exit_code == 0, shown.err
    lines = [" ".join(line.strip(" │").split()) for line in shown.out.splitlines()]
    began = "2026-02-01 12:00:00"
    assert f"{began} needs_response 7.00 EUR product_not_received evidence until 2026-02-09 12:00:00" in lines
    assert f"{began} lost 3.00 EUR product_not_received dp_2" in lines


def test_show_also_reads_a_service_that_has_no_pages(payments_alone: Payments, standing_in: Callable[..., Stand]) -> None:
    """Version 0.1.0 answers with all refunds and the whole history."""
    found: Answer = (200, {}, json.dumps(PAYMENT | {"refunds": refunds(range(30))}))
    stand = standing_in(found, (200, {}, json.dumps({"data": entries(range(5))})))
    shown = payments_alone("show", PAYMENT["payment_id"], "--url", stand.url)
    assert (shown.exit_code, len(stand.asked)) == (0, 2)
    assert "return 29 " in shown.out and "entry 4 " in shown.out


def test_a_payment_with_thousands_of_refunds_is_shown_whole_and_given_back(payments: Payments, data_dir: Path) -> None:
    """The real service, on a page of 100 at a time."""
    order = new_order()
    paid = payments.json("process", order, "100.00", "USD", "--payment-token", "tok_ok")
    with contextlib.closing(connect(json.loads((data_dir / "run.json").read_text())["database_owner_url"])) as owner:
        for sql in REFUND_MANY:
            owner.run(sql, id=paid["payment_id"])
    back = payments.json("refund", order, "1.00", "USD")
    assert (back["status"], back["payment_status"]) == ("SUCCEEDED", "PARTIALLY_REFUNDED")
    shown = payments.json("show", order)
    assert (len(shown["refunds"]), shown["refunds"][-1]["amount"], shown["amount_refunded"]) == (MANY + 1, 100, MANY + 100)
    assert len(shown["history"]) == MANY + 5


def test_a_list_reads_on_after_an_empty_page(payments_alone: Payments, standing_in: Callable[..., Stand]) -> None:
    """The service reads a bounded number of payments for a page, and none of them may fit the filter."""
    stand = standing_in(page([], "second"), page([], "third"), page([PAYMENT]))
    listed = payments_alone("list", "--method", "paypal", "--url", stand.url)
    assert (listed.exit_code, listed.err) == (0, "")
    assert PAYMENT["payment_id"] in listed.out and listed.out.splitlines()[0].startswith("created")
    assert len(stand.asked) == 3
    nothing = payments_alone("list", "--method", "paypal", "--url", standing_in(page([], "second"), page([])).url)
    assert (nothing.out, nothing.err) == ("", "No payments.\n")
