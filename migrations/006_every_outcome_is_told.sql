-- The history also shows outcomes that leave the status alone: a declined capture, void or refund. Each of them owes an event, so the
-- event's number says when to write. Code that knows no such outcome counts the same events as before, so it runs on this schema too.
SET LOCAL lock_timeout = '2s';
CREATE OR REPLACE TRIGGER payments_write_history_of_update AFTER UPDATE ON payments
    FOR EACH ROW WHEN (NEW.status <> OLD.status OR NEW.event_sequence <> OLD.event_sequence)
    EXECUTE FUNCTION write_status_history();

-- The outbox also holds events of refused requests, which may have no payment. Such an event stands alone under its own id.
ALTER TABLE outbox DROP CONSTRAINT outbox_payment_id_fkey;
