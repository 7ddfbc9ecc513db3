-- Every statement checks the right to read: it reaches everything through the caller's own row of chat_participants
-- (LATERAL), so that nothing else is looked up unless the caller is a present member. See docs/decisions/0029.

-- name: membership
-- Whether the caller is (true) or was (false) a member. No row: never was, or no such chat.
SELECT p.left_at IS NULL
FROM chat.chat_participants AS p
WHERE p.chat_id = %(chat_id)s AND p.user_id = %(caller_id)s;

-- name: membership_and_cursors
-- The same as a row of kind `caller` with 1 or 0, and for a present member the two lowest values of each cursor among
-- the present members, and the two who joined first, each from the front of its index. One statement, because the
-- overhead of each exceeds its work.
SELECT found.kind, found.user_id::text, found.seq
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
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
) AS found
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s;

-- fragment: message_columns
-- What every answer shows of a message, in the order of the parameters of serializers.message_writer.
m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id, m.reply_to_message_id::text,
m.reply_count, m.media_urls, m.metadata::text, (date_part('epoch', m.sent_at) * 1000)::bigint AS sent_at,
(date_part('epoch', m.edited_at) * 1000)::bigint AS edited_at,
(date_part('epoch', m.deleted_at) * 1000)::bigint AS deleted_at, m.position, m.changed_position

-- name: page
-- Both sides of a split, each from the primary key outward; see windows.py.
SELECT page.*
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    (SELECT {fragment:message_columns}
     FROM chat.chat_messages AS m
     WHERE m.chat_id = me.chat_id AND m.seq < %(split)s
     ORDER BY m.seq DESC
     LIMIT %(fetch_below)s)
    UNION ALL
    (SELECT {fragment:message_columns}
     FROM chat.chat_messages AS m
     WHERE m.chat_id = me.chat_id AND m.seq >= %(split)s
     ORDER BY m.seq
     LIMIT %(fetch_above)s)
) AS page
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: page_of_sender
-- The same for one sender, by the index on (chat_id, sender_id, seq). A separate statement, so that a cached plan never
-- has to serve both.
SELECT page.*
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    (SELECT {fragment:message_columns}
     FROM chat.chat_messages AS m
     WHERE m.chat_id = me.chat_id AND m.sender_id = %(sender_id)s AND m.seq < %(split)s
     ORDER BY m.seq DESC
     LIMIT %(fetch_below)s)
    UNION ALL
    (SELECT {fragment:message_columns}
     FROM chat.chat_messages AS m
     WHERE m.chat_id = me.chat_id AND m.sender_id = %(sender_id)s AND m.seq >= %(split)s
     ORDER BY m.seq
     LIMIT %(fetch_above)s)
) AS page
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: message
SELECT found.*
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT {fragment:message_columns}
    FROM chat.chat_messages AS m
    WHERE m.chat_id = me.chat_id AND m.seq = %(seq)s
    LIMIT 1
) AS found
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: latest_seq
SELECT c.last_seq
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT a.last_seq
    FROM chat.chats AS a
    WHERE a.chat_id = me.chat_id
    LIMIT 1
) AS c
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;
