"""For the payment's owner alone: what the customer's browser needs, and the route that asks the gateway now."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from payments.api.answers import Reply
from payments.api.bodies import validate
from payments.api.checked_route import PREFIX, CheckedRoute, caller_with, deadline_of, json_of, response_of
from payments.commands.command import Result
from payments.commands.service import Deadline, Service
from payments.domain.events import payment_body
from payments.domain.payment import PaymentStatus
from payments.domain.scopes import Scope
from payments.domain.times import rfc3339

if TYPE_CHECKING:
    from payments.commands.sync import Action

UNDECIDED = frozenset({PaymentStatus.PENDING, PaymentStatus.PROCESSING, PaymentStatus.REQUIRES_ACTION})


def sync_router(service: Callable[[], Service]) -> APIRouter:
    router = APIRouter(prefix=PREFIX, route_class=CheckedRoute)

    @router.post("/sync", operation_id="sync")
    async def ask_now(request: Request) -> Response:
        from payments.commands.sync import PAUSE_S, SyncRequest, sync  # 17 ms, which no other request pays

        caller = caller_with(request, Scope.WRITE)
        asked = validate(SyncRequest, await json_of(request))
        payment, action = sync(service(), caller.owner, asked, deadline_of(request))
        body = payment_body(payment) | _body_of(action)
        if payment.status not in UNDECIDED:
            return response_of(Reply(200, body))
        return response_of(Reply(202, body, {"Retry-After": f"{PAUSE_S:.0f}"}))

    return router


def add_next_action(reply: Reply, result: Result, service: Service, deadline: Deadline) -> None:
    """Add the member `next_action` of a payment that waits for its customer, or say when to ask for it. It is what the gateway
    said just now; for a replay it is asked again."""
    from payments.commands.sync import PAUSE_S, Action, action_of

    ours = Action(result.next_action, result.action_expires_at) if result.next_action else None
    if action := _body_of(ours or action_of(result.payment, service, deadline)):
        reply.body.update(action)
    else:
        reply.headers["Retry-After"] = f"{PAUSE_S:.0f}"


def _body_of(action: "Action | None") -> dict[str, Any]:
    if action is None:
        return {}
    asked = action.next_action
    told = {"type": asked.type, "client_secret": asked.client_secret, "url": asked.url, "expires_at": rfc3339(action.expires_at)}
    return {"next_action": {name: value for name, value in told.items() if value is not None}}
