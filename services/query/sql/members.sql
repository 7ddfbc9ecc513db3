-- Pages of the present members of a chat, keyset user_id. A cursor names the next member, so the bound is inclusive and
-- the first page needs no statement of its own. Nothing is looked up unless the caller is a present member; see
-- membership.sql.

-- name: members
SELECT p.user_id::text, p.role, p.joined_at, p.joined_seq
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT o.user_id, o.role, o.joined_at, o.joined_seq
    FROM chat.chat_participants AS o
    WHERE o.chat_id = me.chat_id AND o.user_id >= %(from_user_id)s AND o.left_at IS NULL
    ORDER BY o.user_id
    LIMIT %(fetch)s
) AS p
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;
