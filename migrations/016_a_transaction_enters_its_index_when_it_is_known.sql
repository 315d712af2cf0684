-- outside a transaction
-- A payment has no transaction until the gateway has answered. Without its NULL, the claim writes one index entry less.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS payments_one_of_transaction ON payments (transaction_id) WHERE transaction_id IS NOT NULL;
