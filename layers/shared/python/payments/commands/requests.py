"""What callers may ask for, over HTTP and by direct invocation: the fields, their limits, and what is said of wrong ones."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from payments.domain.card_data import refuse_card_data
from payments.domain.currencies import MINOR_UNIT_DIGITS
from payments.domain.errors import IdempotencyKeyInvalid, InvalidRequest
from payments.domain.money import MAX_AMOUNT_MINOR

MAX_METADATA_PAIRS = 20
MAX_ERRORS = 20
"""A body of 16 KB can be wrong in a thousand places; the first twenty are enough to mend it."""


def is_plain(text: str) -> bool:
    """Whether a text is free of control characters, NUL and lone surrogates, which PostgreSQL or a terminal would choke on."""
    return not any(
        ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 or 0xD800 <= ord(character) < 0xE000 for character in text
    )


def _plain(text: str) -> str:
    if not is_plain(text):
        raise PydanticCustomError("plain_text", "must hold no control characters, NUL or lone surrogates")
    return text


def _an_amount(value: object) -> object:
    if type(value) is not int or not 1 <= value <= MAX_AMOUNT_MINOR:
        raise PydanticCustomError(
            "amount",
            "must be a JSON integer from 1 to 999999999999 in the currency's minor unit, such as 1999 for 19.99 USD",
        )
    return value


def _a_currency(code: str) -> str:
    if code not in MINOR_UNIT_DIGITS:
        raise PydanticCustomError("currency", "must be an ISO 4217 currency code in capitals that has a minor unit, such as USD")
    return code


Plain = AfterValidator(_plain)
Text40 = Annotated[str, StringConstraints(min_length=1, max_length=40, strict=True), Plain]
Text64 = Annotated[str, StringConstraints(min_length=1, max_length=64, strict=True), Plain]
Text255 = Annotated[str, StringConstraints(min_length=1, max_length=255, strict=True), Plain]
Text500 = Annotated[str, StringConstraints(min_length=1, max_length=500, strict=True), Plain]
MetadataValue = Annotated[str, StringConstraints(max_length=500, strict=True), Plain]
Metadata = Annotated[dict[Text40, MetadataValue], Field(max_length=MAX_METADATA_PAIRS)]
Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR, examples=[1999]), BeforeValidator(_an_amount)]
Currency = Annotated[str, Field(min_length=3, max_length=3, examples=["USD"]), AfterValidator(_a_currency)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class ProcessRequest(_Request):
    """Take a payment for an order: at once, or authorize it now and capture it later (`capture_method: manual`)."""

    order_id: Text64
    amount: Amount
    currency: Currency
    payment_method: Literal["credit_card", "debit_card", "paypal", "stripe"]
    payment_token: Annotated[Text255 | None, Field(repr=False)] = None
    capture_method: Literal["automatic", "manual"] = "automatic"
    customer_id: Text64 | None = None
    description: Text500 | None = None
    metadata: Metadata | None = None


class CaptureRequest(_Request):
    """Capture an authorization, all of it or less; what is not captured is released."""

    transaction_id: Text255
    amount: Amount | None = None


class VoidRequest(_Request):
    """Release an authorization."""

    transaction_id: Text255
    reason: Text500 | None = None


class RefundRequest(_Request):
    """Give back what was captured: all that is left, or `amount` of it."""

    transaction_id: Text255
    amount: Amount | None = None
    reason: Text500 | None = None


AnyRequest = TypeVar("AnyRequest", ProcessRequest, CaptureRequest, VoidRequest, RefundRequest)


def validate(model: type[AnyRequest], value: object) -> AnyRequest:
    """The request in a JSON value. Raises CardDataNotAccepted, else InvalidRequest with every wrong field."""
    refuse_card_data(value)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.", errors=[{"location": "body", "message": "must be a JSON object"}])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False, include_context=False)) from None


def invalid_request(errors: Sequence[Mapping[str, Any]], prefix: str = "body") -> InvalidRequest:
    """Pydantic's errors as ours: where and what, never the input. Names that the caller made up are told only if plain."""
    told = []
    for error in errors[:MAX_ERRORS]:
        path = [str(part) for part in ((prefix, *error["loc"]) if prefix else error["loc"])]
        location = ".".join(part if re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,39}", part) else "?" for part in path)
        message = "is not a field of this request" if error["type"] == "extra_forbidden" else _sentence(error["msg"])
        told.append({"location": location, "message": message})
    return InvalidRequest("Mend the fields that `errors` names and send the request again.", errors=told)


def _sentence(message: str) -> str:
    return message[0].lower() + message[1:]


def request_hash(request: BaseModel) -> str:
    """What tells whether two requests with one key are the same: the fields with their defaults, whatever their order; an empty
    one is as good as none."""
    fields = request.model_dump(mode="json")
    return _digest({name: value for name, value in fields.items() if value not in (None, {})})


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def payload_key(payload: Mapping[str, Any]) -> str:
    """The idempotency key of a direct invocation that brings none: derived from the whole payload, which Lambda's retries and
    duplicates carry unchanged, and never from the request id."""
    return f"payload-{_digest(payload)}"


def check_idempotency_key(key: str) -> str:
    """Raise IdempotencyKeyInvalid unless the key is 1 to 255 visible ASCII characters."""
    if not 1 <= len(key) <= 255 or not all("!" <= character <= "~" for character in key):
        raise IdempotencyKeyInvalid("Send one Idempotency-Key of 1 to 255 visible ASCII characters, such as a UUID.")
    return key
