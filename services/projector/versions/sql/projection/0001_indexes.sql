-- The secondary indexes, separate from the tables so that a rebuild creates them after the load. Each costs more than
-- anything else that a message costs, so there is one for each kind of query, and no more.

-- name: indexes_0001_chat_messages_sender
CREATE INDEX IF NOT EXISTS chat_messages_sender ON {schema}.chat_messages (chat_id, sender_id, seq);

-- name: indexes_0001_chat_messages_thread
CREATE INDEX IF NOT EXISTS chat_messages_thread ON {schema}.chat_messages (chat_id, root_seq, seq) WHERE root_seq IS NOT NULL;

-- name: indexes_0001_chat_messages_changed
CREATE INDEX IF NOT EXISTS chat_messages_changed ON {schema}.chat_messages (chat_id, changed_position);

-- name: indexes_0001_chat_participants_user
-- The chats of a user.
CREATE INDEX IF NOT EXISTS chat_participants_user ON {schema}.chat_participants (user_id, chat_id) WHERE left_at IS NULL;

-- name: indexes_0001_chat_participants_read
-- The two lowest read cursors of a chat, for the delivery status of messages.
CREATE INDEX IF NOT EXISTS chat_participants_read ON {schema}.chat_participants (chat_id, read_seq, user_id) WHERE left_at IS NULL;

-- name: indexes_0001_chat_participants_delivered
-- The two lowest delivered cursors of a chat: a member who has read a message has also received it.
CREATE INDEX IF NOT EXISTS chat_participants_delivered
    ON {schema}.chat_participants (chat_id, (GREATEST(read_seq, delivered_seq)), user_id) WHERE left_at IS NULL;

-- name: indexes_0001_outcomes_pkey
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = '{schema}.outcomes'::regclass AND contype = 'p') THEN
        ALTER TABLE {schema}.outcomes ADD PRIMARY KEY (partition, index);
    END IF;
END
$$;

-- name: indexes_0001_outcomes_command
CREATE INDEX IF NOT EXISTS outcomes_command ON {schema}.outcomes (command_id);
