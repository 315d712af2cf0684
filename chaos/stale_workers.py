"""Freeze an invocation at each of its writes in turn, let other workers finish its work and go on, and then thaw it.

The thawed worker does not know that others have gone on. It must change nothing: not the outcome, not the status, not the order
of the events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from chaos.crash import Moment, Trap, Where
from chaos.crash_points import REPEATED, each_in_turn, wheres_of
from chaos.environments import NO_FAULT, Fault
from chaos.scenes import REFUND, REFUND_REST, Scenes

KINDS = (
    "process",
    "capture",
    "void",
    "refund",
    "capture-declined",
    "refused",
    "capture-behind-void",
    "give-up",
    "sync",
    "action-expiry",
    "relay",
    "reconcile",
    "courier",
)

FREEZE_S = 60.0
"""An upper limit; the harness thaws the worker sooner."""


@dataclass(slots=True)
class StaleWorkers:
    scenes: Scenes
    report: Callable[[str], None]
    thawed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The number of thawed workers, by (kind of invocation, where we had frozen them)."""
    tried: tuple[str, ...] = ()

    async def run(self, kinds: tuple[str, ...] = KINDS) -> None:
        self.tried = kinds
        moments: tuple[Moment, ...] = ("before", "after")
        for kind in kinds:
            for moment in moments:
                hit = []
                for where in wheres_of(kind):
                    count = await each_in_turn(partial(self._one, kind, moment, where))
                    hit.append(f"{count} {where}")
                self.report(f"{kind}: frozen {moment} each of {', '.join(hit)}, overtaken, thawed")

    @property
    def failures(self) -> list[str]:
        return [f"no {kind} was overtaken" for kind in self.tried if not any(thawed == kind for thawed, _ in self.thawed)]

    async def _one(self, kind: str, moment: Moment, where: Where, number: int) -> bool:
        """Freeze, overtake and thaw one worker. Return whether the trap froze it."""
        scenes = self.scenes
        scene = (scenes.commands | scenes.scheduled)[kind]
        trap: Trap = {"number": number, "where": where, "phase": 0, "moment": moment, "act": "stop"}
        story, ended = await scene(Fault(trap=trap, freeze_s=FREEZE_S), False)
        if ended.end != "frozen":
            return False
        # First, if the payment is captured already, we refund it before the relay can send the frozen worker's event. Then we end
        # all leases and let reconcile and the relay run.
        for function in ("", "reconcile", "relay"):
            if function:
                await scenes.invoke(function)
            if kind in REPEATED:
                await scenes.send(story, REPEATED[kind], NO_FAULT)
            if await scenes.look_up(story) in ("CAPTURED", "PARTIALLY_REFUNDED"):
                await scenes.send(story, REFUND, NO_FAULT)
        if await scenes.look_up(story) == "PARTIALLY_REFUNDED":
            await scenes.send(story, REFUND_REST, NO_FAULT)
        scenes.environments.thaw(ended.label)
        await scenes.environments.idle()
        self.thawed[kind, ended.sprung] += 1
        return True
