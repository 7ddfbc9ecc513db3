-- name: positions
-- The position of a projection; not run for a projection that was dropped meanwhile.
SELECT p.partition, p.next_offset FROM {schema}.projection_positions AS p ORDER BY p.partition;

-- name: search_positions
-- The same for its search.
SELECT p.partition, p.next_offset FROM {schema}.search_positions AS p ORDER BY p.partition;
