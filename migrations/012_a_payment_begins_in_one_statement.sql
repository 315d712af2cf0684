-- A payment that is requested and begins at once is one INSERT: PROCESSING, version 2. Code before this migration inserts it PENDING and
-- updates it; both leave the same history.
SET LOCAL lock_timeout = '2s';

-- The conditions are those of the triggers, so that no function is called for what is allowed. The function only refuses.
CREATE OR REPLACE FUNCTION guard_payment_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION 'a payment starts PENDING, or PROCESSING as version 2, not % as version %', NEW.status, NEW.version
            USING ERRCODE = 'check_violation', CONSTRAINT = 'payments_legal_transition';
    END IF;
    RAISE EXCEPTION 'a payment does not go from % to %', OLD.status, NEW.status
        USING ERRCODE = 'check_violation', CONSTRAINT = 'payments_legal_transition';
END
$$;
CREATE TRIGGER payments_guard_start BEFORE INSERT ON payments
    FOR EACH ROW WHEN (NEW.status <> 'PENDING' AND (NEW.status <> 'PROCESSING' OR NEW.version <> 2))
    EXECUTE FUNCTION guard_payment_status();
CREATE OR REPLACE TRIGGER payments_guard_status BEFORE UPDATE ON payments
    FOR EACH ROW WHEN (NEW.status <> OLD.status AND (OLD.status || ' ' || NEW.status) NOT IN (
        'PENDING PROCESSING',
        'PROCESSING AUTHORIZED', 'PROCESSING CAPTURED', 'PROCESSING FAILED',
        'AUTHORIZED CAPTURED', 'AUTHORIZED VOIDED',
        'CAPTURED PARTIALLY_REFUNDED', 'CAPTURED REFUNDED',
        'PARTIALLY_REFUNDED REFUNDED'))
    EXECUTE FUNCTION guard_payment_status();

CREATE OR REPLACE FUNCTION write_status_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO public.payment_status_history (payment_id, version, from_status, to_status, at, reason)
        VALUES (NEW.payment_id, NEW.version, OLD.status, NEW.status, NEW.updated_at, NEW.status_reason);
    ELSIF NEW.status = 'PENDING' THEN
        INSERT INTO public.payment_status_history (payment_id, version, to_status, at, reason)
        VALUES (NEW.payment_id, NEW.version, NEW.status, NEW.updated_at, NEW.status_reason);
    ELSE
        INSERT INTO public.payment_status_history (payment_id, version, from_status, to_status, at, reason)
        VALUES (NEW.payment_id, 1, NULL, 'PENDING', NEW.updated_at, 'payment requested'),
               (NEW.payment_id, 2, 'PENDING', NEW.status, NEW.updated_at, NEW.status_reason);
    END IF;
    RETURN NULL;
END
$$;

-- A reference of a row to its payment costs a query and a lock each time. It guards nothing here: the trigger above writes the history
-- of the row that fired it; every statement that writes a refund or an operation takes the payment's id from the row that it has
-- inserted or locked; and no role of the service may delete a payment or change its id. tests/store/test_orphans.py looks for orphans.
ALTER TABLE payment_status_history DROP CONSTRAINT payment_status_history_payment_id_fkey;
ALTER TABLE refunds DROP CONSTRAINT refunds_payment_id_fkey;
ALTER TABLE operations DROP CONSTRAINT operations_payment_id_fkey;

-- A payment has one process operation, because that carries the payment's own gateway key, and operations_gateway_key_unique allows a key
-- once. Every release has made the key so; nothing scans the old rows, and the table is locked for a moment only.
ALTER TABLE operations ADD CONSTRAINT operations_process_has_the_payments_key
    CHECK (kind <> 'process' OR gateway_key = 'pay-' || payment_id::text) NOT VALID;
