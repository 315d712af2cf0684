-- What autovacuum does by default suits tables that live for ever and change everywhere. docs/adr/017-growth.md has the figures.
SET LOCAL lock_timeout = '2s';
-- Marking leaves a dead row of 1 KB for each event. Its space is worth having back early. The marks
-- bring a vacuum anyway, so inserts need not bring another one.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = -1);
-- Nothing changes an entry of the history, so its first vacuum may freeze it, and no later one has to read it again.
ALTER TABLE payment_status_history SET (autovacuum_freeze_min_age = 0, autovacuum_vacuum_insert_scale_factor = 0.02);
-- These rows change for seconds, and then seldom. A million transactions are over in minutes.
ALTER TABLE payments SET (autovacuum_freeze_min_age = 1000000);
ALTER TABLE operations SET (autovacuum_freeze_min_age = 1000000);
ALTER TABLE refunds SET (autovacuum_freeze_min_age = 1000000);
