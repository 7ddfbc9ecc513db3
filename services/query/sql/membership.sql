-- Every statement of query that is about a chat checks the right to read: it reaches everything through the caller's own
-- row of chat_participants (LATERAL), so that nothing else is looked up unless the caller is a present member. See
-- docs/decisions/0029.

-- name: membership
-- Whether the caller is (true) or was (false) a member. No row: never was, or no such chat.
SELECT p.left_at IS NULL
FROM chat.chat_participants AS p
WHERE p.chat_id = %(chat_id)s AND p.user_id = %(caller_id)s;

-- fragment: standing_of_caller
-- The caller's membership as a row of kind `caller` with 1 or 0, and for a present member the two lowest values of each
-- cursor among the present members, and the two who joined first, each from the front of its index; then the chat's
-- position and its last seq.
SELECT 'caller' AS kind, me.user_id, CASE WHEN me.left_at IS NULL THEN 1::bigint ELSE 0 END AS seq
UNION ALL
(SELECT 'read', o.user_id, o.read_seq
 FROM chat.chat_participants AS o
 WHERE o.chat_id = me.chat_id AND o.left_at IS NULL AND me.left_at IS NULL
 ORDER BY o.read_seq, o.user_id
 LIMIT 2)
UNION ALL
(SELECT 'delivered', o.user_id, GREATEST(o.read_seq, o.delivered_seq)
 FROM chat.chat_participants AS o
 WHERE o.chat_id = me.chat_id AND o.left_at IS NULL AND me.left_at IS NULL
 ORDER BY GREATEST(o.read_seq, o.delivered_seq), o.user_id
 LIMIT 2)
UNION ALL
(SELECT 'joined', o.user_id, o.joined_seq
 FROM chat.chat_participants AS o
 WHERE o.chat_id = me.chat_id AND o.left_at IS NULL AND me.left_at IS NULL
 ORDER BY o.joined_seq, o.user_id
 LIMIT 2)
UNION ALL
(SELECT head.kind, NULL, head.number
 FROM chat.chats AS c
 CROSS JOIN LATERAL (VALUES ('position', c.last_position), ('last_seq', c.last_seq)) AS head (kind, number)
 WHERE c.chat_id = me.chat_id AND me.left_at IS NULL)

-- name: standing
-- All of it is one statement, because the overhead of each exceeds its work.
SELECT found.kind, found.user_id::text, found.seq
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    {fragment:standing_of_caller}
) AS found
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s;

-- name: standings
-- The same for several chats.
SELECT me.chat_id::text, found.kind, found.user_id::text, found.seq
FROM unnest(%(chat_ids)s::uuid[]) AS asked (chat_id)
JOIN chat.chat_participants AS me ON me.chat_id = asked.chat_id AND me.user_id = %(caller_id)s
CROSS JOIN LATERAL (
    {fragment:standing_of_caller}
) AS found;
