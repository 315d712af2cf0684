"""Compare the gateway's list with a restored database, and enter what the database has lost.

A restored database lacks what was done after its moment, and the gateway has it. The two share the gateway's idempotency keys
(`operations.gateway_key`). A capture, void or refund that is missing is entered as an operation without an outcome, under its old
key. Reconcile then sends the gateway the same request again: the money does not move a second time, and the answer writes status,
history and event. A missing charge cannot be entered, because only its caller knows the order and the token. It is taken back.

What the gateway did by itself never had such a key. Its line has `gateway-KIND-ID` in its place, with the gateway's id of the
refund, or else of the payment intent, as the service names it, too. Reconcile asks the gateway by that id, and sends nothing.

The comparison goes both ways: what succeeded in the database since the list's first line has to be on the list.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

from payments_cli.gateway_list import Movement, WrongList

OPERATIONS = {"authorization": "process", "charge": "process", "capture": "capture", "void": "void", "refund": "refund"}
KEY_PREFIXES = {"capture": ("capture-", "cap-"), "void": ("void-",), "refund": ("ref-",)}
"""Of the keys that the service makes; `cap-` is version 0.1.0's."""

BY_ITSELF = "gateway-"
"""Begins the key of what the gateway did by itself."""

KEY_LIFETIME = timedelta(hours=23)
"""As GATEWAY_KEY_LIFETIME_S of the service: reconcile sends nothing for older operations, and a person settles them."""

CLOCK_SKEW = timedelta(hours=1)
"""By which a function's clock may be slower than the database's and the gateway's."""

BATCH = 200
"""The Data API answers with 1 MiB at most."""

REASON = "entered after a restore"

FIND = """
SELECT CAST(COALESCE(json_agg(json_build_object(
    'number', number, 'kind', kind, 'amount', operations.amount_minor, 'outcome', outcome, 'created_at', operations.created_at,
    'failed', refunds.status = 'FAILED',
    'currency', COALESCE(own.currency, payments.currency), 'transaction_id', own.transaction_id,
    'payment_id', payments.payment_id, 'status', payments.status,
    'rest', payments.captured_minor - payments.refunded_minor - payments.refund_reserved_minor,
    'authorized', payments.amount_minor)), '[]') AS text)
FROM json_to_recordset(CAST(:list AS json)) AS listed (number integer, gateway_key text, transaction_id text)
LEFT JOIN operations ON operations.gateway_key = listed.gateway_key
LEFT JOIN refunds ON refunds.refund_id = operations.refund_id
LEFT JOIN payments AS own ON own.payment_id = operations.payment_id
LEFT JOIN payments ON payments.transaction_id = listed.transaction_id
"""

# A refund that failed after it had succeeded moved nothing in the end, so no list has to have it.
# The ids begin with the time at which a function made them, so the primary key finds the newest ones.
SUCCEEDED = f"""
SELECT CAST(COALESCE(json_agg(json_build_object(
    'id', operation_id, 'key', gateway_key, 'amount', amount_minor, 'currency', currency, 'transaction_id', transaction_id,
    'at', created_at,
    'kind', CASE WHEN kind <> 'process' THEN kind WHEN capture_method = 'manual' THEN 'authorization' ELSE 'charge' END)
    ORDER BY operation_id), '[]') AS text)
FROM (
    SELECT operation_id, gateway_key, operations.amount_minor, currency, transaction_id, operations.created_at, kind,
           capture_method
    FROM operations JOIN payments USING (payment_id)
    WHERE operation_id > CAST(:after AS uuid) AND operations.created_at >= CAST(:since AS timestamptz) AND outcome = 'succeeded'
      AND NOT EXISTS (SELECT FROM refunds WHERE refunds.refund_id = operations.refund_id AND refunds.status = 'FAILED')
    ORDER BY operation_id LIMIT {BATCH}
) AS newest
"""

_OPERATION = """
INSERT INTO operations (operation_id, owner, kind, payment_id, refund_id, amount_minor, reason, request_hash, gateway_key,
                        attempt, created_at, lease_until, next_attempt_at, origin, reply)
"""

# Once a reply names what the gateway has, the service asks for it by that name.
_MADE_BY = """
CASE :gateway_id WHEN '' THEN 'service' ELSE 'gateway' END
"""
_REPLY = """
CASE :gateway_id WHEN '' THEN NULL ELSE jsonb_build_object('gateway_id', CAST(:gateway_id AS text)) END
"""

ENTER = f"""
WITH payment AS (
    SELECT payment_id, owner, amount_minor FROM payments
    WHERE transaction_id = :transaction_id AND status = 'AUTHORIZED' FOR UPDATE
), operation AS ({_OPERATION}
    SELECT CAST(:operation_id AS uuid), owner, :kind, payment_id, NULL, CAST(:amount AS bigint), :reason, '', :gateway_key, 1,
           LEAST(CAST(:at AS timestamptz), now()), now(), now(), {_MADE_BY}, {_REPLY}
    FROM payment WHERE CAST(:amount AS bigint) <= amount_minor RETURNING 1
)
SELECT count(*) FROM operation
"""

# As the service claims a refund: reserve first, so that all refunds of a payment stay within what was captured.
ENTER_REFUND = f"""
WITH reserved AS (
    UPDATE payments SET refund_reserved_minor = refund_reserved_minor + CAST(:amount AS bigint), version = version + 1,
                        updated_at = GREATEST(updated_at, now())
    WHERE transaction_id = :transaction_id AND status IN ('CAPTURED', 'PARTIALLY_REFUNDED')
      AND refunded_minor + refund_reserved_minor + CAST(:amount AS bigint) <= captured_minor
    RETURNING payment_id, owner, transaction_id, currency
), refund AS (
    INSERT INTO refunds (refund_id, payment_id, owner, transaction_id, amount_minor, currency, status, reason, created_at,
                         updated_at, origin)
    SELECT CAST(:refund_id AS uuid), payment_id, owner, transaction_id, CAST(:amount AS bigint), currency, 'PENDING', :reason,
           LEAST(CAST(:at AS timestamptz), now()), now(), {_MADE_BY}
    FROM reserved
), operation AS ({_OPERATION}
    SELECT CAST(:operation_id AS uuid), owner, :kind, payment_id, CAST(:refund_id AS uuid), CAST(:amount AS bigint), :reason, '',
           :gateway_key, 1, LEAST(CAST(:at AS timestamptz), now()), now(), now(), {_MADE_BY}, {_REPLY}
    FROM reserved RETURNING 1
)
SELECT count(*) FROM operation
"""


class Database(Protocol):
    def value(self, sql: str, **parameters: object) -> Any:
        """Run one statement with `:name` parameters, and return the only value of its only row. Raises Taken, Failed."""
        ...


class Taken(Exception):
    """A unique index refused the statement: somebody else is at work on this payment."""


@dataclass
class Found:
    """What the database knows of a movement: its operation, and the payment that its transaction names."""

    operation: dict[str, Any] | None
    payment: dict[str, Any] | None


@dataclass
class Comparison:
    """The movements, each with what the database knows of it."""

    database: Database
    listed: list[Movement]
    found: dict[int, Found] = field(default_factory=dict)
    agreed: int = 0
    """How many movements need nothing. `results` counts them."""

    @classmethod
    def of(cls, database: Database, listed: list[Movement]) -> Comparison:
        """Raises WrongList if the database knows no key of the list at all: the two do not belong together."""
        compared = cls(database, listed)
        for begin in range(0, len(listed), BATCH):
            batch = listed[begin : begin + BATCH]
            asked = [
                {"number": n, "gateway_key": movement.key, "transaction_id": movement.transaction_id}
                for n, movement in enumerate(batch, begin)
            ]
            for row in json.loads(database.value(FIND, list=json.dumps(asked))):
                compared.found[row["number"]] = Found(row if row["kind"] else None, row if row["payment_id"] else None)
        if not any(each.operation for each in compared.found.values()):
            raise WrongList(
                "the database knows none of these keys. The list has to begin before the restored moment. If it does, it is"
                " of another service or database"
            )
        return compared

    def results(self, *, enter: bool) -> Iterator[dict[str, Any]]:
        """Yield a result for each movement that needs something, then one for each charge to take back. Raises Failed."""
        lost: defaultdict[str, list[Movement]] = defaultdict(list)
        charges = {movement.transaction_id: n for n, movement in enumerate(self.listed) if OPERATIONS[movement.kind] == "process"}
        captures = {
            movement.transaction_id
            for n, movement in enumerate(self.listed)
            if movement.kind == "capture" and not self._succeeded(n)
        }
        for n, movement in enumerate(self.listed):
            operation, payment = self.found[n].operation, self.found[n].payment
            if operation is not None:
                yield from self._known(movement, operation)
            elif payment is not None:
                yield self._missing(movement, payment, enter=enter, captured_soon=movement.transaction_id in captures)
            elif (charge := charges.get(movement.transaction_id)) is None:
                detail = "neither the database nor the list has its charge: let the list begin earlier"
                yield _result(movement, "differs", detail)
            elif self.found[charge].operation is None:
                lost[movement.transaction_id].append(movement)
            else:
                yield _result(movement, "waits", "reconcile first settles the charge; then run the command again")
        for of_one in lost.values():
            yield from self._take_back(of_one)
        yield from self._unlisted()

    def _unlisted(self) -> Iterator[dict[str, Any]]:
        """What succeeded since the list's first line, and is not on the list: the list lacks a kind, a part or its end."""
        keys, since = {movement.key for movement in self.listed}, min(movement.at for movement in self.listed)
        after = UUID(int=int((since - CLOCK_SKEW).timestamp() * 1000) << 80)
        while rows := json.loads(self.database.value(SUCCEEDED, after=str(after), since=since.isoformat())):
            for row in rows:
                after = UUID(row.pop("id"))
                if row["key"] not in keys:
                    movement = Movement(**row | {"at": datetime.fromisoformat(row["at"])})
                    yield _result(movement, "unlisted", "the database says succeeded. Is the list complete, and of now?")

    def _succeeded(self, number: int) -> bool:
        operation = self.found[number].operation
        return operation is not None and operation["outcome"] == "succeeded"

    def _known(self, movement: Movement, operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # A gateway may list a void without its amount.
        same = operation["amount"] == movement.amount or movement.kind == "void"
        if said := _names_another(movement, operation):
            yield _result(movement, "differs", said)
        elif operation["kind"] != OPERATIONS[movement.kind] or not same:
            yield _result(movement, "differs", f"the database has a {operation['kind']} of {operation['amount']}")
        elif operation["outcome"] == "succeeded" and operation["failed"]:
            yield _result(movement, "differs", "the database says that it failed after it had succeeded")
        elif operation["outcome"] == "succeeded":
            self.agreed += 1
        elif operation["outcome"] is not None:
            yield _result(movement, "differs", f"the database says {operation['outcome']}")
        elif not _gateway_id_in(movement) and datetime.fromisoformat(operation["created_at"]) < datetime.now(UTC) - KEY_LIFETIME:
            yield _result(movement, "by_hand", "the gateway may have forgotten the key: settle the operation by hand")
        else:
            yield _result(movement, "open", "reconcile settles it")

    def _missing(self, movement: Movement, payment: dict[str, Any], *, enter: bool, captured_soon: bool) -> dict[str, Any]:
        status, ready = payment["status"], False
        if payment["currency"] != movement.currency:
            return _result(movement, "differs", f"the payment is in {payment['currency']}")
        if movement.kind in ("capture", "void"):
            ready = status == "AUTHORIZED" and movement.amount <= payment["authorized"]
        elif movement.kind == "refund":
            if status == "AUTHORIZED" and captured_soon:
                return _result(movement, "waits", "its capture comes first; then run the command again")
            ready = status in ("CAPTURED", "PARTIALLY_REFUNDED") and movement.amount <= payment["rest"]
        gateway_id = _gateway_id_in(movement)
        identifier = uuid4() if gateway_id else _id_in(movement)
        if not ready or identifier is None:
            why = f"the payment is {status}" if identifier else "its key is not one of the service's"
            return _result(movement, "differs", f"it cannot be entered: {why}")
        if not enter:
            return _result(movement, "missing", "--enter enters it, and reconcile settles it")
        refund = movement.kind == "refund"
        parameters: dict[str, object] = {
            "transaction_id": movement.transaction_id,
            "operation_id": str(uuid4() if refund else identifier),
            "kind": movement.kind,
            "amount": payment["authorized"] if movement.kind == "void" else movement.amount,
            "reason": REASON,
            "gateway_key": movement.key,
            "gateway_id": gateway_id,
            "at": movement.at.isoformat(),
        }
        try:
            if refund:
                entered = self.database.value(ENTER_REFUND, **parameters, refund_id=str(identifier))
            else:
                entered = self.database.value(ENTER, **parameters)
        except Taken:
            entered = 0
        if not entered:
            return _result(movement, "waits", "the payment changes at the moment; run the command again")
        return _result(movement, "entered", "reconcile settles it")

    def _take_back(self, of_one: list[Movement]) -> Iterator[dict[str, Any]]:
        """A charge that the database lacks, with what followed it. Yield what is left to take back at the gateway."""
        [charge, *_] = [movement for movement in of_one if OPERATIONS[movement.kind] == "process"]
        sums = defaultdict[str, int](int)
        for movement in of_one:
            sums[movement.kind] += movement.amount
        taken = sums.get("charge", 0) + sums.get("capture", 0) - sums.get("refund", 0)
        if taken > 0:
            yield _result(charge, "take_back", f"refund {taken} at the gateway") | {"take_back": taken}
        elif "authorization" in sums and not sums.keys() & {"void", "capture"}:  # the list may show a void without its amount
            yield _result(charge, "take_back", "void it at the gateway") | {"take_back": 0}
        else:
            self.agreed += len(of_one)


def _names_another(movement: Movement, operation: dict[str, Any]) -> str:
    """Say in what the operation's payment is another than the listed one. An open charge has no transaction yet."""
    if operation["currency"] != movement.currency:
        return f"the database says {operation['currency']}"
    known = operation["transaction_id"]
    return f"the database says transaction {known}" if known not in (None, movement.transaction_id) else ""


def _gateway_id_in(movement: Movement) -> str:
    """Return the gateway's id of what it did by itself, or an empty text if the service asked for it."""
    prefix = f"{BY_ITSELF}{movement.kind}-"
    return movement.key.removeprefix(prefix) if movement.key.startswith(prefix) else ""


def _id_in(movement: Movement) -> UUID | None:
    """Return the id of the operation, or of the refund, that the key names. None if the service has not made the key."""
    for prefix in KEY_PREFIXES.get(movement.kind, ()):
        if movement.key.startswith(prefix):
            with contextlib.suppress(ValueError):
                return UUID(movement.key.removeprefix(prefix))
    return None


def _result(movement: Movement, result: str, detail: str) -> dict[str, Any]:
    return {
        "result": result,
        "key": movement.key,
        "kind": movement.kind,
        "amount": movement.amount,
        "currency": movement.currency,
        "transaction_id": movement.transaction_id,
        "at": movement.at.isoformat(),
        "detail": detail,
    }
