-- outside a transaction
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS refunds_one_per_gateway_refund ON refunds (gateway_refund_id) WHERE gateway_refund_id IS NOT NULL;
