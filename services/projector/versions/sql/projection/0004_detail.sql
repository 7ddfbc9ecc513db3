-- name: tables_0004
-- The sequencer's sentence for a rejection; NULL for any other outcome. The default marks rows written by a release
-- that does not know the column: existing rows, and rows that an older projector still writes during an upgrade. This
-- release always sets the column, so '' never means that a sentence was lost. Postgres rewrites no row.
ALTER TABLE {schema}.outcomes ADD COLUMN IF NOT EXISTS detail text DEFAULT '';
