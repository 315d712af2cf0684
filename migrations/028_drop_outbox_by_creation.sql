-- outside a transaction
-- outbox_by_time has taken its place. Tables that were closed before keep theirs until they go.
DROP INDEX CONCURRENTLY IF EXISTS outbox_by_creation;
