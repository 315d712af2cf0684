-- The gateway may do something by itself: a person gives money back in its dashboard, or an authorization lapses. We enter it as an operation.
-- Until now the service did all of them. A constant default changes no row.
SET LOCAL lock_timeout = '2s';
ALTER TABLE operations ADD COLUMN origin text NOT NULL DEFAULT 'service';
