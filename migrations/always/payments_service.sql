-- What `migrate` makes sure of at each run, after the migrations and whatever schema_migrations lists: the roles that the functions
-- connect as, their logins and time-outs (001 says why), and their rights. Roles belong to the server, so a dump of a database holds
-- none; restored with --no-acl, it holds no rights either. Nothing changes where all is there. A migration that gives the role a
-- right adds it here, too. payments_scheduled is of relay and reconcile; it may do what payments_service may.
DO $$
DECLARE
    of_role name;
    missing text;
BEGIN
    FOREACH of_role IN ARRAY ARRAY['payments_service', 'payments_scheduled'] LOOP
        BEGIN
            BEGIN
                IF to_regrole(of_role::text) IS NULL THEN
                    EXECUTE format('CREATE ROLE %I LOGIN', of_role);
                END IF;
            EXCEPTION
                -- A migration of another database of this server made it at the same time.
                WHEN duplicate_object OR unique_violation THEN NULL;
            END;
            IF NOT pg_has_role(of_role, 'payments_service', 'USAGE') THEN
                EXECUTE format('GRANT payments_service TO %I', of_role);
            END IF;
            FOR missing IN
                -- Somebody may have made it for the sake of a dump's GRANTs, without a login.
                SELECT format('ALTER ROLE %I LOGIN', of_role) FROM pg_roles WHERE rolname = of_role AND NOT rolcanlogin
                UNION ALL
                -- Settings are not inherited. A value that is there stays, because somebody has chosen it.
                SELECT format('ALTER ROLE %I SET %I = %L', of_role, name, value)
                FROM (VALUES ('statement_timeout', '5s'), ('lock_timeout', '2s'),
                             ('idle_in_transaction_session_timeout', '10s')) wanted (name, value)
                WHERE NOT EXISTS (
                    SELECT FROM pg_db_role_setting, unnest(setconfig) present
                    WHERE setrole = to_regrole(of_role::text) AND setdatabase = 0 AND starts_with(present, wanted.name || '='))
            LOOP
                EXECUTE missing;
            END LOOP;
        EXCEPTION
            -- An administrator may have kept the right. Relay and reconcile can work as payments_service; nobody works without it.
            WHEN insufficient_privilege THEN
                IF of_role = 'payments_service' THEN
                    RAISE;
                END IF;
                RAISE WARNING '%', SQLERRM;
                PERFORM set_config('payments.refused', SQLERRM, false); -- migrations/roles.py tells it
        END;
    END LOOP;
END;
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION write_status_history() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION turn_outbox(integer, integer), turn_outbox_after(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION turn_outbox(integer, integer) TO payments_service;
GRANT USAGE ON SCHEMA public TO payments_service;
GRANT SELECT, INSERT ON payments, refunds, operations, outbox TO payments_service;
GRANT UPDATE (status, status_reason, captured_minor, refunded_minor, refund_reserved_minor, transaction_id, payment_intent_id,
              decline_code, error_message, updated_at, authorized_at, captured_at, failed_at, voided_at, capture_before, version,
              event_sequence) ON payments TO payments_service;
GRANT UPDATE (status, decline_code, updated_at, gateway_refund_id) ON refunds TO payments_service;
GRANT UPDATE (attempt, lease_until, next_attempt_at, outcome, reply, settled_at, key_ends_at, attempted_at)
    ON operations TO payments_service;
GRANT UPDATE (lease_until, published_at) ON outbox TO payments_service;
GRANT DELETE ON outbox TO payments_service;
GRANT SELECT ON payment_status_history TO payments_service;
REVOKE EXECUTE ON FUNCTION owe_webhooks(text, uuid, integer), owe_event() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION owe_webhooks(text, uuid, integer) TO payments_service;
GRANT SELECT, INSERT, DELETE ON webhooks, webhook_deliveries TO payments_service;
GRANT UPDATE (secret, previous_secret, previous_until, disabled_at, disabled_reason, failing_since, last_error, next_attempt_at,
              slow_until) ON webhooks TO payments_service;
GRANT UPDATE (created_at, attempt, next_attempt_at, lease_until, failed_at, last_error) ON webhook_deliveries TO payments_service;
GRANT SELECT, INSERT ON disputes TO payments_service;
GRANT UPDATE (amount_minor, currency, reason, status, outcome, due_by, is_refundable, updated_at, version) ON disputes
    TO payments_service;
GRANT SELECT, INSERT, DELETE ON gateway_events TO payments_service;
GRANT UPDATE (attempt, lease_until, next_attempt_at, handled_at, outcome) ON gateway_events TO payments_service;
GRANT SELECT, INSERT, UPDATE ON gateway_pulls TO payments_service;
