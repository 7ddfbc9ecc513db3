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

-- name: page
-- Both sides of a split, each from the primary key outward; see windows.py.
SELECT m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
       m.reply_to_message_id::text, m.reply_count, m.media_urls, m.metadata::text,
       (date_part('epoch', m.sent_at) * 1000)::bigint, (date_part('epoch', m.edited_at) * 1000)::bigint,
       (date_part('epoch', m.deleted_at) * 1000)::bigint, m.position, m.changed_position
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    (SELECT b.seq, b.message_id, b.sender_id, b.message_text, b.client_generated_id, b.reply_to_message_id,
            b.reply_count, b.media_urls, b.metadata, b.sent_at, b.edited_at, b.deleted_at, b.position,
            b.changed_position
     FROM chat.chat_messages AS b
     WHERE b.chat_id = me.chat_id AND b.seq < %(split)s
     ORDER BY b.seq DESC
     LIMIT %(fetch_below)s)
    UNION ALL
    (SELECT a.seq, a.message_id, a.sender_id, a.message_text, a.client_generated_id, a.reply_to_message_id,
            a.reply_count, a.media_urls, a.metadata, a.sent_at, a.edited_at, a.deleted_at, a.position,
            a.changed_position
     FROM chat.chat_messages AS a
     WHERE a.chat_id = me.chat_id AND a.seq >= %(split)s
     ORDER BY a.seq
     LIMIT %(fetch_above)s)
) AS m
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: page_of_sender
-- The same for one sender, by the index on (chat_id, sender_id, seq). A separate statement, so that a cached plan never
-- has to serve both.
SELECT m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
       m.reply_to_message_id::text, m.reply_count, m.media_urls, m.metadata::text,
       (date_part('epoch', m.sent_at) * 1000)::bigint, (date_part('epoch', m.edited_at) * 1000)::bigint,
       (date_part('epoch', m.deleted_at) * 1000)::bigint, m.position, m.changed_position
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    (SELECT b.seq, b.message_id, b.sender_id, b.message_text, b.client_generated_id, b.reply_to_message_id,
            b.reply_count, b.media_urls, b.metadata, b.sent_at, b.edited_at, b.deleted_at, b.position,
            b.changed_position
     FROM chat.chat_messages AS b
     WHERE b.chat_id = me.chat_id AND b.sender_id = %(sender_id)s AND b.seq < %(split)s
     ORDER BY b.seq DESC
     LIMIT %(fetch_below)s)
    UNION ALL
    (SELECT a.seq, a.message_id, a.sender_id, a.message_text, a.client_generated_id, a.reply_to_message_id,
            a.reply_count, a.media_urls, a.metadata, a.sent_at, a.edited_at, a.deleted_at, a.position,
            a.changed_position
     FROM chat.chat_messages AS a
     WHERE a.chat_id = me.chat_id AND a.sender_id = %(sender_id)s AND a.seq >= %(split)s
     ORDER BY a.seq
     LIMIT %(fetch_above)s)
) AS m
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: message
SELECT m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
       m.reply_to_message_id::text, m.reply_count, m.media_urls, m.metadata::text,
       (date_part('epoch', m.sent_at) * 1000)::bigint, (date_part('epoch', m.edited_at) * 1000)::bigint,
       (date_part('epoch', m.deleted_at) * 1000)::bigint, m.position, m.changed_position
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT a.seq, a.message_id, a.sender_id, a.message_text, a.client_generated_id, a.reply_to_message_id,
           a.reply_count, a.media_urls, a.metadata, a.sent_at, a.edited_at, a.deleted_at, a.position,
           a.changed_position
    FROM chat.chat_messages AS a
    WHERE a.chat_id = me.chat_id AND a.seq = %(seq)s
    LIMIT 1
) AS m
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
