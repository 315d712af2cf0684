"""The bodies of requests: strict JSON and validated fields. We refuse JSON that two parsers could read differently."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from payments.domain.errors import BodyTooLarge, IdempotencyKeyInvalid, InvalidRequest, MalformedJson
from payments.domain.text import shown_name

MAX_BODY_BYTES = 16 * 1024
"""A request with full metadata needs a tenth of it. Statements over 16 KB would also pin RDS Proxy."""

MAX_DEPTH = 8
"""The body itself has depth 1; our deepest request, with metadata, has 2."""

MAX_ERRORS = 20
"""A body of 16 KB can be wrong in a thousand places. The first twenty are enough to correct it."""

NOT_JSON = {
    rb"[ \t\r\n]*$": "is empty; send a JSON object",
    rb"\xef\xbb\xbf": "begins with a byte order mark; send UTF-8 without one",
    rb"\xff\xfe|\xfe\xff|(?s:.?)\0": "is UTF-16 or UTF-32; send UTF-8",  # The first character of a JSON text is ASCII.
    rb"\x1f\x8b|\x28\xb5\x2f\xfd|x[\x01\x5e\x9c\xda]": "is compressed; send it as it was before",  # gzip, zstd, zlib
}
"""How a body begins that is no JSON in UTF-8, and what its sender should know."""

Model = TypeVar("Model", bound=BaseModel)


def parse(body: bytes) -> Any:
    """Return the value of a JSON text. Raises BodyTooLarge; MalformedJson for bad UTF-8, duplicate keys, NaN and depth over 8."""
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"Send at most {MAX_BODY_BYTES} bytes; this body has {len(body)}.")
    for beginning, problem in NOT_JSON.items():
        if re.match(beginning, body):
            raise MalformedJson(f"The body {problem}.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedJson(f"The body is not valid UTF-8 at byte {error.start}.") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise MalformedJson(f"The body is nested more than {MAX_DEPTH} deep.") from None
    _check_depth(value)
    return value


def check_value(value: object) -> None:
    """Check the same limits on JSON that Lambda has parsed already. Raises BodyTooLarge, MalformedJson."""
    _check_depth(value)
    size = len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))
    if size > MAX_BODY_BYTES:
        raise BodyTooLarge(f"Send at most {MAX_BODY_BYTES} bytes; this payload has {size}.")


def _check_depth(value: object) -> None:
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise MalformedJson(f"The body is nested more than {MAX_DEPTH} deep.")
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedJson("An object has the same key twice.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is not JSON.")


def _integer(digits: str) -> int | float:
    # Python refuses to convert 4,300 digits and more. As a float, validation reports "must be a JSON integer".
    return int(digits) if len(digits) <= 40 else float(digits)


def validate(model: type[Model], value: object) -> Model:
    """Return the request in a JSON value. Raises InvalidRequest with every wrong field."""
    if not isinstance(value, dict):
        twice = " This is a text, as of JSON that was encoded twice." if isinstance(value, str) else ""
        raise InvalidRequest(f"Send a JSON object.{twice}", ("body", "must be a JSON object"))
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False, include_context=False)) from None


def invalid_request(errors: Sequence[Mapping[str, Any]], prefix: str = "body") -> InvalidRequest:
    """Return Pydantic's errors as ours: location and message, never the input. An unknown name shows only if it is plain."""
    shown = []
    for error in errors[:MAX_ERRORS]:
        path = (prefix, *error["loc"]) if prefix else error["loc"]
        location = ".".join(str(part) if isinstance(part, int) else shown_name(str(part)) for part in path)
        sentence = error["msg"][0].lower() + error["msg"][1:]
        message = "is not a field of this request" if error["type"] == "extra_forbidden" else sentence
        shown.append((location, message))
    return InvalidRequest("Correct the fields listed in `errors`.", *shown)


def check_idempotency_key(key: str) -> str:
    """Return the key. Raises IdempotencyKeyInvalid unless it is 1 to 255 visible ASCII characters."""
    if not 1 <= len(key) <= 255 or not all("!" <= character <= "~" for character in key):
        raise IdempotencyKeyInvalid("Send one Idempotency-Key of 1 to 255 visible ASCII characters, such as a UUID.")
    return key
