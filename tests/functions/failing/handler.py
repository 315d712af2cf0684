"""Fails as a careless library might, with its input in the message of an exception and of its cause."""

from __future__ import annotations

from typing import Any

from payments.telemetry import instrumented


@instrumented
def lambda_handler(event: Any, context: Any) -> Any:
    try:
        raise ValueError(f"card\t{event['card']}")
    except ValueError as error:
        raise RuntimeError(f"number\n{event['card']}\nwas not understood") from error
