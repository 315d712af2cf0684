"""Short runs of the chaos harness with fixed seeds. The service passes, and seeded defects are caught."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from mmap import mmap
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chaos import evidence, restore
from chaos.crash import SLOT, Crash, Phase
from chaos.crash_points import KINDS, Sweep, wheres_of
from chaos.defects import MUTANTS
from chaos.gateway import LedgerGateway
from chaos.mutants import Verdict, tree, try_all
from chaos.plan import Rates
from chaos.run import Options, Outcome
from chaos.simulated import Simulated
from payments.gateway.port import GatewayRequest
from payments.gateway.simulated import SimulatedGateway
from tests.chaos.surviving import survived
from tests.servers import Broker, Postgres

NOTHING = Options("1", sweep=None, stale=(), load=False, outages=())


@dataclass(frozen=True)
class Run:
    """A run without outages, of the service or of a mutant of it."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    mutant: str = ""

    def __call__(self) -> Outcome | Verdict:
        if not self.mutant:
            return survived(replace(NOTHING, **self.changes))
        [mutant] = [mutant for mutant in MUTANTS if self.mutant in mutant.name]
        [verdict] = try_all("1", [mutant], lambda line: None)
        return verdict


RUNS = {
    "writes": Run({"sweep": Sweep(acts=("kill",), moments=("after",), cold=(True,), misses=2)}),
    "connections": Run({"sweep": Sweep(("process", "refund", "reconcile"), ("cut", "stall"), ("after",), (False,), misses=2)}),
    "overtaken": Run({"stale": ("process", "reconcile", "capture-behind-void", "sync")}),
    "after the answer": Run(
        {"sweep": Sweep(("process", "refund"), ("kill",), ("after",), (False,), misses=2), "after_answer": True}
    ),
    "overtaking event": Run(mutant="an event overtakes an older one"),
    "uncanceled payment": Run(mutant="a customer's time ends without the gateway"),
    "kept secret": Run(mutant="the customer's secret is kept"),
    "lost webhook": Run(mutant="delivery is deleted before it is sent"),
    "early mark": Run(mutant="relay marks before"),
    "untold refusal": Run(mutant="a final refusal is not written"),
    "three Syncs": Run(mutant="three Syncs"),
}


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, _pgbouncer: None, postgres: Postgres, broker: Broker) -> dict[str, Future[Any]]:
    """The runs of the selected tests, three at a time, each with a database and a topic of its own on the session's servers."""
    selected = {each.callspec.params.get("result") for each in request.session.items if hasattr(each, "callspec")}
    with pytest.MonkeyPatch.context() as environment, ThreadPoolExecutor(3) as pool:
        environment.setenv("DATABASE_URL", postgres.owner_url)
        environment.setenv("DATABASE_SERVICE_URL", postgres.service_url)
        environment.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
        started = {name: pool.submit(each) for name, each in RUNS.items() if name in selected}
        wait(started.values())  # the runs read the environment
    return started


@pytest.fixture
def result(request: pytest.FixtureRequest, runs: dict[str, Future[Any]]) -> Any:
    return runs[request.param].result()


def of_run(*names: str) -> pytest.MarkDecorator:
    """Give the test the results of these runs, one each time."""
    return pytest.mark.parametrize("result", names, indirect=True)


# The first of these tests waits for the runs of all: some four minutes on two idle cores. A run that hangs is stopped, and one on
# a slow machine is not.
pytestmark = pytest.mark.timeout(1500)


@of_run("writes")
def test_every_network_write_of_every_flow_may_be_the_last(result: Outcome) -> None:
    kinds = set(KINDS) - Simulated.cannot
    hit = {kind: {where for kind_hit, where in result.points.hits if kind_hit == kind} for kind in kinds}
    for kind in kinds:
        never = {"gateway"} if kind in ("relay", "refused") else set()
        assert hit[kind] >= {*wheres_of(kind)} - never, kind
        # Claim, settle and mark at the least. A refused one has claim, event and mark.
        assert result.points.hits[kind, "database"] >= 3, kind
    assert result.environments.tally.landed >= 80
    # Most come once. Those whose note died with the courier come again.
    came = [arrival.headers["webhook-id"] for arrival in result.seen.arrivals]
    assert len(came) > len(set(came)) >= 100


@of_run("after the answer")
def test_an_event_whose_environment_is_killed_between_answer_and_mark_is_published(result: Outcome) -> None:
    tally = result.environments.tally
    # After the answer itself, after the event has left, and after the mark has. The gateway loses a reply now and then, and
    # such an invocation has no event.
    assert all(tally.kills[phase] for phase in (Phase.REPLY, Phase.PUBLISH, Phase.MARK))
    assert tally.kills_after_answer >= 4


@of_run("connections")
def test_connections_that_break_or_stall_lose_nothing(result: Outcome) -> None:
    assert result.environments.tally.cuts >= 20


@of_run("overtaken")
def test_a_worker_that_was_overtaken_changes_nothing(result: Outcome) -> None:
    assert result.environments.tally.freezes >= 15


@of_run("overtaking event", "early mark", "untold refusal", "uncanceled payment", "kept secret", "lost webhook", "three Syncs")
def test_a_seeded_defect_is_caught(result: Verdict) -> None:
    assert result.caught_by, result


@pytest.mark.usefixtures("_pgbouncer")
def test_load_with_kills_repeats_and_outages_leaves_no_contradiction() -> None:
    # The harness would wait for frozen workers.
    load = replace(NOTHING, seed="3", load=True, invocations=1200, hurry=0.3, rates=Rates(freeze=0.0))
    outcome = survived(replace(load, outages=("PgBouncer killed", "PostgreSQL killed", "broker killed"), pause_s=(0.5, 1.5)))
    assert outcome.environments.tally.landed >= 150
    assert outcome.outages.count.total() >= 1
    assert len(outcome.seen.messages) > len({message.headers["ce_id"] for message in outcome.seen.messages}) > 50
    assert {answer.status for answer in outcome.seen.answers} >= {200, 201, 202, 402, 409, 422}
    assert {payment.acted_s is None for payment in outcome.seen.books.asked.values()} == {True, False}
    assert any("next_action" in (answer.body or {}) for answer in outcome.seen.answers)
    assert {200, 202} & {answer.status for answer in outcome.seen.answers if answer.kind == "sync"}


@pytest.mark.usefixtures("_pgbouncer")
@pytest.mark.parametrize(
    ("left_out", "sign"),
    [
        ({}, ""),
        ({"enters": False, "takes_back": False}, "which the books do not have"),
        ({"sends_refunds": True}, "was paid twice"),
    ],
    ids=["as written", "with two steps left out", "with refunds sent unseen"],
)
def test_a_database_that_is_restored_to_a_moment_agrees_after_the_documented_steps(left_out: dict[str, Any], sign: str) -> None:
    outcome = asyncio.run(restore.run(restore.Options("8", stories=30, **left_out), lambda line: None))
    if sign:
        assert any(sign in violation for violation in outcome.violations), outcome.violations
        shutil.rmtree(outcome.folder)
        return
    assert not outcome.violations, "\n".join([f"evidence in {outcome.folder}", *outcome.violations])
    assert outcome.facts["charges taken back"] > 0
    assert outcome.facts["entered"].keys() >= {"refund"}
    assert outcome.facts["messages in the old stack's queue"]["refund left_alone"] > 0
    assert outcome.facts["events lost with the database"] > 0


def test_a_call_that_a_kill_tore_out_of_the_ledger_did_not_reach_the_gateway(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    crash = Crash(mmap(-1, SLOT.size), 0, {})
    gateway = LedgerGateway(SimulatedGateway(), ledger, crash, lambda: "1.pay.0")
    request = GatewayRequest("process", "pay-1", 1, UUID(int=1), "order-1", 1999, "USD", "credit_card", "tok_ok", timeout_s=5)
    gateway.charge(request)
    text = ledger.read_text()
    ledger.write_text(text[: len(text) // 4])
    LedgerGateway(SimulatedGateway(), ledger, crash, lambda: "1.pay.1").charge(request)
    assert [call.call for call in evidence.calls(ledger)] == ["1.pay.1#0"]


def test_every_patch_still_fits() -> None:
    for mutant in MUTANTS:
        with tree(mutant):
            pass
