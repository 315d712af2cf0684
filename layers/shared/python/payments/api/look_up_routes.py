"""The routes of look-ups and health."""

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.convertors import PathConvertor, register_url_convertor

from payments import __version__
from payments.api import lookups
from payments.api.answers import Reply
from payments.api.callers import Caller
from payments.api.checked_route import PREFIX, CheckedRoute, caller_with, response_of
from payments.api.health import deep_checks
from payments.broker.kafka import KafkaPublisher
from payments.commands.fields import PaymentMethod, Text64, must
from payments.commands.service import Service
from payments.domain.dispute import dispute_body
from payments.domain.events import payment_body
from payments.domain.money import MAX_AMOUNT_MINOR
from payments.domain.payment import PAYMENT_NAMES, PaymentStatus
from payments.domain.refund import refund_body
from payments.domain.scopes import Scope
from payments.domain.times import rfc3339
from payments.store.lookups import ListFilter


class Anything(PathConvertor):
    """An id in a path, with slashes and line breaks: API Gateway passes it on decoded."""

    regex = "(?s:.*)"


register_url_convertor("anything", Anything())


def _is_no_number(text: object) -> bool:
    """Pydantic would guess whether a number is seconds or milliseconds since 1970."""
    return not isinstance(text, str) or "-" in text[1:]


RFC3339 = BeforeValidator(must(_is_no_number, "rfc3339", "must be a time with a zone, such as 2026-01-31T12:00:00Z"))
InCalendar = AfterValidator(must(lookups.in_calendar, "calendar", "must lie between the years 1970 and 9998"))
Moment = Annotated[AwareDatetime, RFC3339, InCalendar]

MINOR_RULE = f"must be an integer from 0 to {MAX_AMOUNT_MINOR} in the currency's minor unit, such as 1999 for 19.99 USD"
IsMinor = BeforeValidator(must(lambda text: bool(re.fullmatch("[0-9]{1,12}", str(text))), "minor", MINOR_RULE))
IsCode = BeforeValidator(must(lambda text: bool(re.fullmatch("[A-Z]{3}", text)), "code", "must be a code such as USD"))
Minor = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR), IsMinor]


class PageQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str | None, Field(max_length=200)] = None


class ListQuery(PageQuery):
    order_id: Text64 | None = None
    customer_id: Text64 | None = None
    status: PaymentStatus | None = None
    payment_method: PaymentMethod | None = None
    currency: Annotated[str | None, Field(pattern="^[A-Z]{3}$"), IsCode] = None
    amount_from: Minor | None = None
    amount_to: Minor | None = None
    created_from: Moment | None = None
    created_to: Moment | None = None

    @field_validator("amount_to")
    @classmethod
    def _not_below(cls, amount_to: int | None, info: ValidationInfo) -> int | None:
        if amount_to is not None and amount_to < (info.data.get("amount_from") or 0):
            raise PydanticCustomError("range", "must not be less than amount_from")
        return amount_to


def _page(data: list[dict[str, Any]], next_cursor: str | None) -> Response:
    return response_of(Reply(200, {"data": data, "has_more": next_cursor is not None, "next_cursor": next_cursor}))


def lookups_router(service: Callable[[], Service]) -> APIRouter:
    router = APIRouter(prefix=PREFIX, route_class=CheckedRoute)

    def body(caller: Caller, found: lookups.Found) -> dict[str, Any]:
        shown = payment_body(found.payment, refunds=found.refunds, confidential=caller.sees_all)
        shown |= {"has_more_refunds": found.has_more_refunds, "disputes": [dispute_body(one) for one in found.disputes]}
        return shown | {"has_more_disputes": found.has_more_disputes}

    @router.get("/transaction/{transaction_id:anything}", operation_id="get_transaction")
    @router.get("/order/{order_id:anything}", operation_id="get_order")
    @router.get("/payment/{payment_id}", operation_id="get_payment")
    async def found(request: Request) -> Response:
        caller = caller_with(request, Scope.READ)
        [name] = [name for name in PAYMENT_NAMES if name in request.path_params]
        return response_of(Reply(200, body(caller, lookups.find(service(), caller, name, request.path_params[name]))))

    @router.get("/refund/{refund_id}", operation_id="get_refund")
    async def refund(request: Request, refund_id: str) -> Response:
        caller = caller_with(request, Scope.READ)
        return response_of(Reply(200, refund_body(lookups.refund(service(), caller, refund_id), confidential=caller.sees_all)))

    @router.get("/payment/{payment_id}/refunds", operation_id="get_refunds")
    async def refunds(request: Request, payment_id: str, query: Annotated[PageQuery, Query()]) -> Response:
        caller = caller_with(request, Scope.READ)
        page = lookups.refunds(service(), caller, payment_id, query.cursor, query.limit)
        return _page([refund_body(refund, confidential=caller.sees_all) for refund in page.data], page.next_cursor)

    @router.get("/payment/{payment_id}/history", operation_id="get_history")
    async def history(request: Request, payment_id: str, query: Annotated[PageQuery, Query()]) -> Response:
        caller = caller_with(request, Scope.READ)
        page = lookups.history(service(), caller, payment_id, query.cursor, query.limit)
        data = [{"from": c.from_status, "to": c.to_status, "at": rfc3339(c.at), "reason": c.reason} for c in page.data]
        return _page(data, page.next_cursor)

    @router.get("", operation_id="list_payments")
    async def listed(request: Request, query: Annotated[ListQuery, Query()]) -> Response:
        caller = caller_with(request, Scope.READ)
        which = ListFilter(**query.model_dump(exclude={"limit", "cursor"}))
        page = lookups.list_payments(service(), caller, which, query.cursor, query.limit)
        return _page([body(caller, found) for found in page.data], page.next_cursor)

    return router


def health_router(service: Callable[[], Service], publisher: Callable[[], KafkaPublisher]) -> APIRouter:
    router = APIRouter(route_class=CheckedRoute)

    @router.get("/health", operation_id="health")
    async def health(request: Request, deep: bool = False) -> Response:
        checks = deep_checks(service().db, publisher()) if deep else {}
        healthy = all(check["ok"] for check in checks.values())
        body = {"status": "ok" if healthy else "degraded", "version": __version__} | ({"checks": checks} if deep else {})
        # No problem document: monitors read from the checks which part is down.
        return JSONResponse(body, 200 if healthy else 503, headers={"cache-control": "no-store"})

    return router
