"""Fill a database with made-up payments, fast, so that we can measure look-ups on large tables and read their plans."""

from __future__ import annotations

from local.servers import connect

OWNERS = 50

# The triggers check each step of a payment's life. We write only the final rows, so we turn them off.
FILL = """
ALTER TABLE payments DISABLE TRIGGER USER;
INSERT INTO payments (
    payment_id, owner, order_id, status, status_reason, amount_minor, currency, payment_method, payment_token, capture_method,
    captured_minor, refunded_minor, transaction_id, payment_intent_id, decline_code, error_message, customer_id, description,
    metadata, created_at, updated_at, captured_at, failed_at, version, event_sequence)
SELECT (lpad(to_hex((extract(epoch FROM s.at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' ||
        substr(md5(n::text), 4, 15))::uuid,
       'owner-' || n % {owners}, 'order-' || n, s.status, 'made up', 1999, 'USD',
       (ARRAY['credit_card', 'debit_card', 'paypal'])[1 + n / {owners} % 3], 'tok_ok',
       'automatic', CASE WHEN s.status = 'FAILED' THEN 0 ELSE 1999 END,
       CASE s.status WHEN 'REFUNDED' THEN 1999 WHEN 'PARTIALLY_REFUNDED' THEN 500 ELSE 0 END,
       'txn_' || md5(n::text), 'pi_' || md5(n::text), CASE WHEN s.status = 'FAILED' THEN 'card_declined' END,
       CASE WHEN s.status = 'FAILED' THEN 'The card was declined.' END,
       CASE WHEN n / {owners} % 4 = 0 THEN 'guest' ELSE 'customer-' || n % 100000 END, 'A made-up payment',
       '{{"cart": "made-up"}}', s.at, s.at, CASE WHEN s.status <> 'FAILED' THEN s.at END,
       CASE WHEN s.status = 'FAILED' THEN s.at END, 3, 1
FROM generate_series(1, {rows}) n,
     LATERAL (SELECT CASE WHEN n % 97 < 5 THEN 'FAILED' WHEN n % 97 < 8 THEN 'PARTIALLY_REFUNDED' WHEN n % 97 < 10 THEN 'REFUNDED'
                     ELSE 'CAPTURED' END AS status, now() - interval '1 year' * (1 - n::float8 / {rows}) AS at) s;
ALTER TABLE payments ENABLE TRIGGER USER;
INSERT INTO payment_status_history (payment_id, version, from_status, to_status, at, reason)
SELECT payment_id, step.version, step.from_status, step.to_status, created_at, 'made up'
FROM payments, LATERAL (VALUES (1, NULL, 'PENDING'), (2, 'PENDING', 'PROCESSING'), (3, 'PROCESSING', status))
     step (version, from_status, to_status);
INSERT INTO refunds (refund_id, payment_id, owner, transaction_id, amount_minor, currency, status, created_at, updated_at)
SELECT gen_random_uuid(), payment_id, owner, transaction_id, refunded_minor, currency, 'SUCCEEDED', created_at, created_at
FROM payments WHERE refunded_minor > 0;
"""


def fill(owner_url: str, rows: int, owners: int = OWNERS) -> None:
    """Write `rows` payments of `owners` owners over the last year, with history and refunds, and gather statistics.

    Each owner calls the customer of every fourth payment `guest`. Nobody pays with stripe, and all pay 1999.
    """
    connection = connect(owner_url)
    connection._usock.settimeout(None)  # millions of rows take minutes
    try:
        connection.run("SET synchronous_commit = off")
        for statement in FILL.format(rows=rows, owners=owners).split(";\n"):
            if statement.strip():
                connection.run(statement)
        connection.run("VACUUM ANALYZE payments, payment_status_history, refunds")
    finally:
        connection.close()
