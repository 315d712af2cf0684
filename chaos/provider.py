"""The party behind the gateway's adapter, as the harness needs it. There are two, in simulated.py and in stripe_world.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

from chaos.books import Books
from chaos.events import Events
from chaos.evidence import Call
from chaos.plan import Deed, Tokens

Losable = Literal["charge", "refund"]

Outage = Callable[[], None]

DOOR_KINDS = ("gateway-event", "gateway-event-bridged", "gateway-pull")
DASHBOARD_KINDS = ("dashboard-refunds", "dashboard-captures", "dashboard-cancels", "dispute-ends")

EVENT_KINDS = (*DOOR_KINDS, *DASHBOARD_KINDS)
"""The scenes of a gateway that tells of its events."""


class Provider(Protocol):
    name: str
    port: int | None
    """Where the handlers reach it, if they do so over the network."""
    environment: Mapping[str, str]
    """The handlers' variables."""
    tokens: Tokens
    cannot: frozenset[str]
    """The scenes that it has no means for."""
    outages: Mapping[str, Outage]
    faults: Mapping[str, int]
    """How often it failed by itself, for the summary."""

    events: Events | None
    """What it tells of by itself, with whoever acts at its dashboard."""

    def losing(self, action: Losable) -> str:
        """Let the answer to the next such call get lost. Return the token of a payment for which it does."""

    def forget_keys(self) -> None:
        """Forget all idempotency keys, as a gateway does after a day."""

    async def act(self, payment_intent_id: str, deed: Deed) -> None:
        """Act as the customer of a payment whom it asks. It may be too late."""

    def books(self, calls: list[Call], ledger: Path) -> Books:
        """Return its own books. The environments recorded the calls in the ledger."""
