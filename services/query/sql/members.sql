-- Pages of the present members of a chat, keyset user_id. A cursor names the next one, so the bound is inclusive and
-- the first page needs no statement of its own.

-- name: members
SELECT p.user_id::text, p.role, p.joined_at, p.joined_seq
FROM chat.chat_participants AS p
WHERE p.chat_id = %(chat_id)s AND p.user_id >= %(from_user_id)s AND p.left_at IS NULL
ORDER BY p.user_id
LIMIT %(fetch)s;

-- name: read_state
SELECT p.user_id::text, p.read_seq, p.delivered_seq, p.last_read_at
FROM chat.chat_participants AS p
WHERE p.chat_id = %(chat_id)s AND p.user_id >= %(from_user_id)s AND p.left_at IS NULL
ORDER BY p.user_id
LIMIT %(fetch)s;
