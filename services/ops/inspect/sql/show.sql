-- What readers see of one message, command or chat. All of it is read in one snapshot, under the lock that keeps a cutover
-- from changing the views meanwhile, and only through the public views.

-- name: begin
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: there
-- Whether a projection was ever served.
SELECT to_regclass('chat.active_projection') IS NOT NULL;

-- name: lock_projection
LOCK TABLE chat.active_projection IN ACCESS SHARE MODE;

-- name: serving
SELECT a.version FROM chat.active_projection AS a;

-- name: now
SELECT (extract(epoch FROM transaction_timestamp()) * 1000)::bigint;

-- name: commit
COMMIT;

-- name: positions
SELECT p.partition, p.next_offset FROM chat.projection_positions AS p;

-- name: message_by_id
SELECT m.chat_id::text, m.seq, m.message_id::text, m.sender_id::text, m.client_generated_id,
       (date_part('epoch', m.sent_at) * 1000)::bigint, m.position, m.changed_position, m.revision,
       m.deleted_at IS NOT NULL, m.message_text
FROM chat.chat_messages AS m
WHERE m.message_id = %(message_id)s;

-- name: message_by_seq
SELECT m.chat_id::text, m.seq, m.message_id::text, m.sender_id::text, m.client_generated_id,
       (date_part('epoch', m.sent_at) * 1000)::bigint, m.position, m.changed_position, m.revision,
       m.deleted_at IS NOT NULL, m.message_text
FROM chat.chat_messages AS m
WHERE m.chat_id = %(chat_id)s AND m.seq = %(seq)s;

-- name: outcomes
SELECT o.partition, o.index, o.type, o.outcome, o.reason, o.seq, o.position
FROM chat.outcomes AS o
WHERE o.command_id = %(command_id)s
ORDER BY o.partition, o.index;

-- name: chat
SELECT c.kind, c.name, c.created_by::text, (date_part('epoch', c.created_at) * 1000)::bigint, c.last_seq, c.last_position,
       c.changed_index,
       (SELECT max(m.seq) FROM chat.chat_messages AS m WHERE m.chat_id = c.chat_id),
       (SELECT count(*) FROM chat.chat_participants AS p WHERE p.chat_id = c.chat_id AND p.left_at IS NULL)
FROM chat.chats AS c
WHERE c.chat_id = %(chat_id)s;
