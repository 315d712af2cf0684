-- The outbox is a chain of tables: `outbox` takes new events, and the tables of earlier weeks are its children, so that every statement
-- on `outbox` reads and marks their events too. Published events leave with their whole table. A DELETE of each of them would leave
-- a row for vacuum to remove, from every index. See docs/adr/017-growth.md.
SET LOCAL lock_timeout = '2s';

-- The tables that take no new events. `drained_at` is when the relay first saw that nothing in it waits.
CREATE TABLE outbox_closed (
    name       text PRIMARY KEY,
    closed_at  timestamptz NOT NULL,
    drained_at timestamptz,
    dropped_at timestamptz
);

-- The relay calls this. It closes the outbox's table when that is `week_days` old, and drops a closed one whose events were all
-- published `keep_days` ago: one of the two in a call, and it returns 1. It never drops an event that waits. If somebody holds a lock it
-- gives up and returns 0, and the next run tries again.
--
-- SECURITY DEFINER, because the service's role may not change the schema; the fixed search_path keeps a caller's schemas out.
CREATE FUNCTION turn_outbox(keep_days integer, week_days integer) RETURNS integer
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    closed public.outbox_closed;
    waits boolean;
    is_oldest boolean := true;
    opened_at timestamptz;
    old_name text := to_char(now() AT TIME ZONE 'UTC', '"outbox_until_"YYYYMMDD_HH24MISSMS');
    old_index record;
    options text[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(7215031995) THEN
        RETURN 0;  -- Another relay is here.
    END IF;

    -- A closed table is the parent of the one that was closed before it, so the oldest goes first.
    FOR closed IN SELECT * FROM public.outbox_closed WHERE dropped_at IS NULL ORDER BY closed_at LOOP
        IF to_regclass(format('public.%I', closed.name)) IS NULL THEN
            UPDATE public.outbox_closed SET dropped_at = now() WHERE name = closed.name;  -- Somebody has dropped it.
            CONTINUE;
        END IF;
        BEGIN
            IF is_oldest AND closed.drained_at < now() - make_interval(days => keep_days) THEN
                EXECUTE format('LOCK TABLE ONLY public.%I IN ACCESS EXCLUSIVE MODE', closed.name);
            END IF;
            -- In the index's order, so that no statistics make it a scan of the table.
            EXECUTE format('SELECT EXISTS (SELECT FROM (SELECT FROM ONLY public.%I WHERE published_at IS NULL'
                           ' ORDER BY lease_until LIMIT 1) AS waiting)', closed.name) INTO waits;
            IF waits THEN
                UPDATE public.outbox_closed SET drained_at = NULL WHERE name = closed.name AND drained_at IS NOT NULL;
            ELSIF closed.drained_at IS NULL THEN
                UPDATE public.outbox_closed SET drained_at = now() WHERE name = closed.name;
            ELSIF is_oldest AND closed.drained_at < now() - make_interval(days => keep_days) THEN
                EXECUTE format('DROP TABLE public.%I', closed.name);
                UPDATE public.outbox_closed SET dropped_at = now() WHERE name = closed.name;
                RETURN 1;  -- The next run does the rest, so that no lock is held while we wait for another one.
            END IF;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            NULL;
        END;
        is_oldest := false;
    END LOOP;

    -- Without a closed table yet, the oldest event tells the age.
    SELECT COALESCE((SELECT max(closed_at) FROM public.outbox_closed),
                    (SELECT created_at FROM ONLY public.outbox ORDER BY created_at, payment_id, sequence LIMIT 1)) INTO opened_at;
    IF opened_at > now() - make_interval(days => week_days)
       OR NOT EXISTS (SELECT FROM (SELECT FROM ONLY public.outbox LIMIT 1) AS event) THEN
        RETURN 0;
    END IF;
    IF opened_at < now() - make_interval(days => week_days + 1) THEN
        -- Long enough for PostgreSQL to cancel an autovacuum that is in the way, and shorter than a payment waits for a lock.
        PERFORM set_config('lock_timeout', '1500ms', true);
    END IF;
    BEGIN
        CREATE TABLE public.outbox_next (LIKE public.outbox INCLUDING ALL EXCLUDING INDEXES);
        FOR old_index IN
            SELECT relname AS name, pg_get_indexdef(indexrelid) AS definition, contype AS kind
            FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            LEFT JOIN pg_constraint ON conindid = indexrelid AND conrelid = indrelid
            WHERE indrelid = 'public.outbox'::regclass AND indisvalid
        LOOP
            EXECUTE format('ALTER INDEX public.%I RENAME TO %I', old_index.name,
                           left(old_name || '_' || regexp_replace(old_index.name, '^outbox_', ''), 63));
            EXECUTE replace(old_index.definition, ' ON public.outbox ', ' ON public.outbox_next ');
            IF old_index.kind IS NOT NULL THEN
                EXECUTE format('ALTER TABLE public.outbox_next ADD CONSTRAINT %I %s USING INDEX %I', old_index.name,
                               CASE old_index.kind WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, old_index.name);
            END IF;
        END LOOP;
        SELECT reloptions FROM pg_class WHERE oid = 'public.outbox'::regclass INTO options;
        IF options IS NOT NULL THEN
            EXECUTE format('ALTER TABLE public.outbox_next SET (%s)', array_to_string(options, ', '));
        END IF;
        GRANT SELECT, INSERT, DELETE, UPDATE (lease_until, published_at) ON public.outbox_next TO payments_service;
        -- From here on statements wait, for some milliseconds.
        EXECUTE format('ALTER TABLE public.outbox RENAME TO %I', old_name);
        ALTER TABLE public.outbox_next RENAME TO outbox;
        EXECUTE format('ALTER TABLE public.%I INHERIT public.outbox', old_name);
        INSERT INTO public.outbox_closed (name, closed_at) VALUES (old_name, now());
        RETURN 1;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
        RETURN 0;
    END;
END
$$;
REVOKE EXECUTE ON FUNCTION turn_outbox(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION turn_outbox(integer, integer) TO payments_service;
