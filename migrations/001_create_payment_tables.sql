-- The books of the payment service. Plain SQL: `psql -v ON_ERROR_STOP=1 --single-transaction -f` runs it as well as the migrate function does.
-- Nothing here is newer than PostgreSQL 15. Amounts are integers in the currency's minor unit. Ids are UUIDv7 made by the
-- service, so no sequence is needed (nextval would pin a connection of RDS Proxy).

-- The role that the functions connect as. It reads and writes rows; it cannot change the schema, cannot delete (but for what the
-- relay prunes from the outbox) and cannot touch the status history, which a trigger writes. Whoever sets the server up gives it a
-- way in: a password, or `GRANT rds_iam TO payments_service`.
--
-- Its time-outs belong to the role and not to the session, because SET would pin the connection at the proxy. A statement of ours takes
-- milliseconds: 5 s is a stuck server. Two commands on one payment queue for one commit: 2 s is a stuck holder. No transaction
-- is open during a network call, so one that idles 10 s has lost its owner.
DO $$
BEGIN
    BEGIN
        CREATE ROLE payments_service LOGIN;
    EXCEPTION
        -- A role belongs to the whole server: another database of it, a migration running beside this one or an administrator made it.
        WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    -- Only where they are missing, because two migrations that set them at once would stumble over each other.
    IF NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = 'payments_service'::regrole AND setdatabase = 0) THEN
        ALTER ROLE payments_service SET statement_timeout = '5s';
        ALTER ROLE payments_service SET lock_timeout = '2s';
        ALTER ROLE payments_service SET idle_in_transaction_session_timeout = '10s';
    END IF;
END
$$;

-- One row a payment attempt. `version` counts its changes and is what a writer compares before it sets; `event_sequence` counts the
-- events it has owed so far.
CREATE TABLE payments (
    payment_id            uuid PRIMARY KEY,
    owner                 text NOT NULL,
    order_id              text NOT NULL,
    status                text NOT NULL,
    status_reason         text NOT NULL,
    amount_minor          bigint NOT NULL,
    currency              text NOT NULL,
    payment_method        text NOT NULL,
    payment_token         text,
    capture_method        text NOT NULL,
    captured_minor        bigint NOT NULL DEFAULT 0,
    refunded_minor        bigint NOT NULL DEFAULT 0,
    refund_reserved_minor bigint NOT NULL DEFAULT 0,
    transaction_id        text,
    payment_intent_id     text,
    decline_code          text,
    error_message         text,
    customer_id           text,
    description           text,
    metadata              jsonb NOT NULL DEFAULT '{}',
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    authorized_at         timestamptz,
    captured_at           timestamptz,
    failed_at             timestamptz,
    voided_at             timestamptz,
    capture_before        timestamptz,
    version               integer NOT NULL,
    event_sequence        integer NOT NULL DEFAULT 0,
    CONSTRAINT payments_status_known CHECK (status IN
        ('PENDING', 'PROCESSING', 'AUTHORIZED', 'CAPTURED', 'PARTIALLY_REFUNDED', 'REFUNDED', 'FAILED', 'VOIDED')),
    CONSTRAINT payments_method_known CHECK (payment_method IN ('credit_card', 'debit_card', 'paypal', 'stripe')),
    CONSTRAINT payments_capture_method_known CHECK (capture_method IN ('automatic', 'manual')),
    CONSTRAINT payments_currency_is_a_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT payments_amount_in_range CHECK (amount_minor BETWEEN 1 AND 999999999999),
    CONSTRAINT payments_captured_within_authorized CHECK (captured_minor BETWEEN 0 AND amount_minor),
    CONSTRAINT payments_refunds_within_captured CHECK (
        refunded_minor >= 0 AND refund_reserved_minor >= 0 AND refunded_minor + refund_reserved_minor <= captured_minor),
    CONSTRAINT payments_money_says_what_status_says CHECK (CASE status
        WHEN 'CAPTURED' THEN captured_minor > 0 AND refunded_minor = 0
        WHEN 'PARTIALLY_REFUNDED' THEN refunded_minor > 0 AND refunded_minor < captured_minor
        WHEN 'REFUNDED' THEN refunded_minor = captured_minor AND captured_minor > 0
        ELSE captured_minor = 0 END),
    CONSTRAINT payments_gateway_ids_present CHECK (
        status IN ('PENDING', 'PROCESSING', 'FAILED') OR (transaction_id IS NOT NULL AND payment_intent_id IS NOT NULL))
);
CREATE UNIQUE INDEX payments_transaction_id_unique ON payments (transaction_id);
-- An order is paid once: a new attempt is fine only after a decline or a void.
CREATE UNIQUE INDEX payments_one_live_per_order ON payments (owner, order_id) WHERE status NOT IN ('FAILED', 'VOIDED');
CREATE INDEX payments_by_order ON payments (order_id, owner, created_at DESC, payment_id DESC);
CREATE INDEX payments_by_owner ON payments (owner, created_at DESC, payment_id DESC);
CREATE INDEX payments_by_owner_status ON payments (owner, status, created_at DESC, payment_id DESC);
-- The admin scope lists over all owners.
CREATE INDEX payments_by_creation ON payments (created_at DESC, payment_id DESC);
CREATE INDEX payments_by_status ON payments (status, created_at DESC, payment_id DESC);
CREATE INDEX payments_authorizations_running_out ON payments (capture_before) WHERE status = 'AUTHORIZED';

-- Every status a payment has had, oldest first by version. The trigger below is its only writer.
CREATE TABLE payment_status_history (
    payment_id  uuid NOT NULL REFERENCES payments,
    version     integer NOT NULL,
    from_status text,
    to_status   text NOT NULL,
    at          timestamptz NOT NULL,
    reason      text NOT NULL,
    PRIMARY KEY (payment_id, version)
);

-- One row a refund. Its amount is reserved on the payment from the claim until the gateway's answer is known.
CREATE TABLE refunds (
    refund_id      uuid PRIMARY KEY,
    payment_id     uuid NOT NULL REFERENCES payments,
    owner          text NOT NULL,
    transaction_id text NOT NULL,
    amount_minor   bigint NOT NULL,
    currency       text NOT NULL,
    status         text NOT NULL,
    reason         text,
    decline_code   text,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    CONSTRAINT refunds_status_known CHECK (status IN ('PENDING', 'SUCCEEDED', 'FAILED')),
    CONSTRAINT refunds_amount_in_range CHECK (amount_minor BETWEEN 1 AND 999999999999)
);
CREATE INDEX refunds_by_payment ON refunds (payment_id, created_at);

-- Every command that moves money: its idempotency key, its lease, its attempts and what the gateway answered. `outcome` is null
-- while nobody knows. Reconcile takes what is due by `next_attempt_at`, which a claim sets to the end of its lease: a killed worker's
-- operation falls due by itself. `next_attempt_at` is null once settled, and when the schedule is exhausted and a person must look.
CREATE TABLE operations (
    operation_id    uuid PRIMARY KEY,
    owner           text NOT NULL,
    kind            text NOT NULL,
    payment_id      uuid NOT NULL REFERENCES payments,
    refund_id       uuid REFERENCES refunds,
    amount_minor    bigint NOT NULL,
    reason          text,
    idempotency_key text,
    request_hash    text NOT NULL,
    gateway_key     text NOT NULL,
    attempt         integer NOT NULL,
    lease_until     timestamptz NOT NULL,
    next_attempt_at timestamptz,
    outcome         text,
    reply           jsonb,
    traceparent     text,
    created_at      timestamptz NOT NULL,
    settled_at      timestamptz,
    CONSTRAINT operations_kind_known CHECK (kind IN ('process', 'capture', 'void', 'refund')),
    CONSTRAINT operations_outcome_known CHECK (outcome IN ('succeeded', 'declined')),
    CONSTRAINT operations_settled_when_known CHECK ((outcome IS NULL) = (settled_at IS NULL)),
    CONSTRAINT operations_refund_has_refund CHECK ((kind = 'refund') = (refund_id IS NOT NULL))
);
CREATE UNIQUE INDEX operations_idempotency_key_unique ON operations (owner, kind, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX operations_gateway_key_unique ON operations (gateway_key);
CREATE UNIQUE INDEX operations_one_process_per_payment ON operations (payment_id) WHERE kind = 'process';
CREATE UNIQUE INDEX operations_one_capture_or_void_in_flight ON operations (payment_id)
    WHERE kind IN ('capture', 'void') AND outcome IS NULL;
CREATE INDEX operations_due ON operations (next_attempt_at) WHERE outcome IS NULL;
CREATE INDEX operations_by_payment ON operations (payment_id, created_at);

-- What is owed to Kafka, written in the transaction that settled. `lease_until` gives whoever is sending a row the time to do so.
CREATE TABLE outbox (
    event_id     uuid PRIMARY KEY,
    payment_id   uuid NOT NULL REFERENCES payments,
    sequence     integer NOT NULL,
    type         text NOT NULL,
    data         text NOT NULL,
    traceparent  text,
    created_at   timestamptz NOT NULL,
    lease_until  timestamptz NOT NULL,
    published_at timestamptz,
    CONSTRAINT outbox_one_event_per_sequence UNIQUE (payment_id, sequence)
);
CREATE INDEX outbox_unpublished ON outbox (lease_until) WHERE published_at IS NULL;
CREATE INDEX outbox_unpublished_by_payment ON outbox (payment_id, sequence) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;
CREATE INDEX outbox_by_creation ON outbox (created_at, payment_id, sequence);

-- The database's own copy of the transition table, so that no writer, however wrong, can make a payment regress. A test walks
-- every pair and compares it with TRANSITIONS in payments/domain/payment.py.
CREATE FUNCTION guard_payment_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'PENDING' THEN
            RAISE EXCEPTION 'a payment starts PENDING, not %', NEW.status
                USING ERRCODE = 'check_violation', CONSTRAINT = 'payments_legal_transition';
        END IF;
    ELSIF NEW.status <> OLD.status AND (OLD.status || ' ' || NEW.status) NOT IN (
        'PENDING PROCESSING',
        'PROCESSING AUTHORIZED', 'PROCESSING CAPTURED', 'PROCESSING FAILED',
        'AUTHORIZED CAPTURED', 'AUTHORIZED VOIDED',
        'CAPTURED PARTIALLY_REFUNDED', 'CAPTURED REFUNDED',
        'PARTIALLY_REFUNDED REFUNDED'
    ) THEN
        RAISE EXCEPTION 'a payment does not go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'payments_legal_transition';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER payments_guard_status BEFORE INSERT OR UPDATE ON payments
    FOR EACH ROW EXECUTE FUNCTION guard_payment_status();

-- SECURITY DEFINER, because the service's role may not write the history itself; the fixed search_path keeps a caller's schemas out.
CREATE FUNCTION write_status_history() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    INSERT INTO public.payment_status_history (payment_id, version, from_status, to_status, at, reason)
    VALUES (NEW.payment_id, NEW.version, CASE TG_OP WHEN 'UPDATE' THEN OLD.status END, NEW.status, NEW.updated_at, NEW.status_reason);
    RETURN NULL;
END
$$;
CREATE TRIGGER payments_write_history_of_insert AFTER INSERT ON payments
    FOR EACH ROW EXECUTE FUNCTION write_status_history();
-- A further partial refund is an event in a payment's life although the status keeps its name, so it is written as well.
CREATE TRIGGER payments_write_history_of_update AFTER UPDATE ON payments
    FOR EACH ROW WHEN (NEW.status <> OLD.status OR NEW.refunded_minor <> OLD.refunded_minor)
    EXECUTE FUNCTION write_status_history();
REVOKE EXECUTE ON FUNCTION write_status_history() FROM PUBLIC;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO payments_service;
-- What was agreed on (owner, order, amount, currency, keys) is written once; only what moves may be updated.
GRANT SELECT, INSERT ON payments, refunds, operations, outbox TO payments_service;
GRANT UPDATE (status, status_reason, captured_minor, refunded_minor, refund_reserved_minor, transaction_id, payment_intent_id,
              decline_code, error_message, updated_at, authorized_at, captured_at, failed_at, voided_at, capture_before, version,
              event_sequence) ON payments TO payments_service;
GRANT UPDATE (status, decline_code, updated_at) ON refunds TO payments_service;
GRANT UPDATE (attempt, lease_until, next_attempt_at, outcome, reply, settled_at) ON operations TO payments_service;
GRANT UPDATE (lease_until, published_at) ON outbox TO payments_service;
GRANT DELETE ON outbox TO payments_service;
GRANT SELECT ON payment_status_history TO payments_service;
