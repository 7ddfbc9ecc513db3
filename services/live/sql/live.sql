-- name: begin
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: lock_projection
-- Before the snapshot, so that it is not of before a projection switch while the views are of after it; see query's
-- snapshot.sql.
LOCK TABLE chat.active_projection IN ACCESS SHARE MODE;

-- name: commit
COMMIT;

-- name: positions
-- How far each partition is in the read model: whole heads, from which a reader of the log can go on.
SELECT p."partition", p.topic_id::text, p.next_offset, p.term, p."index", p.command_offset, p.last_timestamp_ms
FROM chat.projection_positions AS p;

-- name: chats_of_user
-- The chats in which the user is or was a member, with the index of the last event that changed the chat, or the
-- membership. A chat that was left is of interest only for its leaving.
SELECT p.chat_id::text, p.left_at IS NULL,
       CASE WHEN p.left_at IS NULL THEN GREATEST(c.changed_index, p.changed_index) ELSE p.changed_index END,
       c.last_position,
       (SELECT count(*)
        FROM (SELECT FROM chat.chat_participants AS o
              WHERE o.chat_id = p.chat_id AND o.left_at IS NULL
              LIMIT %(counted)s) AS o)
FROM chat.chat_participants AS p
JOIN chat.chats AS c ON c.chat_id = p.chat_id
WHERE p.user_id = %(user_id)s;
