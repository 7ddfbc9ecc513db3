-- For SQLite, not Postgres: what `log verify` stores in the scratch file. Placeholders are SQLite's `:name`.

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
