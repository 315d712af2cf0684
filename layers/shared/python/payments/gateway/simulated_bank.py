"""The simulated gateway with a memory: pages where a person acts for the customer, or does what a gateway's dashboard does.

A deployment has none. `make run` alone serves the pages (local/bank_pages.py), and names their address in SIMULATED_GATEWAY_URL.
They are told of each call that the simulated gateway lets through, and their answer is the last word.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID

from payments.domain.declines import KNOWN_DECLINES
from payments.gateway.port import (
    ActionRequired,
    Approved,
    Declined,
    GatewayRequest,
    Hint,
    NextAction,
    Reply,
    Seen,
    SeenDispute,
    SeenRefund,
    Unknown,
)
from payments.gateway.simulated import SimulatedGateway
from payments.gateway.simulated_scenarios import RAW, REQUIRES_ACTION_TOKEN

logger = logging.getLogger(__name__)

PAGES_TIMEOUT_S = 2.0
"""The pages are on this machine."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SimulatedBank:
    """`url` is where the pages are: http, and this machine. When they do not answer, no call has an outcome."""

    gateway: SimulatedGateway
    url: str
    name: ClassVar[str] = SimulatedGateway.name

    def key_lifetime_s(self, kind: str) -> float:
        return self.gateway.key_lifetime_s(kind)

    def refuses(self, *_: object, **__: object) -> tuple[str, str] | None:
        """It takes everything."""

    def charge(self, request: GatewayRequest) -> Reply:
        return self._told(request, self.gateway.charge(request))

    def capture(self, request: GatewayRequest) -> Reply:
        return self._told(request, self.gateway.capture(request))

    def void(self, request: GatewayRequest) -> Reply:
        return self._told(request, self.gateway.void(request))

    def refund(self, request: GatewayRequest) -> Reply:
        return self._told(request, self.gateway.refund(request))

    def find(self, request: GatewayRequest) -> Reply:
        return self._told(request, self.gateway.find(request))

    def look(self, payment_intent_id: str, timeout_s: float) -> Seen | None:
        try:
            seen = self._ask("look", {"payment_intent_id": payment_intent_id}, timeout_s)["seen"]
            return _seen(seen) if seen else None
        except (OSError, LookupError, TypeError, ValueError):
            logger.exception("the simulated gateway's pages do not say what they have")
            return None

    def undelivered(self, since: datetime, timeout_s: float, until: datetime | None = None) -> Sequence[Hint]:
        try:
            told = map(_hint, reversed(self._ask("events", {"since": since.isoformat()}, timeout_s)["events"]))
            return [hint for hint in told if until is None or hint.created_at <= until]
        except (LookupError, TypeError, ValueError) as error:
            raise OSError("the simulated gateway's pages have no list of events") from error

    def _told(self, request: GatewayRequest, reply: Reply) -> Reply:
        """Tell the pages of a call that came through, and return what comes of it there."""
        waits = isinstance(reply, ActionRequired) and request.payment_token == REQUIRES_ACTION_TOKEN
        moved = self.gateway.outcome(request, "charge") if waits else reply
        if not isinstance(moved, Approved):
            return reply
        call = {name: getattr(request, name) for name in ("kind", "key", "order_id", "currency", "capture", "return_url")}
        call |= {name: getattr(moved, name) for name in ("payment_intent_id", "transaction_id", "amount_minor", "refund_id")}
        call |= {"payment_id": str(request.payment_id), "waits": waits}
        try:
            told = self._ask("call", call, request.timeout_s)
            refused, still_waits = told["refused"], told["state"] == "waiting"
        except (OSError, LookupError, TypeError, ValueError):
            logger.exception("the simulated gateway's pages do not answer", extra={"payment_id": call["payment_id"]})
            return Unknown("the simulated gateway's pages do not answer")
        if refused:
            ids = request.transaction_id, moved.payment_intent_id
            return Declined(refused, KNOWN_DECLINES[refused], *ids, RAW | {"action": request.kind, "result": "declined"})
        if isinstance(reply, ActionRequired) and still_waits:
            return replace(reply, next_action=NextAction("redirect", url=f"{self.url}/payments/{moved.payment_intent_id}"))
        return moved

    def _ask(self, what: str, body: Json, timeout_s: float) -> Json:
        """Return the pages' answer. Raises OSError and ValueError."""
        place = urlsplit(self.url)
        connection = HTTPConnection(place.hostname or "", place.port, timeout=min(timeout_s, PAGES_TIMEOUT_S))
        try:
            connection.request("POST", f"{place.path}/{what}", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            told: Json = json.loads(answer.read())
            if answer.status != 200:
                raise ValueError(f"the pages answer {answer.status}")
            return told
        except HTTPException as error:
            raise OSError("half an answer of the simulated gateway's pages") from error
        finally:
            connection.close()


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _seen(told: Json) -> Seen:
    refunds = [SeenRefund(**one) for one in told["refunds"]]
    moments = ("due_by", "created_at")
    disputes = [SeenDispute(**one | {name: _moment(one[name]) for name in moments}) for one in told["disputes"]]
    return Seen(**told | {"refunds": refunds, "disputes": disputes})


def _hint(told: Json) -> Hint:
    return Hint(**told | {"created_at": _moment(told["created_at"]), "payment_id": UUID(told["payment_id"])})
