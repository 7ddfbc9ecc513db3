-- name: begin
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: lock_projection
-- A projection switch takes this table ACCESS EXCLUSIVE while it re-points the views. Taken before the snapshot
-- (LOCK itself takes none), so that no reader holds a snapshot from before a switch and views from after it.
LOCK TABLE chat.active_projection IN ACCESS SHARE MODE;

-- name: commit
COMMIT;

-- name: head
-- How far the projection of one partition has come, in this very snapshot. No row: it has not begun.
SELECT p."index", p.command_offset
FROM chat.projection_positions AS p
WHERE p."partition" = %(partition)s;

-- name: heads
SELECT p."partition", p."index"
FROM chat.projection_positions AS p;

-- name: confirmed
-- How long ago a projector wrote to each partition, or found nothing to write.
SELECT p."partition", extract(epoch FROM clock_timestamp() - p.updated_at)
FROM chat.projection_positions AS p;
