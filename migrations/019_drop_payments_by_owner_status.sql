-- outside a transaction
-- payments_of_owner_not_captured has taken its place.
DROP INDEX CONCURRENTLY IF EXISTS payments_by_owner_status;
