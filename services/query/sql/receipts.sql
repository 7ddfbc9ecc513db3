-- The unread count takes constant time: no statement counts messages. Deleted messages above a cursor are looked
-- up only if the chat has any.

-- name: unread_of_chat
SELECT c.last_seq - me.read_seq - me.own_live_after_read
    - CASE WHEN c.deleted_total = 0 THEN 0 ELSE chat.deleted_after(me.chat_id, me.read_seq) END
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT a.last_seq, a.deleted_total
    FROM chat.chats AS a
    WHERE a.chat_id = me.chat_id
    LIMIT 1
) AS c
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: unread_of_all
SELECT u.chat_id::text, u.unread
FROM (
    SELECT p.chat_id,
           c.last_seq - p.read_seq - p.own_live_after_read
               - CASE WHEN c.deleted_total = 0 THEN 0 ELSE chat.deleted_after(p.chat_id, p.read_seq) END AS unread
    FROM chat.chat_participants AS p
    JOIN chat.chats AS c ON c.chat_id = p.chat_id
    WHERE p.user_id = %(caller_id)s AND p.left_at IS NULL
) AS u
WHERE u.unread > 0
ORDER BY u.chat_id;

-- name: read_state
-- A page, as of members: see members.sql.
SELECT p.user_id::text, p.read_seq, p.delivered_seq, p.last_read_at
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT o.user_id, o.read_seq, o.delivered_seq, o.last_read_at
    FROM chat.chat_participants AS o
    WHERE o.chat_id = me.chat_id AND o.user_id >= %(from_user_id)s AND o.left_at IS NULL
    ORDER BY o.user_id
    LIMIT %(fetch)s
) AS p
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: receipt_counts
-- How many present members the message was for (those who joined before it, without its sender), and how many of them
-- have received and read it. No row if there is no such message. It reads each member once, from one index.
SELECT o.recipients, o.delivered, o.has_read
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT f.chat_id, f.seq, f.sender_id
    FROM chat.chat_messages AS f
    WHERE f.chat_id = me.chat_id AND f.seq = %(seq)s
    LIMIT 1
) AS m
CROSS JOIN LATERAL (
    SELECT count(*) AS recipients, count(*) FILTER (WHERE GREATEST(p.read_seq, p.delivered_seq) >= m.seq) AS delivered,
           count(*) FILTER (WHERE p.read_seq >= m.seq) AS has_read
    FROM chat.chat_participants AS p
    WHERE p.chat_id = m.chat_id AND p.left_at IS NULL AND p.joined_seq < m.seq AND p.user_id <> m.sender_id
) AS o
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: receipts_of_message
-- A page of those who have received it, by user_id. The two differences keep the planner on the index of the key, which has
-- that order: it would compare the columns themselves by an index on one of them, and sort all members for each page.
SELECT p.user_id::text, p.has_read
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT f.chat_id, f.seq, f.sender_id
    FROM chat.chat_messages AS f
    WHERE f.chat_id = me.chat_id AND f.seq = %(seq)s
    LIMIT 1
) AS m
CROSS JOIN LATERAL (
    SELECT o.user_id, o.read_seq >= m.seq AS has_read
    FROM chat.chat_participants AS o
    WHERE o.chat_id = m.chat_id AND o.user_id >= %(from_user_id)s AND o.left_at IS NULL
      AND o.user_id <> m.sender_id AND m.seq - o.joined_seq > 0
      AND GREATEST(o.read_seq, o.delivered_seq) - m.seq >= 0
    ORDER BY o.user_id
    LIMIT %(fetch)s
) AS p
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;
