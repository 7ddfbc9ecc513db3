-- name: lock_all_feeders_out
-- A feeder locks its position's row first, so the holder of this lock cannot deadlock with it over the other tables. A
-- version that is older than search has no positions of search.
DO $$
BEGIN
    LOCK TABLE {schema}.projection_positions IN ACCESS EXCLUSIVE MODE;
    IF to_regclass('{schema}.search_positions') IS NOT NULL THEN
        LOCK TABLE {schema}.search_positions IN ACCESS EXCLUSIVE MODE;
    END IF;
END
$$;

-- name: drop_schema
DROP SCHEMA IF EXISTS {schema} CASCADE;

-- name: lock_positions
-- Lets readers read, and makes every feeder of this version wait at its guard.
LOCK TABLE {schema}.projection_positions, {schema}.search_positions IN SHARE ROW EXCLUSIVE MODE;

-- name: positions
-- What of a partition is at which offset: its tables and its search.
SELECT false AS of_search, partition, next_offset FROM {schema}.projection_positions
UNION ALL SELECT true, partition, next_offset FROM {schema}.search_positions;

-- name: progress
SELECT p.partition, p.next_offset, coalesce(s.next_offset, 0),
    extract(epoch FROM clock_timestamp() - p.updated_at)::float8
FROM {schema}.projection_positions p LEFT JOIN {schema}.search_positions s ON s.partition = p.partition
ORDER BY p.partition;

-- name: stands
SELECT false AS of_search, partition, topic_id, next_offset FROM {schema}.projection_positions
UNION ALL SELECT true, partition, topic_id, next_offset FROM {schema}.search_positions;

-- name: hold_autovacuum_off
-- For the tables of a load, while they are loaded and indexed: autovacuum would find new rows all the time, and each
-- index would wait a second for its lock.
ALTER TABLE {schema}.chat_messages SET (autovacuum_enabled = off);
ALTER TABLE {schema}.outcomes SET (autovacuum_enabled = off);
ALTER TABLE {schema}.message_search SET (autovacuum_enabled = off);

-- name: let_autovacuum_in
ALTER TABLE {schema}.chat_messages RESET (autovacuum_enabled);
ALTER TABLE {schema}.outcomes RESET (autovacuum_enabled);
ALTER TABLE {schema}.message_search RESET (autovacuum_enabled);

-- name: analyze
ANALYZE {schema}.chats, {schema}.chat_participants, {schema}.chat_messages, {schema}.deleted_blocks, {schema}.outcomes,
    {schema}.message_search;
