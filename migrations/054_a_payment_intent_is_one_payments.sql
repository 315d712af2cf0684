-- outside a transaction
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS payments_one_per_intent ON payments (gateway, payment_intent_id) WHERE payment_intent_id IS NOT NULL;
