"""A payment with thousands of refunds, written as the service would have written them."""

from __future__ import annotations

MANY = 8_000

QUOTES = '"' * 500
"""The text that grows most: each sign takes two bytes in a body of ours and four in Lambda's JSON of that body."""

REFUND_MANY = [
    f"""
    INSERT INTO refunds (refund_id, payment_id, owner, transaction_id, amount_minor, currency, status, reason,
                         created_at, updated_at)
    SELECT md5(payment_id::text || n)::uuid, payment_id, owner, transaction_id, 1, currency, 'SUCCEEDED', repeat('"', 500),
           created_at - ({MANY} - n) / 2 * interval '1 second', created_at
    FROM payments, generate_series(1, {MANY}) n WHERE payment_id = :id
    """,
    """
    INSERT INTO operations (operation_id, owner, kind, payment_id, refund_id, amount_minor, request_hash, gateway_key, attempt,
                            lease_until, outcome, settled_at, created_at)
    SELECT refund_id, owner, 'refund', payment_id, refund_id, 1, 'h', 'refund-' || refund_id, 1, now(),
           'succeeded', now(), created_at
    FROM refunds WHERE payment_id = :id
    """,
    f"""
    INSERT INTO payment_status_history (payment_id, version, from_status, to_status, at, reason)
    SELECT payment_id, version + 2 * n, 'PARTIALLY_REFUNDED', 'PARTIALLY_REFUNDED', now(), 'refunded by the gateway'
    FROM payments, generate_series(1, {MANY}) n WHERE payment_id = :id
    """,
    f"""
    UPDATE payments SET status = 'PARTIALLY_REFUNDED', refunded_minor = {MANY}, version = version + 2 * {MANY} + 1
    WHERE payment_id = :id
    """,
]
