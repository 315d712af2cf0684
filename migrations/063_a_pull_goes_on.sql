-- A pull that has no time for all that the gateway could not deliver goes on in the next run. It reads the newest events first. `begun_at` is
-- when it began, and `read_to` the oldest moment, by the gateway's clock, of what is in the inbox. Code before this migration reads all or nothing.
SET LOCAL lock_timeout = '2s';
ALTER TABLE gateway_pulls ADD COLUMN begun_at timestamptz, ADD COLUMN read_to timestamptz;
