-- outside a transaction
-- While a payment waits for its customer, its process operation has no outcome; a void may begin beside it. Of captures and voids a payment has one in flight.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS operations_one_in_flight_after_process ON operations (payment_id) WHERE kind NOT IN ('refund', 'process') AND outcome IS NULL;
