-- name: begin
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: lock_projection
-- A projection switch takes this table ACCESS EXCLUSIVE while it re-points the views. Taken before the snapshot
-- (LOCK itself takes none), so that no reader holds a snapshot from before a switch and views from after it.
LOCK TABLE chat.active_projection IN ACCESS SHARE MODE;

-- name: commit
COMMIT;

-- name: head
-- The position of one partition's projection in this snapshot. No row: it has not started.
SELECT p."index", p.command_offset
FROM chat.projection_positions AS p
WHERE p."partition" = %(partition)s;

-- name: heads
SELECT p."partition", p."index"
FROM chat.projection_positions AS p;

-- name: search_head
-- How far the partition's search has come, and its tables: a search needs both.
SELECT least(p."index", s."index"), s.command_offset
FROM chat.projection_positions AS p
JOIN chat.search_positions AS s ON s."partition" = p."partition"
WHERE p."partition" = %(partition)s;

-- name: search_heads
SELECT p."partition", least(p."index", s."index")
FROM chat.projection_positions AS p
JOIN chat.search_positions AS s ON s."partition" = p."partition";

-- name: confirmed
-- Time since a projector wrote to each partition, or found nothing to write.
SELECT p."partition", extract(epoch FROM clock_timestamp() - p.updated_at)
FROM chat.projection_positions AS p;
