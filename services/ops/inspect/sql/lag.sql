-- name: positions
-- Where a projection stands; of a projection that was dropped meanwhile nothing is asked.
SELECT p.partition, p.next_offset FROM {schema}.projection_positions AS p ORDER BY p.partition;
