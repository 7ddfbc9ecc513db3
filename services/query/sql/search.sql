-- Search: the newest messages of the caller's present chats that have all lexemes of a query, keyset (sent_at, chat_id,
-- seq). Whether a text has the words is decided by the text itself (search/matching.py).

-- name: search_settings
-- For the transaction. The windows of `search` must be read one after the other: in parallel, an older one could fill
-- the page. What this costs is known, so that the compiler of expressions would only cost more.
SELECT set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true),
    set_config('enable_seqscan', 'off', true);

-- fragment: found_in_window
-- Lexemes first, all in one scan of the index. A caller in many chats is checked on the rows, as a list of all chats
-- costs more than it saves there: in place of the chats, the scan is given a part of the query again. The filter on
-- chat_id is for both, and in a form that no other index can be used for.
s.tokens @@ %(terms)s::tsquery
AND s.tokens @@ (SELECT a.members FROM asked AS a)
AND (s.chat_id IN (SELECT m.chat_id FROM mine AS m)) IS TRUE
AND (s.sent_at, s.chat_id, s.seq) < (%(cursor_at)s::timestamptz, %(cursor_chat_id)s::uuid, %(cursor_seq)s::bigint)
AND s.sent_at < %(before)s::timestamptz AND s.sent_at > %(after)s::timestamptz
AND (%(of_sender)s::text = '' OR s.sender_id::text = %(of_sender)s::text)
ORDER BY s.sent_at DESC, s.chat_id DESC, s.seq DESC
LIMIT %(fetch)s

-- name: search
-- Seven windows, each older and larger than the one before: the last eight hours before the newest message, two days, ten
-- days, two months, eight months, four years, and the rest. A window is read only if those before it have not filled the
-- page (Append under LIMIT), so that a common word costs no more than its newest messages, and a rare one no more than
-- all of its own.
WITH mine AS MATERIALIZED (
    SELECT me.chat_id, c.last_message_at
    FROM chat.chat_participants AS me
    CROSS JOIN LATERAL (SELECT o.last_message_at FROM chat.chats AS o WHERE o.chat_id = me.chat_id LIMIT 1) AS c
    WHERE me.user_id = %(caller_id)s AND me.left_at IS NULL
      AND (%(in_chat)s::text = '' OR me.chat_id::text = %(in_chat)s::text)
), bounds AS MATERIALIZED (
    SELECT
        floor(extract(epoch FROM least(coalesce(max(m.last_message_at), 'epoch'), %(before)s::timestamptz,
                                       %(cursor_at)s::timestamptz)) / 3600)::bigint AS hour,
        CASE WHEN count(m.chat_id) <= %(few_chats)s::bigint
             THEN string_agg('''c:' || m.chat_id || '''', '|')::tsquery ELSE %(again)s::tsquery END AS members
    FROM mine AS m
), asked AS MATERIALIZED (
    -- For a prefix, whose words are looked up again for each window, two of them are empty: those before have theirs.
    SELECT b.hour, b.members,
        CASE WHEN %(has_prefix)s::boolean THEN (b.hour / 32 - 1) * 32 ELSE b.hour - 7 END AS hours_from,
        b.hour / 32 - 8 AS blocks_from,
        CASE WHEN %(has_prefix)s::boolean THEN b.hour / 1024 - 33 ELSE b.hour / 1024 - 5 END AS long_blocks_from
    FROM bounds AS b
)
SELECT f.chat_id::text, f.seq, f.sender_id::text, (extract(epoch FROM (f.sent_at)) * 1000000)::bigint AS sent_at,
       t.message_id::text, t.message_text
FROM (
    (SELECT s.chat_id, s.seq, s.sender_id, s.sent_at
     FROM chat.message_search AS s
     WHERE s.tokens @@ (SELECT string_agg('''h:' || n || '''', '|')::tsquery
                        FROM asked AS a, generate_series(a.hours_from, a.hour) AS n)
       AND {fragment:found_in_window})
    UNION ALL
    (SELECT s.chat_id, s.seq, s.sender_id, s.sent_at
     FROM chat.message_search AS s
     WHERE s.tokens @@ (SELECT string_agg('''h:' || n || '''', '|')::tsquery
                        FROM asked AS a, generate_series((a.hour / 32 - 1) * 32, a.hours_from - 1) AS n)
       AND {fragment:found_in_window})
    UNION ALL
    (SELECT s.chat_id, s.seq, s.sender_id, s.sent_at
     FROM chat.message_search AS s
     WHERE s.tokens @@ (SELECT string_agg('''i:' || n || '''', '|')::tsquery
                        FROM asked AS a, generate_series(a.blocks_from, a.hour / 32 - 2) AS n)
       AND {fragment:found_in_window})
    UNION ALL
    (SELECT s.chat_id, s.seq, s.sender_id, s.sent_at
     FROM chat.message_search AS s
     WHERE s.tokens @@ (SELECT string_agg('''i:' || n || '''', '|')::tsquery
                        FROM asked AS a, generate_series((a.hour / 1024 - 1) * 32, a.blocks_from - 1) AS n)
       AND {fragment:found_in_window})
    UNION ALL
    (SELECT s.chat_id, s.seq, s.sender_id, s.sent_at
     FROM chat.message_search AS s
     WHERE s.tokens @@ (SELECT string_agg('''j:' || n || '''', '|')::tsquery
                        FROM asked AS a, generate_series(a.long_blocks_from, a.hour / 1024 - 2) AS n)
       AND {fragment:found_in_window})
    UNION ALL
    (SELECT s.chat_id, s.seq, s.sender_id, s.sent_at
     FROM chat.message_search AS s
     WHERE s.tokens @@ (SELECT string_agg('''j:' || n || '''', '|')::tsquery
                        FROM asked AS a, generate_series(a.hour / 1024 - 33, a.long_blocks_from - 1) AS n)
       AND {fragment:found_in_window})
    UNION ALL
    (SELECT s.chat_id, s.seq, s.sender_id, s.sent_at
     FROM chat.message_search AS s
     WHERE s.sent_at < (SELECT to_timestamp((a.hour / 1024 - 33) * 1024 * 3600) FROM asked AS a)
       AND {fragment:found_in_window})
    LIMIT %(fetch)s
) AS f
LEFT JOIN LATERAL (
    SELECT o.message_id, o.message_text
    FROM chat.chat_messages AS o
    WHERE o.chat_id = f.chat_id AND o.seq = f.seq AND o.deleted_at IS NULL
    LIMIT 1
) AS t ON true
ORDER BY f.sent_at DESC, f.chat_id DESC, f.seq DESC;
