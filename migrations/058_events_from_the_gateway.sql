-- The inbox: something happened at the gateway, which only its present state says (docs/adr/035-events-from-the-gateway.md). It keeps
-- ids and no payload. `created_at` is by the gateway's clock. `payment_id` is what the gateway says, and may be of no payment of ours.
CREATE TABLE gateway_events (
    gateway           text NOT NULL,
    event_id          text NOT NULL,
    type              text NOT NULL,
    payment_intent_id text,
    payment_id        uuid,
    created_at        timestamptz NOT NULL,
    received_at       timestamptz NOT NULL,
    door              text NOT NULL,
    attempt           integer NOT NULL DEFAULT 0,
    lease_until       timestamptz,
    next_attempt_at   timestamptz,
    handled_at        timestamptz,
    outcome           text,
    PRIMARY KEY (gateway, event_id),
    CONSTRAINT gateway_events_door_known CHECK (door IN ('webhook', 'eventbridge', 'pull')),
    CONSTRAINT gateway_events_outcome_known CHECK (outcome IN ('settled', 'nothing_new', 'foreign', 'orphan', 'later')),
    CONSTRAINT gateway_events_handled_with_outcome CHECK (
        (handled_at IS NULL) = (outcome IS NULL) AND (handled_at IS NULL) = (next_attempt_at IS NOT NULL))
);
CREATE INDEX gateway_events_due ON gateway_events (gateway, next_attempt_at) WHERE handled_at IS NULL;
CREATE INDEX gateway_events_of_intent ON gateway_events (gateway, payment_intent_id) WHERE handled_at IS NULL;
CREATE INDEX gateway_events_handled ON gateway_events (handled_at) WHERE handled_at IS NOT NULL;
-- Each row changes twice within seconds.
ALTER TABLE gateway_events SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = -1);

-- When the gateway was asked last for what it could not deliver. A pull that finds nothing leaves no event.
CREATE TABLE gateway_pulls (
    gateway   text PRIMARY KEY,
    pulled_at timestamptz NOT NULL
);

GRANT SELECT, INSERT, DELETE ON gateway_events TO payments_service;
GRANT UPDATE (attempt, lease_until, next_attempt_at, handled_at, outcome) ON gateway_events TO payments_service;
GRANT SELECT, INSERT, UPDATE ON gateway_pulls TO payments_service;
