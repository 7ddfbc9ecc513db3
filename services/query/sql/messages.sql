-- Every statement reaches messages through the caller's own row of chat_participants; see membership.sql.

-- fragment: message_columns
-- What every answer shows of a message, in the order of the parameters of api/paths/messages.py:message_writer.
m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id, m.reply_to_message_id::text,
m.reply_count, m.media_urls, m.metadata::text, (date_part('epoch', m.sent_at) * 1000)::bigint AS sent_at,
(date_part('epoch', m.edited_at) * 1000)::bigint AS edited_at,
(date_part('epoch', m.deleted_at) * 1000)::bigint AS deleted_at, m.position, m.changed_position, m.revision

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
