-- fragment: chat_columns
-- A chat as a member of it sees it, in the order of the parameters of api/paths/chats.py:chat_json. `f` is the chat with that
-- member's row, `m` the chat's last message.
f.chat_id::text, f.kind, f.name, f.created_by::text, f.created_at, f.last_seq, f.last_position, f.active_at,
f.role, f.joined_at, f.joined_seq, f.read_seq, f.delivered_seq,
f.last_seq - f.read_seq - f.own_live_after_read
- CASE WHEN f.deleted_total = 0 THEN 0 ELSE chat.deleted_after(f.chat_id, f.read_seq) END AS unread,
CASE WHEN f.kind = 'direct'
     THEN COALESCE((SELECT o.user_id
                    FROM chat.chat_participants AS o
                    WHERE o.chat_id = f.chat_id AND o.user_id <> f.user_id
                    LIMIT 1), f.user_id)::text END AS peer_id,
(SELECT o.read_seq
 FROM chat.chat_participants AS o
 WHERE o.chat_id = f.chat_id AND o.left_at IS NULL AND o.user_id <> m.sender_id
 ORDER BY o.read_seq, o.user_id
 LIMIT 1) AS read_by_all,
(SELECT GREATEST(o.read_seq, o.delivered_seq)
 FROM chat.chat_participants AS o
 WHERE o.chat_id = f.chat_id AND o.left_at IS NULL AND o.user_id <> m.sender_id
 ORDER BY GREATEST(o.read_seq, o.delivered_seq), o.user_id
 LIMIT 1) AS delivered_to_all,
(SELECT o.joined_seq
 FROM chat.chat_participants AS o
 WHERE o.chat_id = f.chat_id AND o.left_at IS NULL AND o.user_id <> m.sender_id
 ORDER BY o.joined_seq, o.user_id
 LIMIT 1) AS first_joined

-- fragment: chat_of_me
-- The chat of a member's row `me`, with what `chat_columns` needs of that row.
SELECT c.chat_id, c.kind, c.name, c.created_by, c.created_at, c.last_seq, c.last_position, c.deleted_total,
       COALESCE(c.last_message_at, c.created_at) AS active_at,
       me.user_id, me.role, me.joined_at, me.joined_seq, me.read_seq, me.delivered_seq, me.own_live_after_read
FROM chat.chats AS c
WHERE c.chat_id = me.chat_id
LIMIT 1

-- name: chats_of_caller
-- A page of the caller's chats, newest activity first, keyset (activity, chat_id). The page is selected first; only for
-- its chats are the last message, its delivery status and the unread count looked up.
SELECT {fragment:chat_columns}, {fragment:message_columns}
FROM (
    SELECT c.chat_id, c.kind, c.name, c.created_by, c.created_at, c.last_seq, c.last_position, c.deleted_total,
           COALESCE(c.last_message_at, c.created_at) AS active_at,
           p.user_id, p.role, p.joined_at, p.joined_seq, p.read_seq, p.delivered_seq, p.own_live_after_read
    FROM chat.chat_participants AS p
    JOIN chat.chats AS c ON c.chat_id = p.chat_id
    WHERE p.user_id = %(caller_id)s AND p.left_at IS NULL
      AND (COALESCE(c.last_message_at, c.created_at), c.chat_id) < (%(active_at)s::timestamptz, %(chat_id)s::uuid)
    ORDER BY COALESCE(c.last_message_at, c.created_at) DESC, c.chat_id DESC
    LIMIT %(fetch)s
) AS f
LEFT JOIN chat.chat_messages AS m ON m.chat_id = f.chat_id AND m.seq = f.last_seq
ORDER BY f.active_at DESC, f.chat_id DESC;

-- name: chat_of_caller
-- The same columns of one chat. Nothing is looked up unless the caller is a present member; see membership.sql.
SELECT {fragment:chat_columns}, {fragment:message_columns}
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    {fragment:chat_of_me}
) AS f
LEFT JOIN chat.chat_messages AS m ON m.chat_id = f.chat_id AND m.seq = f.last_seq
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;
