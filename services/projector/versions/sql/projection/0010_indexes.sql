-- name: indexes_0010_chat_participants_left
-- The chats that a user has left, for sync. Only leaving and joining again change it.
CREATE INDEX IF NOT EXISTS chat_participants_left
    ON {schema}.chat_participants (user_id, chat_id) WHERE left_at IS NOT NULL;
