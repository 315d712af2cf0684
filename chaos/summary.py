"""The summary at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from chaos.books import Asked
from chaos.crash import WHERES, Phase
from chaos.run import Outcome, commit
from chaos.servers import POOL_SIZE

MOST_VIOLATIONS = 40

PHASES = {
    Phase.BEGUN: "before the first write",
    Phase.CLAIM: "claim",
    Phase.GATEWAY: "gateway",
    Phase.ANSWERED: "gateway answered",
    Phase.SETTLE: "settle",
    Phase.PUBLISH: "publish",
    Phase.MARK: "mark",
    Phase.REPLY: "reply",
}


def lines(outcome: Outcome) -> list[str]:
    tally, seen = outcome.environments.tally, outcome.seen
    kinds = Counter(row["kind"] for row in seen.tables["operations"])
    statuses = Counter(row["status"] for row in seen.tables["payments"])
    refunds = Counter(row["status"] for row in seen.tables["refunds"])
    events = {message.headers.get("ce_id"): message.headers.get("ce_type", "") for message in seen.messages}
    arrived = len({arrival.headers["webhook-id"] for arrival in seen.arrivals})
    answers = Counter(str(answer.status or answer.end) for answer in seen.answers)
    syncs = Counter(str(answer.status or answer.end) for answer in seen.answers if answer.kind == "sync")
    total = tally.invocations.total()
    per_s = (total - outcome.before_load) / outcome.load_s if outcome.options.load else 0.0
    table = [
        ("seed, commit", f"{outcome.options.seed}, {commit()}"),
        ("servers", outcome.servers),
        ("invocations", f"{total}, {per_s:.0f}/s under load: {_listed(tally.invocations)}"),
        ("transactions through the pooler", f"{outcome.pooled}, by {POOL_SIZE} connections"),
        ("environments", str(tally.forks)),
        ("kills that landed mid-flight", f"{tally.landed}, {tally.kills_at_write} of them at a network write"),
        ("  in phase", _listed({name: tally.kills[phase] for phase, name in PHASES.items()})),
        ("  after the answer", str(tally.kills_after_answer)),
        ("freezes longer than a lease", str(tally.freezes)),
        ("connections cut or stalled", str(tally.cuts)),
        ("outages", _listed(outcome.outages.count)),
        ("answers", _listed(answers)),
        ("operations", _listed(kinds)),
        ("payments", _listed(statuses)),
        ("refunds", _listed(refunds)),
        ("gateway calls", f"{len(seen.calls)}, {len({call.key for call in seen.calls})} keys"),
        ("  moved money or authorizations", _listed(Counter(move.action for move in seen.books.moves))),
        ("  spoiled on the way", _listed(outcome.provider.faults)),
        ("customers asked to act", f"{len(seen.books.asked)}: {_listed(Counter(map(_came_to, seen.books.asked.values())))}"),
        (
            "  answers to syncs, next actions",
            f"{_listed(syncs)}; {sum('next_action' in (one.body or {}) for one in seen.answers)}",
        ),
        ("events", f"{len(events)}, sent {len(seen.messages)} times"),
        ("  of type", _listed(Counter(kind.removeprefix("payment.") for kind in events.values()))),
        ("webhooks", f"{arrived} events, came {len(seen.arrivals)} times"),
        ("gateway events in the inbox", _listed(Counter(row["outcome"] or "open" for row in seen.tables["gateway_events"]))),
        ("  on their way", _listed(outcome.provider.events.count if outcome.provider.events else {})),
        ("  what others did there", _listed(outcome.provider.events.dashboard.count if outcome.provider.events else {})),
        ("disputes", _listed(Counter(row["outcome"] or "open" for row in seen.tables["disputes"]))),
        ("lost with the broker's memory", f"{len(seen.lost_with_broker)} events, replayed"),
    ]
    for name, counts in (("crash points", outcome.points.hits), ("overtaken while frozen", outcome.stale.thawed)):
        kinds_hit = sorted({kind for kind, _ in counts})
        table += [(f"{name}: {kind}", _listed({where: counts[kind, where] for where in WHERES})) for kind in kinds_hit]
    table += [("took", f"{outcome.all_s:.0f} s"), ("violations", str(len(outcome.violations)))]
    text = [f"{name:<34} {value}" for name, value in table]
    text += [f"VIOLATION (seed {outcome.options.seed}): {violation}" for violation in outcome.violations[:MOST_VIOLATIONS]]
    return text


def _came_to(payment: Asked) -> str:
    ends = {"expire": "his time ended", "void": "voided", None: "", "": "closed after a decline"}
    by = ends[payment.canceled_by and payment.canceled_by.partition("-")[0]]
    return " and ".join(filter(None, ("acted" if payment.acted_s is not None else "", by))) or "open"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]) if count) or "none"
