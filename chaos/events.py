"""What Stripe does besides answering: it tells of its events, once or more, late, in any order, or never.

The events are those of Stripe World, which this asks past the front: what it does is not ours to disturb. Stripe's own package
signs.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode

from chaos.answers import PREFIX
from chaos.clients import HELD_S
from chaos.dashboard import Act, Dashboard
from chaos.environments import NO_FAULT, Ended, Environments, Fault
from tests.gateway.servers import GATEWAYS, ROOT, ask

Door = Literal["webhook", "eventbridge"]
Event = dict[str, Any]

FUNCTION = "gateway_events"
SECRET = "whsec_chaos_" + "0" * 24
KEY = "sk_test_chaos"

ROUTE = f"{PREFIX.removesuffix('/payments')}/gateways/stripe/events"

TYPES = ("payment_intent.", "refund.", "charge.dispute.")
"""What the endpoint at Stripe is set up for."""

NOT_PULLED = (
    "payment_intent.created",
    "payment_intent.requires_action",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
)

DROPPED = 0.2
"""The share of the events that Stripe never gets to deliver. Only the pull finds them."""

MOST_COPIES, LATEST_S = 5, 4.0
BRIDGED = 0.25
"""The share of the deliveries that come through EventBridge."""

RETRIES = 3
"""The most invocations for one event of EventBridge's, as Lambda makes them."""

EARLY = 0.25
"""The share of the requests whose event comes before their answer."""
EARLY_S = 0.5
"""The longest that an answer waits for its event."""

POLL_S = 0.3


class Signer:
    """Stripe's own package, in a process of its own."""

    def __init__(self) -> None:
        command = [str(GATEWAYS), str(Path(ROOT) / "tests/gateway/sign.py"), "--each"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def header(self, body: str) -> str:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"secret": SECRET, "at_s": int(time.time()), "body": body}) + "\n")
        self._process.stdin.flush()
        header: str = json.loads(self._process.stdout.readline())
        return header

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Events:
    def __init__(self, account: str, seed: str) -> None:
        """`account` is the base address of Stripe World's account."""
        self._account, self._seed = account, seed
        self.dashboard = Dashboard(account, seed, KEY)
        self._signer = Signer()
        self._seen: set[str] = set()
        self._deliveries: Counter[str] = Counter()
        self._environments: Environments | None = None
        self._fault: Callable[[str], Fault] = lambda _: NO_FAULT
        self.tells = False
        """Whether Stripe tells of all that happens. Else it tells of what a scene owes."""
        self._running: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self.owed: dict[str, Event] = {}
        """The events that the service has to hear of, in their order."""
        self.taken: dict[str, str] = {}
        """Of these events a delivery was answered with 200: which one."""
        self.count: Counter[str] = Counter()
        self.failures: list[str] = []

    def close(self) -> None:
        self._signer.close()

    # What a scene does.

    async def fetch(self) -> list[Event]:
        """Return the events that are new, the oldest first."""
        async with self._lock:
            new: list[Event] = []
            after = ""
            while True:
                query = urlencode({"limit": 100} | ({"starting_after": after} if after else {}))
                page = json.loads(await asyncio.to_thread(self._get, f"/v1/events?{query}"))
                fresh = [event for event in page["data"] if event["id"] not in self._seen]
                new += fresh
                if len(fresh) < len(page["data"]) or not page["has_more"]:
                    break
                after = page["data"][-1]["id"]
            self._seen |= {event["id"] for event in new}
            created = [event["data"]["object"] for event in new if event["type"] == "refund.created"]
            self.dashboard.pending |= {refund["id"] for refund in created if refund["status"] == "pending"}
            return [event for event in reversed(new) if event["type"].startswith(TYPES)]

    def owe(self, event: Event) -> None:
        self.owed[event["id"]] = event

    async def deliver(
        self, environments: Environments, event: Event, door: Door, fault: Fault = NO_FAULT, *, cold: bool = False
    ) -> Ended:
        """Deliver the event once, through one of its doors."""
        label = f"event.{event['id']}.{self._deliveries[event['id']]}"
        self._deliveries[event["id"]] += 1
        self.count[f"through {door}"] += 1
        sent = self._by_webhook(event, label) if door == "webhook" else _by_eventbridge(event)
        ended = await environments.invoke(FUNCTION, sent, label, HELD_S[FUNCTION], fault, cold=cold)
        if ended.end == "answered":
            status = ended.result.get("statusCode") if door == "webhook" else {"kept": 200}.get(ended.result["outcome"])
            if status == 200:
                self.taken.setdefault(event["id"], label)
            elif status != 503:
                self.failures.append(f"{label}: Stripe got {ended.result}")
        elif ended.end == "raised" and door == "webhook":
            self.failures.append(f"{label}: raised {ended.error}")
        return ended

    @property
    def listed(self) -> list[Event]:
        """What Stripe could not deliver, the oldest first. It stays in the list when a pull has read it."""
        return [event for event in self.owed.values() if event["id"] not in self.taken]

    def undelivered(self, query: str) -> bytes:
        """Return Stripe's answer to the question for what could not be delivered."""
        asked = parse_qs(query)
        types, since, until = asked["types[]"], int(asked["created[gte]"][0]), float(asked.get("created[lte]", ["inf"])[0])
        owed = [one for one in reversed(self.listed) if one["type"] in types and since <= one["created"] <= until]
        if after := asked.get("starting_after"):
            places = [number for number, one in enumerate(owed) if one["id"] == after[0]]
            owed = owed[places[0] + 1 :] if places else []
        limit = int(asked.get("limit", ["10"])[0])
        return json.dumps({"object": "list", "data": owed[:limit], "has_more": len(owed) > limit}).encode()

    def unheard(self, inbox: set[str]) -> list[str]:
        """Return the events that are owed, not taken, and not in the inbox."""
        return [event_id for event_id, event in self.owed.items() if event_id not in {*inbox, *self.taken} and _is_wanted(event)]

    def owes(self, object_id: str) -> bool:
        """Return whether the service has to hear of the object. Nobody tells of what happens in a scene without a door."""
        return any(event["data"]["object"]["id"] == object_id for event in self.owed.values())

    # What goes on during the load.

    async def go_on(self, environments: Environments, fault: Callable[[str], Fault], hang_up: asyncio.Event) -> None:
        """Deliver what happens until the load is over. What is on its way then gets lost, and the pull has to find it."""
        self._environments, self._fault, self.tells = environments, fault, True
        while not hang_up.is_set():
            await self.tell_new()
            await asyncio.sleep(POLL_S)
        self._environments = None
        while self._running:
            await asyncio.gather(*self._running)

    async def be_late(self) -> None:
        """After the load, owe what has happened since, and let others act on it at once. Only the pull will find it.

        Each refund ends that is under way.
        """
        for event in await self.fetch() if self.tells else ():
            self.owe(event)
            for _, act in self.dashboard.answers(event):
                await act()
        await self.dashboard.cancel_pending()

    async def before_answer(self, path: str, key: str) -> None:
        """Let the event of a request come before its answer, now and then."""
        if self._environments is None or Random(f"{self._seed}/early/{path}/{key}").random() >= EARLY:
            return
        self.count["before the answer"] += 1
        task = asyncio.create_task(self.tell_new(at_once=True))
        self._keep(task)
        await asyncio.wait({task}, timeout=EARLY_S)

    async def tell_new(self, *, at_once: bool = False) -> None:
        for event in await self.fetch():
            self.owe(event)
            random = Random(f"{self._seed}/event/{event['id']}")
            for pause_s, act in self.dashboard.answers(event):
                self._keep(asyncio.create_task(_after(pause_s, act)))
            if random.random() < DROPPED:
                self.count["dropped"] += 1
                continue
            pauses_s = [random.uniform(0.0, LATEST_S) for _ in range(random.randint(1, MOST_COPIES))]
            if at_once:
                pauses_s[0] = 0.0
            copies = [
                asyncio.create_task(self._later(event, pause_s, "eventbridge" if random.random() < BRIDGED else "webhook"))
                for pause_s in pauses_s
            ]
            for copy in copies:
                self._keep(copy)
            if at_once:
                await asyncio.wait({copies[0]})

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _later(self, event: Event, pause_s: float, door: Door) -> None:
        await asyncio.sleep(pause_s)
        for _ in range(RETRIES if door == "eventbridge" else 1):
            if (environments := self._environments) is None:
                return
            label = f"event.{event['id']}.{self._deliveries[event['id']]}"
            ended = await self.deliver(environments, event, door, self._fault(label))
            if ended.end == "answered":
                return

    def _get(self, path: str) -> bytes:
        return ask("GET", self._account + path, Authorization=f"Bearer {KEY}")

    def _by_webhook(self, event: Event, label: str) -> dict[str, Any]:
        body = json.dumps(event)
        http = {"method": "POST", "path": ROUTE, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "Stripe/1.0"}
        return {
            "version": "2.0",
            "routeKey": f"POST {ROUTE}",
            "rawPath": ROUTE,
            "rawQueryString": "",
            "headers": {"content-type": "application/json", "stripe-signature": self._signer.header(body)},
            "requestContext": {"http": http, "requestId": label},
            "body": body,
            "isBase64Encoded": False,
        }


async def _after(pause_s: float, act: Act) -> None:
    await asyncio.sleep(pause_s)
    await act()


def _by_eventbridge(event: Event) -> dict[str, Any]:
    return {"version": "0", "source": "aws.partner/stripe.com/ed_chaos", "detail-type": event["type"], "detail": event}


def _is_wanted(event: Event) -> bool:
    """Whether the service asks for it in a pull. What moves nothing of its books, it does not."""
    return event["type"] not in NOT_PULLED
