"""What clients send, as API Gateway and Lambda deliver it, and what they hear: the oracle holds the service to it."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from typing import Any

PREFIX = "/api/v1/payments"


@dataclass(frozen=True, slots=True)
class Answer:
    """One delivery of a request and what came of it. Times are monotonic seconds; `status` is None when nothing was heard.

    `request` names what the client meant to be done once: its copies and retries share it. `key` is the idempotency key, derived
    ones included; `asked` is the body; `traceparent` is one a delivery over HTTP, and one a request by direct invocation, where
    the payload is all there is.
    """

    request: str
    label: str
    kind: str
    owner: str
    key: str | None
    traceparent: str
    direct: bool
    asked: dict[str, Any]
    sent_s: float
    heard_s: float
    end: str
    status: int | None = None
    body: dict[str, Any] | None = None
    replayed: bool = False
    error: str = ""

    @property
    def code(self) -> str:
        return str(self.body.get("code", "")) if self.body and (self.status or 0) >= 400 else ""

    @property
    def final(self) -> bool:
        """Whether a client is satisfied: it was done, declined, or refused for a reason that time does not mend."""
        return self.status is not None and (
            self.status in (200, 201, 402, 404, 422) or self.code in ("order_already_paid", "payment_state_conflict")
        )


def traceparent_of(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


def http_event(method: str, path: str, owner: str, label: str, body: Any = None, key: str | None = None) -> dict[str, Any]:
    """A request as API Gateway's HTTP API delivers it: payload format 2.0, with a JWT authorizer's claims."""
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


def heard(sent: Answer, end: str, result: Any, error: str) -> Answer:
    """The record of a delivery, completed with what the caller got."""
    status, body, replayed = None, None, False
    if end == "answered":
        if sent.direct:
            status, body, replayed = result["status"], result["body"], result["replayed"]
        else:
            status, body = result["statusCode"], json.loads(result["body"])
            replayed = result["headers"].get("idempotent-replayed") == "true"
    return replace(sent, heard_s=time.monotonic(), end=end, status=status, body=body, replayed=replayed, error=error)
