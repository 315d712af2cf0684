"""The fields of requests: their types, their limits, and the messages for wrong values."""

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from payments.domain.currencies import MINOR_UNIT_DIGITS
from payments.domain.money import MAX_AMOUNT_MINOR
from payments.domain.return_url import is_return_url
from payments.domain.text import is_in_order, is_plain, is_unmistakable

MAX_METADATA_PAIRS = 20


def must(holds: Callable[[Any], bool], name: str, message: str) -> Callable[[Any], Any]:
    """Return a validator that refuses a value with the message, unless `holds` is true of it."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise PydanticCustomError(name, message)
        return value

    return check


Plain = AfterValidator(must(is_plain, "plain_text", "must hold no control characters, NUL or lone surrogates"))
InOrder = AfterValidator(must(is_in_order, "in_order", "must hold no characters that reorder the text (U+202A to U+202E)"))
NEW_ID_RULE = "must be in normal form NFC, without invisible characters and without white space at either end"
CURRENCY_RULE = "must be an ISO 4217 currency code in capitals that has a minor unit, such as USD"
RETURN_URL_RULE = "must be an address that begins with https://, or http://localhost, in ASCII and without a user name"
AMOUNT_RULE = "must be a JSON integer from 1 to 999999999999 in the currency's minor unit, such as 1999 for 19.99 USD"


Text40 = Annotated[str, StringConstraints(min_length=1, max_length=40, strict=True), Plain, InOrder]
Text64 = Annotated[str, StringConstraints(min_length=1, max_length=64, strict=True), Plain]
Text255 = Annotated[str, StringConstraints(min_length=1, max_length=255, strict=True), Plain]
Text500 = Annotated[str, StringConstraints(min_length=1, max_length=500, strict=True), Plain, InOrder]
# The id of something new. Text64 and Text255 also name what is there already, and an old row may have any plain id.
NewId = Annotated[Text64, AfterValidator(must(is_unmistakable, "unmistakable", NEW_ID_RULE))]
MetadataValue = Annotated[str, StringConstraints(max_length=500, strict=True), Plain, InOrder]
Metadata = Annotated[dict[Text40, MetadataValue], Field(max_length=MAX_METADATA_PAIRS)]
IsAmount = BeforeValidator(must(lambda value: type(value) is int and 1 <= value <= MAX_AMOUNT_MINOR, "amount", AMOUNT_RULE))
IsCurrency = AfterValidator(must(MINOR_UNIT_DIGITS.__contains__, "currency", CURRENCY_RULE))
Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR, examples=[1999]), IsAmount]
IsReturnUrl = AfterValidator(must(is_return_url, "return_url", RETURN_URL_RULE))
ReturnUrl = Annotated[str, StringConstraints(min_length=1, max_length=1000, strict=True), Plain, IsReturnUrl]
PaymentMethod = Literal["credit_card", "debit_card", "paypal", "stripe"]
Currency = Annotated[str, Field(min_length=3, max_length=3, examples=["USD"]), IsCurrency]


class Request(BaseModel):
    """A command's request: only known fields, never converted, never shown in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    @cached_property
    def digest(self) -> str:
        """A digest of the fields with their defaults. Equal requests have equal digests; an empty field counts as absent.

        It is of the request as it was at the first look; nothing changes a request. So a member that is new, and false by
        default, leaves the digests of the old requests as they are.
        """
        return digest({name: value for name, value in self.model_dump(mode="json").items() if value not in (None, {}, False)})


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
