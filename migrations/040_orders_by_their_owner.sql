-- outside a transaction
-- An order may have thousands of attempts, and many owners an order of one name. A list reads an owner's newest, and no others.
CREATE INDEX CONCURRENTLY IF NOT EXISTS payments_of_owners_order ON payments (order_id, owner, payment_id);
