-- A new command needs no change of the schema. payments/commands/ lists the kinds of operations, so this table only checks their form.
-- The old rows passed a stricter check, so nothing scans them, and the table is locked for a moment only.
SET LOCAL lock_timeout = '2s';
ALTER TABLE operations ADD CONSTRAINT operations_kind_is_a_name CHECK (kind ~ '^[a-z][a-z_]{0,31}$') NOT VALID;
ALTER TABLE operations DROP CONSTRAINT operations_kind_known;
