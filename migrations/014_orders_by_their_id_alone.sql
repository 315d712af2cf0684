-- outside a transaction
-- An order has few payments, so its id finds them, and the rest is read from their rows.
CREATE INDEX CONCURRENTLY IF NOT EXISTS payments_of_order ON payments (order_id);
