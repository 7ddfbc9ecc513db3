-- The position of a partition in the log, which guards every batch: of the projection, or of its search.

-- name: start_position
INSERT INTO {schema}.{positions}
    (partition, topic_id, next_offset, term, index, command_offset, last_timestamp_ms, updated_at)
VALUES (%(partition)s, %(topic_id)s, 0, 0, 0, -1, 0, now())
ON CONFLICT DO NOTHING;

-- name: position
SELECT topic_id, next_offset, term, index, command_offset, last_timestamp_ms
FROM {schema}.{positions} WHERE partition = %(partition)s;

-- name: last_record
-- For the position that was read before: another projector may have moved on between the two statements.
SELECT last_record FROM {schema}.{positions}
WHERE partition = %(partition)s AND next_offset = %(next_offset)s AND last_record_at = next_offset;

-- name: advance
-- The guard. A second projector waits here for the first one's commit, and then finds no row.
UPDATE {schema}.{positions}
SET next_offset = %(next_offset)s, term = %(term)s, index = %(index)s, command_offset = %(command_offset)s,
    last_timestamp_ms = %(last_timestamp_ms)s, updated_at = clock_timestamp(),
    last_record = %(last_record)s, last_record_at = %(next_offset)s
WHERE partition = %(partition)s AND next_offset = %(from_offset)s AND topic_id = %(topic_id)s;

-- name: confirm
-- For a partition that is fed without anything to write: query checks the time to see whether the tables are fed.
UPDATE {schema}.{positions} SET updated_at = clock_timestamp()
WHERE partition = %(partition)s AND next_offset = %(next_offset)s AND topic_id = %(topic_id)s;

-- name: commit_without_waiting
-- For a rebuild: no reader uses the tables yet, and what a crash of the server loses is folded again.
SET LOCAL synchronous_commit = off;

-- name: by_key
-- Makes the planner look up each changed row by its key. It plans once for many batches, maybe when the tables were
-- empty, and a plan that looked cheap then would scan a chat's members for each receipt.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true);
