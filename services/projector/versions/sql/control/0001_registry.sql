-- name: control_0001
-- Everything except the projections' tables: which projections exist, which one the views show, which migrations ran.
-- Every statement here may run again.
CREATE SCHEMA IF NOT EXISTS chat;

CREATE TABLE IF NOT EXISTS chat.schema_migrations (
    scope       text        NOT NULL,  -- 'control', or 'chat_v<N>/tables', 'chat_v<N>/indexes'
    number      integer     NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, number)
);

-- One row per schema chat_v<N>. Every projector feeds all rows that have fed_since and its own mapping_version,
-- so that any of them can serve at any time; a row without fed_since is being built by a rebuild.
CREATE TABLE IF NOT EXISTS chat.projections (
    version          integer     PRIMARY KEY CHECK (version > 0),
    mapping_version  integer     NOT NULL,  -- that of services/projector/mapping/rows.py at its creation
    created_at       timestamptz NOT NULL DEFAULT now(),
    fed_since        timestamptz
);

-- The one version that the views of schema chat show. It is a table of its own, not a flag of chat.projections, because
-- readers lock it first, and the switch uses it to lock readers out:
--
--   reader:  BEGIN ISOLATION LEVEL REPEATABLE READ;
--            LOCK TABLE chat.active_projection IN ACCESS SHARE MODE;   -- LOCK takes no snapshot
--            SELECT … FROM chat.…;                                     -- the first SELECT takes it
--   switch:  LOCK TABLE chat.active_projection IN ACCESS EXCLUSIVE MODE; re-point the views; COMMIT;
--
-- Without it a reader could take its snapshot before the switch and resolve a view after it: a view's name is
-- resolved by the newest catalogue, whatever the snapshot. It would read the new version as of the old snapshot,
-- when the new version may have been behind the old one, and so step back behind what the same user saw a moment
-- before. With it every reader is either wholly before the switch or wholly after it, and after it the new version is
-- at or past the old one in every partition.
CREATE TABLE IF NOT EXISTS chat.active_projection (
    only_row     boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    version      integer     NOT NULL REFERENCES chat.projections (version),
    switched_at  timestamptz NOT NULL DEFAULT now()
);
