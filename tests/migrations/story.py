"""A shop's two days, through the handlers of any release: `python story.py FOLDER begin|go_on`.

FOLDER is a checkout; `go_on` reads the first day's state from stdin. Events and answers of every release are those of the
contract, so this file needs nothing of the code but the layout of its folders. It writes a JSON object to stdout: by step, the
status code of the answer and what it says.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1]).resolve()
sys.path.insert(0, str(FOLDER / "layers/shared/python"))

RETRY_S = 1.2
"""Longer than the first pause of the schedule that the test sets, 1 s."""


class Context:
    function_name, function_version, memory_limit_in_mb, aws_request_id = "story", "1", 512, "story-1"

    def __init__(self, alias: str) -> None:
        self.invoked_function_arn = f"arn:aws:lambda:eu-central-1:123456789012:function:story:{alias}"

    def get_remaining_time_in_millis(self) -> int:
        return 20_000


@cache
def handler(function: str) -> Callable[[Any, Any], Any]:
    spec = importlib.util.spec_from_file_location(f"{function}_handler", FOLDER / "functions" / function / "handler.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lambda_handler: Callable[[Any, Any], Any] = module.lambda_handler
    return lambda_handler


def invoke(function: str, event: Any) -> Any:
    return handler(function)(event, Context("live" if "requestContext" in event else "direct"))


def http(function: str, method: str, route: str, body: Any = None, *, key: str | None = None, **names: str) -> tuple[int, Any]:
    """Send the event that API Gateway makes of a request, and return status code and body."""
    headers = {"content-type": "application/json", "accept": "application/json"} | ({"idempotency-key": key} if key else {})
    path = route.format(**names)
    event = {
        "version": "2.0",
        "routeKey": f"{method} {route}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "pathParameters": names,
        "requestContext": {
            "authorizer": {
                "jwt": {"claims": {"sub": "shop", "scope": "payments/write payments/refund payments/read"}, "scopes": None}
            },
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "shop"},
            "requestId": "story-1",
            "routeKey": f"{method} {route}",
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }
    if body is not None:
        event["body"] = json.dumps(body)
    answer = invoke(function, event)
    return answer["statusCode"], json.loads(answer["body"])


def pay(order: str, token: str, key: str | None = None, **more: Any) -> tuple[int, Any]:
    body = {"order_id": order, "amount": 1999, "currency": "USD", "payment_method": "credit_card", "payment_token": token} | more
    return http("process", "POST", "/api/v1/payments/process", body, key=key)


def command(name: str, transaction: str, **more: Any) -> tuple[int, Any]:
    function = "refund" if name == "refund" else "process"
    return http(function, "POST", f"/api/v1/payments/{name}", {"transaction_id": transaction} | more)


def look_up(payment: str) -> tuple[int, Any]:
    return http("lookups", "GET", "/api/v1/payments/payment/{payment_id}", payment_id=payment)


def history(payment: str) -> list[str]:
    _, body = http("lookups", "GET", "/api/v1/payments/payment/{payment_id}/history", payment_id=payment)
    return [entry["to"] for entry in body["data"]]


def listed() -> tuple[int, Any]:
    return http("lookups", "GET", "/api/v1/payments")


def told(answer: tuple[int, Any]) -> list[Any]:
    """Of an answer: its status code, and the problem's code or else the status."""
    code, body = answer
    return [code, body.get("code") or body.get("status")]


def reconciled() -> dict[str, int]:
    time.sleep(RETRY_S)
    done = invoke("reconcile", {})
    return {"settled": done["settled"], "expired": done["expired"]}


def left_by_relay() -> int:
    unpublished: int = invoke("relay", {})["unpublished"]
    return unpublished


def directly(function: str, event: dict[str, Any]) -> str:
    try:
        outcome: str = invoke(function, event)["outcome"]
    except Exception as error:
        return f"raised {type(error).__name__}"
    return outcome


def begin() -> dict[str, Any]:
    steps: dict[str, Any] = {}
    paid = pay("paid", "tok_ok", key="paid-1")
    steps["pay"] = told(paid)
    steps["pay, the same key again"] = told(pay("paid", "tok_ok", key="paid-1"))
    steps["pay the order twice"] = told(pay("paid", "tok_ok"))
    steps["pay, declined"] = told(pay("declined", "tok_insufficient_funds"))
    steps["pay the declined order"] = told(pay("declined", "tok_ok"))

    _, authorized = authorize = pay("authorized", "tok_ok", capture_method="manual")
    steps["authorize"] = told(authorize)
    steps["capture a part"] = told(command("capture", authorized["transaction_id"], amount=1500))

    _, stubborn = pay("stubborn", "tok_capture_declined", capture_method="manual")
    steps["capture, declined"] = told(command("capture", stubborn["transaction_id"]))
    steps["history of a declined capture"] = history(stubborn["payment_id"])
    steps["void"] = told(command("void", stubborn["transaction_id"]))

    steps["refund a part"] = told(command("refund", paid[1]["transaction_id"], amount=500))
    _, kept = pay("kept", "tok_refund_declined")
    steps["refund, declined"] = told(command("refund", kept["transaction_id"]))
    steps["history of a declined refund"] = history(kept["payment_id"])

    steps["pay, the reply is lost"] = told(pay("lost", "tok_timeout_then_captured"))
    steps["reconcile"] = reconciled()
    steps["the lost payment"] = told(http("lookups", "GET", "/api/v1/payments/order/{order_id}", order_id="lost"))

    direct = {"order_id": "direct", "amount": 700, "currency": "USD", "payment_method": "paypal", "payment_token": "tok_ok"}
    steps["pay directly"] = directly("process", direct)
    steps["refund directly what is not there"] = directly(
        "refund", {"transaction_id": "txn_0", "idempotency_key": "refund-of-nothing"}
    )

    # What the other release goes on with.
    _, held = pay("held", "tok_ok", capture_method="manual")
    _, expiring = pay("expiring", "tok_ok", capture_method="manual")
    _, unknown = pay("unknown", "tok_timeout_then_captured")
    steps["look up"] = told(look_up(paid[1]["payment_id"]))
    steps["list"] = len(listed()[1]["data"])
    steps["relay"] = left_by_relay()
    ids = {"paid": paid[1], "held": held, "expiring": expiring, "unknown": unknown}
    return {"steps": steps, "state": {name: [one["payment_id"], one["transaction_id"]] for name, one in ids.items()}}


def go_on(state: dict[str, list[str]]) -> dict[str, Any]:
    """Work with the payments that the other release has made."""
    steps: dict[str, Any] = {"relay sends what the topic has lost": invoke("relay", {})["published"]}
    paid, paid_transaction = state["paid"]
    steps["list"] = len(listed()[1]["data"])
    steps["look up"] = told(look_up(paid))
    steps["its refunds"] = [refund["status"] for refund in look_up(paid)[1]["refunds"]]
    steps["pay, the same key"] = told(pay("paid", "tok_ok", key="paid-1"))
    steps["refund the rest"] = told(command("refund", paid_transaction))
    steps["capture what is held"] = told(command("capture", state["held"][1]))
    steps["reconcile"] = reconciled()
    steps["the unknown payment"] = told(look_up(state["unknown"][0]))
    steps["the expired authorization"] = told(look_up(state["expiring"][0]))
    steps["relay"] = left_by_relay()
    return {"steps": steps, "state": state}


def main() -> None:
    out = sys.stdout
    sys.stdout = sys.stderr  # the functions log to stdout
    told_of = begin() if sys.argv[2] == "begin" else go_on(json.load(sys.stdin))
    payments = importlib.import_module("payments")
    assert Path(str(payments.__file__)).is_relative_to(FOLDER), f"{payments.__file__} is not the code of {FOLDER}"
    json.dump(told_of, out)


if __name__ == "__main__":
    main()
