-- outside a transaction
-- operations_one_in_flight_but_refunds guards this and more.
DROP INDEX CONCURRENTLY IF EXISTS operations_one_capture_or_void_in_flight;
