-- outside a transaction
-- The primary key has taken its place. The admin scope's lists of the release before sort instead.
DROP INDEX CONCURRENTLY IF EXISTS payments_by_creation;
