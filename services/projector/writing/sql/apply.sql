-- Writes one batch of one partition. Statements on rows take arrays, one element per row: a batch is a handful of
-- statements whatever its size. The fragments are the fields of the row types of mapping/tables.py (columns.py);
-- `…_rows` is a relation `m` of the given rows.

-- name: roots
SELECT message_id, chat_id, seq, root_seq FROM {schema}.chat_messages WHERE message_id = ANY(%(message_ids)s::uuid[]);

-- name: last_seqs
SELECT chat_id, last_seq FROM {schema}.chats WHERE chat_id = ANY(%(chat_ids)s::uuid[]);

-- name: written
SELECT m.chat_id, m.seq, m.revision, m.message_text, m.written_at
FROM unnest(%(chat_ids)s::uuid[], %(seqs)s::bigint[]) AS edited (chat_id, seq)
    CROSS JOIN LATERAL (
        SELECT chat_id, seq, revision, message_text, coalesce(edited_at, sent_at) AS written_at
        FROM {schema}.chat_messages
        WHERE chat_id = edited.chat_id AND seq = edited.seq AND deleted_at IS NULL OFFSET 0
    ) AS m;

-- name: reaction_counts
SELECT c.chat_id, c.seq, c.emoji, c.users, c.first_position
FROM unnest(%(chat_id)s::uuid[], %(seq)s::bigint[], %(emoji)s::text[]) AS m (chat_id, seq, emoji)
    JOIN {schema}.reaction_counts c ON c.chat_id = m.chat_id AND c.seq = m.seq AND c.emoji = m.emoji;

-- name: chats_created
INSERT INTO {schema}.chats ({fragment:chats_created_columns})
SELECT * FROM {fragment:chats_created_rows};

-- name: participants_joined
-- A member who joins again starts afresh; only last_read_at is kept.
INSERT INTO {schema}.chat_participants AS p ({fragment:participants_joined_columns})
SELECT * FROM {fragment:participants_joined_rows}
ON CONFLICT (chat_id, user_id) DO UPDATE SET
    role = excluded.role, joined_at = excluded.joined_at, joined_seq = excluded.joined_seq,
    left_at = excluded.left_at, read_seq = excluded.read_seq,
    last_read_at = coalesce(excluded.last_read_at, p.last_read_at),
    delivered_seq = excluded.delivered_seq, own_live_after_read = excluded.own_live_after_read,
    changed_position = excluded.changed_position, changed_index = excluded.changed_index;

-- name: participants_moved
-- Runs before the batch's messages and before chats_moved, so that what it counts, and c.last_seq, is the state
-- before the batch; own_in_batch is what the batch adds above the new cursor. Of the messages before the batch it
-- counts the smaller set: those that the receipt passes, or those that stay above it.
-- OFFSET 0 keeps each look-up of a row a subquery of its own, by all columns of the key. No other process changes the
-- rows of this partition (the guard), so a row is still where it was found.
UPDATE {schema}.chat_participants p
SET read_seq = coalesce(m.read_seq, p.read_seq),
    last_read_at = coalesce(m.last_read_at, p.last_read_at),
    delivered_seq = coalesce(m.delivered_seq, p.delivered_seq),
    left_at = coalesce(m.left_at, p.left_at),
    changed_position = coalesce(m.changed_position, p.changed_position),
    changed_index = coalesce(m.changed_index, p.changed_index),
    own_live_after_read = m.own_in_batch + CASE
        WHEN m.read_seq IS NULL THEN p.own_live_after_read
        WHEN p.own_live_after_read = 0 OR m.read_seq >= c.last_seq THEN 0
        WHEN m.read_seq - p.read_seq < c.last_seq - m.read_seq THEN p.own_live_after_read - (
            SELECT count(*) FROM {schema}.chat_messages o
            WHERE o.chat_id = p.chat_id AND o.sender_id = p.user_id AND o.deleted_at IS NULL
              AND o.seq > p.read_seq AND o.seq <= m.read_seq)
        ELSE (
            SELECT count(*) FROM {schema}.chat_messages o
            WHERE o.chat_id = p.chat_id AND o.sender_id = p.user_id AND o.deleted_at IS NULL
              AND o.seq > m.read_seq)
        END
FROM {fragment:participants_moved_rows}
    CROSS JOIN LATERAL (SELECT last_seq FROM {schema}.chats WHERE chat_id = m.chat_id OFFSET 0) AS c
    CROSS JOIN LATERAL (
        SELECT ctid FROM {schema}.chat_participants WHERE chat_id = m.chat_id AND user_id = m.user_id OFFSET 0
    ) AS found
WHERE p.ctid = found.ctid;

-- name: roles_changed
-- Separate from participants_moved, which every send needs: a role rarely changes.
UPDATE {schema}.chat_participants p SET role = m.role
FROM {fragment:roles_changed_rows}
    CROSS JOIN LATERAL (
        SELECT ctid FROM {schema}.chat_participants WHERE chat_id = m.chat_id AND user_id = m.user_id OFFSET 0
    ) AS found
WHERE p.ctid = found.ctid;

-- name: chats_moved
UPDATE {schema}.chats c
SET last_position = m.last_position, changed_index = m.changed_index,
    last_seq = coalesce(m.last_seq, c.last_seq),
    last_message_at = coalesce(m.last_message_at, c.last_message_at)
FROM {fragment:chats_moved_rows}
WHERE c.chat_id = m.chat_id;

-- name: chats_renamed
-- Separate from chats_moved, which every send needs: a chat is rarely renamed.
UPDATE {schema}.chats c SET name = m.name
FROM {fragment:chats_renamed_rows}
    CROSS JOIN LATERAL (
        SELECT ctid FROM {schema}.chats WHERE chat_id = m.chat_id OFFSET 0
    ) AS found
WHERE c.ctid = found.ctid;

-- name: roots_replied
UPDATE {schema}.chat_messages c
SET reply_count = c.reply_count + m.replies, last_reply_seq = coalesce(m.last_reply_seq, c.last_reply_seq),
    changed_position = m.changed_position
FROM {fragment:roots_replied_rows}
    CROSS JOIN LATERAL (
        SELECT ctid FROM {schema}.chat_messages WHERE chat_id = m.chat_id AND seq = m.seq OFFSET 0
    ) AS found
WHERE c.ctid = found.ctid;

-- The next five run only if reactions are added or removed. They are separate rows, so that a message with a thousand
-- reactions costs no more to react to than one with none.

-- name: messages_reacted
UPDATE {schema}.chat_messages c
SET changed_position = greatest(c.changed_position, m.changed_position)
FROM {fragment:messages_reacted_rows}
    CROSS JOIN LATERAL (
        SELECT ctid FROM {schema}.chat_messages WHERE chat_id = m.chat_id AND seq = m.seq OFFSET 0
    ) AS found
WHERE c.ctid = found.ctid;

-- name: reactions_removed
DELETE FROM {schema}.reactions r
USING {fragment:reactions_removed_rows}
WHERE r.chat_id = m.chat_id AND r.seq = m.seq AND r.emoji = m.emoji AND r.user_id = m.user_id;

-- name: reactions_added
INSERT INTO {schema}.reactions ({fragment:reactions_added_columns})
SELECT * FROM {fragment:reactions_added_rows}
ON CONFLICT (chat_id, seq, emoji, user_id) DO UPDATE SET changed_position = excluded.changed_position;

-- name: reactions_gone
DELETE FROM {schema}.reaction_counts r
USING {fragment:reactions_gone_rows}
WHERE r.chat_id = m.chat_id AND r.seq = m.seq AND r.emoji = m.emoji;

-- name: reactions_counted
INSERT INTO {schema}.reaction_counts ({fragment:reactions_counted_columns})
SELECT * FROM {fragment:reactions_counted_rows}
ON CONFLICT (chat_id, seq, emoji) DO UPDATE
SET users = excluded.users, first_position = excluded.first_position;

-- name: texts_replaced
INSERT INTO {schema}.earlier_texts ({fragment:texts_replaced_columns})
SELECT * FROM {fragment:texts_replaced_rows};

-- The next eight run only if a batch deletes messages, after everything above.

-- name: reactions_of_deleted
-- However many a message has.
DELETE FROM {schema}.reactions r
USING unnest(%(chat_id)s::uuid[], %(seq)s::bigint[]) AS d (chat_id, seq)
WHERE r.chat_id = d.chat_id AND r.seq = d.seq;

-- name: counts_of_deleted
DELETE FROM {schema}.reaction_counts r
USING unnest(%(chat_id)s::uuid[], %(seq)s::bigint[]) AS d (chat_id, seq)
WHERE r.chat_id = d.chat_id AND r.seq = d.seq;

-- name: texts_of_deleted
DELETE FROM {schema}.earlier_texts t
USING unnest(%(chat_id)s::uuid[], %(seq)s::bigint[]) AS d (chat_id, seq)
WHERE t.chat_id = d.chat_id AND t.seq = d.seq;

-- name: own_deleted
-- Messages from before the batch that it deletes, and that are above their sender's cursor as the batch leaves it, no
-- longer count as the sender's live ones. They did when the batch began: `participants_moved` has counted them. The
-- sender may have left since, or have joined again after them.
UPDATE {schema}.chat_participants p
SET own_live_after_read = p.own_live_after_read - own.deleted
FROM (
    SELECT sender.ctid, count(*) AS deleted
    FROM unnest(%(chat_id)s::uuid[], %(seq)s::bigint[]) AS d (chat_id, seq)
        CROSS JOIN LATERAL (
            SELECT sender_id FROM {schema}.chat_messages WHERE chat_id = d.chat_id AND seq = d.seq OFFSET 0
        ) AS message
        CROSS JOIN LATERAL (
            SELECT ctid, read_seq FROM {schema}.chat_participants
            WHERE chat_id = d.chat_id AND user_id = message.sender_id OFFSET 0
        ) AS sender
    WHERE d.seq > sender.read_seq
    GROUP BY sender.ctid
) AS own
WHERE p.ctid = own.ctid;

-- name: messages_deleted
-- A reply in the same batch may have changed the row later.
UPDATE {schema}.chat_messages c
SET message_text = NULL, media_urls = '{}', metadata = NULL, deleted_at = m.deleted_at,
    changed_position = greatest(c.changed_position, m.changed_position)
FROM {fragment:messages_deleted_rows}
    CROSS JOIN LATERAL (
        SELECT ctid FROM {schema}.chat_messages
        WHERE chat_id = m.chat_id AND seq = m.seq AND deleted_at IS NULL OFFSET 0
    ) AS found
WHERE c.ctid = found.ctid;

-- name: threads_of_deleted
-- A thread counts its live replies. The replies of the batch are counted already (roots_replied): if one of them is live,
-- it is the last one. Otherwise the reply before the deleted ones is, found backward from there.
UPDATE {schema}.chat_messages c
SET reply_count = c.reply_count - gone.replies,
    last_reply_seq = CASE WHEN c.last_reply_seq <> ALL (gone.seqs) THEN c.last_reply_seq ELSE (
        SELECT r.seq FROM {schema}.chat_messages r
        WHERE r.chat_id = c.chat_id AND r.root_seq = c.seq AND r.deleted_at IS NULL
          AND r.seq > c.seq AND r.seq < c.last_reply_seq
        ORDER BY r.seq DESC LIMIT 1) END,
    changed_position = greatest(c.changed_position, gone.changed_position)
FROM (
    SELECT root.ctid, count(*) AS replies, array_agg(m.seq) AS seqs, max(m.changed_position) AS changed_position
    FROM {fragment:messages_deleted_rows}
        CROSS JOIN LATERAL (
            SELECT root_seq FROM {schema}.chat_messages WHERE chat_id = m.chat_id AND seq = m.seq OFFSET 0
        ) AS reply
        CROSS JOIN LATERAL (
            SELECT ctid FROM {schema}.chat_messages WHERE chat_id = m.chat_id AND seq = reply.root_seq OFFSET 0
        ) AS root
    GROUP BY root.ctid
) AS gone
WHERE c.ctid = gone.ctid;

-- name: chats_deleted
UPDATE {schema}.chats c
SET deleted_total = c.deleted_total + m.deleted
FROM {fragment:chats_deleted_rows}
WHERE c.chat_id = m.chat_id;

-- name: blocks_deleted
INSERT INTO {schema}.deleted_blocks AS b ({fragment:blocks_deleted_columns})
SELECT * FROM {fragment:blocks_deleted_rows}
ON CONFLICT (chat_id, span, block) DO UPDATE SET
    deleted = b.deleted + excluded.deleted, places = b.places | excluded.places;

-- name: messages_edited
-- Runs after the batch's messages, which may be edited in it. One that the batch deletes keeps no content.
UPDATE {schema}.chat_messages c
SET message_text = CASE WHEN NOT m.deleted THEN m.message_text END,
    media_urls = CASE WHEN m.deleted OR m.media_urls IS NULL THEN c.media_urls
        ELSE ARRAY(SELECT jsonb_array_elements_text(m.media_urls::jsonb)) END,
    metadata = CASE WHEN m.deleted OR m.metadata IS NULL THEN c.metadata ELSE m.metadata::jsonb END,
    edited_at = m.edited_at, revision = m.revision,
    changed_position = greatest(c.changed_position, m.changed_position)
FROM {fragment:messages_edited_rows}
    CROSS JOIN LATERAL (
        SELECT ctid FROM {schema}.chat_messages
        WHERE chat_id = m.chat_id AND seq = m.seq AND (deleted_at IS NOT NULL) = m.deleted OFFSET 0
    ) AS found
WHERE c.ctid = found.ctid;

-- name: copy_messages
COPY {schema}.chat_messages ({fragment:messages_columns}) FROM STDIN (FORMAT BINARY);

-- name: copy_outcomes
COPY {schema}.outcomes ({fragment:outcomes_columns}) FROM STDIN (FORMAT BINARY);

-- name: insert_message
INSERT INTO {schema}.chat_messages ({fragment:messages_columns}) VALUES ({fragment:messages_values});

-- name: insert_outcome
INSERT INTO {schema}.outcomes ({fragment:outcomes_columns}) VALUES ({fragment:outcomes_values});

-- name: prune_outcomes
-- The oldest outcomes of a partition have its lowest indexes (time never decreases in a partition), so that no index on
-- `at` is needed; a piece is bounded, so that it never blocks anything for long. Age is counted from the log's latest
-- time if our clock is ahead of it: a wrong clock must not delete young outcomes.
DELETE FROM {schema}.outcomes o
USING (
    SELECT partition, index FROM {schema}.outcomes
    WHERE partition = %(partition)s ORDER BY index LIMIT %(piece)s
) oldest
WHERE o.partition = oldest.partition AND o.index = oldest.index 
  AND o.at < LEAST(
      %(before)s,
      (SELECT to_timestamp(max(last_timestamp_ms) / 1000.0) FROM {schema}.projection_positions) - %(kept)s
  );
