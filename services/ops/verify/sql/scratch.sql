-- For SQLite, not Postgres: the scratch file of the verifiers (scratch.py). Placeholders are SQLite's `:name`.

-- name: rows_schema
-- The rows that the log implies. Columns are in the order of tables.py.
CREATE TABLE chats (
    chat_id TEXT PRIMARY KEY, kind TEXT, name TEXT, created_by TEXT, created_at INTEGER,
    last_seq INTEGER, last_position INTEGER, last_message_at INTEGER, deleted_total INTEGER
) WITHOUT ROWID;
CREATE TABLE chat_participants (
    chat_id TEXT, user_id TEXT, role TEXT, joined_at INTEGER, joined_seq INTEGER, left_at INTEGER,
    read_seq INTEGER, last_read_at INTEGER, delivered_seq INTEGER, own_live_after_read INTEGER,
    changed_position INTEGER,
    PRIMARY KEY (chat_id, user_id)
) WITHOUT ROWID;
CREATE TABLE chat_messages (
    chat_id TEXT, seq INTEGER, message_id TEXT, sender_id TEXT, message_text TEXT, client_generated_id TEXT,
    reply_to_message_id TEXT, root_seq INTEGER, reply_count INTEGER, media_urls TEXT, metadata TEXT,
    sent_at INTEGER, original_sent_at INTEGER, edited_at INTEGER, deleted_at INTEGER,
    position INTEGER, changed_position INTEGER
);
CREATE UNIQUE INDEX by_place ON chat_messages (chat_id, seq);
CREATE UNIQUE INDEX by_id ON chat_messages (message_id);
CREATE INDEX by_sender ON chat_messages (chat_id, sender_id, seq);
CREATE TABLE deleted_blocks (
    chat_id TEXT, span INTEGER, block INTEGER, deleted INTEGER, places TEXT,
    PRIMARY KEY (chat_id, span, block)
) WITHOUT ROWID;
CREATE TABLE outcomes (
    partition INTEGER, "index" INTEGER PRIMARY KEY, command_id TEXT, sender_id TEXT, type TEXT, outcome TEXT,
    reason TEXT, seq INTEGER, position INTEGER, at INTEGER, detail TEXT
);

-- name: add_chat
INSERT INTO chats VALUES (:chat, :kind, :name, :sender, :at, 0, :position, NULL, 0)
ON CONFLICT DO NOTHING;

-- name: chat_moved
UPDATE chats SET last_position = :position WHERE chat_id = :chat;

-- name: chat_got_message
UPDATE chats SET last_position = :position, last_seq = :seq, last_message_at = :at WHERE chat_id = :chat;

-- name: join
-- A member who joins again starts afresh; only last_read_at is kept.
INSERT INTO chat_participants
SELECT chat_id, :user, :role, :at, last_seq, NULL, last_seq, NULL, last_seq, 0, :position
FROM chats WHERE chat_id = :chat
ON CONFLICT (chat_id, user_id) DO UPDATE SET
    role = excluded.role, joined_at = excluded.joined_at, joined_seq = excluded.joined_seq, left_at = NULL,
    read_seq = excluded.read_seq, delivered_seq = excluded.delivered_seq,
    changed_position = excluded.changed_position;

-- name: leave
UPDATE chat_participants SET left_at = :at, changed_position = :position
WHERE chat_id = :chat AND user_id = :user AND left_at IS NULL;

-- name: give_role
UPDATE chat_participants SET role = :role, changed_position = :position
WHERE chat_id = :chat AND user_id = :user AND left_at IS NULL;

-- name: read_up_to
UPDATE chat_participants SET read_seq = :seq, last_read_at = :at, changed_position = :position
WHERE chat_id = :chat AND user_id = :sender AND left_at IS NULL;

-- name: delivered_up_to
UPDATE chat_participants SET delivered_seq = :seq, changed_position = :position
WHERE chat_id = :chat AND user_id = :sender AND left_at IS NULL;

-- name: add_message
INSERT INTO chat_messages VALUES (
    :chat, :seq, :message_id, :sender, :text, :client_generated_id, :reply_to, :root_seq, 0, :media_urls,
    :metadata, :at, :original_sent_at, NULL, NULL, :position, :position
) ON CONFLICT DO NOTHING;

-- name: root_of
-- The root of a reply's thread: that of the message it answers, or that message itself.
SELECT coalesce(root_seq, seq) FROM chat_messages WHERE message_id = :reply_to AND chat_id = :chat;

-- name: root_got_reply
UPDATE chat_messages SET reply_count = reply_count + 1, changed_position = :position
WHERE chat_id = :chat AND seq = :root_seq;

-- name: delete_message
UPDATE chat_messages SET message_text = NULL, media_urls = '[]', metadata = NULL, deleted_at = :at,
    changed_position = :position
WHERE chat_id = :chat AND seq = :seq AND deleted_at IS NULL;

-- name: add_outcome
INSERT INTO outcomes VALUES (
    :partition, :index, :command_id, :sender, :type, :outcome, :reason, :seq, :position, :at, :detail
);

-- name: leave_out_detail
UPDATE outcomes SET detail = '' WHERE "index" = :index AND outcome = 'rejected';

-- name: count_own_live
-- By definition, not in steps: the member's own messages above the cursor that are not deleted.
UPDATE chat_participants SET own_live_after_read = (
    SELECT count(*) FROM chat_messages AS m
    WHERE m.chat_id = chat_participants.chat_id AND m.sender_id = chat_participants.user_id
        AND m.seq > chat_participants.read_seq AND m.deleted_at IS NULL
);

-- name: count_deleted_places
-- Every deleted message at its place in its block of 256 seqs; `bits` builds the text (scratch.py).
INSERT INTO deleted_blocks
SELECT chat_id, 256, seq / 256, count(*), bits(seq % 256) FROM chat_messages WHERE deleted_at IS NOT NULL
GROUP BY chat_id, seq / 256;

-- name: count_deleted_blocks
INSERT INTO deleted_blocks
SELECT chat_id, :span, block / (:span / 256), sum(deleted), NULL FROM deleted_blocks WHERE span = 256
GROUP BY chat_id, block / (:span / 256);

-- name: count_deleted
UPDATE chats SET deleted_total = (
    SELECT count(*) FROM chat_messages AS m WHERE m.chat_id = chats.chat_id AND m.deleted_at IS NOT NULL
) WHERE chat_id IN (SELECT chat_id FROM deleted_blocks);

-- name: all_chats
SELECT * FROM chats;

-- name: all_chat_participants
SELECT * FROM chat_participants;

-- name: all_chat_messages
SELECT * FROM chat_messages;

-- name: all_deleted_blocks
SELECT * FROM deleted_blocks;

-- name: all_outcomes
SELECT * FROM outcomes WHERE at >= :since;

-- name: group_chats
SELECT * FROM chats WHERE chat_id = :group;

-- name: group_chat_participants
SELECT * FROM chat_participants WHERE chat_id = :group ORDER BY user_id;

-- name: group_chat_messages
SELECT * FROM chat_messages WHERE chat_id = :group ORDER BY seq;

-- name: group_deleted_blocks
SELECT * FROM deleted_blocks WHERE chat_id = :group ORDER BY span, block;

-- name: group_outcomes
SELECT * FROM outcomes WHERE partition = :group AND at >= :since ORDER BY "index";

-- name: accepted_schema
-- What `log verify` stores of every accepted command.
CREATE TABLE accepted (
    command_id TEXT PRIMARY KEY, digest BLOB, chat_id TEXT, seq INTEGER, position INTEGER, at_ms INTEGER
) WITHOUT ROWID;
-- And of every message: the rule for deleting it depends on its sender.
CREATE TABLE messages (
    chat_id TEXT, seq INTEGER, sender_id TEXT, deleted INTEGER, PRIMARY KEY (chat_id, seq)
) WITHOUT ROWID;

-- name: remember_accepted
INSERT INTO accepted VALUES (:command_id, :digest, :chat, :seq, :position, :at_ms) ON CONFLICT DO NOTHING;

-- name: remember_message
INSERT OR IGNORE INTO messages VALUES (:chat, :seq, :sender, 0);

-- name: remember_deleted
UPDATE messages SET deleted = 1 WHERE chat_id = :chat AND seq = :seq;

-- name: recall_message
SELECT sender_id, deleted FROM messages WHERE chat_id = :chat AND seq = :seq;

-- name: recall_accepted
SELECT digest, chat_id, seq, position, at_ms FROM accepted WHERE command_id = :command_id;
