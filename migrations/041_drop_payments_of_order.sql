-- outside a transaction
-- payments_of_owners_order has taken its place.
DROP INDEX CONCURRENTLY IF EXISTS payments_of_order;
