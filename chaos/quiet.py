"""The quiet period, after the faults: we move the clock on and run the scheduled functions until they find nothing to do."""

from __future__ import annotations

import contextlib
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from chaos import evidence
from chaos.clients import HELD_S, Clients
from chaos.environments import Environments
from chaos.events import Events
from chaos.outages import Outages, TopicReader
from chaos.servers import Servers

CLOCK_MOVES_S = 60.0
"""More than any lease, and than the time for a customer. Once every worker is dead, we can move the ends of these instead of
waiting for them."""

ROUNDS = 40
"""If the gateway loses a reply, reconcile sends the request again in the next round. 40 lost replies in a row do not happen."""

REPEATS = 5
"""How often the clients repeat their open requests. Each time, the work that they wait for has come to its end."""

MOVE_CLOCK = (
    "UPDATE gateway_events SET lease_until = lease_until - make_interval(secs => :s),"
    " next_attempt_at = LEAST(next_attempt_at - make_interval(secs => :s), now()) WHERE handled_at IS NULL",
    "UPDATE operations SET lease_until = lease_until - make_interval(secs => :s),"
    " next_attempt_at = next_attempt_at - make_interval(secs => :s) WHERE outcome IS NULL",
    "UPDATE operations SET reply = reply || jsonb_build_object('action_expires_at',"
    " (reply ->> 'action_expires_at')::timestamptz - make_interval(secs => :s))"
    " WHERE outcome IS NULL AND reply ? 'action_expires_at'",
    "UPDATE outbox SET lease_until = lease_until - make_interval(secs => :s) WHERE published_at IS NULL",
    # A webhook's last pauses take hours, so we end them. What was never tried waits for the delivery before it, and for no time.
    "UPDATE webhook_deliveries SET lease_until = lease_until - make_interval(secs => :s),"
    " next_attempt_at = LEAST(next_attempt_at, now()) WHERE failed_at IS NULL AND attempt > 0",
    "UPDATE webhooks SET next_attempt_at = LEAST(next_attempt_at, now() - make_interval(secs => :s))",
)
LEFT = (
    "SELECT (SELECT count(*) FROM operations WHERE outcome IS NULL AND next_attempt_at IS NOT NULL)"
    " + (SELECT count(*) FROM outbox WHERE published_at IS NULL)"
    # The simulated gateway keeps no state. So nothing can be seen there after a decline, which waits until it is a day old.
    " + (SELECT count(*) FROM gateway_events WHERE handled_at IS NULL AND NOT (gateway = 'simulated' AND door = 'decline'))"
    # Reconcile leaves an authorization whose void the gateway has declined alone for an hour, so nothing changes it any more.
    " + (SELECT count(*) FROM payments WHERE status = 'AUTHORIZED' AND capture_before <= now() AND NOT EXISTS ("
    "SELECT FROM operations o WHERE o.payment_id = payments.payment_id AND kind = 'void' AND outcome = 'declined'))"
)
OWED = "SELECT count(*) FROM webhook_deliveries WHERE failed_at IS NULL"
CREATED = (
    "SELECT created_at FROM outbox WHERE published_at IS NOT NULL AND event_id = ANY(CAST(:ids AS uuid[])) ORDER BY created_at"
)


class Quiet:
    def __init__(
        self,
        servers: Servers,
        environments: Environments,
        clients: Clients,
        reader: TopicReader,
        acknowledged: Path,
        events: Events | None = None,
    ) -> None:
        self._servers, self._environments, self._clients, self._reader = servers, environments, clients, reader
        self._acknowledged, self._events = acknowledged, events
        self._calls = 0
        self.failures: list[str] = []

    async def settle_down(self) -> None:
        """Thaw and end all environments, finish all open work, let the clients repeat their open requests, and finish again."""
        await self._environments.idle()
        self._clients.take_late_answers()
        await self._environments.recycle()
        await self._until_idle()
        # A request that is refused as retryable waits for another operation, which may itself be a repeated request's. So after a
        # few rounds each request must have its final answer.
        for _ in range(REPEATS):
            if not self._clients.unanswered:
                break
            await self._clients.repeat_open()
            await self._until_idle()
        self.failures += [
            f"request {name}: has no final answer, with nothing left to wait for" for name in self._clients.unanswered
        ]
        await self._reader.drain()

    async def replay_lost(self, outages: Outages) -> frozenset[str]:
        """Replay, as an operator does after a broker has lost its log. Return the event_ids that died with a broker, unread.

        A broker may have acknowledged them in the moments before we killed it, and the reader had not seen them until then. We
        replay no event of any other time: if it is missing, the oracle reports it. The load's relay has replayed some already.
        """
        first_seen: dict[str, int] = {}
        for message in self._reader.messages():
            first_seen.setdefault(message.headers.get("ce_id", ""), message.incarnation)
        lost = {
            one.event_id
            for one in evidence.acknowledgements(self._acknowledged)
            for killed, (from_s, to_s) in enumerate(outages.unseen_s)
            if one.sent_s <= to_s and one.acknowledged_s >= from_s and first_seen.get(one.event_id, killed + 1) > killed
        }
        with contextlib.closing(evidence.connect(self._servers.owner_url)) as connection:
            never_seen = connection.run(CREATED, ids=[event_id for event_id in lost if event_id not in first_seen])
        for (created_at,) in never_seen:
            moments = {"from": created_at, "to": created_at + timedelta(microseconds=1)}
            await self._invoke("relay", {"replay": {name: at.astimezone(UTC).isoformat() for name, at in moments.items()}})
        await self._reader.drain()
        return frozenset(lost)

    async def _until_idle(self) -> None:
        await self._environments.idle()
        if self._events:
            await self._pull_once()
        await self._hear()
        await self._work_off(LEFT, "reconcile", "relay")
        while await self._hear():  # What reconcile has charged, the gateway tells in turn.
            await self._work_off(LEFT, "reconcile", "relay")
        await self._work_off(OWED, "courier")  # it makes no work for the others

    async def _pull_once(self) -> None:
        """Let there have been a pull. The first one asks for five minutes alone; from then on each finds all since the last."""
        for _ in range(ROUNDS):
            with contextlib.closing(evidence.connect(self._servers.owner_url)) as connection:
                if connection.run("SELECT count(*) FROM gateway_pulls")[0][0]:
                    return
            await self._invoke("reconcile", {})

    async def _hear(self) -> bool:
        """Let reconcile ask for the events that could not be delivered, until it knows all. Return whether there were any."""
        if not self._events:
            return False
        await self._events.be_late()
        for rounds in range(ROUNDS):
            with contextlib.closing(evidence.connect(self._servers.owner_url)) as connection:
                known = {event_id for (event_id,) in connection.run("SELECT event_id FROM gateway_events")}
            if not self._events.unheard(known):
                return rounds > 0
            await self._invoke("reconcile", {})
        self.failures.append(f"quiet: events are unheard of after {ROUNDS} rounds of reconcile")
        return False

    async def _work_off(self, count: str, *functions: str) -> None:
        for _ in range(ROUNDS):
            if self._events:
                await self._events.be_late()
            if not self._left(count):
                return
            for function in functions:
                await self._invoke(function, {})
        self.failures.append(f"quiet: work is left after {ROUNDS} rounds of {' and '.join(functions)}")

    def _left(self, count: str) -> int:
        """Move the clock on, and return how much the statement counts that still needs work."""
        with contextlib.closing(evidence.connect(self._servers.owner_url)) as connection:
            for statement in MOVE_CLOCK:
                connection.run(statement, s=CLOCK_MOVES_S)
            left: int = connection.run(count)[0][0]
            return left

    async def _invoke(self, function: str, event: dict[str, Any]) -> None:
        self._calls += 1
        ended = await self._environments.invoke(function, event, f"quiet.{function}.{self._calls}", HELD_S[function] + 6)
        if ended.end != "answered":
            self.failures.append(f"{ended.label}: {ended.end} without a fault: {ended.error}")
