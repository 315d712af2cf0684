-- A payment stays with the gateway that took it. Until now there was one. A constant default changes no row.
SET LOCAL lock_timeout = '2s';
ALTER TABLE payments ADD COLUMN gateway text NOT NULL DEFAULT 'simulated';
