-- name: lock_all_feeders_out
-- A feeder locks its position's row first, so the holder of this lock cannot deadlock with it over the other tables.
LOCK TABLE {schema}.projection_positions IN ACCESS EXCLUSIVE MODE;

-- name: drop_schema
DROP SCHEMA IF EXISTS {schema} CASCADE;

-- name: lock_positions
-- Lets readers read, and makes every feeder of this version wait at its guard.
LOCK TABLE {schema}.projection_positions IN SHARE ROW EXCLUSIVE MODE;

-- name: positions
SELECT partition, next_offset FROM {schema}.projection_positions;

-- name: stands
SELECT partition, topic_id, next_offset FROM {schema}.projection_positions;

-- name: hold_autovacuum_off
-- For the tables of a load, while they are loaded and indexed: autovacuum would find new rows all the time, and each
-- index would wait a second for its lock.
ALTER TABLE {schema}.chat_messages SET (autovacuum_enabled = off);
ALTER TABLE {schema}.outcomes SET (autovacuum_enabled = off);

-- name: let_autovacuum_in
ALTER TABLE {schema}.chat_messages RESET (autovacuum_enabled);
ALTER TABLE {schema}.outcomes RESET (autovacuum_enabled);

-- name: analyze
ANALYZE {schema}.chats, {schema}.chat_participants, {schema}.chat_messages, {schema}.deleted_blocks, {schema}.outcomes;
