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
from chaos.events import Door, Event, Events
from chaos.plan import DIRECT_OWNER, OWNERS, Command, Customer, Deed, Story
from chaos.provider import DASHBOARD_KINDS, Provider
from chaos.quiet import CLOCK_MOVES_S, MOVE_CLOCK
from chaos.receiver import Receiver

FIRST_STORY = 1_000_000
"""The first number of these stories. The load's numbers never reach it."""

UNPUBLISHED = Fault(trap={"number": 0, "where": None, "phase": int(Phase.PUBLISH), "moment": "before", "act": "kill"})
"""The kill before the publish leaves the event to the relay."""

UNSENT = Fault(trap={"number": 1, "where": "gateway", "phase": 0, "moment": "before", "act": "kill"})
"""The kill before the call leaves the operation to reconcile."""

LISTED = 110
"""How many events stay of Stripe's list of what it could not deliver: more than one page, and more than one statement inserts."""

PAY = Command("pay", "process", token="")
CAPTURE, VOID = Command("capture", "capture", 0.6), Command("void", "void", by="order_id")
REFUND, REFUND_REST = Command("refund", "refund", 0.4, by="payment_id"), Command("rest", "refund", by="order_id")
REFUND_ALL = Command("all", "refund", keyed=False)
SYNC, GIVE_UP = Command("sync", "sync", keyed=False, by="payment_id"), Command("give-up", "void", by="payment_id")

Scene = Callable[[Fault, bool], Awaitable[tuple[Story, Ended]]]
"""Prepare a new payment and invoke with the fault, in a new environment if cold (True)."""


class Scenes:
    def __init__(
        self, environments: Environments, clients: Clients, receiver: Receiver, provider: Provider, owner_url: str
    ) -> None:
        self.environments, self._clients, self._receiver, self._owner_url = environments, clients, receiver, owner_url
        self._provider, tokens = provider, provider.tokens
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
            "capture-declined": lambda fault, cold: self.follow(CAPTURE, fault, cold=cold, manual=True, token=tokens.no_capture),
            "void-declined": lambda fault, cold: self.follow(VOID, fault, cold=cold, manual=True, token=tokens.no_void),
            "refund-declined": lambda fault, cold: self.follow(REFUND, fault, cold=cold, token=tokens.no_refund),
            # A direct invocation that is refused for good: the payment is captured already.
            "refused": lambda fault, cold: self.follow(CAPTURE, fault, cold=cold, direct=True),
            "asked": lambda fault, cold: self.pay(fault, cold=cold, direct=not cold, asks="stays away"),
            "give-up": self._give_up,
        }
        # These functions take any work that they find, so only one scene at a time may use the database.
        self.scheduled: dict[str, Scene] = {
            "relay": self._relay,
            "reconcile": self._reconcile,
            "reconcile-refund": self._reconcile_refund,
            "ended-key": self._ended_key,
            "expiry": self._expiry,
            "sync": self._sync,
            "action-expiry": self._action_expiry,
            "capture-behind-void": self._capture_behind_void,
            "gateway-event": partial(self._gateway_event, "webhook"),
            "gateway-event-bridged": partial(self._gateway_event, "eventbridge"),
            "gateway-pull": self._gateway_pull,
            **{kind: partial(self._at_dashboard, kind) for kind in DASHBOARD_KINDS},
            "courier": self._courier,
            "courier-refused": partial(self._courier, refuses=1),
        }

    async def pay(
        self,
        fault: Fault,
        *,
        cold: bool = False,
        direct: bool = False,
        manual: bool = False,
        token: str = "",
        asks: Deed | None = None,
    ) -> tuple[Story, Ended]:
        """Send a payment of a new order. With `asks` the gateway asks the customer, who could then do this."""
        owner, customer = DIRECT_OWNER if direct else OWNERS[0], Customer(asks, 0.0, ()) if asks else None
        story = Story(FIRST_STORY + len(self._names), owner, direct, 5000, "EUR", manual, (), customer=customer)
        self._names[story.number] = {"order_id": story.order_id}
        return story, await self.send(story, replace(PAY, token=token), fault, cold=cold)

    async def follow(
        self, command: Command, fault: Fault, *, cold: bool = False, direct: bool = False, manual: bool = False, token: str = ""
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
        """Send a command. A payment without a token gets a good one, or the one of which the gateway asks its customer."""
        tokens = self._provider.tokens
        own = tokens.asks[story.customer.does] if story.customer else tokens.good
        command = replace(command, token=command.token or own)
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
        """Move the clock past every lease and the time for every customer, and invoke a scheduled function."""
        self._move_clock()
        self._calls += 1
        label = f"scene.{function}.{self._calls}"
        ended = await self.environments.invoke(function, {}, label, HELD_S[function], fault, cold=cold)
        self._note(ended, fault, answered=ended.end == "answered")
        return ended

    async def _relay(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        story, _ = await self.pay(UNPUBLISHED)
        return story, await self.invoke("relay", fault, cold=cold)

    async def _reconcile(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        story, _ = await self.pay(NO_FAULT, token=self._provider.losing("charge"))
        return story, await self.invoke("reconcile", fault, cold=cold)

    async def _ended_key(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        """Reconcile a charge whose reply was lost, after the gateway has forgotten its key."""
        story, _ = await self.pay(NO_FAULT, token=self._provider.losing("charge"))
        self._run_sql("UPDATE operations SET key_ends_at = now() WHERE outcome IS NULL AND kind = 'process'")
        self._provider.forget_keys()
        return story, await self.invoke("reconcile", fault, cold=cold)

    async def _reconcile_refund(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        story, _ = await self._lost_refund()
        await self.send(story, REFUND, NO_FAULT)  # refused: the first refund's outcome is unknown, so all is still reserved
        return story, await self.invoke("reconcile", fault, cold=cold)

    async def _lost_refund(self) -> tuple[Story, Ended]:
        story = await self._paid(direct=False, manual=False, token=self._provider.losing("refund"))
        return story, await self.send(story, REFUND_REST, NO_FAULT)

    async def _expiry(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        story, _ = await self.pay(NO_FAULT, manual=True)
        self._run_sql("UPDATE payments SET capture_before = now() WHERE status = 'AUTHORIZED'")
        return story, await self.invoke("reconcile", fault, cold=cold)

    async def _asked(self, deed: Deed, *, direct: bool = False) -> Story:
        """Make a payment that waits for its customer. If the gateway loses its reply, make another one."""
        while True:
            story, _ = await self.pay(NO_FAULT, direct=direct, asks=deed)
            if await self.look_up(story) == "REQUIRES_ACTION":
                return story

    async def _act(self, story: Story) -> None:
        assert story.customer
        await self._provider.act(self._names[story.number]["payment_intent_id"], story.customer.does)

    async def _give_up(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        """Void a payment that waits. Warm: the customer was faster, and has paid."""
        story = await self._asked("stays away" if cold else "passes", direct=not cold)
        if not cold:
            await self._act(story)
        return story, await self.send(story, GIVE_UP, fault, cold=cold)

    async def _sync(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        """Ask what became of a payment whose customer has acted since."""
        story = await self._asked("passes" if cold else "fails")
        await self._act(story)
        self._move_clock()
        return story, await self.send(story, SYNC, fault, cold=cold)

    async def _action_expiry(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        """Cancel a payment whose time is over. Then let another run end it, or each hit would leave the next one more to do."""
        story = await self._asked("stays away")
        ended = await self.invoke("reconcile", fault, cold=cold)
        if ended.sprung:
            await self.invoke("reconcile")
        return story, ended

    async def _capture_behind_void(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        """Capture while a void is in flight that the gateway will decline. So the capture is refused now, and succeeds later."""
        story = await self._paid(direct=True, manual=True, token=self._provider.tokens.no_void)
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

    async def _gateway_event(self, door: Door, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        """Tell of a payment whose answer was lost, and of which somebody at the dashboard has given a part back since."""
        story, event = await self._paid_and_given_back()
        return story, await self._tell(event, door, fault, cold)

    async def _tell(self, event: Event, door: Door, fault: Fault, cold: bool) -> Ended:
        """Deliver an event, and once more if Stripe heard no 200."""
        events = self._events
        ended = await events.deliver(self.environments, event, door, fault, cold=cold)
        if event["id"] not in events.taken:
            again = await events.deliver(self.environments, event, door)
            self._note(again, NO_FAULT, answered=event["id"] in events.taken)
        return ended

    async def _at_dashboard(self, kind: str, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        """Tell of what somebody at the dashboard, or a bank, does with a payment that is in the books."""
        dashboard, held = self._events.dashboard, kind in ("dashboard-captures", "dashboard-cancels")
        await self._events.fetch()
        self._events.tells = True
        token = self._provider.tokens.no_refund if kind == "dispute-ends" else ""
        story = await self._paid(direct=False, manual=held, token=token)
        charge = self._names[story.number]["transaction_id"]
        if kind == "dispute-ends":
            opened = await self._happened("charge.dispute.created", charge)
            await self._tell(opened, "webhook", NO_FAULT, cold=False)
            await dashboard.end(opened["data"]["object"]["id"], "wins")
            event = await self._happened("charge.dispute.closed", charge)
        elif kind == "dashboard-refunds":
            await dashboard.give_back(charge, 700)
            await self._tell(await self._happened("refund.created", charge), "webhook", NO_FAULT, cold=False)
            await dashboard.give_back(charge, 500)
            event = await self._happened("refund.created", charge)
        else:
            intent = (await self._happened("payment_intent.amount_capturable_updated", charge))["data"]["object"]["id"]
            await (dashboard.capture(intent, 3000) if kind == "dashboard-captures" else dashboard.cancel(intent))
            event = await self._happened(
                ("payment_intent.succeeded", "payment_intent.canceled")[kind == "dashboard-cancels"], charge
            )
        return story, await self._tell(event, "webhook", fault, cold)

    async def _happened(self, type_: str, charge: str) -> Event:
        """Return the new event of this type about the charge. Stripe owes us that one, and what it has of disputes, whoever's."""
        found = []
        for event in await self._events.fetch():
            thing = event["data"]["object"]
            is_it = event["type"] == type_ and charge in (thing.get("charge"), thing.get("latest_charge"))
            if is_it or thing["object"] == "dispute":
                self._events.owe(event)
            found += [event] if is_it else []
        [one] = found
        return one

    @property
    def _events(self) -> Events:
        assert self._provider.events
        return self._provider.events

    async def _gateway_pull(self, fault: Fault, cold: bool) -> tuple[Story, Ended]:
        events = self._events
        story, _ = await self._paid_and_given_back()
        ended = await self.invoke("reconcile", fault, cold=cold)
        # What Stripe could not deliver, it tries again. So its list stays as long as it is, and a pull makes as many writes.
        for event in events.listed[:-LISTED]:
            await events.deliver(self.environments, event, "webhook")
        return story, ended

    async def _paid_and_given_back(self) -> tuple[Story, Event]:
        """Lose the answer to a charge, and refund a part at the dashboard. Return the charge's event, which Stripe owes us."""
        events = self._events
        await events.fetch()
        story, _ = await self.pay(NO_FAULT, token=self._provider.losing("charge"))
        [event] = [one for one in await events.fetch() if one["type"] == "payment_intent.succeeded"]
        await events.dashboard.give_back(event["data"]["object"]["latest_charge"], 1000)
        events.owe(event)
        return story, event

    def _learn(self, story: Story, answer: Answer) -> None:
        for name in ("transaction_id", "payment_id", "payment_intent_id"):
            if value := (answer.body or {}).get(name):
                self._names[story.number][name] = value

    def _note(self, ended: Ended, fault: Fault, *, answered: bool) -> None:
        if fault is NO_FAULT and not answered:
            self.failures.append(f"{ended.label}: {ended.end} or unavailable without a fault: {ended.error}")

    def _move_clock(self) -> None:
        self._run_sql(*MOVE_CLOCK, s=CLOCK_MOVES_S)

    def _run_sql(self, *statements: str, **values: float) -> None:
        with contextlib.closing(evidence.connect(self._owner_url)) as connection:
            for sql in statements:
                connection.run(sql, **values)
