-- Sync: which of the caller's chats changed since indexes of the log. Which partition a chat is in is not in the tables, so
-- the rows are compared in api/sync_pages.py; `above` is the lowest index of all, and leaves out the rest here.

-- name: sync_settings
-- For the transaction. The planner's estimate for a user in ten thousand chats starts the compiler of expressions, which
-- takes longer than the statements.
SELECT set_config('jit', 'off', true);

-- name: vector
-- How far each partition is in this snapshot, and of which log.
SELECT p."partition", p."index", p.topic_id
FROM chat.projection_positions AS p;

-- name: places_of_caller
-- A row for each chat that the caller is or was a member of: present or not, the index of the last change, and the time by
-- which it is sorted. What happens in a chat after the caller has left is no change for them. Rows that an older release
-- wrote have no index: they always count as changed. Each chat is looked up (LATERAL), because a plan for any user may
-- read all chats there are.
SELECT p.chat_id::text, true AS present, c.changed_index, c.at_ms
FROM chat.chat_participants AS p
CROSS JOIN LATERAL (
    SELECT COALESCE(a.changed_index, 9223372036854775807) AS changed_index,
           (date_part('epoch', COALESCE(a.last_message_at, a.created_at)) * 1000)::bigint AS at_ms
    FROM chat.chats AS a
    WHERE a.chat_id = p.chat_id
    LIMIT 1
) AS c
WHERE p.user_id = %(caller_id)s AND p.left_at IS NULL AND c.changed_index > %(above)s
UNION ALL
SELECT p.chat_id::text, false, COALESCE(p.changed_index, 9223372036854775807),
       (date_part('epoch', p.left_at) * 1000)::bigint
FROM chat.chat_participants AS p
WHERE p.user_id = %(caller_id)s AND p.left_at IS NOT NULL
  AND COALESCE(p.changed_index, 9223372036854775807) > %(above)s;

-- name: named_chats
-- Of chats that the caller names: whether the caller is a present member, and then how far the chat is.
SELECT me.chat_id::text, me.left_at IS NULL AS present, c.last_position, c.last_seq
FROM unnest(%(chat_ids)s::uuid[]) AS asked (chat_id)
JOIN chat.chat_participants AS me ON me.chat_id = asked.chat_id AND me.user_id = %(caller_id)s
LEFT JOIN LATERAL (
    SELECT a.last_position, a.last_seq
    FROM chat.chats AS a
    WHERE a.chat_id = me.chat_id AND me.left_at IS NULL
    LIMIT 1
) AS c ON true;

-- name: heads_of_chats
-- The chats as the caller, a present member, sees them, each with its last message.
SELECT {fragment:chat_columns}, {fragment:message_columns}
FROM unnest(%(chat_ids)s::uuid[]) AS asked (chat_id)
JOIN chat.chat_participants AS me
  ON me.chat_id = asked.chat_id AND me.user_id = %(caller_id)s AND me.left_at IS NULL
CROSS JOIN LATERAL (
    {fragment:chat_of_me}
) AS f
LEFT JOIN chat.chat_messages AS m ON m.chat_id = f.chat_id AND m.seq = f.last_seq;
