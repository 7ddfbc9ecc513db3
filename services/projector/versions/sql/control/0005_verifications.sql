-- name: control_0005
-- What `gapless projection verify` found, so that a cutover can ask for it.
CREATE TABLE IF NOT EXISTS chat.verifications (
    number     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version    integer     NOT NULL,
    began_at   timestamptz NOT NULL,  -- by this server's clock, and not after its snapshot
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    equal      boolean     NOT NULL,
    positions  jsonb       NOT NULL,  -- partition → next offset of the tables in its snapshot
    digest     text        NOT NULL,  -- SHA-256 of its report
    operator   text        NOT NULL   -- user@host:pid of the process that verified
);

-- Partition → next offset at which the last rebuild left the version to the projectors; NULL: no rebuild built it.
ALTER TABLE chat.projections ADD COLUMN IF NOT EXISTS loaded_to jsonb;
