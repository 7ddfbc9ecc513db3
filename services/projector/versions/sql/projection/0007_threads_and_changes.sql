-- name: tables_0007
-- What a thread and an edited message show, and which rows changed since an index of the log. Rows of an older mapping
-- have none of it: they count deleted replies, and the new columns are NULL.
ALTER TABLE {schema}.chat_messages
    ADD COLUMN IF NOT EXISTS last_reply_seq bigint;  -- for a root: seq of the last live reply of its thread
ALTER TABLE {schema}.chats
    ADD COLUMN IF NOT EXISTS changed_index bigint;   -- index of the outcome at last_position
ALTER TABLE {schema}.chat_participants
    ADD COLUMN IF NOT EXISTS changed_index bigint;   -- index of the outcome at changed_position

CREATE TABLE IF NOT EXISTS {schema}.earlier_texts (
    chat_id       uuid         NOT NULL,
    seq           bigint       NOT NULL,
    revision      bigint       NOT NULL,              -- the message's revision that had this text; 0 is the send
    message_text  text         NOT NULL,
    written_at    timestamptz  NOT NULL,              -- time of that send or edit
    PRIMARY KEY (chat_id, seq, revision)
);

-- name: indexes_0007_chat_messages_threads
-- The threads of a chat by last reply. Only roots are in it.
CREATE INDEX IF NOT EXISTS chat_messages_threads
    ON {schema}.chat_messages (chat_id, last_reply_seq) WHERE last_reply_seq IS NOT NULL;
