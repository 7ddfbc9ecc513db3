-- name: control_0006
-- The processes that change a version now, to name them to the next operator. The advisory lock decides; a row counts only
-- while the server process in it holds that lock, so that what a killed command leaves here means nothing.
CREATE TABLE IF NOT EXISTS chat.operations (
    version      integer     PRIMARY KEY,  -- 0: which version the views show
    backend_pid  integer     NOT NULL,     -- the server process that holds the lock
    operator     text        NOT NULL,     -- user@host:pid
    command      text        NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
