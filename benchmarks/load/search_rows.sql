-- Messages with words as often as in a natural language (the word of rank r as often as 1/r), created by the server
-- itself. Words have three to nine hexadecimal digits, so that prefixes of three are shared by some dozen words.

-- name: words
CREATE TABLE public.words AS
SELECT r AS rank, substr(md5('word ' || r), 1, 3 + mod(r, 7)) AS word FROM generate_series(1, %(words)s::integer) AS r;

-- name: words_by_rank
ALTER TABLE public.words ADD PRIMARY KEY (rank);

-- name: chats
INSERT INTO chat_v1.chats (chat_id, kind, name, created_by, created_at, last_seq, last_position, last_message_at)
SELECT md5('chat ' || c)::uuid, 'group', 'bench', md5('user 0')::uuid, now(), %(messages)s::integer / %(chats)s, 1,
       %(newest)s::timestamptz
FROM generate_series(0, %(chats)s::integer - 1) AS c;

-- name: participants
-- User 1 is in the first `mine` chats, user 0 in all.
INSERT INTO chat_v1.chat_participants
    (chat_id, user_id, role, joined_at, joined_seq, read_seq, delivered_seq, own_live_after_read, changed_position)
SELECT md5('chat ' || c)::uuid, md5('user ' || u)::uuid, 'member', now(), 0, 0, 0, 0, 1
FROM generate_series(0, %(chats)s::integer - 1) AS c, generate_series(0, 1) AS u WHERE u = 0 OR c < %(mine)s;

-- name: messages
-- Ten words each; a chat's turn comes round, and the last message is sent at `newest`, over `days`.
INSERT INTO chat_v1.chat_messages
    (chat_id, seq, message_id, sender_id, message_text, client_generated_id, reply_count, media_urls, sent_at,
     position, changed_position)
SELECT md5('chat ' || mod(t.g, %(chats)s))::uuid, t.g / %(chats)s + 1, md5('message ' || t.g)::uuid,
       md5('user ' || mod(t.g, 7))::uuid, t.text, 'send-' || t.g, 0, '{}',
       date_trunc('milliseconds', %(newest)s::timestamptz
           - make_interval(secs => 86400.0 * %(days)s * (%(messages)s - 1 - t.g) / %(messages)s)),
       t.g + 1, t.g + 1
FROM (
    SELECT r.g, string_agg(w.word, ' ') AS text
    FROM (
        SELECT g, floor(exp(random() * ln(%(words)s::integer)))::integer AS rank
        FROM generate_series(%(from)s::integer, %(to)s::integer - 1) AS g, generate_series(1, 10)
    ) AS r
    JOIN public.words AS w ON w.rank = r.rank
    GROUP BY r.g
) AS t;

-- name: search
-- The lexemes of schemas/search.py for these texts, which are plain words.
INSERT INTO chat_v1.message_search (chat_id, seq, sender_id, sent_at, tokens)
SELECT m.chat_id, m.seq, m.sender_id, m.sent_at, array_to_tsvector(
    ARRAY['c:' || m.chat_id, 'h:' || h.hour, 'i:' || h.hour / 32, 'j:' || h.hour / 1024]
    || array_remove(string_to_array(m.message_text, ' '), NULL))
FROM chat_v1.chat_messages AS m
CROSS JOIN LATERAL (SELECT floor(extract(epoch FROM m.sent_at) / 3600)::bigint AS hour) AS h
WHERE m.message_text IS NOT NULL
ORDER BY m.sent_at;

-- name: forget_index
-- A rebuild creates it after the load too.
DROP INDEX chat_v1.message_search_tokens;

-- name: forget_step
DELETE FROM chat.schema_migrations WHERE scope = 'chat_v1/indexes' AND number = 8;

-- name: words_by_their_rank
SELECT rank, word FROM public.words;

-- name: texts
-- Of messages that user 1 can find.
SELECT m.message_text FROM chat_v1.chat_messages AS m
JOIN chat_v1.chat_participants AS p ON p.chat_id = m.chat_id AND p.user_id = md5('user 1')::uuid
ORDER BY md5(m.message_id::text) LIMIT %(count)s;

-- name: simple
-- The baseline: Postgres' own words of the same texts.
CREATE TABLE public.simple AS
SELECT chat_id, seq, sent_at, message_text, to_tsvector('simple', message_text) AS tokens FROM chat_v1.chat_messages
ORDER BY sent_at;

-- name: simple_index
CREATE INDEX simple_tokens ON public.simple USING gin (tokens);

-- name: simple_chats
CREATE INDEX simple_chats ON public.simple (chat_id);

-- name: ask_simple
SELECT chat_id, seq, message_text FROM public.simple
WHERE tokens @@ (phraseto_tsquery('simple', %(words)s))
  AND chat_id = ANY (ARRAY(SELECT chat_id FROM chat_v1.chat_participants WHERE user_id = md5('user 1')::uuid))
ORDER BY sent_at DESC, chat_id DESC, seq DESC LIMIT 51;

-- name: ask_ilike
SELECT chat_id, seq, message_text FROM public.simple
WHERE message_text ILIKE '%%' || %(words)s || '%%'
  AND chat_id = ANY (ARRAY(SELECT chat_id FROM chat_v1.chat_participants WHERE user_id = md5('user 1')::uuid))
ORDER BY sent_at DESC, chat_id DESC, seq DESC LIMIT 51;

-- name: sizes
-- Bytes: the index of search, its table, the baseline's index, and the messages.
SELECT pg_relation_size('chat_v1.message_search_tokens'), pg_table_size('chat_v1.message_search'),
    pg_relation_size('public.simple_tokens'), pg_table_size('chat_v1.chat_messages');
