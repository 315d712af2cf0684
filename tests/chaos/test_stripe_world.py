"""A short run of the chaos harness with Stripe World behind the adapter. `make gateways` runs it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaos.crash_points import Sweep
from chaos.plan import Rates
from chaos.provider import DASHBOARD_KINDS, DOOR_KINDS
from chaos.run import Options
from chaos.stripe_world import missing
from tests.chaos.surviving import survived


@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("_pgbouncer")
def test_stripe_world_and_the_tables_agree_after_kills_and_lost_answers() -> None:
    if why := missing():
        pytest.skip(why)
    points = Sweep(("process", "capture", "void", "refund", "ended-key"), ("kill",), ("after",), (True,), misses=2)
    outages = ("gateway away", "gateway frozen", "PgBouncer killed")
    options = Options("4", invocations=200, sweep=points, stale=(), hurry=0.3, rates=Rates(freeze=0.0), gateway="stripe-world")
    outcome = survived(replace(options, outages=outages, pause_s=(0.5, 1.5)))
    assert outcome.environments.tally.landed >= 60
    for kind in points.kinds:
        # The head of a request and its body. That of a void has no body.
        assert outcome.points.hits[kind, "gateway"] >= 1 + (kind != "void"), kind
    moved = {move.action for move in outcome.seen.books.moves}
    assert moved == {"charge", "capture", "void", "refund"}
    assert outcome.seen.books.declines and outcome.provider.faults["remembered 500"]
    assert outcome.provider.events and outcome.provider.events.count["dropped"]
    assert {row["door"] for row in outcome.seen.tables["gateway_events"]} == {"webhook", "eventbridge", "pull"}


@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("_pgbouncer")
def test_each_network_write_around_a_customer_who_acts_may_be_the_last() -> None:
    if why := missing():
        pytest.skip(why)
    points = Sweep(("asked", "give-up", "sync", "action-expiry"), ("kill",), ("after",), (True,), most=4, misses=1)
    outcome = survived(Options("7", sweep=points, stale=(), load=False, outages=(), gateway="stripe-world"))
    for kind in points.kinds:
        assert outcome.points.hits[kind, "gateway"] >= 1, kind
    ended = {(payment.canceled_by or "").partition("-")[0] for payment in outcome.seen.books.asked.values()}
    assert ended == {"", "void", "expire"}, "the customer paid, the client gave up, and the time ended"


@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("_pgbouncer")
@pytest.mark.parametrize("kinds", [DOOR_KINDS, DASHBOARD_KINDS], ids=["by each door", "of what others did"])
def test_each_network_write_of_whoever_looks_at_an_event_may_be_the_last(kinds: tuple[str, ...]) -> None:
    if why := missing():
        pytest.skip(why)
    points = Sweep(kinds, ("kill",), ("after",), (False,), most=4, misses=1)
    outcome = survived(Options("6", sweep=points, stale=(), load=False, outages=(), gateway="stripe-world"))
    for kind in kinds:
        # What became of the charge, and what the dashboard did. A charge that has its outcome is not asked about.
        assert outcome.points.hits[kind, "gateway"] >= 1 + (kinds is DOOR_KINDS), kind
        assert outcome.points.hits[kind, "database"] >= 4, kind
    adopted = [row for row in outcome.seen.tables["operations"] if row["origin"] == "gateway"]
    assert len(adopted) >= sum(hits for (kind, _), hits in outcome.points.hits.items() if kind != "dispute-ends")
    assert ("won" in {row["outcome"] for row in outcome.seen.tables["disputes"]}) is (kinds is DASHBOARD_KINDS)
