-- Threads and what edits replaced: pages of messages in the order of their index. A cursor names the first row of the next
-- page, so the bound is inclusive. Nothing is looked up unless the caller is a present member; see membership.sql.

-- name: replies
-- By the index on (chat_id, root_seq, seq).
SELECT page.*
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT {fragment:message_columns}
    FROM chat.chat_messages AS m
    WHERE m.chat_id = me.chat_id AND m.root_seq = %(root_seq)s AND m.seq >= %(from_seq)s
    ORDER BY m.seq
    LIMIT %(fetch)s
) AS page
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: threads
-- By the index on (chat_id, last_reply_seq), which holds nothing but roots with a live reply.
SELECT page.*
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT {fragment:message_columns}
    FROM chat.chat_messages AS m
    WHERE m.chat_id = me.chat_id AND m.last_reply_seq <= %(from_last_reply_seq)s
    ORDER BY m.last_reply_seq DESC
    LIMIT %(fetch)s
) AS page
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: edits
SELECT t.revision, t.message_text, t.written_at
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT o.revision, o.message_text, o.written_at
    FROM chat.earlier_texts AS o
    WHERE o.chat_id = me.chat_id AND o.seq = %(seq)s AND o.revision <= %(from_revision)s
    ORDER BY o.revision DESC
    LIMIT %(fetch)s
) AS t
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;
