-- outside a transaction
-- The admin scope reads it as well, from owner to owner. No column in it changes, and a payment without a customer has no entry.
CREATE INDEX CONCURRENTLY IF NOT EXISTS payments_of_customer ON payments (customer_id, owner, payment_id) WHERE customer_id IS NOT NULL;
