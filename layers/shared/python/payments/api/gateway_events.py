"""Stripe's alone, and no other gateway's: the two doors through which it tells that something happened, its webhook, whose
signature is checked, and EventBridge, whose rule IAM lets in.

The answers are for Stripe alone, which looks at the status. They are none of the API's documents.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from payments import telemetry
from payments.gateway.port import Hint
from payments.gateway.stripe_events import hint_of
from payments.gateway.stripe_signature import SignatureRefused, check_signature
from payments.stripe_settings import KeptSecret

MAX_BODY_BYTES = 256 * 1024
"""Stripe's largest events have some 100 KB, and EventBridge takes no larger ones than this."""

RETRY_AFTER_S = 60

PARTNER = "aws.partner/stripe.com/"
"""The source of an event that EventBridge got from Stripe begins with this. PutEvents takes no source that begins with `aws.`."""

Keep = Callable[[Hint], None]
"""Puts a hint into the inbox. Raises whatever it may: Stripe tries again."""


def from_webhook(
    event: Mapping[str, Any], secrets: KeptSecret[tuple[str, ...]], keep: Keep, clock: Callable[[], float] = time.time
) -> dict[str, Any]:
    """Return API Gateway's answer to a request of Stripe's: 200 when its event is in the inbox.

    400 and 413 end in Stripe's dashboard with their reason; Stripe repeats what was answered with another status than 2xx for
    three days. `secrets` are read again after a signature of none of them, because one may be new.
    """
    text, headers = event.get("body") or "", event.get("headers") or {}
    try:
        body = base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode(errors="surrogatepass")
    except ValueError:
        return _answer(400, "the body is not in base64")
    if len(body) > MAX_BODY_BYTES:
        return _answer(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    signature = next((value for name, value in headers.items() if name.lower() == "stripe-signature"), "")
    try:
        try:
            check_signature(signature, body, secrets(), clock())
        except SignatureRefused:
            secrets.refused()
            check_signature(signature, body, secrets(), clock())
    except SignatureRefused as refused:
        telemetry.logger.warning("a gateway event was refused: %s", refused)
        return _answer(400, str(refused))
    except Exception:  # Stripe sends again what gets a 503.
        return _unavailable("the webhook secrets cannot be read")
    try:
        hint = hint_of(json.loads(body))
    except (ValueError, RecursionError):
        telemetry.logger.error("a signed gateway event cannot be read")
        return _answer(400, "the body is no event")
    try:
        keep(hint)
    except Exception:  # The same.
        return _unavailable("a gateway event could not be kept")
    return _answer(200, "")


def from_eventbridge(envelope: Any, keep: Keep) -> dict[str, str]:
    """Return what Lambda notes of an event of EventBridge's. Raises what `keep` raises, so that Lambda tries again."""
    try:
        if not str(envelope["source"]).startswith(PARTNER):
            raise ValueError
        hint = hint_of(envelope["detail"])
    except (KeyError, TypeError, ValueError):
        telemetry.logger.error("EventBridge sent what is no event of Stripe's")
        return {"outcome": "refused"}
    keep(hint)
    return {"outcome": "kept"}


def _unavailable(what: str) -> dict[str, Any]:
    telemetry.logger.exception(what)
    return _answer(503, "try again", {"retry-after": str(RETRY_AFTER_S)})


def _answer(status: int, text: str, headers: Mapping[str, str] = {}) -> dict[str, Any]:
    told = {"content-type": "text/plain", "cache-control": "no-store"} | dict(headers)
    return {"statusCode": status, "headers": told, "body": text, "isBase64Encoded": False}
