-- A payment may wait for its customer (REQUIRES_ACTION), who then pays, is declined, or never comes. A refund that failed after all
-- gives its amount back to the payment. Code before this migration makes none of these changes, and its payments pass the new checks.
SET LOCAL lock_timeout = '2s';

ALTER TABLE payments DROP CONSTRAINT payments_status_known, DROP CONSTRAINT payments_gateway_ids_present;
-- The rows that are there passed stricter checks, so nothing scans them.
ALTER TABLE payments
    ADD CONSTRAINT payments_status_known CHECK (status IN (
        'PENDING', 'PROCESSING', 'REQUIRES_ACTION', 'AUTHORIZED', 'CAPTURED', 'PARTIALLY_REFUNDED', 'REFUNDED', 'FAILED', 'VOIDED')) NOT VALID,
    -- A payment that the customer left has a payment intent and no transaction.
    ADD CONSTRAINT payments_gateway_ids_present CHECK (status IN ('PENDING', 'PROCESSING', 'FAILED') OR (
        payment_intent_id IS NOT NULL AND (transaction_id IS NOT NULL OR status IN ('REQUIRES_ACTION', 'VOIDED')))) NOT VALID;

CREATE OR REPLACE TRIGGER payments_guard_status BEFORE UPDATE ON payments
    FOR EACH ROW WHEN (NEW.status <> OLD.status AND (OLD.status || ' ' || NEW.status) NOT IN (
        'PENDING PROCESSING',
        'PROCESSING REQUIRES_ACTION', 'PROCESSING AUTHORIZED', 'PROCESSING CAPTURED', 'PROCESSING FAILED',
        'REQUIRES_ACTION AUTHORIZED', 'REQUIRES_ACTION CAPTURED', 'REQUIRES_ACTION FAILED', 'REQUIRES_ACTION VOIDED',
        'AUTHORIZED CAPTURED', 'AUTHORIZED VOIDED',
        'CAPTURED PARTIALLY_REFUNDED', 'CAPTURED REFUNDED',
        'PARTIALLY_REFUNDED REFUNDED', 'PARTIALLY_REFUNDED CAPTURED',
        'REFUNDED PARTIALLY_REFUNDED', 'REFUNDED CAPTURED'))
    EXECUTE FUNCTION guard_payment_status();

-- What the gateway was asked besides the payment's own columns, so that each attempt asks the same.
ALTER TABLE operations ADD COLUMN parameters jsonb;
