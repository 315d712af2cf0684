-- A build of 003 that was interrupted leaves an index that guards nothing. The next migration drops the old guard, so the new one must be whole.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = 'operations_one_in_flight_but_refunds'::regclass AND indisvalid) THEN
        RAISE EXCEPTION 'operations_one_in_flight_but_refunds is not valid: drop it and apply 003 again';
    END IF;
END
$$;
