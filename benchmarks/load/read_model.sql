-- A read model as the projector would write it, created by the server itself in seconds. Ids are derived from numbers.

-- name: chats
INSERT INTO chat_v1.chats (chat_id, kind, name, created_by, created_at, last_seq, last_position, last_message_at)
SELECT md5('chat ' || c)::uuid, 'group', 'bench', md5('user 0')::uuid, now(), %(messages)s, %(messages)s + 1, now()
FROM generate_series(%(from)s::integer, %(to)s::integer) AS c;

-- name: participants
-- Five senders and two readers: user 5 has read nothing, user 6 all but the last ten.
INSERT INTO chat_v1.chat_participants
    (chat_id, user_id, role, joined_at, joined_seq, read_seq, delivered_seq, own_live_after_read, changed_position)
SELECT md5('chat ' || c)::uuid, md5('user ' || u)::uuid, CASE WHEN u = 0 THEN 'owner' ELSE 'member' END, now(), 0,
       CASE WHEN u = 6 THEN %(messages)s - 10 ELSE 0 END, 0,
       CASE WHEN u < 5 THEN div(%(messages)s, 5) ELSE 0 END, 1
FROM generate_series(%(from)s::integer, %(to)s::integer) AS c, generate_series(0, 6) AS u;

-- name: all_but_two_left
UPDATE chat_v1.chat_participants SET left_at = now()
WHERE chat_id = md5('chat ' || %(chat)s::text)::uuid
  AND user_id NOT IN (md5('user 5')::uuid, md5('user 6')::uuid);

-- name: many_joined
INSERT INTO chat_v1.chat_participants
    (chat_id, user_id, role, joined_at, joined_seq, read_seq, delivered_seq, own_live_after_read, changed_position)
SELECT md5('chat ' || %(chat)s::text)::uuid, md5('user ' || u)::uuid, 'member', now(), 0, 0, 0, 0, 1
FROM generate_series(7, %(members)s - 1) AS u;

-- name: messages
INSERT INTO chat_v1.chat_messages
    (chat_id, seq, message_id, sender_id, message_text, client_generated_id, reply_count, media_urls, sent_at,
     position, changed_position)
SELECT md5('chat ' || c)::uuid, s, md5(c || ' ' || s)::uuid, md5('user ' || mod(s, 5))::uuid,
       rpad('message ' || s || ' ', 239, 'x'), 'send-' || s, 0, '{}', now(), s + 1, s + 1
FROM generate_series(%(from)s::integer, %(to)s::integer) AS c, generate_series(1, %(messages)s) AS s;

-- name: reactions
INSERT INTO chat_v1.reactions (chat_id, seq, emoji, user_id, changed_position)
SELECT m.chat_id, m.seq, chr(128512 + e), md5('user ' || u)::uuid, m.position + e
FROM chat_v1.chat_messages AS m, generate_series(1, %(emojis)s::integer) AS e, generate_series(1, %(users)s::integer) AS u
WHERE m.chat_id = md5('chat ' || %(chat)s::text)::uuid;

-- name: reaction_counts
INSERT INTO chat_v1.reaction_counts (chat_id, seq, emoji, users, first_position)
SELECT chat_id, seq, emoji, count(*), min(changed_position) FROM chat_v1.reactions
WHERE chat_id = md5('chat ' || %(chat)s::text)::uuid
GROUP BY 1, 2, 3;

-- name: messages_reacted
UPDATE chat_v1.chat_messages SET changed_position = position + %(emojis)s
WHERE chat_id = md5('chat ' || %(chat)s::text)::uuid AND %(users)s > 0;

-- name: reader_of_all
INSERT INTO chat_v1.chat_participants
    (chat_id, user_id, role, joined_at, joined_seq, read_seq, delivered_seq, own_live_after_read, changed_position,
     changed_index)
SELECT c.chat_id, md5('user ' || %(user)s::text)::uuid, 'member', now(), 0, c.last_seq, c.last_seq, 0, 1, 1
FROM generate_series(1, %(to)s::integer) AS n
JOIN chat_v1.chats AS c ON c.chat_id = md5('chat ' || n)::uuid;

-- name: changed_chats
UPDATE chat_v1.chats AS c
SET changed_index = CASE WHEN n <= %(changed)s THEN %(index)s::bigint + 1 ELSE %(index)s::bigint END
FROM generate_series(1, (SELECT count(*)::integer FROM chat_v1.chats)) AS n
WHERE c.chat_id = md5('chat ' || n)::uuid;

-- name: positions
INSERT INTO chat_v1.projection_positions
    (partition, topic_id, next_offset, term, index, command_offset, last_timestamp_ms, updated_at)
SELECT p, %(topic_id)s, %(index)s, 1, %(index)s, %(index)s, 0, now()
FROM generate_series(0, %(partitions)s::integer - 1) AS p;
