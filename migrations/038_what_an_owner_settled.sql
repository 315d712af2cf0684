-- outside a transaction
-- A range of events that a webhook gets again is found among its owner's own operations: each settle writes an event.
CREATE INDEX CONCURRENTLY IF NOT EXISTS operations_of_owner_settled ON operations (owner, settled_at) WHERE settled_at IS NOT NULL;
