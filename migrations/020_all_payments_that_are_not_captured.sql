-- outside a transaction
-- The admin scope lists over all owners, in the order of the ids, which begin with the time. The primary key has it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS payments_not_captured ON payments (status, payment_id) WHERE status <> 'CAPTURED';
