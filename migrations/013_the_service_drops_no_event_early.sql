-- turn_outbox took any number of days from the service's role: with 0 it dropped published events that can still be replayed. What it
-- does is now the owner's alone, and the role's turn_outbox asks for 7 days at least, as relay.py does.
ALTER FUNCTION turn_outbox(integer, integer) RENAME TO turn_outbox_after;
REVOKE EXECUTE ON FUNCTION turn_outbox_after(integer, integer) FROM payments_service;

CREATE FUNCTION turn_outbox(keep_days integer, week_days integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
RETURN public.turn_outbox_after(greatest(keep_days, 7), greatest(week_days, 7));
REVOKE EXECUTE ON FUNCTION turn_outbox(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION turn_outbox(integer, integer) TO payments_service;
