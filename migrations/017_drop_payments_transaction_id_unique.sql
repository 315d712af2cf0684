-- outside a transaction
-- payments_one_of_transaction has taken its place.
DROP INDEX CONCURRENTLY IF EXISTS payments_transaction_id_unique;
