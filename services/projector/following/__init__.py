"""Keeps one partition of one projection at the end of the log.

- `consumer`   reads, maps and writes step by step; used by worker, rebuild and cutover alike
- `worker`     runs it for as long as the partition is ours; backs off, stops, says why
- `lag`        how far behind, computed when it is asked for
- `prune`      deletes outcomes after their seven days
"""
