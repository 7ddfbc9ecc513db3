-- name: tables_0003
-- Distinguishes a log that was cut below the position and has grown past it again from the one that was folded.
ALTER TABLE {schema}.projection_positions
    ADD COLUMN IF NOT EXISTS last_record    bytea,   -- digest of the record before last_record_at
    ADD COLUMN IF NOT EXISTS last_record_at bigint;  -- not next_offset if a release without digests has moved on
