-- A webhook is slow until this moment: the courier keeps most of its places for the others (docs/adr/031-webhooks.md). Those that are
-- here count as quick until they are slow; one that is new has to show first that it answers.
SET LOCAL lock_timeout = '2s';
ALTER TABLE webhooks ADD COLUMN slow_until timestamptz NOT NULL DEFAULT '-infinity';
ALTER TABLE webhooks ALTER COLUMN slow_until SET DEFAULT 'infinity';
GRANT UPDATE (slow_until) ON webhooks TO payments_service;
