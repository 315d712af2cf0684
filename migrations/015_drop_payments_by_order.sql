-- outside a transaction
-- payments_of_order has taken its place.
DROP INDEX CONCURRENTLY IF EXISTS payments_by_order;
