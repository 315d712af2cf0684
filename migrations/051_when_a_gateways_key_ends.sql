-- After `key_ends_at` nobody calls the gateway with the operation's key any more. `attempted_at` has the moments of further calls with
-- it (the first one is about `created_at`), around which the gateway's list is searched.
SET LOCAL lock_timeout = '2s';
ALTER TABLE operations ADD COLUMN key_ends_at timestamptz, ADD COLUMN attempted_at timestamptz[];
GRANT UPDATE (key_ends_at, attempted_at) ON operations TO payments_service;
