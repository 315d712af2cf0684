-- outside a transaction
-- Few events are of one microsecond, so a replay sorts those alone.
CREATE INDEX CONCURRENTLY IF NOT EXISTS outbox_by_time ON outbox (created_at);
