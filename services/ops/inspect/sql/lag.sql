-- name: positions
-- The position of a projection; not run for a projection that was dropped meanwhile.
SELECT p.partition, p.next_offset FROM {schema}.projection_positions AS p ORDER BY p.partition;

-- name: search_positions
-- The same for its search.
SELECT p.partition, p.next_offset FROM {schema}.search_positions AS p ORDER BY p.partition;

-- name: there
-- Whether a projection was ever served.
SELECT to_regclass('chat.active_projection') IS NOT NULL;

-- name: serving
SELECT a.version FROM chat.active_projection AS a;

-- name: fed
-- Time since a projector wrote to each partition of the serving projection, or found nothing to write.
SELECT p.partition, extract(epoch FROM clock_timestamp() - p.updated_at) FROM chat.projection_positions AS p;
