-- name: tables_0008
-- What search finds: a row for each message that is not deleted, with its lexemes (schemas/search.py). The table is
-- filled by positions of its own, so that it never delays the other tables, and from the beginning of the log in a
-- projection that is older than this step.
CREATE TABLE IF NOT EXISTS {schema}.message_search (
    chat_id    uuid        NOT NULL,
    seq        bigint      NOT NULL,
    sender_id  uuid        NOT NULL,
    sent_at    timestamptz NOT NULL,
    tokens     tsvector    NOT NULL,
    PRIMARY KEY (chat_id, seq)
);

-- As projection_positions, for message_search alone.
CREATE TABLE IF NOT EXISTS {schema}.search_positions (
    partition          integer     PRIMARY KEY,
    topic_id           text        NOT NULL,
    next_offset        bigint      NOT NULL,
    term               bigint      NOT NULL,
    index              bigint      NOT NULL,
    command_offset     bigint      NOT NULL,
    last_timestamp_ms  bigint      NOT NULL,
    updated_at         timestamptz NOT NULL,
    last_record        bytea,
    last_record_at     bigint
) WITH (fillfactor = 50);

-- name: indexes_0008_message_search_tokens
-- With fastupdate, what a batch adds is collected in a list; the batch itself empties it (writing/sql/search.sql).
CREATE INDEX IF NOT EXISTS message_search_tokens
    ON {schema}.message_search USING gin (tokens) WITH (fastupdate = on, gin_pending_list_limit = 4096);
