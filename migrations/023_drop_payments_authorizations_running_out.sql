-- outside a transaction
-- payments_holding_until serves this release and the one before.
DROP INDEX CONCURRENTLY IF EXISTS payments_authorizations_running_out;
