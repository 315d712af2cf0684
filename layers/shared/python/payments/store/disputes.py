"""Disputes: what the gateway said of them last, a payment's newest, and those whose evidence is due."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from payments.domain.dispute import Dispute, DisputeOutcome
from payments.domain.events import Event
from payments.domain.payment import Payment
from payments.store.claims_on_payment import BARS_REFUNDS
from payments.store.connection import Bound, Database, Row, Statement
from payments.store.rows import PAYMENT, columns, payment_of
from payments.store.settlement import OWED, WHEN_AND_NEXT, Written, written

DISPUTE = tuple(field.name for field in fields(Dispute))

STANDING = Statement(f"""
    SELECT {columns(PAYMENT, "payments")}, {columns(DISPUTE, "disputes")} FROM payments
    LEFT JOIN disputes ON disputes.payment_id = payments.payment_id AND gateway_dispute_id = :gateway_dispute_id
    WHERE payments.payment_id = :payment_id
""")

_CHANGED = ("amount_minor", "currency", "reason", "status", "outcome", "due_by", "is_refundable", "updated_at", "version")
# The payment must have the version that `apply` started from. All changes of its disputes count it on, so these are as they were
# read, too.
RECORD = Statement(f"""
    WITH paid AS (
        UPDATE payments SET status_reason = :status_reason, updated_at = :updated_at, version = :version,
               event_sequence = :event_sequence
        WHERE payment_id = :payment_id AND version = :version_before RETURNING payment_id, gateway
    ), opened AS (
        INSERT INTO disputes ({columns(DISPUTE)}, gateway)
        SELECT {", ".join(f":{name}" for name in DISPUTE)}, gateway FROM paid
        WHERE NOT EXISTS (SELECT FROM disputes WHERE dispute_id = :dispute_id)
    ), changed AS (
        UPDATE disputes SET {", ".join(f"{name} = :{name}" for name in _CHANGED)} FROM paid WHERE dispute_id = :dispute_id
    ), owed AS (
        {OWED}
    )
    SELECT EXISTS (SELECT FROM paid), {WHEN_AND_NEXT}
""")

NEWEST = Statement(f"""-- newest_disputes
    SELECT {columns(DISPUTE, "dispute")} FROM unnest(:payment_ids::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
        SELECT {columns(DISPUTE)} FROM disputes WHERE payment_id = wanted.id
        ORDER BY created_at DESC, dispute_id DESC LIMIT :limit
    ) dispute ORDER BY created_at, dispute_id
""")
NONE = Statement("SELECT WHERE false")

BARRED = Statement(f"""-- refund_is_barred
    SELECT EXISTS (SELECT FROM disputes WHERE payment_id = :payment_id AND {BARS_REFUNDS})
""")
NOT_BARRED = Statement("SELECT false")

DUE_SOON_H = 72
"""A dispute is a person's business from three days (a weekend and a day) before its evidence is due."""

# What is overdue is nobody's business any more: the gateway takes no evidence.
DUE_SOON = Statement(f"""-- disputes_due_soon
    SELECT count(*), COALESCE(EXTRACT(EPOCH FROM min(due_by) - now()), 0)::float8
    FROM disputes WHERE outcome IS NULL AND due_by BETWEEN now() AND now() + interval '{DUE_SOON_H} hours'
""")
NONE_DUE = Statement("SELECT 0::bigint, 0::float8")


def standing(db: Database, payment_id: UUID, gateway_dispute_id: str) -> tuple[Payment, Dispute | None]:
    """Return the payment and one of its disputes as they are at one moment."""
    [row] = db.run(STANDING(payment_id=payment_id, gateway_dispute_id=gateway_dispute_id))[0]
    dispute = row[len(PAYMENT) :]
    return payment_of(row[: len(PAYMENT)]), dispute_of(dispute) if dispute[0] else None


def record(db: Database, before: Payment, after: Payment, dispute: Dispute, event: Event, publish_lease_s: float) -> Written:
    """Write the dispute, its payment and the event in one transaction, or nothing when the payment has changed.

    Raises UniqueViolation when another payment has the gateway's dispute.
    """
    # Of a name that several have, the dispute's value counts.
    statement = RECORD(dispute, after, event, version_before=before.version, publish_lease_s=publish_lease_s)
    return written(event, db.run(statement)[0][0])


def newest(payment_ids: Sequence[UUID], limit: int) -> Bound:
    """Return the statement for the newest `limit` disputes of each payment, oldest first. Before migration 062 there are none."""
    return replace(NEWEST(payment_ids=list(payment_ids), limit=limit), instead=lambda: [NONE()])


def bars_refunds(db: Database, payment_id: UUID) -> bool:
    """Return whether the payment has a dispute, open or lost, because of which the gateway refuses refunds."""
    return bool(db.run(replace(BARRED(payment_id=payment_id), instead=lambda: [NOT_BARRED()]))[0][0][0])


def due_soon(db: Database) -> tuple[int, float]:
    """Return how many open disputes want evidence within DUE_SOON_H, and the seconds until the first is due, else 0."""
    return tuple(db.run(replace(DUE_SOON(), instead=lambda: [NONE_DUE()]))[0][0])


def dispute_of(row: Row) -> Dispute:
    record: dict[str, Any] = dict(zip(DISPUTE, row, strict=True))
    return Dispute(**record | {"outcome": record["outcome"] and DisputeOutcome(record["outcome"])})
