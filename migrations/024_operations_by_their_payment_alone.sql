-- outside a transaction
-- A payment has few operations. The index is not partial: the statistics of a shop with few refunds would take all of it for one row.
CREATE INDEX CONCURRENTLY IF NOT EXISTS operations_of_payment ON operations (payment_id);
