-- outside a transaction
-- Whether an event is its payment's next one is found by outbox_one_event_per_sequence, in this release and in the one before.
DROP INDEX CONCURRENTLY IF EXISTS outbox_unpublished_by_payment;
