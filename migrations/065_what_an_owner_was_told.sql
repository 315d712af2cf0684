-- outside a transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS payment_status_history_told ON payment_status_history (owner, told_at) WHERE told_at IS NOT NULL;
