-- name: tables_0003
-- By which a log that was cut below the position and has grown past it again is told from the one that was folded.
ALTER TABLE {schema}.projection_positions
    ADD COLUMN IF NOT EXISTS last_record    bytea,   -- digest of the record before last_record_at
    ADD COLUMN IF NOT EXISTS last_record_at bigint;  -- not next_offset: a release that does not know the digest moved on
