-- name: membership
-- Whether the caller is (true) or was (false) a member; no row: never was, or there is no such chat.
SELECT p.left_at IS NULL
FROM chat.chat_participants AS p
WHERE p.chat_id = %(chat_id)s AND p.user_id = %(caller_id)s;

-- name: lowest_cursors
-- The two lowest of each cursor among the present members, and the two who joined first, each from the front of its index.
(SELECT 'read', p.user_id::text, p.read_seq
 FROM chat.chat_participants AS p
 WHERE p.chat_id = %(chat_id)s AND p.left_at IS NULL
 ORDER BY p.read_seq, p.user_id
 LIMIT 2)
UNION ALL
(SELECT 'delivered', p.user_id::text, GREATEST(p.read_seq, p.delivered_seq)
 FROM chat.chat_participants AS p
 WHERE p.chat_id = %(chat_id)s AND p.left_at IS NULL
 ORDER BY GREATEST(p.read_seq, p.delivered_seq), p.user_id
 LIMIT 2)
UNION ALL
(SELECT 'joined', p.user_id::text, p.joined_seq
 FROM chat.chat_participants AS p
 WHERE p.chat_id = %(chat_id)s AND p.left_at IS NULL
 ORDER BY p.joined_seq, p.user_id
 LIMIT 2);

-- name: page
-- Both sides of a split, each from the primary key outward; see windows.py.
(SELECT m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
        m.reply_to_message_id::text, m.reply_count, m.media_urls, m.metadata::text,
        (date_part('epoch', m.sent_at) * 1000)::bigint, (date_part('epoch', m.edited_at) * 1000)::bigint,
        (date_part('epoch', m.deleted_at) * 1000)::bigint, m.position, m.changed_position
 FROM chat.chat_messages AS m
 WHERE m.chat_id = %(chat_id)s AND m.seq < %(split)s
 ORDER BY m.seq DESC
 LIMIT %(fetch_below)s)
UNION ALL
(SELECT m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
        m.reply_to_message_id::text, m.reply_count, m.media_urls, m.metadata::text,
        (date_part('epoch', m.sent_at) * 1000)::bigint, (date_part('epoch', m.edited_at) * 1000)::bigint,
        (date_part('epoch', m.deleted_at) * 1000)::bigint, m.position, m.changed_position
 FROM chat.chat_messages AS m
 WHERE m.chat_id = %(chat_id)s AND m.seq >= %(split)s
 ORDER BY m.seq
 LIMIT %(fetch_above)s);

-- name: page_of_sender
-- The same of one sender, by the index on (chat_id, sender_id, seq). A statement of its own, so that a cached plan
-- never has to serve both.
(SELECT m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
        m.reply_to_message_id::text, m.reply_count, m.media_urls, m.metadata::text,
        (date_part('epoch', m.sent_at) * 1000)::bigint, (date_part('epoch', m.edited_at) * 1000)::bigint,
        (date_part('epoch', m.deleted_at) * 1000)::bigint, m.position, m.changed_position
 FROM chat.chat_messages AS m
 WHERE m.chat_id = %(chat_id)s AND m.sender_id = %(sender_id)s AND m.seq < %(split)s
 ORDER BY m.seq DESC
 LIMIT %(fetch_below)s)
UNION ALL
(SELECT m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
        m.reply_to_message_id::text, m.reply_count, m.media_urls, m.metadata::text,
        (date_part('epoch', m.sent_at) * 1000)::bigint, (date_part('epoch', m.edited_at) * 1000)::bigint,
        (date_part('epoch', m.deleted_at) * 1000)::bigint, m.position, m.changed_position
 FROM chat.chat_messages AS m
 WHERE m.chat_id = %(chat_id)s AND m.sender_id = %(sender_id)s AND m.seq >= %(split)s
 ORDER BY m.seq
 LIMIT %(fetch_above)s);

-- name: message
SELECT m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
       m.reply_to_message_id::text, m.reply_count, m.media_urls, m.metadata::text,
       (date_part('epoch', m.sent_at) * 1000)::bigint, (date_part('epoch', m.edited_at) * 1000)::bigint,
       (date_part('epoch', m.deleted_at) * 1000)::bigint, m.position, m.changed_position
FROM chat.chat_messages AS m
WHERE m.chat_id = %(chat_id)s AND m.seq = %(seq)s;

-- name: latest_seq
SELECT c.last_seq
FROM chat.chats AS c
WHERE c.chat_id = %(chat_id)s;
