"""The witness, fourth part: each operation matches its request, to the unit, the currency and the payment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chaos.evidence import Call, Evidence, Row
from chaos.oracle import Life


def check(evidence: Evidence, lives: dict[str, Life]) -> Iterator[str]:
    bodies = {(answer.kind, answer.traceparent): answer.sent_body for answer in evidence.answers if answer.sent_body}
    calls = evidence.calls_by_key()
    for life in lives.values():
        for operation in life.operations:
            name = f"payment {life.id}: {operation['kind']} {operation['operation_id']}"
            requested = bodies.get((operation["kind"], operation["traceparent"]))
            if requested is not None:
                wrong = list(_differences(requested, operation, life, calls))
                if wrong:
                    yield f"{name} is not what was asked: {', '.join(wrong)}"
            elif operation["origin"] == "gateway":
                if operation["gateway_key"] in calls:
                    yield f"{name} is the gateway's own, and we called it"
            elif operation["kind"] != "void" or operation["idempotency_key"]:  # reconcile's own voids have no key
                yield f"{name} has no request"


def _differences(requested: dict[str, Any], operation: Row, life: Life, calls: dict[str, list[Call]]) -> Iterator[str]:
    kind, payment, own = operation["kind"], life.payment, calls.get(operation["gateway_key"], [])
    if kind == "process":
        for name, value in (
            ("order_id", payment["order_id"]),
            ("amount", payment["amount_minor"]),
            ("currency", payment["currency"]),
            ("payment_token", payment["payment_token"]),
            ("capture_method", payment["capture_method"]),
        ):
            if value != requested[name]:
                yield f"{name} {value} in the tables for {requested[name]}"
    else:
        for name in ("transaction_id", "payment_id", "order_id"):
            if name in requested and requested[name] != payment[name]:
                yield f"{name} {payment[name]} for {requested[name]}"
    amount = requested.get("amount", _all(kind, life))
    if amount is not None and operation["amount_minor"] != amount:
        yield f"amount {operation['amount_minor']} in the tables for {amount}"
    for call in own:
        if call.amount != operation["amount_minor"] or call.currency != payment["currency"]:
            yield f"{call.amount} {call.currency} at the gateway for {operation['amount_minor']} {payment['currency']}"
        if kind == "process" and (
            call.token != requested["payment_token"] or call.capture != (requested["capture_method"] == "automatic")
        ):
            yield f"token {call.token}, capture {call.capture} at the gateway"
        # A payment that waits for its customer has no transaction yet.
        waited = kind == "void" and call.transaction_id is None and life.waited
        if kind != "process" and call.transaction_id != payment["transaction_id"] and not waited:
            yield f"transaction {call.transaction_id} at the gateway for {payment['transaction_id']}"


def _all(kind: str, life: Life) -> int | None:
    """Return the amount of a command that names none, or None if it depends on the moment, as with several refunds."""
    if kind == "refund":
        alone = len(life.refunds) == 1
        captured: int | None = life.payment["captured_minor"] if alone else None
        return captured
    amount: int = life.payment["amount_minor"]
    return amount
