SET LOCAL lock_timeout = '2s';
ALTER TABLE refunds ADD COLUMN gateway_refund_id text;
GRANT UPDATE (gateway_refund_id) ON refunds TO payments_service;
