"""The clients' requests, as API Gateway and Lambda deliver them, and the answers. The oracle compares them with the facts."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from typing import Any

PREFIX = "/api/v1/payments"

RAISED = {
    "order_in_progress": 409,
    "payment_state_conflict": 409,
    "idempotency_key_in_use": 409,
    "amount_too_large": 422,
    "service_unavailable": 503,
}
"""What a direct invocation may raise, so that Lambda repeats it: refusals that waiting may cure, and outages. The status is the
same answer's over HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One delivery of a request, and its answer. Times are monotonic seconds; `status` is None if no answer came.

    `request` names one intention of the client: its copies and retries share the name. `key` is the idempotency key that the
    client sent. `sent_body` is the request's body, `body` the answer's. Over HTTP each delivery has its own `traceparent`. By
    direct invocation all deliveries of a request share one, because the payload is the same. What a direct invocation raised has
    the status and the code of its message, and `end` is "raised". `spared` says that it had no fault and enough time.
    """

    request: str
    label: str
    kind: str
    owner: str
    key: str | None
    traceparent: str
    direct: bool
    sent_body: dict[str, Any]
    sent_s: float
    received_s: float
    end: str
    status: int | None = None
    body: dict[str, Any] | None = None
    replayed: bool = False
    error: str = ""
    spared: bool = False
    retry_after_s: int | None = None

    @property
    def code(self) -> str:
        return str(self.body.get("code", "")) if self.body and (self.status or 0) >= 400 else ""

    @property
    def final(self) -> bool:
        """Whether the client need not try again: the request succeeded, was declined, or was refused for good."""
        return self.status in (200, 201, 402) or self.refused_for_good

    @property
    def refused(self) -> bool:
        """Whether the service says that nothing was done for this request. `idempotency_key_in_use` does not say so."""
        return 400 <= (self.status or 0) < 500 and self.status != 402 and self.code != "idempotency_key_in_use"

    @property
    def refused_for_good(self) -> bool:
        return self.refused and self.body is not None and not self.body.get("retryable")


def traceparent_of(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


def http_event(method: str, path: str, owner: str, label: str, body: Any = None, key: str | None = None) -> dict[str, Any]:
    """Return the event that API Gateway's HTTP API delivers: payload format 2.0, with a JWT authorizer's claims."""
    headers = {"content-type": "application/json", "traceparent": traceparent_of(label)}
    if key is not None:
        headers["idempotency-key"] = key
    claims = {"sub": owner, "scope": "payments/write payments/refund payments/read"}
    return {
        "version": "2.0",
        "routeKey": f"{method} {PREFIX}{path}",
        "rawPath": PREFIX + path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "http": {"method": method, "path": PREFIX + path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "x"},
            "requestId": label,
            "authorizer": {"jwt": {"claims": claims, "scopes": None}},
        },
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


def completed(sent: Answer, end: str, result: Any, error: str) -> Answer:
    """Return the record of a delivery, completed with the caller's answer."""
    status, body, replayed, retry_after_s = None, None, False, None
    if end == "answered":
        if sent.direct:
            status, body, replayed = result["status"], result["body"], result["replayed"]
        else:
            status, body = result["statusCode"], json.loads(result["body"])
            replayed = result["headers"].get("idempotent-replayed") == "true"
            retry_after_s = int(result["headers"]["retry-after"]) if "retry-after" in result["headers"] else None
    elif end == "raised" and sent.direct:
        code = error.removeprefix("InvocationFailed: ").partition(":")[0]
        if code in RAISED:
            status, body = RAISED[code], {"code": code, "retryable": True}
    heard = replace(sent, status=status, body=body, replayed=replayed, retry_after_s=retry_after_s)
    return replace(heard, received_s=time.monotonic(), end=end, error=error)
