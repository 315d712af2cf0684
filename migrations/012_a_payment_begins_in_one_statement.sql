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
