-- The read model as the verifier reads it, in one snapshot. The columns of each table and their forms are those of
-- projection/tables.py; rows are ordered by the columns themselves, not by their text, whose order depends on the
-- collation of the database.

-- name: no_statement_timeout
-- The transaction lasts as long as reading the log takes, and every wait for the log counts as idle.
SET LOCAL statement_timeout = 0;

-- name: no_idle_timeout
SET LOCAL idle_in_transaction_session_timeout = 0;

-- name: now_us
SELECT (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint;

-- name: served_schema
-- The schema whose tables the public views show now, taken from the views themselves, not from a registry.
SELECT DISTINCT tables.relnamespace::regnamespace::text
FROM pg_class AS views
JOIN pg_rewrite AS rules ON rules.ev_class = views.oid
JOIN pg_depend AS uses ON uses.classid = 'pg_rewrite'::regclass AND uses.objid = rules.oid
JOIN pg_class AS tables ON tables.oid = uses.refobjid AND uses.refclassid = 'pg_class'::regclass
WHERE views.relnamespace = to_regnamespace('chat') AND views.relname = 'chat_messages'
    AND tables.relkind IN ('r', 'p');

-- name: schemas
-- Every projection that has positions.
SELECT relnamespace::regnamespace::text FROM pg_class
WHERE relname = 'projection_positions' AND relkind IN ('r', 'p')
    AND relnamespace::regnamespace::text ~ '^chat_v[1-9][0-9]*$'
ORDER BY 1;

-- name: positions
SELECT p.partition, p.topic_id, p.next_offset, p.term, p.index, p.command_offset, p.last_timestamp_ms
FROM {schema}.projection_positions AS p ORDER BY p.partition;

-- name: search_positions
SELECT p.partition, p.topic_id, p.next_offset, p.term, p.index, p.command_offset, p.last_timestamp_ms
FROM {schema}.search_positions AS p ORDER BY p.partition;

-- name: all_chats
SELECT {fragment:chats_columns}
FROM {schema}.chats AS c;

-- name: group_chats
SELECT {fragment:chats_columns}
FROM {schema}.chats AS c WHERE c.chat_id = %(group)s;

-- name: all_chat_participants
SELECT {fragment:chat_participants_columns}
FROM {schema}.chat_participants AS p;

-- name: group_chat_participants
SELECT {fragment:chat_participants_columns}
FROM {schema}.chat_participants AS p WHERE p.chat_id = %(group)s ORDER BY p.user_id;

-- name: all_chat_messages
SELECT {fragment:chat_messages_columns}
FROM {schema}.chat_messages AS m;

-- name: group_chat_messages
SELECT {fragment:chat_messages_columns}
FROM {schema}.chat_messages AS m WHERE m.chat_id = %(group)s ORDER BY m.seq;

-- name: all_earlier_texts
SELECT {fragment:earlier_texts_columns}
FROM {schema}.earlier_texts AS t;

-- name: group_earlier_texts
SELECT {fragment:earlier_texts_columns}
FROM {schema}.earlier_texts AS t WHERE t.chat_id = %(group)s ORDER BY t.seq, t.revision;

-- name: all_deleted_blocks
SELECT {fragment:deleted_blocks_columns}
FROM {schema}.deleted_blocks AS b;

-- name: group_deleted_blocks
SELECT {fragment:deleted_blocks_columns}
FROM {schema}.deleted_blocks AS b WHERE b.chat_id = %(group)s ORDER BY b.span, b.block;

-- name: all_reactions
SELECT {fragment:reactions_columns}
FROM {schema}.reactions AS r;

-- name: group_reactions
SELECT {fragment:reactions_columns}
FROM {schema}.reactions AS r WHERE r.chat_id = %(group)s ORDER BY r.seq, r.emoji COLLATE "C", r.user_id;

-- name: all_reaction_counts
SELECT {fragment:reaction_counts_columns}
FROM {schema}.reaction_counts AS r;

-- name: group_reaction_counts
SELECT {fragment:reaction_counts_columns}
FROM {schema}.reaction_counts AS r WHERE r.chat_id = %(group)s ORDER BY r.seq, r.emoji COLLATE "C";

-- name: all_message_search
SELECT {fragment:message_search_columns}
FROM {schema}.message_search AS s;

-- name: group_message_search
SELECT {fragment:message_search_columns}
FROM {schema}.message_search AS s WHERE s.chat_id = %(group)s ORDER BY s.seq;

-- name: all_outcomes
SELECT {fragment:outcomes_columns}
FROM {schema}.outcomes AS o WHERE o.at >= %(since)s;

-- name: group_outcomes
SELECT {fragment:outcomes_columns}
FROM {schema}.outcomes AS o WHERE o.partition = %(group)s AND o.at >= %(since)s
ORDER BY o.index;

-- name: without_detail
-- Rejections projected by a release without details: they have the default of the column.
SELECT o.index FROM {schema}.outcomes AS o
WHERE o.partition = %(partition)s AND o.at >= %(since)s AND o.outcome = 'rejected' AND o.detail = '';
