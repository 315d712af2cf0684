"""JSON as strictly as money deserves: what two parsers could read differently is refused, not guessed at."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from payments.domain.errors import BodyTooLarge, MalformedJson

MAX_BODY_BYTES = 16 * 1024
"""Ten times what a request with full metadata needs; statements over 16 KB would also pin RDS Proxy."""

MAX_DEPTH = 8
"""The body is 1; our deepest request, with metadata, is 2."""


def parse(body: bytes) -> Any:
    """The value of a JSON text. Raises BodyTooLarge, and MalformedJson for bad UTF-8, duplicate keys, NaN and depth over 8."""
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"Send at most {MAX_BODY_BYTES} bytes; this body has {len(body)}.")
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
    """The same limits for JSON that somebody else has parsed, as Lambda does. Raises BodyTooLarge, MalformedJson."""
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
    # Python refuses to convert 4,300 digits and more; as a float it is "not an integer from 1 to ..." further on.
    return int(digits) if len(digits) <= 40 else float(digits)
