-- name: indexes_0003_chat_participants_joined
-- The two present members of a chat who joined first: a message from before any other member joined is only `sent`.
CREATE INDEX IF NOT EXISTS chat_participants_joined
    ON {schema}.chat_participants (chat_id, joined_seq, user_id) WHERE left_at IS NULL;
