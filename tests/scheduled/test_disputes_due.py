"""Reconcile tells how many open disputes want evidence soon, so that a person answers them in time."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract import plans
from local.servers import connect
from tests.aws.test_alarms import alarm
from tests.aws.test_template import OPERATIONS
from tests.cases import case
from tests.seen_disputes import disputed
from tests.servers import Database
from tests.shop import Books, Shop


def due_in(**time: float) -> datetime:
    return datetime.now(UTC) + timedelta(**time)


def counted(shop: Shop) -> int:
    return shop.reconcile().disputes_due_soon


def test_an_open_dispute_counts_from_three_days_before_its_evidence_is_due_until_then(lone_shop: Shop) -> None:
    cases: dict[str, tuple[dict[str, Any], bool]] = {
        "in 71 hours": ({"due_by": due_in(hours=71)}, True),
        "in 73 hours": ({"due_by": due_in(hours=73)}, False),
        "in a minute": ({"due_by": due_in(minutes=1)}, True),
        "a minute ago": ({"due_by": due_in(minutes=-1)}, False),
        "no evidence is taken": ({"due_by": None}, False),
        "won": ({"due_by": due_in(hours=1), "outcome": "won"}, False),
        "refunds are possible": ({"due_by": due_in(hours=1), "is_refundable": True}, True),
    }
    for name, (changes, counts) in cases.items():
        with case(name):
            before = counted(lone_shop)
            disputed(lone_shop.service, lone_shop.captured().payment_id, **changes)
            assert counted(lone_shop) == before + counts


def test_the_run_says_in_how_many_seconds_the_next_one_is_due(lone_shop: Shop) -> None:
    assert lone_shop.reconcile().next_dispute_due_s == 0
    for hours in (60, 20, 40):
        disputed(lone_shop.service, lone_shop.captured().payment_id, due_by=due_in(hours=hours))
    assert 19.5 * 3600 < lone_shop.reconcile().next_dispute_due_s <= 20 * 3600
    disputed(lone_shop.service, lone_shop.captured().payment_id, due_by=due_in(hours=10))
    assert lone_shop.reconcile().next_dispute_due_s <= 10 * 3600


def test_the_runbooks_query_finds_the_disputes_that_are_counted_in_their_order(lone_shop: Shop, lone_books: Books) -> None:
    [sql] = re.findall(r"^(SELECT due_by, .* FROM disputes .*);$", OPERATIONS, re.MULTILINE)
    for changes in ({"due_by": due_in(hours=9)}, {"due_by": due_in(hours=2)}, {"due_by": None}, {"outcome": "lost"}):
        disputed(lone_shop.service, lone_shop.captured().payment_id, **changes)
    due = [row[0] for row in lone_books.query(sql)]
    assert len(due) == counted(lone_shop) == 2
    assert due == sorted(due)


def test_one_dispute_is_enough_for_the_alarm() -> None:
    found = alarm("DisputesDueSoonAlarm")
    assert (found["MetricName"], found["Threshold"], found["EvaluationPeriods"]) == ("DisputesDueSoon", 0, 1)
    assert (found["ComparisonOperator"], found["Statistic"]) == ("GreaterThanThreshold", "Maximum")


@pytest.mark.parametrize("has_table", [True, False])
def test_reconcile_runs_on_the_old_schema(own_database: Database, has_table: bool) -> None:
    with contextlib.closing(connect(own_database.owner_url)) as owner:
        for name in plans.named():
            owner.run(f"DROP FUNCTION {name}")
        if not has_table:
            owner.run("DROP TABLE disputes")
    shop = Shop.on(own_database)
    shop.captured()
    assert (counted(shop), shop.reconcile().next_dispute_due_s) == (0, 0)
    shop.close()
