-- What `migrate` makes sure of at each run, after the migrations and whatever schema_migrations lists: the role that the functions
-- connect as, its time-outs (001 says why) and its rights. Roles belong to the server, so a dump of a database holds none; restored with
-- --no-acl, it holds no rights either. Nothing changes where all is there. A migration that gives the role a right adds it here, too.
DO $$
DECLARE
    setting record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'payments_service') THEN
        BEGIN
            CREATE ROLE payments_service LOGIN;
        EXCEPTION
            -- A migration of another database of this server made it at the same time.
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    -- Somebody may have made it for the sake of a dump's GRANTs, without a login.
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'payments_service' AND NOT rolcanlogin) THEN
        ALTER ROLE payments_service LOGIN;
    END IF;
    -- A value that is there stays, because somebody has chosen it.
    FOR setting IN
        SELECT name, value
        FROM (VALUES ('statement_timeout', '5s'), ('lock_timeout', '2s'), ('idle_in_transaction_session_timeout', '10s')) wanted (name, value)
        WHERE NOT EXISTS (
            SELECT FROM pg_db_role_setting, unnest(setconfig) present
            WHERE setrole = 'payments_service'::regrole AND setdatabase = 0 AND starts_with(present, wanted.name || '='))
    LOOP
        EXECUTE format('ALTER ROLE payments_service SET %I = %L', setting.name, setting.value);
    END LOOP;
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION write_status_history() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION turn_outbox(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION turn_outbox(integer, integer) TO payments_service;
GRANT USAGE ON SCHEMA public TO payments_service;
GRANT SELECT, INSERT ON payments, refunds, operations, outbox TO payments_service;
GRANT UPDATE (status, status_reason, captured_minor, refunded_minor, refund_reserved_minor, transaction_id, payment_intent_id,
              decline_code, error_message, updated_at, authorized_at, captured_at, failed_at, voided_at, capture_before, version,
              event_sequence) ON payments TO payments_service;
GRANT UPDATE (status, decline_code, updated_at) ON refunds TO payments_service;
GRANT UPDATE (attempt, lease_until, next_attempt_at, outcome, reply, settled_at) ON operations TO payments_service;
GRANT UPDATE (lease_until, published_at) ON outbox TO payments_service;
GRANT DELETE ON outbox TO payments_service;
GRANT SELECT ON payment_status_history TO payments_service;
