-- name: lock_all_feeders_out
-- A feeder takes its position's row first: whoever has this lock cannot deadlock with one over the other tables.
LOCK TABLE {schema}.projection_positions IN ACCESS EXCLUSIVE MODE;

-- name: drop_schema
DROP SCHEMA IF EXISTS {schema} CASCADE;

-- name: lock_positions
-- Lets readers read, and makes every feeder of this version wait at its guard.
LOCK TABLE {schema}.projection_positions IN SHARE ROW EXCLUSIVE MODE;

-- name: positions
SELECT partition, next_offset FROM {schema}.projection_positions;

-- name: analyze
ANALYZE {schema}.chats, {schema}.chat_participants, {schema}.chat_messages, {schema}.deleted_blocks, {schema}.outcomes;
