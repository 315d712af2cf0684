-- A build of 056 that was interrupted leaves an index that guards nothing. It takes the place of the older one, so it must be whole.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = 'operations_one_in_flight_after_process'::regclass AND indisvalid) THEN
        RAISE EXCEPTION 'operations_one_in_flight_after_process is not valid: drop it and apply 056 again';
    END IF;
END
$$;
SET LOCAL lock_timeout = '2s';
DROP INDEX operations_one_in_flight_but_refunds;
