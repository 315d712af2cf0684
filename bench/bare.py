"""The least that a function can do: what the runtime itself costs."""

from typing import Any


def handler(event: Any, context: Any) -> dict[str, Any]:  # noqa: ARG001 - as Lambda calls it
    return {"statusCode": 200, "body": "{}"}
