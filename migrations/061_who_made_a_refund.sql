SET LOCAL lock_timeout = '2s';
ALTER TABLE refunds ADD COLUMN origin text NOT NULL DEFAULT 'service';
