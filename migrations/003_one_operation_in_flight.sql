-- outside a transaction
-- Refunds of a payment may overlap. Of all other kinds a payment has at most one operation in flight, a new kind included.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS operations_one_in_flight_but_refunds ON operations (payment_id) WHERE kind <> 'refund' AND outcome IS NULL;
