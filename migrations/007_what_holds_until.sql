-- outside a transaction
-- The expiry finds authorizations by their end alone. When few payments are AUTHORIZED, PostgreSQL takes the list of all of them for as good
-- as payments_authorizations_running_out, and after an outage it is long. Code before this migration uses that index; a later one drops it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS payments_holding_until ON payments (capture_before) WHERE capture_before IS NOT NULL;
