-- name: lock_migrations
-- Makes two processes that start at once take turns; held until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('gapless.projector.migrations', 0));

-- name: is_installed
SELECT to_regclass('chat.schema_migrations') IS NOT NULL;

-- name: applied
SELECT number FROM chat.schema_migrations WHERE scope = %(scope)s;

-- name: record_applied
INSERT INTO chat.schema_migrations (scope, number) VALUES (%(scope)s, %(number)s) ON CONFLICT DO NOTHING;

-- name: list
SELECT p.version, p.mapping_version, p.created_at, p.fed_since, p.stopped_at, a.switched_at
FROM chat.projections p LEFT JOIN chat.active_projection a ON a.version = p.version
ORDER BY p.version;

-- name: register
INSERT INTO chat.projections (version, mapping_version, fed_since)
VALUES (%(version)s, %(mapping_version)s, CASE WHEN %(fed)s THEN now() END)
ON CONFLICT DO NOTHING;

-- name: first_active
INSERT INTO chat.active_projection (version) VALUES (%(version)s) ON CONFLICT DO NOTHING;

-- name: mark_fed
UPDATE chat.projections SET fed_since = now(), stopped_at = NULL, loaded_to = %(loaded_to)s
WHERE version = %(version)s AND fed_since IS NULL;

-- name: mark_stopped
UPDATE chat.projections SET fed_since = NULL, stopped_at = now() WHERE version = %(version)s AND fed_since IS NOT NULL;

-- name: lock_projection_row
SELECT version FROM chat.projections WHERE version = %(version)s FOR UPDATE;

-- name: activate
UPDATE chat.active_projection SET version = %(version)s, switched_at = clock_timestamp();

-- name: record_cutover
INSERT INTO chat.cutovers (from_version, to_version, operator) VALUES (%(from_version)s, %(to_version)s, %(operator)s);

-- name: last_cutover
SELECT from_version, to_version, at, operator FROM chat.cutovers ORDER BY number DESC LIMIT 1;

-- name: record_verification
INSERT INTO chat.verifications (version, began_at, equal, positions, digest, operator)
VALUES (%(version)s, clock_timestamp() - make_interval(secs => %(took_s)s), %(equal)s, %(positions)s, %(digest)s,
        %(operator)s);

-- name: last_verification
SELECT began_at, at, equal, positions, operator FROM chat.verifications
WHERE version = %(version)s ORDER BY number DESC LIMIT 1;

-- name: loaded_to
SELECT loaded_to FROM chat.projections WHERE version = %(version)s;

-- name: forget_verifications
DELETE FROM chat.verifications WHERE version = %(version)s;

-- name: schema_bytes
-- The disk space of its tables and their indexes.
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind = 'r';

-- name: table_sizes
-- With the estimate of the planner: rows of a page at the last ANALYZE, times the pages that there are now. NULL if the
-- table was never analysed.
SELECT c.relname, pg_total_relation_size(c.oid),
    CASE WHEN c.relpages > 0 AND c.reltuples >= 0
         THEN round(c.reltuples::numeric / c.relpages
                    * (pg_relation_size(c.oid) / current_setting('block_size')::int))::bigint END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind = 'r'
ORDER BY c.relname;

-- name: unregister
DELETE FROM chat.projections WHERE version = %(version)s;

-- name: forget_migrations
DELETE FROM chat.schema_migrations WHERE scope LIKE %(schema)s || '/%%';

-- name: projectors
-- Sessions of projectors, by the address that they come from. Sessions of other roles may hide their name.
SELECT coalesce(host(client_addr), 'this machine'), count(*) FROM pg_stat_activity
WHERE application_name = 'gapless-projector' AND datname = current_database() GROUP BY 1;

-- name: tell_operation
INSERT INTO chat.operations (version, backend_pid, operator, command)
VALUES (%(version)s, %(backend_pid)s, %(operator)s, %(command)s)
ON CONFLICT (version) DO UPDATE SET backend_pid = EXCLUDED.backend_pid, operator = EXCLUDED.operator,
    command = EXCLUDED.command, started_at = EXCLUDED.started_at;

-- name: forget_operation
DELETE FROM chat.operations WHERE backend_pid = %(backend_pid)s;

-- name: operations
-- Rows whose server process holds the lock of their version. pg_locks shows a lock's bigint key as two halves.
SELECT o.version, o.operator, o.command, o.started_at
FROM chat.operations o
JOIN pg_locks l ON l.pid = o.backend_pid AND l.granted AND l.locktype = 'advisory' AND l.objsubid = 1
    AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('gapless.projector.rebuild.' || o.version, 0)
JOIN pg_database d ON d.oid = l.database AND d.datname = current_database();

-- name: try_rebuild_lock
-- Held by the session: one process at a time builds, switches to or drops a version; version 0 is the views.
SELECT pg_try_advisory_lock(hashtextextended('gapless.projector.rebuild.' || %(version)s::integer, 0));

-- name: try_rebuild_lock_of_transaction
-- The same, held by the transaction: behind a pooler a session's lock would outlive the process.
SELECT pg_try_advisory_xact_lock(hashtextextended('gapless.projector.rebuild.' || %(version)s::integer, 0));

-- name: rest_in_transaction
-- A transaction that only holds a lock is idle for as long as a rebuild takes.
SET LOCAL idle_in_transaction_session_timeout = 0;

-- name: take_your_time
-- For transactions that create indexes or statistics of a whole projection.
SET LOCAL statement_timeout = 0;
SET LOCAL maintenance_work_mem = '256MB';

-- name: lock_readers_out
-- Waits for every reader that has begun (it holds ACCESS SHARE), and makes new readers wait for us: hence the short
-- lock_timeout around it in a cutover. The comment at chat.active_projection says why it is needed.
LOCK TABLE chat.active_projection IN ACCESS EXCLUSIVE MODE;
