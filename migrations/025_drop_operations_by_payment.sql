-- outside a transaction
-- operations_of_payment has taken its place.
DROP INDEX CONCURRENTLY IF EXISTS operations_by_payment;
