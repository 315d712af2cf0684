"""The chaos harness in short, with fixed seeds: the service survives it, and seeded defects do not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from mmap import mmap
from pathlib import Path

import pytest

from chaos import evidence
from chaos.crash import SLOT, Crash
from chaos.crash_points import KINDS, Sweep
from chaos.defects import MUTANTS
from chaos.gateway import LedgerGateway
from chaos.mutants import tree, try_all
from chaos.plan import Rates
from chaos.run import Options, Outcome, run
from chaos.summary import lines
from payments.gateway.port import GatewayRequest
from payments.gateway.simulated import SimulatedGateway
from tests.servers import PgBouncer

NOTHING = Options("1", sweep=None, stale=(), load=False, outages=())


@pytest.fixture
def _servers(servers_folder: Path) -> None:
    """Mark the test, because the harness starts servers of its own. Skip it without PgBouncer."""
    if not PgBouncer.program():
        pytest.skip("PgBouncer is not installed (apt-get install pgbouncer, brew install pgbouncer)")


with_servers = pytest.mark.usefixtures("_servers")


def survived(options: Options) -> Outcome:
    """Run, and fail with the summary when there is a violation; the evidence is kept then."""
    told: list[str] = []
    outcome = asyncio.run(run(options, told.append))
    assert not outcome.violations, "\n".join(told[:1] + lines(outcome))
    return outcome


@with_servers
def test_every_network_write_of_every_flow_may_be_the_last() -> None:
    outcome = survived(replace(NOTHING, sweep=Sweep(acts=("kill",), moments=("after",), cold=(True,), misses=2)))
    hit = {kind: {where for kind_hit, where in outcome.points.hits if kind_hit == kind} for kind in KINDS}
    for kind in KINDS:
        assert hit[kind] >= ({"books", "broker", "reply"} if kind == "relay" else {"books", "broker", "gateway", "reply"}), kind
        # Claim, settle and mark at the least.
        assert outcome.points.hits[kind, "books"] >= 3, kind
    assert outcome.environments.tally.landed >= 80


@with_servers
def test_connections_that_break_or_stall_lose_nothing() -> None:
    outcome = survived(
        replace(NOTHING, sweep=Sweep(("process", "refund", "reconcile"), ("cut", "stall"), ("after",), (False,), misses=2))
    )
    assert outcome.environments.tally.cuts >= 20


@with_servers
def test_a_worker_that_was_overtaken_changes_nothing() -> None:
    outcome = survived(replace(NOTHING, stale=("process", "reconcile")))
    assert outcome.environments.tally.freezes >= 15


@with_servers
def test_load_with_kills_repeats_and_outages_leaves_no_contradiction() -> None:
    # What is frozen would be waited for.
    load = replace(NOTHING, seed="3", load=True, invocations=1200, hurry=0.3, rates=Rates(freeze=0.0))
    outcome = survived(replace(load, outages=("PgBouncer killed", "PostgreSQL killed", "broker killed"), pause_s=(0.5, 1.5)))
    assert outcome.environments.tally.landed >= 150
    assert outcome.outages.count.total() >= 1
    assert len(outcome.seen.messages) > len({message.headers["ce_id"] for message in outcome.seen.messages}) > 50
    assert {answer.status for answer in outcome.seen.answers} >= {200, 201, 202, 402, 409, 422}


@with_servers
@pytest.mark.parametrize(
    "name",
    [
        "an event overtakes an older one",
        "relay marks before",
        "three Syncs",
    ],
)
def test_a_seeded_defect_is_caught(name: str) -> None:
    [mutant] = [mutant for mutant in MUTANTS if name in mutant.name]
    [verdict] = try_all("1", [mutant], lambda line: None)
    assert verdict.caught_by, verdict


def test_a_call_that_a_kill_tore_out_of_the_ledger_did_not_reach_the_gateway(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    crash = Crash(mmap(-1, SLOT.size), 0, 0)
    gateway = LedgerGateway(SimulatedGateway(), ledger, crash, lambda: "1.pay.0")
    request = GatewayRequest("pay-1", 1, 1999, "USD", "credit_card", "tok_ok", timeout_s=5)
    gateway.charge(request)
    text = ledger.read_text()
    ledger.write_text(text[: len(text) // 4])
    LedgerGateway(SimulatedGateway(), ledger, crash, lambda: "1.pay.1").charge(request)
    assert [call.call for call in evidence.calls(ledger)] == ["1.pay.1#0"]


def test_every_patch_still_fits() -> None:
    for mutant in MUTANTS:
        with tree(mutant):
            pass
