-- For SQLite, not Postgres: the rows that the log implies, in the scratch file. Placeholders are SQLite's `:name`; the
-- columns of each table are those of projection/tables.py.

-- name: rows_schema
CREATE TABLE chats ({fragment:chats_columns}, PRIMARY KEY (chat_id)) WITHOUT ROWID;
CREATE TABLE chat_participants ({fragment:chat_participants_columns}, PRIMARY KEY (chat_id, user_id)) WITHOUT ROWID;
CREATE TABLE chat_messages ({fragment:chat_messages_columns});
CREATE UNIQUE INDEX by_place ON chat_messages (chat_id, seq);
CREATE UNIQUE INDEX by_id ON chat_messages (message_id);
CREATE INDEX by_sender ON chat_messages (chat_id, sender_id, seq);
CREATE INDEX by_thread ON chat_messages (chat_id, root_seq, seq) WHERE root_seq IS NOT NULL;
CREATE TABLE earlier_texts ({fragment:earlier_texts_columns}, PRIMARY KEY (chat_id, seq, revision)) WITHOUT ROWID;
CREATE TABLE deleted_blocks ({fragment:deleted_blocks_columns}, PRIMARY KEY (chat_id, span, block)) WITHOUT ROWID;
CREATE TABLE reactions ({fragment:reactions_columns}, PRIMARY KEY (chat_id, seq, emoji, user_id)) WITHOUT ROWID;
CREATE TABLE reaction_counts ({fragment:reaction_counts_columns}, PRIMARY KEY (chat_id, seq, emoji)) WITHOUT ROWID;
CREATE TABLE message_search ({fragment:message_search_columns}, PRIMARY KEY (chat_id, seq)) WITHOUT ROWID;
CREATE TABLE outcomes ({fragment:outcomes_columns}, PRIMARY KEY ("index"));

-- name: add_chat
INSERT INTO chats (chat_id, kind, name, created_by, created_at, last_seq, last_position, deleted_total, changed_index)
VALUES (:chat, :kind, :name, :sender, :at, 0, :position, 0, :index)
ON CONFLICT DO NOTHING;

-- name: chat_moved
UPDATE chats SET last_position = :position, changed_index = :index WHERE chat_id = :chat;

-- name: chat_got_message
UPDATE chats SET last_position = :position, changed_index = :index, last_seq = :seq, last_message_at = :at
WHERE chat_id = :chat;

-- name: join
-- A member who joins again starts afresh; only last_read_at is kept.
INSERT INTO chat_participants
    (chat_id, user_id, role, joined_at, joined_seq, read_seq, delivered_seq, own_live_after_read, changed_position,
     changed_index)
SELECT chat_id, :user, :role, :at, last_seq, last_seq, last_seq, 0, :position, :index
FROM chats WHERE chat_id = :chat
ON CONFLICT (chat_id, user_id) DO UPDATE SET
    role = excluded.role, joined_at = excluded.joined_at, joined_seq = excluded.joined_seq, left_at = NULL,
    read_seq = excluded.read_seq, delivered_seq = excluded.delivered_seq,
    changed_position = excluded.changed_position, changed_index = excluded.changed_index;

-- name: leave
UPDATE chat_participants SET left_at = :at, changed_position = :position, changed_index = :index
WHERE chat_id = :chat AND user_id = :user AND left_at IS NULL;

-- name: rename
UPDATE chats SET name = :name WHERE chat_id = :chat;

-- name: give_role
UPDATE chat_participants SET role = :role, changed_position = :position, changed_index = :index
WHERE chat_id = :chat AND user_id = :user AND left_at IS NULL;

-- name: read_up_to
UPDATE chat_participants
SET read_seq = :seq, last_read_at = :at, changed_position = :position, changed_index = :index
WHERE chat_id = :chat AND user_id = :sender AND left_at IS NULL;

-- name: delivered_up_to
UPDATE chat_participants SET delivered_seq = :seq, changed_position = :position, changed_index = :index
WHERE chat_id = :chat AND user_id = :sender AND left_at IS NULL;

-- name: add_message
INSERT INTO chat_messages
    (chat_id, seq, message_id, sender_id, message_text, client_generated_id, reply_to_message_id, root_seq,
     reply_count, media_urls, metadata, sent_at, original_sent_at, position, changed_position, revision)
VALUES (
    :chat, :seq, :message_id, :sender, :text, :client_generated_id, :reply_to, :root_seq, 0, :media_urls, :metadata,
    :at, :original_sent_at, :position, :position, 0
) ON CONFLICT DO NOTHING;

-- name: root_of
-- The root of a reply's thread: that of the message it answers, or that message itself.
SELECT coalesce(root_seq, seq) FROM chat_messages WHERE message_id = :reply_to AND chat_id = :chat;

-- name: root_got_reply
UPDATE chat_messages SET changed_position = :position WHERE chat_id = :chat AND seq = :root_seq;

-- name: root_lost_reply
-- If the deleted message is a reply.
UPDATE chat_messages SET changed_position = :position
WHERE chat_id = :chat AND seq = (SELECT root_seq FROM chat_messages WHERE chat_id = :chat AND seq = :seq);

-- name: keep_text
-- Before the edit that replaces it.
INSERT INTO earlier_texts (chat_id, seq, revision, message_text, written_at)
SELECT chat_id, seq, revision, message_text, coalesce(edited_at, sent_at) FROM chat_messages
WHERE chat_id = :chat AND seq = :seq AND deleted_at IS NULL;

-- name: drop_texts
DELETE FROM earlier_texts WHERE chat_id = :chat AND seq = :seq;

-- name: edit_message
-- NULL leaves what is there.
UPDATE chat_messages SET message_text = :text, media_urls = coalesce(:media_urls, media_urls),
    metadata = coalesce(:metadata, metadata), edited_at = :at, changed_position = :position, revision = revision + 1
WHERE chat_id = :chat AND seq = :seq AND deleted_at IS NULL;

-- name: revision_of
SELECT revision FROM chat_messages WHERE chat_id = :chat AND seq = :seq;

-- name: delete_message
UPDATE chat_messages SET message_text = NULL, media_urls = '[]', metadata = NULL, deleted_at = :at,
    changed_position = :position
WHERE chat_id = :chat AND seq = :seq AND deleted_at IS NULL;

-- name: message_changed
UPDATE chat_messages SET changed_position = :position WHERE chat_id = :chat AND seq = :seq AND deleted_at IS NULL;

-- name: add_reaction
INSERT INTO reactions (chat_id, seq, emoji, user_id, changed_position)
VALUES (:chat, :seq, :emoji, :user, :position) ON CONFLICT DO NOTHING;

-- name: remove_reaction
DELETE FROM reactions WHERE chat_id = :chat AND seq = :seq AND emoji = :emoji AND user_id = :user;

-- name: count_one_more
INSERT INTO reaction_counts (chat_id, seq, emoji, users, first_position)
SELECT :chat, :seq, :emoji, 1, :position WHERE true
ON CONFLICT (chat_id, seq, emoji) DO UPDATE SET
    first_position = CASE users WHEN 0 THEN excluded.first_position ELSE first_position END, users = users + 1;

-- name: count_one_less
-- An emoji that no user reacts with any more keeps its row until the end (drop_empty_counts).
UPDATE reaction_counts SET users = users - 1 WHERE chat_id = :chat AND seq = :seq AND emoji = :emoji;

-- name: drop_empty_counts
DELETE FROM reaction_counts WHERE users = 0;

-- name: drop_reactions
DELETE FROM reactions WHERE chat_id = :chat AND seq = :seq;

-- name: drop_reaction_counts
DELETE FROM reaction_counts WHERE chat_id = :chat AND seq = :seq;

-- name: add_search
INSERT INTO message_search (chat_id, seq, sender_id, sent_at, tokens)
VALUES (:chat, :seq, :sender, :at, :tokens) ON CONFLICT DO NOTHING;

-- name: search_sent_at
SELECT sent_at FROM message_search WHERE chat_id = :chat AND seq = :seq;

-- name: reword_search
UPDATE message_search SET tokens = :tokens WHERE chat_id = :chat AND seq = :seq;

-- name: forget_search
DELETE FROM message_search WHERE chat_id = :chat AND seq = :seq;

-- name: add_outcome
INSERT INTO outcomes
    (partition, "index", command_id, sender_id, type, outcome, reason, seq, position, at, detail, revision)
VALUES (
    :partition, :index, :command_id, :sender, :type, :outcome, :reason, :seq, :position, :at, :detail, :revision
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

-- name: count_replies
-- By definition too: the replies that are not deleted, and the last of them.
UPDATE chat_messages AS root SET (reply_count, last_reply_seq) = (
    SELECT count(*), max(r.seq) FROM chat_messages AS r
    WHERE r.chat_id = root.chat_id AND r.root_seq = root.seq AND r.deleted_at IS NULL
) WHERE (chat_id, seq) IN (SELECT chat_id, root_seq FROM chat_messages WHERE root_seq IS NOT NULL);

-- name: count_deleted_places
-- Every deleted message at its place in its block of 256 seqs; `bits` builds the text (scratch.py).
INSERT INTO deleted_blocks (chat_id, span, block, deleted, places)
SELECT chat_id, 256, seq / 256, count(*), bits(seq % 256) FROM chat_messages WHERE deleted_at IS NOT NULL
GROUP BY chat_id, seq / 256;

-- name: count_deleted_blocks
INSERT INTO deleted_blocks (chat_id, span, block, deleted, places)
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

-- name: all_earlier_texts
SELECT * FROM earlier_texts;

-- name: all_deleted_blocks
SELECT * FROM deleted_blocks;

-- name: all_reactions
SELECT * FROM reactions;

-- name: all_reaction_counts
SELECT * FROM reaction_counts;

-- name: all_message_search
SELECT * FROM message_search;

-- name: all_outcomes
SELECT * FROM outcomes WHERE at >= :since;

-- name: group_chats
SELECT * FROM chats WHERE chat_id = :group;

-- name: group_chat_participants
SELECT * FROM chat_participants WHERE chat_id = :group ORDER BY user_id;

-- name: group_chat_messages
SELECT * FROM chat_messages WHERE chat_id = :group ORDER BY seq;

-- name: group_earlier_texts
SELECT * FROM earlier_texts WHERE chat_id = :group ORDER BY seq, revision;

-- name: group_deleted_blocks
SELECT * FROM deleted_blocks WHERE chat_id = :group ORDER BY span, block;

-- name: group_reactions
SELECT * FROM reactions WHERE chat_id = :group ORDER BY seq, emoji, user_id;

-- name: group_reaction_counts
SELECT * FROM reaction_counts WHERE chat_id = :group ORDER BY seq, emoji;

-- name: group_message_search
SELECT * FROM message_search WHERE chat_id = :group ORDER BY seq;

-- name: group_outcomes
SELECT * FROM outcomes WHERE partition = :group AND at >= :since ORDER BY "index";
