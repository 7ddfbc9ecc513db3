-- name: control_0004
-- Every cutover since this step, so that the last one can be undone. The versions may have been dropped meanwhile.
CREATE TABLE IF NOT EXISTS chat.cutovers (
    number        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_version  integer     NOT NULL,
    to_version    integer     NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    operator      text        NOT NULL  -- user@host:pid of the process that did it
);
