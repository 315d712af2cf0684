-- Webhooks: where an owner wants its events sent, and what is still to be sent there (docs/adr/031-webhooks.md).

-- `event_types` null stands for all. `failing_since` is the moment of the first failure after the last success, and
-- `next_attempt_at` when the courier asks again. A disabled webhook gets no further deliveries.
CREATE TABLE webhooks (
    webhook_id      uuid PRIMARY KEY,
    owner           text NOT NULL,
    url             text NOT NULL,
    description     text,
    event_types     text[],
    secret          text NOT NULL,
    previous_secret text,
    previous_until  timestamptz,
    created_at      timestamptz NOT NULL,
    disabled_at     timestamptz,
    disabled_reason text,
    failing_since   timestamptz,
    last_error      text,
    next_attempt_at timestamptz NOT NULL,
    CONSTRAINT webhooks_one_per_url UNIQUE (owner, url)
);

-- What is still to be sent, and what was given up. A delivery that has arrived is deleted. The event itself stands in the outbox.
-- A delivery has no reference to its webhook: each event would lock the row. Those of a deleted webhook leave by their age.
CREATE TABLE webhook_deliveries (
    webhook_id      uuid NOT NULL,
    payment_id      uuid NOT NULL,
    sequence        integer NOT NULL,
    created_at      timestamptz NOT NULL,
    attempt         integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    lease_until     timestamptz,
    failed_at       timestamptz,
    last_error      text,
    PRIMARY KEY (webhook_id, payment_id, sequence)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at) WHERE failed_at IS NULL;
CREATE INDEX webhook_deliveries_leased ON webhook_deliveries (webhook_id) WHERE lease_until IS NOT NULL;
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (webhook_id, failed_at) WHERE failed_at IS NOT NULL;
CREATE INDEX webhook_deliveries_by_creation ON webhook_deliveries (created_at);
-- Each row changes and goes within seconds.
ALTER TABLE webhook_deliveries SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = -1);

GRANT SELECT, INSERT, DELETE ON webhooks, webhook_deliveries TO payments_service;
GRANT UPDATE (secret, previous_secret, previous_until, disabled_at, disabled_reason, failing_since, last_error, next_attempt_at)
    ON webhooks TO payments_service;
GRANT UPDATE (created_at, attempt, next_attempt_at, lease_until, failed_at, last_error) ON webhook_deliveries TO payments_service;
