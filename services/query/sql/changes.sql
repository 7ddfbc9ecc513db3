-- What has changed in a chat since a position: messages and members by their `changed_position`, each as it is now. Nothing is
-- looked up unless the caller is a present member; see membership.sql.

-- fragment: message_bytes
-- A lower bound of what a message takes in an answer, so that the rows that are read are limited with it.
400 + octet_length(COALESCE(i.message_text, '')) + octet_length(COALESCE(i.metadata::text, ''))
+ octet_length(i.media_urls::text)

-- fragment: member_columns
-- In the order of the fields of api/paths/changes.py:MemberRow.
o.user_id::text, o.role, (date_part('epoch', o.joined_at) * 1000)::bigint AS joined_at, o.joined_seq,
(date_part('epoch', o.left_at) * 1000)::bigint AS left_at, o.read_seq, o.delivered_seq,
(date_part('epoch', o.last_read_at) * 1000)::bigint AS last_read_at, o.changed_position

-- name: changed_messages
-- The oldest changes, by the index on (chat_id, changed_position): as many as fit, and how many there are up to `fetch`.
SELECT k.found, page.*
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT n.chat_id, n.seq, count(n.seq) OVER () AS found,
           sum(n.bytes) OVER (ORDER BY n.changed_position ROWS UNBOUNDED PRECEDING) - n.bytes AS bytes_before
    FROM (
        SELECT i.chat_id, i.seq, i.changed_position, {fragment:message_bytes} AS bytes
        FROM chat.chat_messages AS i
        WHERE i.chat_id = me.chat_id AND i.changed_position > %(after_position)s
        ORDER BY i.changed_position
        LIMIT %(fetch)s
    ) AS n
) AS k
CROSS JOIN LATERAL (
    SELECT {fragment:message_columns}
    FROM chat.chat_messages AS m
    WHERE m.chat_id = k.chat_id AND m.seq = k.seq
    LIMIT 1
) AS page
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL
  AND k.bytes_before < %(max_bytes)s;

-- name: changed_members
-- No index has members by their changes, which are mostly receipts: all members of the chat are read.
SELECT p.*
FROM chat.chat_participants AS me
CROSS JOIN LATERAL (
    SELECT {fragment:member_columns}
    FROM chat.chat_participants AS o
    WHERE o.chat_id = me.chat_id AND o.changed_position > %(after_position)s
    ORDER BY o.changed_position
    LIMIT %(fetch_members)s
) AS p
WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;

-- name: newest_changed_messages
-- Of several chats, the newest changes of each. `max_bytes` is for all of them, and first for the newest of each; what is
-- beyond it has a row without values.
SELECT k.chat_id::text, page.*
FROM (
    SELECT n.chat_id, n.seq,
           sum(n.bytes) OVER (ORDER BY n.age ROWS UNBOUNDED PRECEDING) AS bytes_so_far
    FROM (
        SELECT me.chat_id, newest.seq, newest.bytes,
               row_number() OVER (PARTITION BY me.chat_id ORDER BY newest.changed_position DESC) AS age
        FROM unnest(%(chat_ids)s::uuid[], %(after_positions)s::bigint[]) AS asked (chat_id, after_position)
        JOIN chat.chat_participants AS me
          ON me.chat_id = asked.chat_id AND me.user_id = %(caller_id)s AND me.left_at IS NULL
        CROSS JOIN LATERAL (
            SELECT i.seq, i.changed_position, {fragment:message_bytes} AS bytes
            FROM chat.chat_messages AS i
            WHERE i.chat_id = me.chat_id AND i.changed_position > asked.after_position
            ORDER BY i.changed_position DESC
            LIMIT %(fetch)s
        ) AS newest
    ) AS n
) AS k
LEFT JOIN LATERAL (
    SELECT {fragment:message_columns}
    FROM chat.chat_messages AS m
    WHERE m.chat_id = k.chat_id AND m.seq = k.seq AND k.bytes_so_far <= %(max_bytes)s
    LIMIT 1
) AS page
ON true;

-- name: some_changed_members
-- Of several chats: all members that changed, or `fetch` of them.
SELECT me.chat_id::text, p.*
FROM unnest(%(chat_ids)s::uuid[], %(after_positions)s::bigint[]) AS asked (chat_id, after_position)
JOIN chat.chat_participants AS me ON me.chat_id = asked.chat_id
CROSS JOIN LATERAL (
    SELECT {fragment:member_columns}
    FROM chat.chat_participants AS o
    WHERE o.chat_id = me.chat_id AND o.changed_position > asked.after_position
    LIMIT %(fetch_members)s
) AS p
WHERE me.user_id = %(caller_id)s AND me.left_at IS NULL;
