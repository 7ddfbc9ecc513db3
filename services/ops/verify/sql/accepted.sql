-- For SQLite, not Postgres: what `log verify` stores in the scratch file. Placeholders are SQLite's `:name`.

-- name: accepted_schema
-- What `log verify` stores of every accepted command.
CREATE TABLE accepted (
    command_id TEXT PRIMARY KEY, digest BLOB, chat_id TEXT, seq INTEGER, position INTEGER, at_ms INTEGER,
    revision INTEGER
) WITHOUT ROWID;
-- And of every message: the rules for editing and deleting it depend on its sender.
CREATE TABLE messages (
    chat_id TEXT, seq INTEGER, sender_id TEXT, deleted INTEGER, edit BLOB, PRIMARY KEY (chat_id, seq)
) WITHOUT ROWID;
-- And of every reaction: who may add another one depends on those that are there.
CREATE TABLE reactions (
    chat_id TEXT, seq INTEGER, emoji TEXT, user_id TEXT, PRIMARY KEY (chat_id, seq, emoji, user_id)
) WITHOUT ROWID;
CREATE INDEX by_user ON reactions (chat_id, seq, user_id);

-- name: remember_reaction
INSERT OR IGNORE INTO reactions VALUES (:chat, :seq, :emoji, :user);

-- name: forget_reaction
DELETE FROM reactions WHERE chat_id = :chat AND seq = :seq AND emoji = :emoji AND user_id = :user;

-- name: recall_reaction
SELECT 1 FROM reactions WHERE chat_id = :chat AND seq = :seq AND emoji = :emoji AND user_id = :user;

-- name: count_reactions
SELECT count(*) FROM reactions WHERE chat_id = :chat AND seq = :seq AND user_id = :user;

-- name: recall_kinds
SELECT DISTINCT emoji FROM reactions WHERE chat_id = :chat AND seq = :seq;

-- name: remember_accepted
INSERT INTO accepted VALUES (:command_id, :digest, :chat, :seq, :position, :at_ms, :revision) ON CONFLICT DO NOTHING;

-- name: remember_message
INSERT OR IGNORE INTO messages VALUES (:chat, :seq, :sender, 0, NULL);

-- name: remember_deleted
UPDATE messages SET deleted = 1 WHERE chat_id = :chat AND seq = :seq;

-- name: remember_edited
UPDATE messages SET edit = :edit WHERE chat_id = :chat AND seq = :seq;

-- name: recall_message
SELECT sender_id, deleted, edit FROM messages WHERE chat_id = :chat AND seq = :seq;

-- name: recall_accepted
SELECT digest, chat_id, seq, position, at_ms, revision FROM accepted WHERE command_id = :command_id;
