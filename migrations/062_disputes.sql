-- A customer's bank may take a payment's money back: a dispute, which the gateway leads and we record (docs/adr/037-disputes.md).
-- `status` and `reason` are the gateway's words. `outcome` is null while the dispute is open, and `due_by` while the gateway takes no
-- evidence. `version` is the payment's after the last change, and `created_at` the gateway's moment.
CREATE TABLE disputes (
    dispute_id         uuid PRIMARY KEY,
    gateway            text NOT NULL,
    gateway_dispute_id text NOT NULL,
    payment_id         uuid NOT NULL,
    owner              text NOT NULL,
    -- A bank may ask for another amount than the payment's, and in another currency.
    amount_minor       bigint NOT NULL CONSTRAINT disputes_amount_in_range CHECK (amount_minor BETWEEN 0 AND 999999999999),
    currency           text NOT NULL CONSTRAINT disputes_currency_known CHECK (currency ~ '^[A-Z]{3}$'),
    reason             text NOT NULL,
    status             text NOT NULL,
    outcome            text CONSTRAINT disputes_outcome_known CHECK (outcome IN ('won', 'lost', 'closed')),
    due_by             timestamptz,
    is_refundable      boolean NOT NULL,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    version            integer NOT NULL,
    CONSTRAINT disputes_one_per_gateway_dispute UNIQUE (gateway, gateway_dispute_id)
);
CREATE INDEX disputes_of_payment ON disputes (payment_id, created_at, dispute_id);
CREATE INDEX disputes_due ON disputes (due_by) WHERE outcome IS NULL;

GRANT SELECT, INSERT ON disputes TO payments_service;
GRANT UPDATE (amount_minor, currency, reason, status, outcome, due_by, is_refundable, updated_at, version) ON disputes TO payments_service;
