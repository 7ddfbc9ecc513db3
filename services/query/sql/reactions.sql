-- Pages of the reactions to a message, keyset (emoji, user_id). A cursor names the next reaction, so the bound is inclusive
-- and the first page needs no statement of its own. Nothing is looked up unless the caller is a present member; see
-- membership.sql.

-- name: reactions
SELECT r.emoji, r.user_id::text
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT o.emoji, o.user_id
    FROM chat.reactions AS o
    WHERE o.chat_id = me.chat_id AND o.seq = %(seq)s
      AND (o.emoji, o.user_id) >= (%(from_emoji)s::text COLLATE "C", %(from_user_id)s::uuid)
    ORDER BY o.emoji, o.user_id
    LIMIT %(fetch)s
) AS r
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: reactions_with
-- The same for one emoji. A separate statement, so that a cached plan never has to serve both.
SELECT r.emoji, r.user_id::text
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT o.emoji, o.user_id
    FROM chat.reactions AS o
    WHERE o.chat_id = me.chat_id AND o.seq = %(seq)s AND o.emoji = %(from_emoji)s AND o.user_id >= %(from_user_id)s
    ORDER BY o.user_id
    LIMIT %(fetch)s
) AS r
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;
