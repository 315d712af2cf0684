"""The routes of webhooks: an owner registers where its events are sent. A secret is shown when it is made, and never again."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from payments.api.answers import Reply
from payments.api.bodies import validate
from payments.api.checked_route import WEBHOOKS, CheckedRoute, caller_with, json_of, response_of
from payments.api.look_up_routes import Moment
from payments.commands import fields
from payments.commands.fields import Text500, must
from payments.commands.service import Service
from payments.domain.changes import EVENT_TYPES
from payments.domain.errors import InvalidRequest, WebhookConflict, WebhookNotFound
from payments.domain.scopes import Scope
from payments.domain.times import rfc3339
from payments.store import webhooks
from payments.store.webhooks import Webhook
from payments.webhooks.signature import new_secret
from payments.webhooks.target import NOT_PUBLIC, Resolve, TargetRefused, addresses_of, resolve, target_of

OVERLAP = timedelta(hours=24)
"""After a rotation both secrets sign for a day, so the receiver has a working day to get the new one."""

RANGE = 5000
"""The most events of an owner that one redelivery looks at. It takes a tenth of a second or two."""

Url = Annotated[str, StringConstraints(min_length=1, max_length=500, strict=True)]
# Refusals of direct invocations are no payment's, and are told on the topic alone.
TYPES = sorted(set(EVENT_TYPES.values()))
IsType = AfterValidator(must(TYPES.__contains__, "event_type", f"must be one of {', '.join(TYPES)}"))
EventType = Annotated[str, Field(strict=True, json_schema_extra={"enum": list(TYPES)}), IsType]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(TYPES))]
IsText = BeforeValidator(must(lambda value: isinstance(value, str), "text", "must be a string"))


class WebhookRequest(fields.Request):
    """Have events sent to an address of yours: all of them, or those of some types."""

    url: Url
    description: Text500 | None = None
    event_types: EventTypes | None = None


class RedeliverRequest(fields.Request):
    """Send events again that the service still keeps: one, or those from a moment on, up to another."""

    event_id: Annotated[UUID | None, Field(strict=False)] = None
    from_: Annotated[Annotated[Moment, Field(strict=False), IsText] | None, Field(alias="from", description="Inclusive")] = None
    to: Annotated[Annotated[Moment, Field(strict=False), IsText] | None, Field(description="Exclusive")] = None

    @model_validator(mode="after")
    def _one_or_range(self) -> Self:
        if [self.event_id is None, self.from_ is None, self.to is None] not in ([False, True, True], [True, False, False]):
            raise PydanticCustomError("one_or_range", "must have either event_id, or from and to")
        if self.from_ and self.to and self.from_ > self.to:
            raise PydanticCustomError("range", "from must not be after to")
        return self


def webhook_body(found: Webhook, secret: str | None = None) -> dict[str, Any]:
    """Return the webhook's JSON, with its secret only if it was made just now."""
    body = {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in asdict(found).items()}
    return body | {"webhook_id": str(found.webhook_id)} | ({"secret": secret} if secret else {})


def webhooks_router(service: Callable[[], Service], is_local: Callable[[], bool], resolve: Resolve = resolve) -> APIRouter:
    router = APIRouter(prefix=WEBHOOKS, route_class=CheckedRoute)

    def owner_of(request: Request) -> str:
        return caller_with(request, Scope.WEBHOOKS).owner

    def answer(status: int, found: Webhook | None, secret: str | None = None) -> Response:
        if found is None:
            raise WebhookNotFound("You have no webhook with this webhook_id.")
        return response_of(Reply(status, webhook_body(found, secret)))

    @router.post("", operation_id="create_webhook")
    async def create(request: Request) -> Response:
        owner, body = owner_of(request), validate(WebhookRequest, await json_of(request))
        try:
            addresses_of(target_of(body.url, is_local()), resolve)
        except (TargetRefused, OSError) as error:
            why = str(error) if isinstance(error, TargetRefused) else NOT_PUBLIC
            raise InvalidRequest("Events cannot be sent there.", ("body.url", why)) from None
        webhook_id, secret = service().new_id(), new_secret()
        found = webhooks.create(service().db, owner, webhook_id, secret, **body.model_dump())
        if found is None:
            raise WebhookConflict(f"You have a webhook at this url, or {webhooks.MOST} webhooks. Delete one of them first.")
        return answer(201, found, secret)

    @router.get("", operation_id="list_webhooks")
    async def listed(request: Request) -> Response:
        found = webhooks.webhooks(service().db, owner_of(request))
        return response_of(Reply(200, {"data": [webhook_body(each) for each in found]}))

    @router.get("/{webhook_id}", operation_id="get_webhook")
    async def one(request: Request, webhook_id: str) -> Response:
        return answer(200, webhooks.webhook(service().db, owner_of(request), _id(webhook_id)))

    @router.delete("/{webhook_id}", operation_id="delete_webhook")
    async def deleted(request: Request, webhook_id: str) -> Response:
        if not webhooks.delete(service().db, owner_of(request), _id(webhook_id)):
            return answer(204, None)
        return Response(status_code=204, headers={"cache-control": "no-store"})

    @router.post("/{webhook_id}/rotate", operation_id="rotate_webhook")
    async def rotated(request: Request, webhook_id: str) -> Response:
        owner, secret = owner_of(request), new_secret()
        overlap_s = OVERLAP.total_seconds()
        return answer(200, webhooks.rotate(service().db, owner, _id(webhook_id), secret, overlap_s), secret)

    @router.post("/{webhook_id}/enable", operation_id="enable_webhook")
    async def enabled(request: Request, webhook_id: str) -> Response:
        return answer(200, webhooks.enable(service().db, owner_of(request), _id(webhook_id)))

    @router.post("/{webhook_id}/redeliver", operation_id="redeliver_webhook")
    async def redelivered(request: Request, webhook_id: str) -> Response:
        owner, body, db = owner_of(request), validate(RedeliverRequest, await json_of(request)), service().db
        if webhooks.webhook(db, owner, _id(webhook_id)) is None:
            return answer(202, None)
        if body.from_ and body.to:
            count, resume_at = webhooks.deliver_range_again(db, owner, _id(webhook_id), body.from_, body.to, RANGE)
            return response_of(Reply(202, {"events": count, "resume_at": rfc3339(resume_at)}))
        assert body.event_id
        if not (count := webhooks.deliver_again(db, owner, _id(webhook_id), body.event_id)):
            raise InvalidRequest("Nothing is sent again.", ("body.event_id", "is no event of this webhook that is still kept"))
        return response_of(Reply(202, {"events": count, "resume_at": None}))

    return router


def _id(text: str) -> UUID:
    """Raises WebhookNotFound for a text that no webhook has as its id."""
    with suppress(ValueError):
        return UUID(text)
    raise WebhookNotFound("You have no webhook with this webhook_id.")
