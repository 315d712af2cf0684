"""A shop that pays, captures, voids and refunds through the use cases, and the database as its owner reads and changes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import Any, Self, TypeVar
from uuid import UUID

from local.servers import connect
from payments.api.bodies import validate
from payments.commands.catalog import COMMANDS
from payments.commands.command import Result
from payments.commands.phases import perform
from payments.commands.service import Call, Deadline, Service
from payments.domain.ids import uuid7
from payments.domain.payment import Payment, PaymentStatus
from payments.scheduled.reconcile import Reconciled, reconcile
from payments.scheduled.relay import Relayed, relay
from payments.store.connection import PING, Bound, Database, Row
from tests import servers
from tests.fakes import Answer, FakeGateway, FakePublisher, approve, ask_customer, decline, lose_reply

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Answered = TypeVar("Answered")


@dataclass(frozen=True, kw_only=True)
class Shop:
    """One owner's calls, one invocation after another in one Lambda environment."""

    owner: str
    service: Service
    gateway: FakeGateway
    publisher: FakePublisher
    url: str
    time_s: float = 20.0
    """The seconds that an invocation has left when it begins."""
    environments: list[Shop] = field(default_factory=list, compare=False, repr=False)
    """Those that it opened elsewhere, which close with it."""

    @classmethod
    def on(cls, database: servers.Database, **changes: Any) -> Shop:
        gateway, publisher, url = FakeGateway(), FakePublisher(), database.service_url
        made = Service(db=Database.at(url), gateway=gateway, publisher=publisher)
        return cls(owner=f"shop-{uuid7()}", service=made, gateway=gateway, publisher=publisher, url=url).with_(**changes)

    def with_(self, **changes: Any) -> Self:
        """Return the same shop on a service that differs in these fields."""
        return replace(self, service=replace(self.service, **changes)) if changes else self

    def elsewhere(self, url: str | None = None) -> Self:
        """Return the same shop in another Lambda environment, with a connection of its own, which closes with this shop's."""
        other = replace(self.with_(db=Database.at(url or self.url)), environments=[])
        self.environments.append(other)
        return other

    def call(self, key: str | None = None) -> Call:
        return Call(owner=self.owner, deadline=Deadline.in_s(self.time_s), idempotency_key=key, traceparent=TRACEPARENT)

    def process(self, key: str | None = None, **fields: Any) -> Result:
        """Pay 19.99 USD for a new order, unless the fields say otherwise."""
        body = {"order_id": f"order-{uuid7()}", "amount": 1999, "currency": "USD", "payment_method": "credit_card"} | fields
        return self.perform("process", body, key)

    def capture(self, transaction_id: str | None, key: str | None = None, **fields: Any) -> Result:
        return self.perform("capture", {"transaction_id": transaction_id} | fields, key)

    def void(self, transaction_id: str | None, key: str | None = None, **fields: Any) -> Result:
        return self.perform("void", {"transaction_id": transaction_id} | fields, key)

    def refund(self, transaction_id: str | None, key: str | None = None, **fields: Any) -> Result:
        return self.perform("refund", {"transaction_id": transaction_id} | fields, key)

    def perform(self, kind: str, body: dict[str, Any], key: str | None) -> Result:
        command = COMMANDS[kind]
        return perform(command, validate(command.request, body), self.call(key), self.service)

    def captured(self, **fields: Any) -> Payment:
        return self.process(**fields).payment

    def authorized(self, **fields: Any) -> Payment:
        return self.process(capture_method="manual", **fields).payment

    def in_status(self, status: PaymentStatus) -> Payment:
        """Return a payment that the use cases alone brought to the status. No payment stays PENDING."""
        answer = self.gateway.answer
        try:
            return self._in_status(status)
        finally:
            self.gateway.answer = answer

    def _in_status(self, status: PaymentStatus) -> Payment:
        self.gateway.answer = approve
        match status:
            case PaymentStatus.PROCESSING:
                self.gateway.answer = lose_reply
                return self.captured()
            case PaymentStatus.REQUIRES_ACTION:
                self.gateway.answer = ask_customer
                return self.captured()
            case PaymentStatus.FAILED:
                self.gateway.answer = decline
                return self.captured()
            case PaymentStatus.AUTHORIZED:
                return self.authorized()
            case PaymentStatus.VOIDED:
                return self.void(self.authorized().transaction_id).payment
            case PaymentStatus.CAPTURED:
                return self.captured()
            case PaymentStatus.PARTIALLY_REFUNDED:
                return self.refund(self.captured().transaction_id, amount=500).payment
            case PaymentStatus.REFUNDED:
                return self.refund(self.captured().transaction_id).payment
        raise AssertionError(f"no payment stays {status}")

    def reconcile(self, time_s: float = 55.0) -> Reconciled:
        """Return the counts. The age of the oldest unknown outcome is set to 0, because no test can predict it."""
        return replace(reconcile(self.service, Deadline.in_s(time_s)), oldest_unknown_s=0.0)

    def reconciled(self) -> Reconciled:
        return reconcile(self.service, Deadline.in_s(55))

    def hears_later(self, answer: Answer, books: Books) -> Reconciled:
        """Make the operations in flight due and reconcile them, with this answer of the gateway."""
        self.gateway.answer = answer
        books.make_due()
        return self.reconcile()

    def relay(self, time_s: float = 55.0) -> Relayed:
        return relay(self.service, Deadline.in_s(time_s))

    def wait_for_mark(self) -> None:
        """The database's answer to the last mark is read before anything else is sent."""
        self.service.db.run(PING())

    def close(self) -> None:
        for each in self.environments:
            each.close()
        self.service.db.close()


class LateBooks(Database):
    """The first claim's connection breaks before the claim arrives, so we send it again. `arrive` delivers the first one late."""

    _late: Sequence[Bound] = ()

    def _flush(self, statements: Sequence[Bound]) -> list[list[Row]]:
        if not self._late and any("INSERT INTO operations" in statement.sql for statement in statements):
            self._late = statements
            raise ConnectionResetError
        return super()._flush(statements)

    def arrive(self) -> None:
        """Carry the first claim out, as a server that hung would."""
        super()._flush(self._late)
        self.close()


@dataclass(frozen=True)
class Books:
    """The database, read and changed without the code under test."""

    owner_url: str

    def query(self, sql: str, **values: Any) -> list[list[Any]]:
        with contextlib.closing(connect(self.owner_url)) as connection:
            return list(connection.run(sql, **values) or [])

    def record(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Return the rows as dictionaries."""
        with contextlib.closing(connect(self.owner_url)) as connection:
            rows = connection.run(sql, **values) or []
            names = [column["name"] for column in connection.columns or []]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def payment(self, payment_id: UUID) -> dict[str, Any]:
        [row] = self.record("SELECT * FROM payments WHERE payment_id = :id", id=payment_id)
        return row

    def operations(self, payment_id: UUID) -> list[dict[str, Any]]:
        return self.record("SELECT * FROM operations WHERE payment_id = :id ORDER BY created_at, operation_id", id=payment_id)

    def refunds(self, payment_id: UUID) -> list[dict[str, Any]]:
        return self.record("SELECT * FROM refunds WHERE payment_id = :id ORDER BY created_at, refund_id", id=payment_id)

    def outbox(self, payment_id: UUID) -> list[dict[str, Any]]:
        return self.record("SELECT * FROM outbox WHERE payment_id = :id ORDER BY sequence", id=payment_id)

    def statuses(self, payment_id: UUID) -> list[str]:
        rows = self.query("SELECT to_status FROM payment_status_history WHERE payment_id = :id ORDER BY version", id=payment_id)
        return [status for (status,) in rows]

    def history(self, payment_id: UUID) -> list[tuple[str | None, str, str]]:
        """Return (from, to, reason) of each entry, oldest first."""
        sql = "SELECT from_status, to_status, reason FROM payment_status_history WHERE payment_id = :id ORDER BY version"
        return [(before, to, reason) for before, to, reason in self.query(sql, id=payment_id)]

    def make_due(self) -> None:
        """End the lease of each operation in flight and make its next attempt due, if the schedule has one."""
        due = "lease_until = now(), next_attempt_at = now()"
        self.query(f"UPDATE operations SET {due} WHERE outcome IS NULL AND next_attempt_at IS NOT NULL")

    def end_keys(self) -> None:
        """The gateway may have forgotten the key of each operation in flight."""
        self.query("UPDATE operations SET key_ends_at = now() WHERE outcome IS NULL")

    @contextlib.contextmanager
    def refusing(self, table: str, check: str) -> Iterator[None]:
        """Within the block PostgreSQL refuses every new row of the table that fails the check."""
        self.query(f"ALTER TABLE {table} ADD CONSTRAINT refusing CHECK ({check}) NOT VALID")
        try:
            yield
        finally:
            self.query(f"ALTER TABLE {table} DROP CONSTRAINT refusing")

    def end_event_leases(self) -> None:
        self.query("UPDATE outbox SET lease_until = now() WHERE published_at IS NULL")


def at_once(count: int, do: Callable[[int], Answered]) -> list[Answered | Exception]:
    """Run `do` in `count` threads that start at the same moment. Return what each thread returned or raised."""
    start = Barrier(count)

    def run(number: int) -> Answered | Exception:
        start.wait()
        try:
            return do(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
