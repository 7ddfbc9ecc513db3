-- Every statement reaches messages through the caller's own row of chat_participants; see membership.sql.

-- fragment: message_columns
-- What every answer shows of a message, in the order of api/message_json.py:MEMBERS.
m.message_id::text, m.seq, m.position, m.changed_position, m.sender_id::text, m.client_generated_id,
m.message_text AS text, m.reply_to_message_id::text, m.media_urls, m.metadata::text,
(date_part('epoch', m.sent_at) * 1000)::bigint AS sent_at, m.revision,
(date_part('epoch', m.edited_at) * 1000)::bigint AS edited_at,
(date_part('epoch', m.deleted_at) * 1000)::bigint AS deleted_at,
-- Most messages never change after they are sent: nothing is looked up for those.
CASE WHEN m.changed_position > m.position THEN (
    SELECT string_agg('{"emoji":' || to_json(r.emoji)::text || ',"count":' || r.users || ',"mine":' || EXISTS (
        SELECT FROM chat.reactions AS own
        WHERE own.chat_id = r.chat_id AND own.seq = r.seq AND own.emoji = r.emoji AND own.user_id = %(caller_id)s
    )::text || '}', ',' ORDER BY r.first_position)
    FROM chat.reaction_counts AS r
    WHERE r.chat_id = m.chat_id AND r.seq = m.seq
) END AS reactions,
m.reply_count, m.last_reply_seq

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
