"""Scenes for crash_points.py and stale_workers.py: make a payment for one invocation, and hit that invocation with a fault."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from chaos import evidence
from chaos.answers import Answer
from chaos.clients import HELD_S, Clients, Names, body_of
from chaos.crash import Phase
from chaos.environments import NO_FAULT, Ended, Environments, Fault
from chaos.plan import DIRECT_OWNER, OK, OWNERS, Command, Story
from chaos.quiet import CLOCK_MOVES_S, MOVE_CLOCK
from chaos.receiver import Receiver

FIRST_STORY = 1_000_000
"""The first number of these stories. The load's numbers never reach it."""

UNPUBLISHED = Fault(trap={"number": 0, "where": None, "phase": int(Phase.PUBLISH), "moment": "before", "act": "kill"})
"""The kill before the publish leaves the event to the relay."""

UNSENT = Fault(trap={"number": 1, "where": "gateway", "phase": 0, "moment": "before", "act": "kill"})
"""The kill before the call leaves the operation to reconcile."""

PAY, CAPTURE, VOID = Command("pay", "process"), Command("capture", "capture", 0.6), Command("void", "void", by="order_id")
REFUND, REFUND_REST = Command("refund", "refund", 0.4, by="payment_id"), Command("rest", "refund", by="order_id")
REFUND_ALL = Command("all", "refund", keyed=False)

LOST_CHARGE, LOST_REFUND = "tok_timeout_then_captured", "tok_refund_timeout"
NO_CAPTURE, NO_VOID, NO_REFUND = "tok_capture_declined", "tok_void_declined", "tok_refund_declined"

Scene = Callable[[Fault, bool], Awaitable[tuple[Story, Ended]]]
"""Prepare a new payment and invoke with the fault, in a new environment if cold (True)."""


class Scenes:
    def __init__(self, environments: Environments, clients: Clients, receiver: Receiver, owner_url: str) -> None:
        self.environments, self._clients, self._receiver, self._owner_url = environments, clients, receiver, owner_url
        self.failures: list[str] = []
        """The servers are healthy here, so every invocation without a fault must get an answer. These did not."""
        self._names: dict[int, Names] = {}
        self._calls = 0
        self.commands: dict[str, Scene] = {
            # Cold: over HTTP with a key. Warm: by direct invocation with a key derived from the payload.
            "process": lambda fault, cold: self.pay(fault, cold=cold, direct=not cold),
            "capture": lambda fault, cold: self.follow(CAPTURE, fault, cold=cold, manual=True),
            "void": lambda fault, cold: self.follow(VOID, fault, cold=cold, manual=True),
            # Cold: a part, with a key. Warm: all that is left, without a key.
            "refund": lambda fault, cold: self.follow(REFUND if cold else REFUND_ALL, fault, cold=cold),
            "capture-declined": lambda fault, cold: self.follow(CAPTURE, fault, cold=cold, manual=True, token=NO_CAPTURE),
            "void-declined": lambda fault, cold: self.follow(VOID, fault, cold=cold, manual=True, token=NO_VOID),
            "refund-declined": lambda fault, cold: self.follow(REFUND, fault, cold=cold, token=NO_REFUND),
            # A direct invocation that is refused for good: the payment is captured already.
            "refused": lambda fault, cold: self.follow(CAPTURE, fault, cold=cold, direct=True),
        }
        # These functions take any work that they find, so only one scene at a time may use the database.
        self.scheduled: dict[str, Scene] = {
            "relay": self._relay,
            "reconcile": self._reconcile,
            "reconcile-refund": self._reconcile_refund,
            "expiry": self._expiry,
            "capture-behind-void": self._capture_behind_void,
            "courier": self._courier,
            "courier-refused": partial(self._courier, refuses=1),
        }

    async def pay(
        self, fault: Fault, *, cold: bool = False, direct: bool = False, manual: bool = False, token: str = OK
    ) -> tuple[Story, Ended]:
        """Send a payment of a new order."""
        owner = DIRECT_OWNER if direct else OWNERS[0]
        story = Story(FIRST_STORY + len(self._names), owner, direct, 5000, "EUR", manual, ())
        self._names[story.number] = {"order_id": story.order_id}
        return story, await self.send(story, replace(PAY, token=token), fault, cold=cold)

    async def follow(
        self, command: Command, fault: Fault, *, cold: bool = False, direct: bool = False, manual: bool = False, token: str = OK
    ) -> tuple[Story, Ended]:
        """Send a command on a new payment."""
        story = await self._paid(direct=direct, manual=manual, token=token)
        return story, await self.send(story, command, fault, cold=cold)

    async def _paid(self, *, direct: bool, manual: bool, token: str) -> Story:
        """Make a payment. If the gateway loses its reply, make another one."""
        story, _ = await self.pay(NO_FAULT, direct=direct, manual=manual, token=token)
        while "transaction_id" not in self._names[story.number]:
            story, _ = await self.pay(NO_FAULT, direct=direct, manual=manual, token=token)
        return story

    async def send(self, story: Story, command: Command, fault: Fault, *, cold: bool = False) -> Ended:
        if story.direct and command.kind == "process":
            command = replace(command, keyed=False)
        body = body_of(story, command, self._names[story.number])
        answer, ended = await self._clients.deliver(story, command, body, fault, cold=cold)
        self._learn(story, answer)
        self._note(ended, fault, answered=answer.status not in (None, 503))
        return ended

    async def look_up(self, story: Story) -> str:
        """Return the status of the story's payment, or "" if there is none."""
        answer = await self._clients.look_up(story, f"/order/{story.order_id}", NO_FAULT)
        self._learn(story, answer)
        return str((answer.body or {}).get("status", "")) if answer.status == 200 else ""

    async def invoke(self, function: str, fault: Fault = NO_FAULT, *, cold: bool = False) -> Ended:
        """Move the clock past every lease, and invoke a scheduled function."""
        for statement in MOVE_CLOCK:
            self._run_sql(statement, s=CLOCK_MOVES_S)
        self._calls += 1
        label = f"scene.{function}.{self._calls}"
        ended = await self.environments.invoke(function, {}, label, HELD_S[function], fault, cold=cold)
        self._note(ended, fault, answered=ended.end == "answered")
        return ended

    async def _relay(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        story, _ = await self.pay(UNPUBLISHED)
        return story, await self.invoke("relay", fault, cold=cold)

    async def _reconcile(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        story, _ = await self.pay(NO_FAULT, token=LOST_CHARGE)
        return story, await self.invoke("reconcile", fault, cold=cold)

    async def _reconcile_refund(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        story, _ = await self.follow(REFUND_REST, NO_FAULT, token=LOST_REFUND)
        await self.send(story, REFUND, NO_FAULT)  # refused: the first refund's outcome is unknown, so all is still reserved
        return story, await self.invoke("reconcile", fault, cold=cold)

    async def _expiry(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        story, _ = await self.pay(NO_FAULT, manual=True)
        self._run_sql("UPDATE payments SET capture_before = now() WHERE status = 'AUTHORIZED'")
        return story, await self.invoke("reconcile", fault, cold=cold)

    async def _capture_behind_void(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        """Capture while a void is in flight that the gateway will decline. So the capture is refused now, and succeeds later."""
        story = await self._paid(direct=True, manual=True, token=NO_VOID)
        await self.send(story, VOID, UNSENT)
        return story, await self.send(story, CAPTURE, fault, cold=cold)

    async def _courier(self, fault: Fault, cold: bool, refuses: int = 0) -> tuple[Story, Ended]:
        """Owe a webhook two events of a payment. The receiver may refuse the first at first. Then let another courier end it."""
        story, _ = await self.follow(REFUND, NO_FAULT)
        self._receiver.refuses = refuses
        ended = await self.invoke("courier", fault, cold=cold)
        self._receiver.refuses = 0
        await self.invoke("courier")
        return story, ended

    def _learn(self, story: Story, answer: Answer) -> None:
        for name in ("transaction_id", "payment_id"):
            if value := (answer.body or {}).get(name):
                self._names[story.number][name] = value

    def _note(self, ended: Ended, fault: Fault, *, answered: bool) -> None:
        if fault is NO_FAULT and not answered:
            self.failures.append(f"{ended.label}: {ended.end} or unavailable without a fault: {ended.error}")

    def _run_sql(self, sql: str, **values: float) -> None:
        with contextlib.closing(evidence.connect(self._owner_url)) as connection:
            connection.run(sql, **values)
