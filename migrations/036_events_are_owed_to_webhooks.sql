-- A settle that writes an event counts it on the payment, so this trigger writes the event's deliveries in the settle's own
-- transaction. It sees to it in each release and in what is done by hand. (The table of events is a new one each week, and
-- would have to take a trigger along.)
SET LOCAL lock_timeout = '2s';

-- PostgreSQL keeps the plan from a moment when the tables may be empty. So it may use indexes alone, as migrations/always/plans.sql says.
CREATE FUNCTION owe_webhooks(whose text, payment uuid, event integer) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO public.webhook_deliveries (webhook_id, payment_id, sequence, created_at, next_attempt_at)
    SELECT webhook_id, payment, event, now(), now() FROM public.webhooks
    WHERE owner = whose AND disabled_at IS NULL AND NOT EXISTS (
        SELECT FROM public.outbox WHERE payment_id = payment AND sequence = event AND type <> ALL (event_types))
    ON CONFLICT DO NOTHING;
END
$$;

-- An owner without webhooks pays for one look into an index.
CREATE FUNCTION owe_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.webhooks WHERE owner = NEW.owner AND disabled_at IS NULL) THEN
        PERFORM public.owe_webhooks(NEW.owner, NEW.payment_id, NEW.event_sequence);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER payments_owe_event AFTER UPDATE ON payments
    FOR EACH ROW WHEN (NEW.event_sequence <> OLD.event_sequence) EXECUTE FUNCTION owe_event();
REVOKE EXECUTE ON FUNCTION owe_webhooks(text, uuid, integer), owe_event() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION owe_webhooks(text, uuid, integer) TO payments_service;
