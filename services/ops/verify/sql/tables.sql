-- The read model as the verifier reads it, in one snapshot. Columns are in the order of tables.py; instants are
-- exact microseconds since 1970 UTC; identifiers are cast to text, and rows are ordered by the columns
-- themselves, not by their text, whose order depends on the collation of the database.

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

-- name: all_chats
SELECT c.chat_id::text, c.kind, c.name, c.created_by::text,
    (extract(epoch FROM c.created_at) * 1000000)::bigint, c.last_seq, c.last_position,
    (extract(epoch FROM c.last_message_at) * 1000000)::bigint, c.deleted_total
FROM {schema}.chats AS c;

-- name: group_chats
SELECT c.chat_id::text, c.kind, c.name, c.created_by::text,
    (extract(epoch FROM c.created_at) * 1000000)::bigint, c.last_seq, c.last_position,
    (extract(epoch FROM c.last_message_at) * 1000000)::bigint, c.deleted_total
FROM {schema}.chats AS c WHERE c.chat_id = %(group)s;

-- name: all_chat_participants
SELECT p.chat_id::text, p.user_id::text, p.role, (extract(epoch FROM p.joined_at) * 1000000)::bigint,
    p.joined_seq, (extract(epoch FROM p.left_at) * 1000000)::bigint, p.read_seq,
    (extract(epoch FROM p.last_read_at) * 1000000)::bigint, p.delivered_seq, p.own_live_after_read,
    p.changed_position
FROM {schema}.chat_participants AS p;

-- name: group_chat_participants
SELECT p.chat_id::text, p.user_id::text, p.role, (extract(epoch FROM p.joined_at) * 1000000)::bigint,
    p.joined_seq, (extract(epoch FROM p.left_at) * 1000000)::bigint, p.read_seq,
    (extract(epoch FROM p.last_read_at) * 1000000)::bigint, p.delivered_seq, p.own_live_after_read,
    p.changed_position
FROM {schema}.chat_participants AS p WHERE p.chat_id = %(group)s ORDER BY p.user_id;

-- name: all_chat_messages
SELECT m.chat_id::text, m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
    m.reply_to_message_id::text, m.root_seq, m.reply_count, m.media_urls, m.metadata::text,
    (extract(epoch FROM m.sent_at) * 1000000)::bigint, (extract(epoch FROM m.original_sent_at) * 1000000)::bigint,
    (extract(epoch FROM m.edited_at) * 1000000)::bigint, (extract(epoch FROM m.deleted_at) * 1000000)::bigint,
    m.position, m.changed_position
FROM {schema}.chat_messages AS m;

-- name: group_chat_messages
SELECT m.chat_id::text, m.seq, m.message_id::text, m.sender_id::text, m.message_text, m.client_generated_id,
    m.reply_to_message_id::text, m.root_seq, m.reply_count, m.media_urls, m.metadata::text,
    (extract(epoch FROM m.sent_at) * 1000000)::bigint, (extract(epoch FROM m.original_sent_at) * 1000000)::bigint,
    (extract(epoch FROM m.edited_at) * 1000000)::bigint, (extract(epoch FROM m.deleted_at) * 1000000)::bigint,
    m.position, m.changed_position
FROM {schema}.chat_messages AS m WHERE m.chat_id = %(group)s ORDER BY m.seq;

-- name: all_deleted_blocks
SELECT b.chat_id::text, b.span, b.block, b.deleted, b.places::text
FROM {schema}.deleted_blocks AS b;

-- name: group_deleted_blocks
SELECT b.chat_id::text, b.span, b.block, b.deleted, b.places::text
FROM {schema}.deleted_blocks AS b WHERE b.chat_id = %(group)s ORDER BY b.span, b.block;

-- name: all_outcomes
SELECT o.partition, o.index, o.command_id::text, o.sender_id::text, o.type, o.outcome, o.reason, o.seq, o.position,
    (extract(epoch FROM o.at) * 1000000)::bigint,
    CASE WHEN o.outcome = 'rejected' THEN o.detail ELSE nullif(o.detail, '') END
FROM {schema}.outcomes AS o WHERE o.at >= %(since)s;

-- name: group_outcomes
SELECT o.partition, o.index, o.command_id::text, o.sender_id::text, o.type, o.outcome, o.reason, o.seq, o.position,
    (extract(epoch FROM o.at) * 1000000)::bigint,
    CASE WHEN o.outcome = 'rejected' THEN o.detail ELSE nullif(o.detail, '') END
FROM {schema}.outcomes AS o WHERE o.partition = %(group)s AND o.at >= %(since)s
ORDER BY o.index;

-- name: without_detail
-- Rejections projected by a release without details: they have the default of the column.
SELECT o.index FROM {schema}.outcomes AS o
WHERE o.partition = %(partition)s AND o.at >= %(since)s AND o.outcome = 'rejected' AND o.detail = '';
