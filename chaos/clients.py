"""Play the stories as a shop's back end would, or as Lambda would for the order service, and record the answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from chaos.answers import Answer, completed, http_event, traceparent_of
from chaos.environments import NO_FAULT, Ended, Environments, Fault
from chaos.plan import OFF_SESSION, Command, Customer, Deed, Rates, Story, fault

NAMES = ("transaction_id", "payment_id", "order_id")
"""By any of them a command may name a payment."""

Names = dict[str, Any]
"""The ids of a payment: those three, and the gateway's payment_intent_id."""

FUNCTION_OF = {"process": "process", "capture": "process", "void": "process", "sync": "process", "refund": "refund"}

BEGINNING = ("PENDING", "PROCESSING")
UNDECIDED = (*BEGINNING, "REQUIRES_ACTION")

Act = Callable[[str, Deed], Awaitable[None]]
"""Does what a customer does with a payment (payment_intent_id) at the gateway."""

REMAINING_S = (4.4, 6.0)
"""A command's remaining time. The service keeps 4 s of it for the steps after the charge, and its lease is 2 s longer."""

LITTLE_S = 3.9
"""Too little time to call the gateway: one command in 50 begins that late."""

BACKOFF_S = (0.1, 0.5, 2.0, 5.0, 8.0)
"""The pauses between a client's tries. Their sum is longer than a killed command's lease, so a patient client sees the outcome
that reconcile settled."""

HELD_S = {"relay": 9.0, "reconcile": 16.0, "courier": 20.0, "lookups": 10.0, "gateway_events": 20.0}
"""The other functions' remaining time. With less than 8 s left, relay begins no batch; with less than 14 s, reconcile begins no
operation, and nobody looks at an event of the gateway's; with less than 15 s, courier sends nothing."""


class Clients:
    def __init__(self, environments: Environments, seed: str, rates: Rates, hurry: float = 1.0, act: Act | None = None) -> None:
        """`hurry` multiplies the pauses between the clients' tries; with 0 they try again at once. Without `act` the gateway asks
        no customer."""
        self._environments, self._seed, self._rates, self._hurry, self._act = environments, seed, rates, hurry, act
        self.answers: list[Answer] = []
        self.hang_up = asyncio.Event()
        """Set when the load is over. Stories then end at their next pause."""
        self._open: set[str] = set()
        self._final: set[str] = set()
        self._requests: dict[str, tuple[Story, Command, dict[str, Any]]] = {}
        self._deliveries: Counter[str] = Counter()
        self._sent: dict[str, Answer] = {}

    async def play(self, story: Story) -> None:
        for group in story.groups:
            names: Names = {}
            if group[0].kind in ("capture", "void") and await self.pause(story.wait_s):
                return
            if group[0].kind != "process":
                names = await self._names(story)
                if not names:
                    return
            await asyncio.gather(*(self._command(story, command, names) for command in group))
            if story.customer and any(command.name == "pay" for command in group):
                await self._wait_for(story.customer, story)

    async def _wait_for(self, customer: Customer, story: Story) -> None:
        """Let the customer and the client do what they do while the payment waits."""
        names = await self._names(story, BEGINNING)
        if names.get("transaction_id") or not names.get("payment_intent_id"):
            return  # another attempt at the order was faster

        async def do(after_s: float, group: tuple[Command, ...]) -> None:
            if not await self.pause(after_s):
                await asyncio.gather(*(self._command(story, command, names) for command in group))

        async def act() -> None:
            assert self._act
            if customer.does != "stays away" and not await self.pause(customer.after_s):
                await self._act(names["payment_intent_id"], customer.does)

        await asyncio.gather(act(), *(do(after_s, group) for after_s, group in customer.meanwhile))

    async def _names(self, story: Story, until_not: tuple[str, ...] = UNDECIDED) -> Names:
        """Look the order up until its payment has another status. Return nothing if it fails, or if time is up."""
        for pause_s in (0.0, *BACKOFF_S):
            if await self.pause(pause_s * self._hurry):
                return {}
            answer = await self.look_up(story, f"/order/{story.order_id}")
            if answer.status == 200 and answer.body and answer.body["status"] not in until_not:
                return names_in(answer.body) if answer.body["status"] not in ("FAILED", "VOIDED") else {}
        return {}

    async def _command(self, story: Story, command: Command, names: Names) -> None:
        body = body_of(story, command, names)
        await asyncio.gather(*(self._insist(story, command, body) for _ in range(command.copies)))

    async def _insist(self, story: Story, command: Command, body: dict[str, Any]) -> None:
        """Send the request until it has a final answer, or until the client gives up.

        Lambda does the same with a direct invocation that raised: a fault, or a refusal that waiting may cure.
        """
        # A repeated capture or refund without a key would be a second one, so no sane client repeats it.
        repeatable = command.keyed or command.kind in ("process", "sync")
        for _, pause_s in zip(range(command.tries if repeatable else 1), (*BACKOFF_S, 0.0), strict=False):
            answer, _ = await self.deliver(story, command, body)
            if answer.final or (answer.status == 202 and command.kind != "sync") or await self.pause(pause_s * self._hurry):
                return

    async def pause(self, pause_s: float) -> bool:
        """Wait, at most until the load ends. Return whether it has ended."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.hang_up.wait(), pause_s)
        return self.hang_up.is_set()

    async def deliver(
        self, story: Story, command: Command, body: dict[str, Any], planned: Fault | None = None, *, cold: bool = False
    ) -> tuple[Answer, Ended]:
        """Deliver the request once, with the planned fault, or else with the fault that the seed gives."""
        name = f"{story.number}.{command.name}"
        label = f"{name}.{self._deliveries[name]}"
        self._deliveries[name] += 1
        key = command.key_of(story) if command.keyed else None
        is_direct = story.direct and command.kind != "sync"
        if is_direct:
            trace = traceparent_of(name)
            event = direct_event(name, story, command, body)
        else:
            trace = traceparent_of(label)
            event = http_event("POST", f"/{command.kind}", story.owner, label, body, key)
        self._requests[name] = (story, command, body)
        random = Random(f"{self._seed}/time/{label}")
        remaining_s = LITTLE_S if random.random() < 0.02 else random.uniform(*REMAINING_S)
        if planned is not None:
            remaining_s = REMAINING_S[1]
        chosen = fault(self._seed, label, self._rates) if planned is None else planned
        spared = chosen is NO_FAULT and remaining_s > LITTLE_S
        begun_s = time.monotonic()
        sent = Answer(name, label, command.kind, story.owner, key, trace, is_direct, body, begun_s, 0.0, "", spared=spared)
        self._sent[label] = sent
        ended = await self._environments.invoke(FUNCTION_OF[command.kind], event, label, remaining_s, chosen, cold=cold)
        answer = completed(sent, ended.end, ended.result, ended.error)
        self._remember(answer, repeatable=key is not None or is_direct)
        return answer, ended

    async def look_up(self, story: Story, path: str, planned: Fault | None = None) -> Answer:
        name = f"{story.number}.look-up"
        label = f"{name}.{self._deliveries[name]}"
        self._deliveries[name] += 1
        sent = Answer(name, label, "look-up", story.owner, None, "", False, {}, time.monotonic(), 0.0, "")
        event = http_event("GET", path, story.owner, label)
        chosen = fault(self._seed, label, self._rates) if planned is None else planned
        ended = await self._environments.invoke("lookups", event, label, HELD_S["lookups"], chosen)
        answer = completed(sent, ended.end, ended.result, ended.error)
        self.answers.append(answer)
        return answer

    def take_late_answers(self) -> None:
        """Record the answers that thawed environments gave after their callers had hung up."""
        while not self._environments.late.empty():
            late = self._environments.late.get_nowait()
            if late.label in self._sent:
                answer = completed(self._sent[late.label], late.end, late.result, late.error)
                self._remember(answer, repeatable=answer.key is not None or answer.direct)

    async def repeat_open(self) -> None:
        """Repeat, without faults, every repeatable request that has no final answer."""
        for name in sorted(self._open):
            story, command, body = self._requests[name]
            await self.deliver(story, command, body, NO_FAULT)

    def move_to(self, environments: Environments) -> None:
        """Send everything from now on to another stack."""
        self._environments = environments

    def request_of(self, kind: str, traceparent: str | None) -> str | None:
        """Return the name of the request that an operation came from."""
        named = ((sent.kind, sent.traceparent, sent.request) for sent in self._sent.values())
        return next((name for of_kind, trace, name in named if (of_kind, trace) == (kind, traceparent)), None)

    async def repeat(self, name: str) -> Ended:
        """Repeat a request without faults, although it may have had its answer."""
        story, command, body = self._requests[name]
        _, ended = await self.deliver(story, command, body, NO_FAULT)
        return ended

    def is_direct(self, name: str) -> bool:
        return self._requests[name][0].direct

    def event_of(self, name: str) -> tuple[str, dict[str, Any]]:
        """Return the function and the event of a direct request."""
        story, command, body = self._requests[name]
        return FUNCTION_OF[command.kind], direct_event(name, story, command, body)

    def drop(self, name: str) -> None:
        """Never repeat this request."""
        self._open.discard(name)

    @property
    def unanswered(self) -> list[str]:
        """The repeatable requests that have no final answer."""
        return sorted(self._open)

    def _remember(self, answer: Answer, *, repeatable: bool) -> None:
        self.answers.append(answer)
        if answer.final:
            self._final.add(answer.request)
        elif repeatable:
            self._open.add(answer.request)
        self._open -= self._final


def direct_event(name: str, story: Story, command: Command, body: dict[str, Any]) -> dict[str, Any]:
    key = {"idempotency_key": command.key_of(story)} if command.keyed else {}
    return body | {"operation": command.kind, "traceparent": traceparent_of(name)} | key


def names_in(body: dict[str, Any]) -> Names:
    """Return the three ids by which a command may name the payment that an answer shows, and the gateway's own."""
    return {name: body[name] for name in (*NAMES, "payment_intent_id")}


def body_of(story: Story, command: Command, names: Names) -> dict[str, Any]:
    """Return the request. A slip of the client's makes one that no service may accept."""
    if command.kind == "process":
        return {
            "order_id": story.order_id,
            "amount": story.amount,
            "currency": story.currency.lower() if command.slip else story.currency,
            "payment_method": "credit_card",
            "payment_token": command.token,
            "capture_method": "manual" if story.manual else "automatic",
            "metadata": {"request": command.name},
        } | ({"off_session": True} if command.token == OFF_SESSION and not story.customer else {})
    body = {name: names[name] for name in NAMES} if command.slip else {command.by: names[command.by]}
    if command.share is not None:
        body["amount"] = max(1, int(story.amount * command.share))
    if command.kind not in ("capture", "sync"):
        body["reason"] = command.name
    return body
