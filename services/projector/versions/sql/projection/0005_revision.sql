-- name: tables_0005
-- The number of a message's edits, and the revision after the edit of an outcome. No older projector wrote an edit, so
-- the default is right for its rows. Postgres rewrites no row.
ALTER TABLE {schema}.chat_messages ADD COLUMN IF NOT EXISTS revision bigint NOT NULL DEFAULT 0;
ALTER TABLE {schema}.outcomes ADD COLUMN IF NOT EXISTS revision bigint;
