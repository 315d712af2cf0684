-- outside a transaction
-- operations_gateway_key_unique and operations_process_has_the_payments_key (012) guard the same.
DROP INDEX CONCURRENTLY IF EXISTS operations_one_process_per_payment;
