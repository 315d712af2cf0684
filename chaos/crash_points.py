"""Hit an invocation at its first network write, then a similar one at the second, and so on until one ends unharmed.

We do this for every kind of invocation, cold and warm: SIGKILL before, in the middle of and after the write; a cut connection at
the same places; and an answer that comes too late. After each hit, the client sends the request again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

from chaos.crash import WHERES, Act, Moment, Trap, Where
from chaos.environments import NO_FAULT, Fault
from chaos.provider import EVENT_KINDS
from chaos.quiet import Quiet
from chaos.scenes import CAPTURE, GIVE_UP, PAY, REFUND, SYNC, VOID, Scene, Scenes

COURIERS = ("courier", "courier-refused")

KINDS = (
    "process",
    "capture",
    "void",
    "refund",
    "capture-declined",
    "void-declined",
    "refund-declined",
    "refused",
    "asked",
    "give-up",
    "sync",
    "action-expiry",
    "relay",
    "reconcile",
    "reconcile-refund",
    "ended-key",
    "expiry",
    *COURIERS,
    *EVENT_KINDS,
)

MISSES = 3
"""A sweep ends after three misses in a row. One miss is not enough: the gateway loses one reply in 12, and such an invocation
writes less often."""

REPEATED = {
    "process": PAY,
    "capture": CAPTURE,
    "void": VOID,
    "refund": REFUND,
    "capture-declined": CAPTURE,
    "void-declined": VOID,
    "refund-declined": REFUND,
    "refused": CAPTURE,
    "capture-behind-void": CAPTURE,
    "asked": PAY,
    "give-up": GIVE_UP,
    "sync": SYNC,
}

MOST_WRITES = 80
"""More than any invocation makes. If one makes more, it never ends."""


def wheres_of(kind: str) -> tuple[Where, ...]:
    """Return where this kind writes to. The search for a write that never comes would cost several invocations."""
    never = ("broker", "gateway") if kind in COURIERS else ("receiver",)
    return tuple(where for where in WHERES if where not in never)


async def each_in_turn(hit: Callable[[int], Awaitable[bool]], most: int = MOST_WRITES, misses: int = MISSES) -> int:
    """Hit the first write, the second and so on, until `misses` hits in a row found no such write. Return the number of hits."""
    number = missed = 0
    while number < most and missed < misses:
        number, missed = (number + 1, 0) if await hit(number + 1) else (number, missed + 1)
    return number


@dataclass(frozen=True, slots=True)
class Sweep:
    """The crash points to try."""

    kinds: tuple[str, ...] = KINDS
    acts: tuple[Act, ...] = ("kill", "cut", "stall")
    moments: tuple[Moment, ...] = ("before", "half", "after")
    cold: tuple[bool, ...] = (True, False)
    most: int = MOST_WRITES
    misses: int = MISSES

    def without(self, kinds: Container[str]) -> Sweep:
        return replace(self, kinds=tuple(kind for kind in self.kinds if kind not in kinds))

    def __iter__(self) -> Iterator[tuple[Act, Moment, bool]]:
        for act, moment, cold in product(self.acts, self.moments, self.cold):
            if act != "stall" or moment == "after":  # only a complete request gets an answer, and so a late one
                yield act, moment, cold


@dataclass(slots=True)
class CrashPoints:
    scenes: Scenes
    quiet: Quiet
    report: Callable[[str], None]
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The number of hits, by (kind of invocation, where: one of WHERES)."""
    tried: tuple[str, ...] = ()

    async def run(self, sweep: Sweep) -> None:
        self.tried = sweep.kinds
        commands, scheduled = self.scenes.commands, self.scenes.scheduled
        await asyncio.gather(*(self._in_turn(sweep, kind, commands[kind]) for kind in sweep.kinds if kind in commands))
        for kind in sweep.kinds:
            if kind in scheduled:
                await self.quiet.settle_down()
                await self._in_turn(sweep, kind, scheduled[kind])

    @property
    def failures(self) -> list[str]:
        """Report each kind without a hit; otherwise nobody would notice."""
        return [f"no crash point of {kind} was hit" for kind in self.tried if not any(hit == kind for hit, _ in self.hits)]

    async def _in_turn(self, sweep: Sweep, kind: str, scene: Scene) -> None:
        for act, moment, cold in sweep:
            hit = []
            # We count each `where` apart, because kafka-python writes from its own thread, at any time between the others.
            for where in wheres_of(kind):
                trap: Trap = {"number": 0, "where": where, "phase": 0, "moment": moment, "act": act}
                count = await each_in_turn(partial(self._hit, kind, scene, trap, cold), sweep.most, sweep.misses)
                hit.append(f"{count} {where}")
            self.report(f"{kind}, {'cold' if cold else 'warm'}: {act} {moment} each of {', '.join(hit)}")

    async def _hit(self, kind: str, scene: Scene, trap: Trap, cold: bool, number: int) -> bool:
        """Run the scene with the trap. Return whether it sprang."""
        if not cold and (trap["act"] == "kill" or number == 1):
            await scene(NO_FAULT, False)  # the last hit may have killed the warm environment, so another one warms up
        story, ended = await scene(Fault(trap={**trap, "number": number}), cold)
        if kind in REPEATED:
            await self.scenes.send(story, REPEATED[kind], NO_FAULT)
        if ended.sprung:
            self.hits[kind, ended.sprung] += 1
        return bool(ended.sprung)
