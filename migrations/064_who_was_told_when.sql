-- Most events are an operation's outcome, and a redelivery of a range finds them by the operation's owner and `settled_at`. Some are none: the
-- customer has to act, a dispute, a refund that failed after all. The history has an entry for each and keeps it, so it notes whose
-- the event is, and when the database wrote it. (It notes those of declined captures, voids and refunds as well: an event is sent
-- again once, however often it is found.)
SET LOCAL lock_timeout = '2s';
ALTER TABLE payment_status_history ADD COLUMN owner text, ADD COLUMN told_at timestamptz;

CREATE OR REPLACE FUNCTION write_status_history() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.event_sequence <> OLD.event_sequence AND (NEW.status = 'REQUIRES_ACTION' OR NEW.refunded_minor < OLD.refunded_minor
                OR NEW.status = OLD.status AND NEW.refunded_minor = OLD.refunded_minor) THEN
            INSERT INTO public.payment_status_history (payment_id, version, from_status, to_status, at, reason, owner, told_at)
            VALUES (NEW.payment_id, NEW.version, OLD.status, NEW.status, NEW.updated_at, NEW.status_reason, NEW.owner, now());
        ELSE
            INSERT INTO public.payment_status_history (payment_id, version, from_status, to_status, at, reason)
            VALUES (NEW.payment_id, NEW.version, OLD.status, NEW.status, NEW.updated_at, NEW.status_reason);
        END IF;
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
