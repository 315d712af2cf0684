-- outside a transaction
-- Most payments are CAPTURED, and a list of them by payments_by_owner passes few others. So they need not be in an index of statuses.
CREATE INDEX CONCURRENTLY IF NOT EXISTS payments_of_owner_not_captured ON payments (owner, status, created_at DESC, payment_id DESC)
WHERE status <> 'CAPTURED';
